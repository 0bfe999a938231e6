//! Why a frame was dropped, and how many frames of each kind there were. A dropped frame has no other effect (STYLE 9:
//! hostile or damaged input is counted, dropped, traced).

use core::fmt;

/// Why a frame was dropped. The order is that of the checks: the first that fails counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Drop {
    /// Fewer bytes than header and tag.
    Short,
    /// More bytes than a datagram may have.
    Long,
    /// Not a frame of this product.
    Magic,
    /// Another protocol version. The sender is named once in the trace.
    Version,
    /// Not sealed, or an unknown flag.
    Flags,
    /// Unknown channel.
    Channel,
    /// The payload's length does not match the datagram's.
    Length,
    /// The sender is no node id.
    From,
    /// The addressee is neither a node id nor all.
    To,
    /// From another cluster.
    Cluster,
    /// My own frame came back.
    Own,
    /// The sender is not configured.
    Stranger,
    /// Addressed to another node.
    NotForMe,
    /// Sealed under another of the cluster's keys.
    Epoch,
    /// From a life of the sender that is over.
    OldIncarnation,
    /// From another machine, or another boot, than the one that has this incarnation.
    Nonce,
    /// Its counter was seen before, is too old to tell, or is below the sender's floor.
    Replay,
    /// Not sealed by the life that it names, under the cluster's key; or altered on its way.
    Tag,
    /// Another machine sends under my node id.
    Namesake,
    /// A heartbeat that is not one.
    Heartbeat,
    /// A message of a life that has not shown yet that it lives now: it may have been sent before this node's boot.
    Unproven,
}

impl Drop {
    /// All, in order.
    pub const ALL: [Self; 21] = [
        Self::Short,
        Self::Long,
        Self::Magic,
        Self::Version,
        Self::Flags,
        Self::Channel,
        Self::Length,
        Self::From,
        Self::To,
        Self::Cluster,
        Self::Own,
        Self::Stranger,
        Self::NotForMe,
        Self::Epoch,
        Self::OldIncarnation,
        Self::Nonce,
        Self::Replay,
        Self::Tag,
        Self::Namesake,
        Self::Heartbeat,
        Self::Unproven,
    ];

    /// The name in `status` and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::Magic => "magic",
            Self::Version => "version",
            Self::Flags => "flags",
            Self::Channel => "channel",
            Self::Length => "length",
            Self::From => "from",
            Self::To => "to",
            Self::Cluster => "cluster",
            Self::Own => "own",
            Self::Namesake => "namesake",
            Self::Stranger => "stranger",
            Self::NotForMe => "not-for-me",
            Self::OldIncarnation => "old-incarnation",
            Self::Nonce => "nonce",
            Self::Replay => "replay",
            Self::Epoch => "epoch",
            Self::Tag => "tag",
            Self::Heartbeat => "heartbeat",
            Self::Unproven => "unproven",
        }
    }
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Drop {}

/// How many frames there were since boot.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Counters {
    /// Heartbeats sent.
    pub heartbeats_sent: u64,
    /// Membership datagrams sent.
    pub messages_sent: u64,
    /// Heartbeats taken.
    pub heartbeats_received: u64,
    /// Membership datagrams taken.
    pub messages_received: u64,
    /// Genuine heartbeats of lives that had yet to show that they live now.
    pub introductions: u64,
    dropped: [u64; Drop::ALL.len()],
}

impl Counters {
    /// All frames sent.
    pub fn sent(&self) -> u64 {
        self.heartbeats_sent.saturating_add(self.messages_sent)
    }

    /// All frames that were verified and taken.
    pub fn received(&self) -> u64 {
        self.heartbeats_received.saturating_add(self.messages_received)
    }

    /// Frames dropped for that reason.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.dropped[reason as usize]
    }

    /// All frames dropped.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Counts one dropped frame.
    pub(crate) fn drop_one(&mut self, reason: Drop) {
        let n = &mut self.dropped[reason as usize];
        *n = n.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let mut counters = Counters::default();
        for (i, reason) in Drop::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
            assert_eq!(counters.dropped(reason), 0);
            counters.drop_one(reason);
            assert_eq!(counters.dropped(reason), 1);
            assert!(Drop::ALL[..i].iter().all(|other| other.name() != reason.name()));
        }
        assert_eq!(counters.dropped_total(), Drop::ALL.len() as u64);
    }
}
