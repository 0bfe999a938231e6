//! What can be wrong with one direction of one link.

/// One fault, as a scenario sets it. Setting a kind again replaces its value; different kinds add up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    /// Nothing passes.
    Cut,
    /// This share of the frames is lost.
    Loss {
        /// 0 to 100.
        percent: f64,
    },
    /// This share of the frames arrives twice.
    Duplicate {
        /// 0 to 100.
        percent: f64,
    },
    /// This share of the frames is held back for up to 10 ms, so that later ones overtake it.
    Reorder {
        /// 0 to 100.
        percent: f64,
    },
    /// In this share of the frames one bit is flipped.
    Corrupt {
        /// 0 to 100.
        percent: f64,
    },
    /// Every frame arrives later.
    Delay {
        /// By this much.
        ms: u32,
        /// Plus an evenly distributed part of up to this much.
        jitter_ms: u32,
    },
}

/// All faults of one direction of one link.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct LinkFaults {
    /// Nothing passes.
    pub cut: bool,
    /// Percent lost.
    pub loss: f64,
    /// Percent sent twice.
    pub duplicate: f64,
    /// Percent held back.
    pub reorder: f64,
    /// Percent damaged.
    pub corrupt: f64,
    /// Delay of every frame, ms.
    pub delay_ms: u32,
    /// Random part of the delay at most, ms.
    pub jitter_ms: u32,
}

impl LinkFaults {
    /// Adds one fault.
    pub fn set(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => self.cut = true,
            Fault::Loss { percent } => self.loss = percent,
            Fault::Duplicate { percent } => self.duplicate = percent,
            Fault::Reorder { percent } => self.reorder = percent,
            Fault::Corrupt { percent } => self.corrupt = percent,
            Fault::Delay { ms, jitter_ms } => (self.delay_ms, self.jitter_ms) = (ms, jitter_ms),
        }
    }
}
