//! Static memory of the node's machines: what a node image reserves for them. They have no heap, so their size is all.

use quorate_master_lock::MasterLock;
use quorate_membership::Membership;
use quorate_node::Node;

use crate::report::Report;

/// Membership manager, database and lock for 64 nodes at most, KiB (DESIGN 10).
const TARGET_KIB: f64 = 128.0;

/// Adds the sizes. They are the same on the host as in the node image: both are 64-bit and lay out the same types.
pub(crate) fn add(report: &mut Report) {
    let kib = |bytes: usize| bytes as f64 / 1024.0;
    let (membership, lock) = (kib(size_of::<Membership>()), kib(size_of::<MasterLock>()));
    report.single("idle", "static memory: membership manager, 64 nodes", "KiB", membership);
    report.single("idle", "static memory: database and master lock, 64 nodes", "KiB", lock);
    let row = report.single("idle", "static memory: manager, database and lock", "KiB", membership + lock);
    row.at_most(TARGET_KIB, format!("<= {TARGET_KIB}"));
    report.single("idle", "static memory: the whole node, interconnect and birth too", "KiB", kib(size_of::<Node>()));
}
