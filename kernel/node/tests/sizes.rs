//! The static memory of one node with 64 nodes' capacity (DESIGN 10: manager, database and lock ≤ 128 KiB).

use quorate_interconnect::Interconnect;
use quorate_master_lock::MasterLock;
use quorate_membership::Membership;
use quorate_node::Node;

#[test]
fn manager_database_and_lock_stay_within_128_kib() {
    let [lock, net, membership, node] =
        [size_of::<MasterLock>(), size_of::<Interconnect>(), size_of::<Membership>(), size_of::<Node>()];
    println!("lock {lock} interconnect {net} membership {membership} node {node} bytes");
    assert!(node <= 128 * 1024, "{node}");
    assert!(lock <= 24 * 1024 && net <= 16 * 1024, "{lock} {net}");
}
