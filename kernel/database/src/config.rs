//! A node's configuration: the persistent part of the membership database, with what is needed to boot, shut down or
//! panic a node (EP p. 4). One record per node id, written offline only.
//!
//! ```text
//! 32  1  bytes of the name
//! 33  1  bits: 0 has a UUID, 1 has a NIC address, 2 enabled
//! 34  1  what to boot: 0 the kernel in slot A, 1 that in slot B, 2 nothing
//! 35  1  after a shutdown: 0 halt, 1 reset, 2 boot again
//! 36  1  after a panic: the same
//! 37  1  weight
//! 38  2  zeros
//! 40 32  name
//! 72 16  SMBIOS UUID in the order of its text form, or zeros
//! 88  6  NIC address, or zeros
//! 94     zeros
//! ```

use core::fmt;
use quorate_base::capacity::RECORD_BYTES;
use quorate_base::{ClusterId, NodeId};

use crate::block::{Block, RecordError};
use crate::kernel_slot::KernelSlot;
use crate::name::Name;
use crate::sealed::{Kind, Place, Raw, bytes_at, open, put, reserved, seal};

/// By what a machine is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MachineId {
    /// Its SMBIOS UUID, in the order of the text form.
    pub uuid: Option<[u8; 16]>,
    /// The address of its NIC on the interconnect.
    pub mac: Option<[u8; 6]>,
}

impl MachineId {
    /// The UUID of an SMBIOS system-information structure (SMBIOS 3.7 § 7.2.1: its first three fields are little
    /// endian) in the order of its text form. `None` if the firmware has none (all zeros or all ones).
    pub fn uuid_from_smbios(raw: [u8; 16]) -> Option<[u8; 16]> {
        if raw == [0; 16] || raw == [0xff; 16] {
            return None;
        }
        let [a, b, c, d, e, f, g, h, rest @ ..] = raw;
        let mut uuid = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
        uuid[8..].copy_from_slice(&rest);
        Some(uuid)
    }

    /// Whether one of the other's identities is this one's.
    pub fn meets(&self, other: &Self) -> bool {
        let same_uuid = self.uuid.is_some() && self.uuid == other.uuid;
        let same_mac = self.mac.is_some() && self.mac == other.mac;
        same_uuid || same_mac
    }

    const HAS_UUID: u8 = 1;
    const HAS_MAC: u8 = 2;

    /// Writes both and returns the bits that say which is there.
    pub(crate) fn put(&self, raw: &mut Raw, uuid_at: usize, mac_at: usize) -> u8 {
        let mut bits = 0;
        if let Some(uuid) = self.uuid {
            put(raw, uuid_at, &uuid);
            bits |= Self::HAS_UUID;
        }
        if let Some(mac) = self.mac {
            put(raw, mac_at, &mac);
            bits |= Self::HAS_MAC;
        }
        bits
    }

    pub(crate) fn get(raw: &Raw, bits: u8, uuid_at: usize, mac_at: usize) -> Result<Self, RecordError> {
        let uuid: [u8; 16] = bytes_at(raw, uuid_at);
        let mac: [u8; 6] = bytes_at(raw, mac_at);
        let (has_uuid, has_mac) = (bits & Self::HAS_UUID != 0, bits & Self::HAS_MAC != 0);
        if !has_uuid && uuid != [0; 16] {
            return Err(RecordError::Field("uuid"));
        }
        if !has_mac && mac != [0; 6] {
            return Err(RecordError::Field("mac"));
        }
        Ok(Self { uuid: has_uuid.then_some(uuid), mac: has_mac.then_some(mac) })
    }
}

/// What the bootstrap starts on this node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum BootChoice {
    /// The kernel in slot A; that in slot B if it is no good.
    #[default]
    SlotA = 0,
    /// The kernel in slot B; that in slot A if it is no good.
    SlotB = 1,
    /// Nothing: the machine stays off the cluster.
    Nothing = 2,
}

impl BootChoice {
    /// From its number on the disk.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::SlotA,
            1 => Self::SlotB,
            2 => Self::Nothing,
            _ => return None,
        })
    }

    /// The name in dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlotA => "slot-a",
            Self::SlotB => "slot-b",
            Self::Nothing => "nothing",
        }
    }

    /// The slot that is tried first; `None` if nothing is to be booted.
    pub const fn slot(self) -> Option<KernelSlot> {
        match self {
            Self::SlotA => Some(KernelSlot::A),
            Self::SlotB => Some(KernelSlot::B),
            Self::Nothing => None,
        }
    }

    /// The choice of a slot.
    pub const fn of(slot: KernelSlot) -> Self {
        match slot {
            KernelSlot::A => Self::SlotA,
            KernelSlot::B => Self::SlotB,
        }
    }
}

