//! One machine as QEMU's command line.
//!
//! What the guest finds: a PC (q35) with one processor; three serial ports (console, log, trace); a virtio-scsi adapter
//! with the shared disk; a NIC on the virtual switch; a watchdog; an SMBIOS UUID. Nothing else.

use std::path::Path;

use quorate_iscsi::Portal;
use serde_json::{Value, json};

use crate::accel::Accel;
use crate::identity::{DISK_SERIAL, DISK_WWN, mac_text, uuid_text};
use crate::options::{MachineOptions, Nic};
use crate::run_dir::MachinePaths;

/// A PC without what the firmware would look for and nobody uses: a SATA adapter, an SMBus. Saves some 30 ms a boot.
const MACHINE: &str = "q35,sata=off,smbus=off,vmport=off";

/// What an OEM string begins with that has words for the kernel's command line.
const OEM_PREFIX: &str = "quorate.cmdline=";

/// The disk's device in QEMU.
pub const DISK_ID: &str = "disk0";

/// Whence the disk's bytes come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskRoute<'a> {
    /// QEMU opens the image.
    Direct,
    /// Through the harness.
    Harness,
    /// QEMU is an initiator of its own, and hands the guest's commands on as they are.
    Iscsi {
        /// Which unit.
        portal: &'a Portal,
        /// The initiator's name.
        initiator: &'a str,
    },
}

impl DiskRoute<'_> {
    /// Whether the guest's commands reach the disk as they are.
    const fn is_passed_through(self) -> bool {
        matches!(self, Self::Iscsi { .. })
    }
}

/// What a machine comes to its kernel by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start<'a> {
    /// QEMU loads this file.
    Kernel(&'a Path),
    /// This firmware starts what is on the disk. Its variables are in the machine's own file.
    Firmware(&'a Path),
}

/// What a command line is made from.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// The machine.
    pub machine: &'a MachineOptions,
    /// Its sockets.
    pub paths: &'a MachinePaths,
    /// What it comes to its kernel by.
    pub start: Start<'a>,
    /// The kernel command line's words.
    pub words: &'a [String],
    /// TCG or KVM.
    pub accel: Accel,
    /// The NIC's model.
    pub nic: Nic,
    /// MiB.
    pub memory_mib: u32,
    /// How the disk is reached.
    pub route: DiskRoute<'a>,
    /// Bytes of its logical block.
    pub block_size: u32,
    /// Whether the disk is there from the start (else it is added later).
    pub disk_present: bool,
    /// Whether the guest waits for QMP `cont`.
    pub waits: bool,
    /// Further arguments.
    pub extra: &'a [String],
}

/// QEMU's arguments.
pub fn arguments(spec: &Spec<'_>) -> Vec<String> {
    let mut a: Vec<String> = ["-M", MACHINE, "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none"]
        .into_iter()
        .chain(spec.accel.arguments())
        .map(str::to_owned)
        .collect();
    let mut push = |name: &str, value: String| a.extend([name.to_owned(), value]);
    push("-m", spec.memory_mib.to_string());
    push("-uuid", uuid_text(spec.machine.uuid));
    match spec.start {
        Start::Kernel(image) => {
            push("-kernel", shown(image));
            push("-append", spec.words.join(" "));
        }
        Start::Firmware(code) => {
            push("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={}", escaped(code)));
            push("-drive", format!("if=pflash,unit=1,format=raw,file={}", escaped(&spec.paths.variables)));
            if !spec.words.is_empty() {
                // The machine's own words reach the bootstrap in its OEM strings.
                let words = spec.words.join(" ").replace(',', ",,");
                push("-smbios", format!("type=11,value={OEM_PREFIX}{words}"));
            }
        }
    }
    let ports = [("con", &spec.paths.console), ("log", &spec.paths.log), ("trc", &spec.paths.trace)];
    for (index, (id, path)) in ports.into_iter().enumerate() {
        push("-chardev", format!("socket,id={id},path={},server=off", escaped(path)));
        push("-device", format!("isa-serial,chardev={id},index={index}"));
    }
    push("-chardev", format!("socket,id=qmp,path={},server=off", escaped(&spec.paths.qmp)));
    push("-mon", "chardev=qmp,mode=control".into());
    // The socket is QEMU's standard input.
    push("-netdev", "dgram,id=n0,local.type=fd,local.str=0".into());
    let model = match spec.nic {
        Nic::Virtio => "virtio-net-pci",
        Nic::E1000 => "e1000",
    };
    push("-device", format!("{model},id=nic0,netdev=n0,mac={},romfile=", mac_text(spec.machine.mac)));
    if spec.machine.watchdog {
        push("-device", "i6300esb,id=dog0".into());
        push("-action", "watchdog=reset".into());
    }
    if let Some(image) = &spec.machine.disk {
        disk(spec, image, &mut push);
    }
    if spec.waits {
        a.push("-S".into());
    }
    a.extend_from_slice(spec.extra);
    a
}

