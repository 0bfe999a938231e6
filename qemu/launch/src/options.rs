//! What a cluster is made from.

use std::path::PathBuf;

use crate::accel::Accel;
use crate::identity;
use quorate_iscsi::Portal;
use quorate_switch::Mac;

/// The model of the interconnect's NIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Nic {
    /// virtio-net.
    #[default]
    Virtio,
    /// Intel 82540EM.
    E1000,
}

impl Nic {
    /// All, with their names in scenarios and on the command line.
    pub const WORDS: [(&'static str, Self); 2] = [("virtio", Self::Virtio), ("e1000", Self::E1000)];
}

/// How a machine comes to its kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BootPath {
    /// QEMU loads it (PVH).
    #[default]
    Direct,
    /// Firmware starts the bootstrap on the shared disk, which loads it from there.
    Uefi,
}

impl BootPath {
    /// All, with their names in scenarios and on the command line.
    pub const WORDS: [(&'static str, Self); 2] = [("direct", Self::Direct), ("uefi", Self::Uefi)];
}

/// One machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineOptions {
    /// The node that it stands for in the trace, and its port on the switch's groups.
    pub node: u8,
    /// The raw image of its SCSI disk; `None`: it has none.
    pub disk: Option<PathBuf>,
    /// SMBIOS UUID.
    pub uuid: [u8; 16],
    /// NIC address.
    pub mac: Mac,
    /// Whether it has a hardware watchdog, an i6300esb that resets it.
    pub watchdog: bool,
}

impl MachineOptions {
    /// The machine of node `n` with the identity that [`identity`] gives it.
    pub fn new(n: u8, disk: Option<PathBuf>) -> Self {
        Self { node: n, disk, uuid: identity::uuid(n), mac: identity::mac(n), watchdog: true }
    }
}

/// A cluster's machines and surroundings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterOptions {
    /// The machines, in order; usually machine `n` is node `n`.
    pub machines: Vec<MachineOptions>,
    /// Seed of the switch's faults.
    pub seed: u64,
    /// How the processors are made.
    pub accel: Accel,
    /// How they come to their kernel.
    pub boot: BootPath,
    /// The NICs' model.
    pub nic: Nic,
    /// The unit behind which the disks' images are; `None`: QEMU opens them. It must serve the very image.
    pub iscsi: Option<Portal>,
    /// Whether the disks' requests go through the harness, so that they can be stalled, delayed, failed and torn; over
    /// iSCSI stalled, delayed, and their sessions cut. Costs some 50 µs a request; `disk_cut` with `gone` works without.
    pub disk_faults: bool,
    /// Bytes of a logical block of the disks: 512 or 4096.
    pub block_size: u32,
    /// Where logs, consoles, QEMU's messages and a capture of all frames are kept; `None`: nowhere.
    pub keep_logs: Option<PathBuf>,
    /// Memory of each machine, MiB. One that boots by firmware has 192 at least.
    pub memory_mib: u32,
    /// Further arguments for every QEMU.
    pub extra_arguments: Vec<String>,
}

/// Enough for the node image and for SeaBIOS.
const MEMORY_MIB: u32 = 64;

/// Enough for OVMF, which uses some 100 MiB of it.
pub const BOOTSTRAP_MEMORY_MIB: u32 = 192;

impl ClusterOptions {
    /// `nodes` machines that share the disk image `disk`.
    pub fn new(nodes: u8, disk: PathBuf) -> Self {
        Self {
            machines: (0..nodes).map(|n| MachineOptions::new(n, Some(disk.clone()))).collect(),
            seed: 0,
            accel: Accel::Tcg,
            boot: BootPath::default(),
            nic: Nic::default(),
            iscsi: None,
            disk_faults: false,
            block_size: 512,
            keep_logs: None,
            memory_mib: MEMORY_MIB,
            extra_arguments: Vec::new(),
        }
    }
}
