//! What stands in a database, as data: for people (see [`crate::text`]) and as JSON. States and incarnations are spelled
//! as in the trace's `view` event.

use std::collections::BTreeMap;
use std::path::Path;

use quorate_base::{Ballot, FenceMethod, NodeId, Timing, View};
use quorate_database::{BallotBlock, Block, FORMAT_VERSION, Heartbeat, Identity, LastLife, NodeConfig};
use quorate_interconnect::seal::fingerprint;
use serde::Serialize;

use crate::active::{Active, committed};
use crate::disk::Image;
use crate::error::ImageError;
use crate::machine::{format_mac, format_uuid};
use crate::snapshot::{NodeRecords, Snapshot};

/// A whole database.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Dump {
    /// Cluster id.
    pub cluster: String,
    /// The cluster's name.
    pub name: String,
    /// Format version.
    pub version: u16,
    /// The superblock's generation.
    pub generation: u64,
    /// Which of the cluster's keys it has.
    pub key_epoch: u8,
    /// What may be shown of that key: equal for equal keys.
    pub key_fingerprint: String,
    /// Time-outs in ms.
    pub timing: Timing,
    /// `lease` or `reservation`.
    pub fence: &'static str,
    /// `lingers` or `ends`: what the disk makes of the commands of a preempted node.
    pub preempted: &'static str,
    /// `all` or `only`: who holds the reservation.
    pub registrants: &'static str,
    /// `sealed` or `zeros`: what stands where a node has not written yet.
    pub blanks: &'static str,
    /// What the fence does not prove, if it is not proof against everything.
    pub fence_note: Option<&'static str>,
    /// Where it stands.
    pub disk: DiskDump,
    /// Configured nodes.
    pub nodes: Vec<NodeDump>,
    /// The newest committed view; none before the first.
    pub active: Option<ActiveDump>,
    /// The database is damaged as a whole: why.
    pub damaged: Option<String>,
}

impl Dump {
    /// How nodes that are put out are kept from the disk, in one line.
    pub fn fence_line(&self) -> String {
        let lingers =
            format!("what a preempted node has under way lingers (for io_max, {} ms, at most)", self.timing.io_max);
        let under_way = match self.preempted {
            "ends" => "what a preempted node has under way ends",
            _ => &lingers,
        };
        let holder = if self.registrants == "only" { ", one registrant holds it" } else { "" };
        match self.fence_note {
            Some(note) => format!("fence   {}, {note}", self.fence),
            None => format!("fence   {}, {under_way}{holder}", self.fence),
        }
    }
}

/// Where a database stands.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DiskDump {
    /// Bytes of the image.
    pub bytes: u64,
    /// Bytes of a logical block.
    pub block_size: u32,
    /// First byte of the database's partition.
    pub first_byte: u64,
    /// Bytes of the database's partition.
    pub database_bytes: u64,
}

/// A node. What is damaged is null and stands in `errors`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NodeDump {
    /// Its id.
    pub node: u8,
    /// Its name.
    pub name: Option<String>,
    /// Whether it may join.
    pub enabled: Option<bool>,
    /// SMBIOS UUID by which its machine is known.
    pub uuid: Option<String>,
    /// NIC address by which its machine is known.
    pub mac: Option<String>,
    /// What it boots.
    pub boot: Option<&'static str>,
    /// What it does after a graceful leave.
    pub on_shutdown: Option<&'static str>,
    /// What it does after any other end.
    pub on_panic: Option<&'static str>,
    /// Its weight in arbitration.
    pub weight: Option<u8>,
    /// Its last life by its identity; 0 if it never booted, null if that is not known.
    pub incarnation: Option<u32>,
    /// That life's boot nonce.
    pub nonce: Option<String>,
    /// Its heartbeat.
    pub heartbeat: Option<HeartbeatDump>,
    /// Its ballot slot that counts.
    pub ballot: Option<BallotDump>,
    /// What is damaged.
    pub errors: Vec<String>,
}