fn disk(spec: &Spec<'_>, image: &Path, push: &mut impl FnMut(&str, String)) {
    let bytes = match spec.route {
        DiskRoute::Direct => json!({"driver": "file", "node-name": "f0", "filename": shown(image)}),
        DiskRoute::Harness => {
            let server = json!({"type": "unix", "path": shown(&spec.paths.disk)});
            json!({"driver": "nbd", "node-name": "f0", "server": server})
        }
        // It must be the topmost node: a device passes commands on to nothing else.
        DiskRoute::Iscsi { portal, initiator } => json!({"driver": "iscsi", "node-name": "d0", "transport": "tcp",
            "portal": portal.address(), "target": portal.target, "lun": portal.lun, "initiator-name": initiator}),
    };
    push("-blockdev", bytes.to_string());
    if !spec.route.is_passed_through() {
        push("-blockdev", json!({"driver": "raw", "node-name": "d0", "file": "f0"}).to_string());
    }
    push("-device", "virtio-scsi-pci,id=scsi0".into());
    if spec.disk_present {
        let mut device = disk_device(spec.route, spec.block_size);
        if let (Start::Firmware(_), Value::Object(device)) = (spec.start, &mut device) {
            device.insert("bootindex".into(), json!(0));
        }
        push("-device", device.to_string());
    }
}

/// The arguments of `block_set_io_throttle` that hold every request of the disk, or let all pass.
pub fn throttle(hold: bool) -> Value {
    let all = ["bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"].map(|limit| (limit.to_owned(), json!(0)));
    let mut arguments: serde_json::Map<String, Value> = all.into_iter().collect();
    arguments.insert("id".into(), json!(DISK_ID));
    // One byte a second: the first request passes and owes the seconds for all its bytes; the next ones wait for that.
    arguments.insert("bps".into(), json!(u8::from(hold)));
    Value::Object(arguments)
}

/// The human monitor's command for a request that passes first and owes the most: 18 hours.
pub fn request_that_owes() -> String {
    format!("qemu-io -d {DISK_ID} \"aio_read 0 64k\"")
}

