//! Who lies in wait for a moment in a node's dealings with the disk: an act that strikes just there finds what one at a
//! random time hardly ever does.
//!
//! ```text
//! asked ──▶ submitted ──▶ landed ──▶ answered ──▶ the read that follows
//!   └ a stand-still here: the port looks at the clock after it (DESIGN 7)
//! ```

use quorate_base::{DiskOp, DiskTag};
use quorate_database::Region;

use crate::machine::Held;
use crate::plan::Moment;
use crate::wire::Frame;
use crate::world::World;

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Aim {
    /// Whose; `None`: anybody's.
    pub machine: Option<usize>,
    pub moment: Moment,
    /// So many pass unharmed.
    pub left: u32,
}

/// A moment that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    pub machine: usize,
    pub moment: Moment,
    /// The disk's number of the request; 0 as long as it is not submitted.
    pub request: u64,
    /// Which record it writes.
    pub record: u64,
}

impl Aim {
    /// Whether this is the one; counts those that pass.
    pub fn is_hit(&mut self, spot: &Spot) -> bool {
        if !self.fits(spot.machine, spot.moment) {
            return false;
        }
        let hit = self.left == 0;
        self.left = self.left.saturating_sub(1);
        hit
    }

    fn fits(&self, machine: usize, moment: Moment) -> bool {
        self.moment == moment && self.machine.is_none_or(|m| m == machine)
    }
}

/// The moment of a write of this record: of a ballot's or of a heartbeat's.
fn moment_of(record: u64, ballot: Moment, heartbeat: Moment) -> Option<Moment> {
    match Region::of(record) {
        Region::Ballot(..) => Some(ballot),
        Region::Heartbeat(_) => Some(heartbeat),
        _ => None,
    }
}

impl World {
    /// From now on these are waited for.
    pub(crate) fn watch(&mut self, aims: Vec<Aim>) {
        self.aims = aims;
    }

    /// What came since the last time.
    pub(crate) fn take_spots(&mut self) -> Vec<Spot> {
        std::mem::take(&mut self.spots)
    }

    /// A write was submitted.
    pub(crate) fn spot_submitted(&mut self, machine: usize, request: u64, record: u64) {
        let moment = moment_of(record, Moment::BallotSubmitted, Moment::HeartbeatSubmitted);
        self.spot(machine, moment, request, record);
    }

    /// A write landed.
    pub(crate) fn spot_landed(&mut self, machine: usize, request: u64, record: u64) {
        let moment = moment_of(record, Moment::BallotLanded, Moment::HeartbeatLanded);
        self.spot(machine, moment, request, record);
    }

    fn spot(&mut self, machine: usize, moment: Option<Moment>, request: u64, record: u64) {
        if let Some(moment) = moment
            && self.aims.iter().any(|aim| aim.fits(machine, moment))
        {
            self.spots.push(Spot { machine, moment, request, record });
        }
    }

    /// A node asked its port for a ballot write, and somebody waits for that. If it is the one, the machine stands still
    /// before the doorbell: its requests and frames are held back until it goes on. Gives back what is not.
    pub(crate) fn held_before_doorbell(
        &mut self,
        m: usize,
        requests: &mut Vec<(DiskTag, DiskOp)>,
        sent: Vec<Frame>,
    ) -> Vec<Frame> {
        let asked = requests.iter().find_map(|(_, op)| match op {
            DiskOp::Write { at, .. } if matches!(Region::of(*at), Region::Ballot(..)) => Some(*at),
            _ => None,
        });
        let Some(record) = asked.filter(|_| self.aims.iter().any(|aim| aim.fits(m, Moment::BallotAsked))) else {
            return sent;
        };
        self.spots.push(Spot { machine: m, moment: Moment::BallotAsked, request: 0, record });
        if !self.aims.iter().any(|aim| aim.fits(m, Moment::BallotAsked) && aim.left == 0) {
            return sent;
        }
        let Some(machine) = self.machines.get_mut(m) else { return sent };
        // The director says for how long.
        machine.paused = true;
        machine.held.extend(requests.drain(..).map(|(tag, op)| Held::Asked(tag, Box::new(op))));
        machine.held.push(Held::Frames(sent));
        Vec::new()
    }
}
