//! The static memory of one node with 64 nodes' capacity (DESIGN 10: manager, database and lock ≤ 128 KiB, without I/O
//! buffers), and of what is beside them in a node: the buffers between it and group services, and the ring of `history`.

use quorate_interconnect::Interconnect;
use quorate_master_lock::MasterLock;
use quorate_membership::Membership;
use quorate_node::history::History;
use quorate_node::{GROUP_BUFFER_BYTES, Groups, Node};

#[test]
fn manager_database_and_lock_stay_within_128_kib() {
    let [lock, net, membership, node] =
        [size_of::<MasterLock>(), size_of::<Interconnect>(), size_of::<Membership>(), size_of::<Node>()];
    println!("lock {lock} interconnect {net} membership {membership} node {node} bytes");
    println!("buffers for group services {GROUP_BUFFER_BYTES}, group services {} bytes", size_of::<Groups>());
    let history = size_of::<History>();
    println!("history {history} bytes");
    assert!(node - GROUP_BUFFER_BYTES - history <= 128 * 1024, "{node}");
    assert!(history <= 2 * 1024, "{history}");
    assert!(GROUP_BUFFER_BYTES <= 16 * 1024 && size_of::<Groups>() <= 320 * 1024);
    assert!(lock <= 24 * 1024 && net <= 16 * 1024, "{lock} {net}");
}