/// A heartbeat.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HeartbeatDump {
    /// The life that wrote it.
    pub incarnation: u32,
    /// The boot that wrote it.
    pub nonce: String,
    /// Counter.
    pub counter: u64,
    /// none, want, hold.
    pub flag: &'static str,
    /// The node's own overall state.
    pub state: &'static str,
    /// Its lease had run out.
    pub frozen: bool,
    /// It left gracefully.
    pub clean: bool,
    /// Its NIC had a link.
    pub carrier: bool,
    /// Whom it heard.
    pub hears: Vec<u8>,
    /// The newest committed view that it knew.
    pub committed: NameDump,
    /// Frame-counter floor.
    pub frame_floor: u64,
    /// Lamport clock.
    pub lamport: u64,
}

/// A view's name.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NameDump {
    /// Ballot.
    pub ballot: u64,
    /// Number.
    pub view: u64,
}

/// A ballot slot.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BallotDump {
    /// 0 or 1.
    pub slot: u8,
    /// Write sequence.
    pub sequence: u64,
    /// The life that wrote it.
    pub incarnation: u32,
    /// The boot that wrote it.
    pub nonce: String,
    /// Highest ballot promised.
    pub promised: u64,
    /// Ballot under which the view was accepted.
    pub accepted: u64,
    /// The accepted view's number.
    pub view: u64,
    /// Its states.
    pub states: BTreeMap<u8, &'static str>,
    /// Its incarnations.
    pub incs: BTreeMap<u8, u32>,
    /// Its predecessor's name.
    pub predecessor: NameDump,
    /// Lamport clock.
    pub lamport: u64,
}

/// The active membership.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ActiveDump {
    /// The ballot under which it stands on the disk. A master that took over may have announced it under a later one.
    pub ballot: u64,
    /// Its number.
    pub view: u64,
    /// State of each configured node.
    pub states: BTreeMap<u8, &'static str>,
    /// Incarnation of each configured node.
    pub incs: BTreeMap<u8, u32>,
    /// How it is known to be committed.
    pub how: String,
}

/// Prints a database as data.
///
/// # Errors
/// If there is no image, no database in it, or no superblock to go by. Any other damage is in the dump.
pub fn dump(path: &Path) -> Result<Dump, ImageError> {
    let image = Image::open(path, false)?;
    let snapshot = Snapshot::read(&image)?;
    let superblock = &snapshot.superblock;
    let committed = committed(&snapshot);
    Ok(Dump {
        cluster: superblock.cluster.to_string(),
        name: superblock.name.as_str().to_owned(),
        version: FORMAT_VERSION,
        generation: superblock.generation,
        key_epoch: superblock.key_epoch,
        key_fingerprint: format!("{:016x}", fingerprint(&superblock.key)),
        timing: superblock.timing,
        fence: superblock.fence.name(),
        preempted: superblock.preempted.name(),
        registrants: superblock.registrants.name(),
        blanks: superblock.blanks.name(),
        fence_note: match superblock.fence {
            FenceMethod::Lease => Some("no proof against suspension"),
            FenceMethod::Reservation => None,
        },
        disk: DiskDump {
            bytes: image.bytes,
            block_size: image.table.block.bytes(),
            first_byte: image.database.first_byte,
            database_bytes: image.database.bytes,
        },
        nodes: snapshot.nodes.iter().map(|n| node_dump(n, superblock.nodes)).collect(),
        active: committed.active.as_ref().map(|a| active_dump(a, superblock.nodes)),
        damaged: committed.lost.map(|(node, name)| {
            format!(
                "the heartbeat of node {node} names view {} of ballot {} as committed, and nothing on the disk is as new",
                name.number, name.ballot
            )
        }),
    })
}

/// The dump as JSON, indented.
pub fn render_json(dump: &Dump) -> String {
    // Plain structs with string keys: this cannot fail, and an empty object says so if it ever does.
    serde_json::to_string_pretty(dump).unwrap_or_else(|_| "{}".to_owned())
}

