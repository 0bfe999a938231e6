//! The capacities of the whole product, in one place. Exhaustion of any of them is a named error, never a panic.

/// Configured nodes at most. 64 so that a set of nodes is one machine word; the disk layout has this many places.
pub const NODES_MAX: usize = 64;

/// Registered levels of one node at most, kernel and run-time ones together.
pub const LEVELS_MAX: usize = 32;

/// Barriers of one level for one transition type at most. Bounds the time of one transition, fits a `u8`.
pub const BARRIERS_MAX: u8 = 16;

/// Bytes of a level's name at most.
pub const LEVEL_NAME_MAX: usize = 16;

/// Bytes of every record in the membership database: the smallest logical block that disks have, so that one record is
/// written atomically by disks of 512 and of 4096 bytes.
pub const RECORD_BYTES: usize = 512;

/// Distance in bytes between two records in the database: the largest logical block that is supported, so that two
/// records never share a block.
pub const RECORD_PITCH: u64 = 4096;

/// Records read with one disk request at most: 36 KiB. Nine, because three nodes have nine records (heartbeat and two
/// ballot slots each), and an idle cluster of three is to read them with one request.
pub const READ_RECORDS_MAX: usize = 9;

/// Bytes of one interconnect datagram's UDP payload at most (Ethernet's 1500 less IPv4 and UDP headers).
pub const DATAGRAM_MAX: usize = 1472;
