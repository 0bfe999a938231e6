//! The capacities of group services, in one place. Exhaustion of any of them is a named error or slows the sender; nothing
//! grows.

use quorate_interconnect::envelope::PAYLOAD_MAX;

/// Groups in the cluster at most. Each has its own stream per node and its own window, and costs 8 frames of 1.3 KiB.
pub const GROUPS_MAX: usize = 8;

/// Members of all groups together at most: a set of them is one `u128`.
pub const MEMBERS_MAX: usize = 128;

/// Jobs of one node at most.
pub const JOBS_MAX: usize = 8;

/// Work threads of one job at most.
pub const THREADS_MAX: u8 = 4;

/// Protocols that run or wait in all groups together at most; one more is refused to whoever starts it.
pub const PROTOCOLS_MAX: usize = 16;

/// Bytes of the name of a group, a job or a domain at most. Eight domains fit one record with it.
pub const NAME_MAX: usize = 24;

/// Bytes of a frame's items at most: what a datagram carries less the head of its message (31 bytes at most).
pub const BODY_MAX: usize = 1320;

/// Bytes of a message that goes in one item at most: a frame less the head of the item (36 bytes at most). A longer one goes in
/// parts of this length, a frame each.
pub const PART_MAX: usize = 1280;

/// Bytes of one group message at most.
pub const MESSAGE_MAX: usize = 16 * 1024;

/// Frames of the longest message.
pub const PARTS_MAX: usize = MESSAGE_MAX.div_ceil(PART_MAX);

/// Bytes that a protocol is started with at most; every node keeps them while it runs.
pub const PROTOCOL_BYTES_MAX: usize = 64;

/// Bytes of a subgroup's data at most.
pub const GROUP_DATA_MAX: usize = 512;

/// Frames with control items that may be ordered and not yet delivered everywhere. They never wait for a job: whoever
/// delivers them is through with them.
pub const CONTROL_WINDOW: usize = 16;

/// Frames of messages that each group may have ordered and not yet taken everywhere, whatever others do: a member that is
/// slower slows all senders of its group, and nobody else.
pub const DATA_WINDOW: usize = 6;

/// So many more are there for all groups together: for floods, and for messages that are longer than a group's own window.
pub const SHARED_WINDOW: usize = 40;

/// Frames that one group may have at most: two of the longest messages, so that one is on its way while the other is taken;
/// and a group that is slow leaves enough of what is shared for the longest message of another.
pub const GROUP_WINDOW_MAX: usize = DATA_WINDOW + 2 * PARTS_MAX;

/// Membership changes of the engines that may be ordered and not yet delivered. As many nodes may die one after another,
/// each before the loss of the one before was dealt with; the next change waits.
pub const ROSTERS_MAX: usize = 8;

/// Frames that a node keeps at most.
pub const STORE_MAX: usize = CONTROL_WINDOW + ROSTERS_MAX + GROUPS_MAX * DATA_WINDOW + SHARED_WINDOW;

/// Own frames of the control stream that are not delivered yet, at most.
pub const OUT_CONTROL_MAX: usize = 6;

/// Own frames of one group's stream that are not delivered yet for which there is always room.
pub const OUT_DATA: usize = 2;

/// So many more are there for all groups together.
pub const OUT_SHARED: usize = 2 * PARTS_MAX;

/// Own frames of one group's stream that are not delivered yet, at most: two of the longest messages have room, so that one is
/// submitted while the other is delivered, and a group that waits for a closed window leaves something to the others.
pub const OUT_GROUP_MAX: usize = 2 * PARTS_MAX;

/// Own frames at most.
pub const OUT_MAX: usize = OUT_CONTROL_MAX + GROUPS_MAX * OUT_DATA + OUT_SHARED;

/// While so many own frames of a stream are on their way, one that is not full waits for more: a flood fills its frames, and
/// a single message never waits.
pub const FILL_FROM: usize = 2;

/// Frames that wait at the sequencer for a window to open, at most, over all other nodes. What finds no room comes again.
pub const WAITING_MAX: usize = 24;

/// Membership changes that a job's work threads have not taken yet, at most; who lets more gather is put out.
pub const CHANGES_MAX: usize = 32;

/// Bytes of the tables as they are handed to a node that joins, at most.
pub const SNAPSHOT_MAX: usize = 16 * 1024;

/// What is outstanding is repeated after so many µs: some round trips of a loaded link, far below `net_suspect`.
pub const REPEAT_US: u64 = 10_000;

const _: () = assert!(BODY_MAX + 31 <= PAYLOAD_MAX);
const _: () = assert!(PARTS_MAX <= GROUP_WINDOW_MAX && PARTS_MAX <= OUT_DATA + OUT_SHARED);
const _: () =
    assert!(GROUP_WINDOW_MAX - DATA_WINDOW + PARTS_MAX <= SHARED_WINDOW && OUT_GROUP_MAX < OUT_DATA + OUT_SHARED);
const _: () = assert!(PART_MAX + 36 <= BODY_MAX && GROUP_DATA_MAX + 48 <= BODY_MAX);
const _: () = assert!(MEMBERS_MAX == u128::BITS as usize);