fn node_dump(records: &NodeRecords, nodes: u8) -> NodeDump {
    let config = records.config.good();
    let machine = config.map(|c| c.machine).unwrap_or_default();
    let [a, b] = &records.identity;
    let (incarnation, nonce) = match Identity::last_life([a, b]) {
        LastLife::Never => (Some(0), None),
        LastLife::Known { identity, .. } => (Some(identity.incarnation.0), Some(nonce(identity.nonce.0))),
        LastLife::Unknown => (None, None),
    };
    NodeDump {
        node: records.node.get(),
        name: config.map(|c| c.name.as_str().to_owned()),
        enabled: config.map(|c| c.enabled),
        uuid: machine.uuid.as_ref().map(format_uuid),
        mac: machine.mac.as_ref().map(format_mac),
        boot: config.map(|c| c.boot.name()),
        on_shutdown: config.map(|c| c.on_shutdown.name()),
        on_panic: config.map(|c| c.on_panic.name()),
        weight: config.map(|c| c.weight),
        incarnation,
        nonce,
        heartbeat: records.heartbeat.good().map(heartbeat_dump),
        ballot: records.newest_ballot().map(|(slot, b)| ballot_dump(slot, b, nodes)),
        errors: errors(records),
    }
}

fn errors(records: &NodeRecords) -> Vec<String> {
    fn error<T>(name: &str, block: &Block<T>) -> Option<String> {
        match block {
            Block::Damaged(e) => Some(format!("{name}: {e}")),
            _ => None,
        }
    }
    let [identity0, identity1] = &records.identity;
    let [ballot0, ballot1] = &records.ballots;
    let config = match &records.config {
        Block::<NodeConfig>::Blank => Some("config: blank".to_owned()),
        block => error("config", block),
    };
    [
        config,
        error("identity slot 0", identity0),
        error("identity slot 1", identity1),
        error("heartbeat", &records.heartbeat),
        error("ballot slot 0", ballot0),
        error("ballot slot 1", ballot1),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn heartbeat_dump(h: &Heartbeat) -> HeartbeatDump {
    HeartbeatDump {
        incarnation: h.incarnation.0,
        nonce: nonce(h.nonce.0),
        counter: h.counter,
        flag: h.flag.name(),
        state: h.state.name(),
        frozen: h.frozen,
        clean: h.clean,
        carrier: h.carrier,
        hears: h.hears.iter().map(NodeId::get).collect(),
        committed: name_dump(h.committed.ballot, h.committed.number),
        frame_floor: h.frame_floor,
        lamport: h.lamport,
    }
}

fn ballot_dump(slot: u8, b: &BallotBlock, nodes: u8) -> BallotDump {
    BallotDump {
        slot,
        sequence: b.sequence,
        incarnation: b.incarnation.0,
        nonce: nonce(b.nonce.0),
        promised: b.promised.0,
        accepted: b.accepted.0,
        view: b.view.number,
        states: states(&b.view, nodes),
        incs: incarnations(&b.view, nodes),
        predecessor: name_dump(b.predecessor.ballot, b.predecessor.view.number),
        lamport: b.lamport,
    }
}

fn active_dump(active: &Active, nodes: u8) -> ActiveDump {
    ActiveDump {
        ballot: active.ballot.0,
        view: active.view.number,
        states: states(&active.view, nodes),
        incs: incarnations(&active.view, nodes),
        how: active.evidence.to_string(),
    }
}

fn name_dump(ballot: Ballot, view: u64) -> NameDump {
    NameDump { ballot: ballot.0, view }
}

fn nonce(nonce: u64) -> String {
    format!("{nonce:016x}")
}

fn states(view: &View, nodes: u8) -> BTreeMap<u8, &'static str> {
    NodeId::first(nodes).map(|n| (n.get(), view.state(n).name())).collect()
}

fn incarnations(view: &View, nodes: u8) -> BTreeMap<u8, u32> {
    NodeId::first(nodes).map(|n| (n.get(), view.incarnation(n).0)).collect()
}
