//! The initial file system of LIO's guest: busybox, the modules that it needs, and a script that makes the target.
//!
//! Written by ourselves (a `newc` archive, as Linux's `buffer-format.rst` describes it), so that neither cpio, kmod nor
//! initramfs-tools is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// To be raised with every change of what is made here: what an older harness made is then made anew.
pub const VERSION: u32 = 1;

/// What the guest says on its console when its target is set up.
pub const READY: &str = "quorate: the target is there";

/// What it says when it is not.
pub const FAILED: &str = "quorate: failed:";

/// The modules that are wanted; what they depend on comes along. One that is built in is no loss.
const MODULES: [&str; 8] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "configfs",
    "crc32c_generic",
    "target_core_mod",
    "target_core_iblock",
    "iscsi_target_mod",
];

/// The guest's first process. `@…@` are words of the kernel's command line.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /etc/target/pr /var/target/pr /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
fail() { echo "FAILED $1"; sleep 1; poweroff -f; }
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for word in $(cat /proc/cmdline); do
    case $word in target=*) target=${word#target=} ;; serial=*) serial=${word#serial=} ;; esac
done
for module in /modules/*.ko; do insmod $module || fail "module $module"; done
tries=0
until [ -e /sys/class/net/eth0 ] && [ -b /dev/vda ]; do
    tries=$((tries + 1)); [ $tries -lt 200 ] || fail 'no disk or no network'
    sleep 0.05
done
ip link set lo up && ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up || fail network
mount -t configfs none /sys/kernel/config
top=/sys/kernel/config/target
unit=$top/core/iblock_0/shared
mkdir -p $unit && echo udev_path=/dev/vda > $unit/control || fail 'backing store'
echo "$serial" > $unit/wwn/vpd_unit_serial && echo 1 > $unit/enable || fail unit
group=$top/iscsi/$target/tpgt_1
mkdir -p $group/lun/lun_0 && ln -s $unit $group/lun/lun_0/shared || fail lun
mkdir -p $group/np/10.0.2.15:3260 || fail portal
echo 0 > $group/attrib/authentication
echo 1 > $group/attrib/generate_node_acls
echo 0 > $group/attrib/demo_mode_write_protect
echo 1 > $group/attrib/cache_dynamic_acls
echo 1 > $group/enable || fail enable
echo 'READY'
while :; do sleep 1000; done
"#;

/// Makes `into/kernel` and `into/initrd` of packages that were unpacked below `root`.
///
/// # Errors
/// If a file cannot be read or written, or the packages lack what is needed.
pub fn make(root: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let mut files = Vec::new();
    walk(root, &mut files)?;
    let kernel = files.iter().find(|f| name_of(f).starts_with("vmlinuz-")).ok_or_else(|| missing("a kernel"))?;
    let busybox = files.iter().find(|f| f.ends_with("bin/busybox")).ok_or_else(|| missing("busybox"))?;
    fs::copy(kernel, into.join("kernel"))?;
    let mut archive = Archive::default();
    for dir in ["bin", "modules", "dev", "proc", "sys"] {
        archive.add(dir, 0o040_755, &[]);
    }
    archive.add("bin/busybox", 0o100_755, &fs::read(busybox)?);
    let init = INIT.replace("FAILED", FAILED).replace("READY", READY);
    archive.add("init", 0o100_755, init.as_bytes());
    for (number, (name, bytes)) in modules(&files)?.into_iter().enumerate() {
        archive.add(&format!("modules/{number:02}-{name}.ko"), 0o100_644, &bytes);
    }
    fs::write(into.join("initrd"), archive.end())
}

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the packages have no {what}"))
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Links are not followed: they lead out of the packages.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A module's name as others refer to it: without endings, `-` and `_` being the same.
fn module_name(path: &Path) -> Option<String> {
    let name = name_of(path);
    let (stem, end) = name.split_once(".ko")?;
    matches!(end, "" | ".xz" | ".zst" | ".gz").then(|| stem.replace('-', "_"))
}

/// The modules with everything that they depend on, in the order in which they can be loaded.
fn modules(files: &[PathBuf]) -> io::Result<Vec<(String, Vec<u8>)>> {
    let all: BTreeMap<String, &PathBuf> = files.iter().filter_map(|f| Some((module_name(f)?, f))).collect();
    let (mut ordered, mut seen) = (Vec::new(), BTreeSet::new());
    for wanted in MODULES {
        load(wanted, &all, &mut seen, &mut ordered)?;
    }
    let has = |name: &str| ordered.iter().any(|(n, _)| n == name);
    if has("iscsi_target_mod") && has("target_core_iblock") { Ok(ordered) } else { Err(missing("iSCSI target module")) }
}

fn load(
    name: &str,
    all: &BTreeMap<String, &PathBuf>,
    seen: &mut BTreeSet<String>,
    ordered: &mut Vec<(String, Vec<u8>)>,
) -> io::Result<()> {
    // One that is no file is built in.
    let Some(file) = all.get(name) else { return Ok(()) };
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let bytes = plain(file)?;
    for needed in depends(&bytes) {
        load(&needed, all, seen, ordered)?;
    }
    ordered.push((name.to_owned(), bytes));
    Ok(())
}

/// A module's bytes, unpacked if they are packed.
fn plain(file: &Path) -> io::Result<Vec<u8>> {
    let program = match file.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(file),
    };
    let output = Command::new(program).arg("-dc").arg(file).stdin(Stdio::null()).output()?;
    let failed = || io::Error::other(format!("{program} cannot unpack {}", file.display()));
    output.status.success().then_some(output.stdout).ok_or_else(failed)
}

/// The names in a module's `depends=` (its `.modinfo` section, strings that end in a zero).
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|w| w == KEY) else { return Vec::new() };
    let value = module[at + KEY.len()..].split(|b| *b == 0).next().unwrap_or_default();
    let names = value.split(|b| *b == b',').filter(|n| !n.is_empty());
    names.map(|n| String::from_utf8_lossy(n).replace('-', "_")).collect()
}

/// A `newc` archive that grows.
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    number: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.number += 1;
        let links = 1;
        let fields = [self.number, mode, 0, 0, links, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_headers_names_and_contents_on_boundaries_of_four() {
        let mut archive = Archive::default();
        archive.add("a", 0o100_644, b"hello");
        let bytes = archive.end();
        let header = "070701000000010000\
                      81a4000000000000000000000001000000000000000500000000000000000000000000000000\
                      0000000200000000";
        assert_eq!(bytes[..110], *header.as_bytes());
        assert_eq!(bytes[110..112], *b"a\0");
        assert_eq!(bytes[112..120], *b"hello\0\0\0");
        assert!(bytes.len().is_multiple_of(4) && bytes[120..].starts_with(b"070701"));
    }

    #[test]
    fn modules_come_after_what_they_depend_on_and_each_once() {
        let dir = crate::run_dir::make().unwrap();
        let module = |name: &str, needs: &str| {
            fs::write(dir.join(name), format!("ELF\0license=GPL\0depends={needs}\0name=x\0")).unwrap();
        };
        module("iscsi_target_mod.ko", "target_core_mod,libcrc32c");
        module("target_core_iblock.ko", "target-core-mod");
        module("target_core_mod.ko", "configfs");
        module("configfs.ko", "");
        module("libcrc32c.ko", "");
        let mut files = Vec::new();
        walk(&dir, &mut files).unwrap();
        let names: Vec<String> = modules(&files).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["configfs", "target_core_mod", "target_core_iblock", "libcrc32c", "iscsi_target_mod"]);
        fs::remove_file(dir.join("target_core_iblock.ko")).unwrap();
        files.retain(|f| f.exists());
        assert!(modules(&files).unwrap_err().to_string().contains("iSCSI target"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn packed_modules_have_the_same_names() {
        assert_eq!(module_name(Path::new("/x/crc32c-intel.ko.xz")).as_deref(), Some("crc32c_intel"));
        assert_eq!(module_name(Path::new("/x/virtio.ko")).as_deref(), Some("virtio"));
        assert_eq!(module_name(Path::new("/x/virtio.ko.sig")), None);
    }
}
