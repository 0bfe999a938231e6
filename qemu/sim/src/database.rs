//! The membership database that a simulated cluster begins with, as `cargo cluster db create` makes it.

use quorate_base::{ClusterId, NodeId};
use quorate_database::{Blanks, ClusterKey, MachineId, Name, NodeConfig, Superblock, layout};

use crate::disk::Disk;
use crate::world::Setup;

/// A real cluster's configuration: what an image says, less what its nodes did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Database {
    /// The cluster. The simulator takes a key of its own in the place of this one's.
    pub superblock: Superblock,
    /// Each configured node, in the order of their ids. The simulator's machines are known by ids of their own.
    pub nodes: Vec<NodeConfig>,
}

/// Where it stands on the disk.
pub(crate) fn quorate_node_geometry() -> quorate_master_lock::DiskGeometry {
    // As `cargo cluster db create` lays it out: the partition begins at 1 MiB, 512-byte blocks.
    quorate_master_lock::DiskGeometry { first_lba: 2048, blocks_per_record: 8 }
}

/// The SMBIOS UUID of a node's machine.
pub(crate) fn machine_id(node: NodeId) -> MachineId {
    MachineId { uuid: Some([node.get() + 1; 16]), mac: None }
}

/// Writes it. Says what stands in it where a node has not written yet.
pub(crate) fn create_database(disk: &mut Disk, setup: &Setup, cluster: ClusterId) -> Blanks {
    // A name of the simulator's own is a valid one; were it not, no node would boot and every test would say so.
    let Ok(name) = Name::new("simulated") else { return Blanks::default() };
    let own = Superblock {
        generation: 1,
        cluster,
        name: name.clone(),
        timing: setup.timing,
        nodes: setup.nodes,
        levels_max: 32,
        fence: setup.fence,
        preempted: setup.target.preempted,
        registrants: setup.target.registrants,
        blanks: Blanks::Sealed,
        key: ClusterKey([7; 32]),
        key_epoch: 0,
    };
    let given = setup.database.as_ref();
    let superblock = given.map_or_else(|| own.clone(), |d| Superblock { key: own.key, ..d.superblock.clone() });
    for copy in [0, 1] {
        disk.put(layout::superblock(copy), superblock.encode(copy));
    }
    for (at, blank) in superblock.blanks.records(cluster, setup.nodes) {
        disk.put(at, blank);
    }
    for n in NodeId::first(setup.nodes) {
        let given = given.and_then(|database| database.nodes.get(n.index())).cloned();
        let config = given.unwrap_or_else(|| NodeConfig::named(name.clone()));
        let config = NodeConfig { machine: machine_id(n), ..config };
        disk.put(layout::config(n), config.encode(cluster, n));
    }
    superblock.blanks
}