/// What a node does when it has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum EndAction {
    /// Stand still, so that a person can look at it.
    #[default]
    Halt = 0,
    /// Reset the machine; the firmware decides what comes.
    Reset = 1,
    /// Boot the node again.
    BootAgain = 2,
}

impl EndAction {
    /// From its number on the disk.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::Halt,
            1 => Self::Reset,
            2 => Self::BootAgain,
            _ => return None,
        })
    }

    /// The name in dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Reset => "reset",
            Self::BootAgain => "boot-again",
        }
    }
}

/// The content of a configuration record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeConfig {
    /// The node's name, for people.
    pub name: Name,
    /// Which machine it is, if it is to be known by that.
    pub machine: MachineId,
    /// What to boot.
    pub boot: BootChoice,
    /// What to do after a graceful leave.
    pub on_shutdown: EndAction,
    /// What to do after any other end.
    pub on_panic: EndAction,
    /// Of two nodes that arbitration may drop, the lighter one goes (DESIGN 7).
    pub weight: u8,
    /// Whether it may join.
    pub enabled: bool,
}

const ENABLED: u8 = 4;

impl NodeConfig {
    /// Its place.
    pub const fn place(node: NodeId) -> Place {
        Place { kind: Kind::Config, node: Some(node), slot: 0 }
    }

    /// An enabled node of that name with everything else as usual.
    pub const fn named(name: Name) -> Self {
        Self {
            name,
            machine: MachineId { uuid: None, mac: None },
            boot: BootChoice::SlotA,
            on_shutdown: EndAction::Halt,
            on_panic: EndAction::Halt,
            weight: 100,
            enabled: true,
        }
    }

    /// Its bytes on the disk.
    pub fn encode(&self, cluster: ClusterId, node: NodeId) -> Raw {
        let mut raw = [0; RECORD_BYTES];
        self.name.put(&mut raw, 32, 40);
        raw[33] = self.machine.put(&mut raw, 72, 88) | if self.enabled { ENABLED } else { 0 };
        raw[34] = self.boot as u8;
        raw[35] = self.on_shutdown as u8;
        raw[36] = self.on_panic as u8;
        raw[37] = self.weight;
        seal(&mut raw, cluster, Self::place(node));
        raw
    }

    /// What stands in `bytes`, a record or the whole pitch that begins with it.
    pub fn decode(bytes: &[u8], cluster: ClusterId, node: NodeId) -> Block<Self> {
        open(bytes, Some(cluster), Self::place(node)).and_then(|raw| {
            let bits = raw[33];
            if bits & !(MachineId::HAS_UUID | MachineId::HAS_MAC | ENABLED) != 0 {
                return Err(RecordError::Field("bits"));
            }
            reserved(raw, 38, 40)?;
            reserved(raw, 94, RECORD_BYTES)?;
            Ok(Self {
                name: Name::get(raw, 32, 40)?,
                machine: MachineId::get(raw, bits, 72, 88)?,
                boot: BootChoice::from_u8(raw[34]).ok_or(RecordError::Field("boot"))?,
                on_shutdown: EndAction::from_u8(raw[35]).ok_or(RecordError::Field("on_shutdown"))?,
                on_panic: EndAction::from_u8(raw[36]).ok_or(RecordError::Field("on_panic"))?,
                weight: raw[37],
                enabled: bits & ENABLED != 0,
            })
        })
    }
}

/// Why a machine is no node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FindError {
    /// No record names it.
    NotConfigured,
    /// Two records name it.
    Ambiguous(NodeId, NodeId),
}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured => f.write_str("no node record names this machine"),
            Self::Ambiguous(a, b) => write!(f, "the records of nodes {a} and {b} both name this machine"),
        }
    }
}

impl core::error::Error for FindError {}

/// The node that a machine is: the one whose record has its UUID or its NIC address. Disabled nodes are found too; that
/// they must not join is for the caller to say.
///
/// # Errors
/// If no record names it, or more than one.
pub fn find_node<'a>(
    configs: impl Iterator<Item = (NodeId, &'a NodeConfig)>,
    uuid: Option<[u8; 16]>,
    mac: Option<[u8; 6]>,
) -> Result<NodeId, FindError> {
    let machine = MachineId { uuid, mac };
    let mut found = configs.filter(|(_, config)| config.machine.meets(&machine)).map(|(node, _)| node);
    match (found.next(), found.next()) {
        (None, _) => Err(FindError::NotConfigured),
        (Some(node), None) => Ok(node),
        (Some(a), Some(b)) => Err(FindError::Ambiguous(a, b)),
    }
}
