//! Whether a joiner agrees with the cluster (EP p. 8: barriers; MISSION H5: time-outs, levels, versions). One that does not is
//! refused by name, never half-accepted: what it would have brought is not taken in.
//!
//! Cluster id, node id, format version and *disabled* are not judged here: a node with a wrong one of these finds it on the
//! disk at its birth and halts with that name, and its frames do not verify.

use quorate_base::halt::RefuseReason;
use quorate_base::{NodeId, Timing};

use crate::level::LevelMap;
use crate::message::{JoinRequest, LevelOffer, PROTOCOL_VERSION};

/// Judges a request; a joiner that agrees has its levels in `map` afterwards.
///
/// # Errors
/// The first thing that differs, version before time-outs before levels.
pub(crate) fn admit(
    from: NodeId,
    request: &JoinRequest,
    timing: &Timing,
    map: &mut LevelMap,
) -> Result<(), RefuseReason> {
    if request.protocol != PROTOCOL_VERSION {
        return Err(RefuseReason::ProtocolVersion);
    }
    if request.timing != *timing {
        return Err(RefuseReason::Timing);
    }
    map.add(from, &request.levels)
}

/// Judges this node's own levels by those of a member. Who takes the lock while all members are silent lets itself in, and
/// holds itself to what any of them would refuse it for.
///
/// # Errors
/// The first level that differs.
pub(crate) fn fits(
    me: NodeId,
    own: &[LevelOffer],
    (member, levels, died): (NodeId, &[LevelOffer], u32),
) -> Result<(), RefuseReason> {
    let mut theirs = LevelMap::default();
    theirs.restore(member, levels, died);
    theirs.add(me, own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{LevelOffers, Message, other_version};
    use quorate_base::{Barriers, LevelOrder, NodeSet};

    fn request() -> JoinRequest {
        let offer = |order| LevelOffer {
            order: LevelOrder(order),
            barriers: Barriers::ONE,
            everywhere: true,
            deadline_ms: 0,
            present: NodeSet::EMPTY,
        };
        let levels: LevelOffers = [offer(0), offer(70)].into_iter().collect();
        JoinRequest { protocol: PROTOCOL_VERSION, timing: Timing::DEFAULT, levels }
    }

    #[test]
    fn mission_h5_a_node_that_disagrees_is_refused_by_name() {
        let n = |id| NodeId::new(id).unwrap();
        let mut map = LevelMap::default();
        assert_eq!(admit(n(0), &request(), &Timing::DEFAULT, &mut map), Ok(()));
        let forged = |change: fn(&mut JoinRequest)| {
            let mut r = request();
            change(&mut r);
            r
        };
        for (request, reason) in [
            (forged(|r| r.protocol += 1), RefuseReason::ProtocolVersion),
            (forged(|r| r.timing.dead += 1), RefuseReason::Timing),
            (forged(|r| r.levels[1].barriers.leaving = 2), RefuseReason::Barriers { level: 70 }),
            (forged(|r| r.levels[1].deadline_ms = 500), RefuseReason::Deadline { level: 70 }),
            (forged(|r| r.levels[1].everywhere = false), RefuseReason::Levels),
            (forged(|r| r.levels[1].order = LevelOrder(71)), RefuseReason::Levels),
            (forged(|r| r.levels.truncate(1)), RefuseReason::Levels),
        ] {
            let before = map.clone();
            assert_eq!(admit(n(1), &request, &Timing::DEFAULT, &mut map), Err(reason), "{request:?}");
            assert_eq!(map, before, "nothing of it is taken in: {request:?}");
        }
        assert_eq!(admit(n(1), &request(), &Timing::DEFAULT, &mut map), Ok(()));
    }

    #[test]
    fn mission_h5_one_that_lets_itself_in_is_held_to_the_members_levels() {
        let n = |id| NodeId::new(id).unwrap();
        let own = request().levels;
        assert_eq!(fits(n(1), &own, (n(0), &own, 0)), Ok(()));
        let mut theirs = own.clone();
        theirs[1].barriers.joining = 2;
        assert_eq!(fits(n(1), &own, (n(0), &theirs, 0)), Err(RefuseReason::Barriers { level: 70 }));
        theirs.truncate(1);
        assert_eq!(fits(n(1), &own, (n(0), &theirs, 0)), Err(RefuseReason::Levels));
        // What a member registered at run time is nobody else's concern, dead or alive.
        let mut theirs = own.clone();
        let _ = theirs.push(LevelOffer { order: LevelOrder(120), everywhere: false, ..own[1] });
        for died in [0, 0b100] {
            assert_eq!(fits(n(1), &own, (n(0), &theirs, died)), Ok(()));
        }
    }

    #[test]
    fn a_request_of_another_version_is_known_as_one_whatever_follows_its_number() {
        let mut buffer = [0; 256];
        let mut forged = request();
        forged.protocol = 300;
        let bytes = Message::JoinRequest(forged).encode(&mut buffer).unwrap();
        assert_eq!(other_version(bytes), Some(300));
        assert_eq!(other_version(&bytes[..3]), Some(300), "the rest may be anything");
        assert_eq!(other_version(&bytes[..2]), None, "the number itself is cut");
        let bytes = Message::JoinRequest(request()).encode(&mut buffer).unwrap();
        assert_eq!(other_version(bytes), None);
        let bytes = Message::ViewRequest.encode(&mut buffer).unwrap();
        assert_eq!(other_version(bytes), None);
    }
}