/// The disk as a device, for `-device` and for `device_add`.
pub fn disk_device(route: DiskRoute<'_>, block_size: u32) -> Value {
    if route.is_passed_through() {
        // What it is called and how large its blocks are, the target says.
        return json!({"driver": "scsi-block", "id": DISK_ID, "bus": "scsi0.0", "drive": "d0", "share-rw": true});
    }
    json!({
        "driver": "scsi-hd",
        "id": DISK_ID,
        "bus": "scsi0.0",
        "drive": "d0",
        "share-rw": true,
        "serial": DISK_SERIAL,
        "wwn": DISK_WWN,
        "logical_block_size": block_size,
        "physical_block_size": block_size,
    })
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// In QEMU's `key=value,…` arguments a comma is written twice.
fn escaped(path: &Path) -> String {
    shown(path).replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(route: DiskRoute<'_>, disk_present: bool) -> String {
        let machine = MachineOptions::new(2, Some("/x/disk,1.img".into()));
        let paths = MachinePaths::new(Path::new("/run"), 2);
        let words = ["node=2".to_owned(), "trace-writes=1".to_owned()];
        arguments(&Spec {
            machine: &machine,
            paths: &paths,
            start: Start::Kernel(Path::new("/x/node")),
            words: &words,
            accel: Accel::Tcg,
            nic: Nic::Virtio,
            memory_mib: 64,
            route,
            block_size: 4096,
            disk_present,
            waits: !disk_present,
            extra: &["-nographic".to_owned()],
        })
        .join(" ")
    }

    #[test]
    fn a_machine_has_its_identity_its_ports_and_the_shared_disk() {
        let line = line(DiskRoute::Direct, true);
        for part in [
            "-append node=2 trace-writes=1 ",
            "-uuid 71756f72-6174-4065-8000-000000000002 ",
            "-chardev socket,id=trc,path=/run/n2.trc,server=off -device isa-serial,chardev=trc,index=2 ",
            "-netdev dgram,id=n0,local.type=fd,local.str=0 ",
            "virtio-net-pci,id=nic0,netdev=n0,mac=52:54:00:51:00:02,romfile= ",
            "-device i6300esb,id=dog0 -action watchdog=reset ",
            r#""filename":"/x/disk,1.img""#,
            r#""share-rw":true"#,
            r#""logical_block_size":4096"#,
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(line.ends_with(" -nographic"));
        assert!(!line.contains("-S "));
    }

    #[test]
    fn with_firmware_the_disk_is_booted_from_and_the_words_are_oem_strings() {
        let machine = MachineOptions::new(1, Some("/x/disk.img".into()));
        let paths = MachinePaths::new(Path::new("/run"), 1);
        let words = ["level=70:a:1:1:1:0:0:1".to_owned(), "x=1,2".to_owned()];
        let line = arguments(&Spec {
            machine: &machine,
            paths: &paths,
            start: Start::Firmware(Path::new("/fw/code.fd")),
            words: &words,
            accel: Accel::Tcg,
            nic: Nic::Virtio,
            memory_mib: 192,
            route: DiskRoute::Direct,
            block_size: 512,
            disk_present: true,
            waits: false,
            extra: &[],
        })
        .join(" ");
        for part in [
            "-drive if=pflash,unit=0,format=raw,readonly=on,file=/fw/code.fd ",
            "-drive if=pflash,unit=1,format=raw,file=/run/n1.vars ",
            "-smbios type=11,value=quorate.cmdline=level=70:a:1:1:1:0:0:1 x=1,,2 ",
            r#""bootindex":0"#,
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(!line.contains("-kernel") && !line.contains("-append"));
    }

    #[test]
    fn behind_the_harness_the_bytes_come_from_its_socket() {
        let line = line(DiskRoute::Harness, false);
        assert!(line.ends_with(" -S -nographic"));
        assert!(line.contains(r#""driver":"nbd""#) && line.contains("/run/n2.nbd"));
        assert!(!line.contains("scsi-hd"));
    }

    #[test]
    fn over_iscsi_each_machine_is_an_initiator_of_its_own_and_commands_pass_through() {
        let portal = Portal::parse("iscsi://127.0.0.1:3261/iqn.x/1").expect("URL");
        let line = line(DiskRoute::Iscsi { portal: &portal, initiator: "iqn.x:node2" }, true);
        for part in [
            r#""portal":"127.0.0.1:3261""#,
            r#""initiator-name":"iqn.x:node2""#,
            r#""lun":1"#,
            r#""driver":"scsi-block""#,
            r#""share-rw":true"#,
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(!line.contains(r#""driver":"raw""#) && !line.contains("scsi-hd"));
    }
}
