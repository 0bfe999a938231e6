//! The programs behind an iSCSI disk, beside QEMU itself: QEMU's iSCSI driver, tgt, and for LIO a Linux kernel, some of its
//! modules and busybox.
//!
//! What is installed is used. What is missing is fetched with apt-get and unpacked below `target/kit`, not installed:
//! package tgt would start a daemon on all of the host's addresses, a kernel package would change what the host boots, and
//! unpacking needs no root.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Disk, initrd};
use crate::error::SetupError;
use crate::setup::{Tools, apt_get, in_path, run, workspace_root};

/// QEMU's package, which QEMU's iSCSI driver must match to the last digit.
const QEMU_PACKAGE: &str = "qemu-system-x86";

/// Kernels of Debian and Ubuntu that have LIO; the cloud kernels do not.
const KERNEL_PACKAGES: [&str; 2] = ["linux-image-amd64", "linux-image-generic"];

/// What is at hand for disks over iSCSI.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// Set once QEMU is known to have its iSCSI driver.
    qemu: Option<Surroundings>,
    /// The user-space target.
    pub(super) tgt: Option<Tgt>,
    /// The kernel's target.
    pub(super) lio: Option<Lio>,
}

/// Where a program finds what was unpacked for it.
#[derive(Clone, Debug, Default)]
struct Surroundings(Vec<(&'static str, PathBuf)>);

/// tgt's programs.
#[derive(Clone, Debug)]
pub struct Tgt {
    /// `tgtd`.
    pub(super) daemon: PathBuf,
    /// `tgtadm`.
    pub(super) admin: PathBuf,
    surroundings: Surroundings,
}

/// What LIO's guest is made of.
#[derive(Clone, Debug)]
pub struct Lio {
    /// The QEMU program.
    pub(super) qemu: PathBuf,
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// The initial file system.
    pub(super) initrd: PathBuf,
}

impl Programs {
    /// What QEMU needs in its environment to reach a disk over iSCSI.
    pub fn qemu_environment(&self) -> &[(&'static str, PathBuf)] {
        self.qemu.as_ref().map_or(&[], |s| &s.0)
    }
}

impl Surroundings {
    fn set<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.0.iter().map(|(name, value)| (*name, value)))
    }
}

impl Tgt {
    /// Gives a command of tgt what was unpacked for it.
    pub(super) fn surround<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        self.surroundings.set(command)
    }
}

/// Sees to it that everything is there for a disk. `progress` is given one line for each thing that takes time.
///
/// # Errors
/// If something is missing and cannot be had; the message says what to do.
pub fn prepare(disk: &Disk, tools: &mut Tools, progress: &mut dyn FnMut(&str)) -> Result<(), SetupError> {
    let programs = &mut tools.programs;
    if disk.is_iscsi() && programs.qemu.is_none() {
        programs.qemu = Some(qemu_driver(&tools.qemu, progress)?);
    }
    if *disk == Disk::Tgt && programs.tgt.is_none() {
        programs.tgt = Some(tgt(progress)?);
    }
    if *disk == Disk::Lio && programs.lio.is_none() {
        programs.lio = Some(lio(&tools.qemu, progress)?);
    }
    Ok(())
}

/// Whether QEMU has the driver, with these surroundings. It is asked to connect to a port where nobody is.
fn has_driver(qemu: &Path, surroundings: &Surroundings) -> bool {
    let nobody =
        r#"{"driver":"iscsi","node-name":"d","transport":"tcp","portal":"127.0.0.1:1","target":"iqn.x","lun":0}"#;
    let mut command = Command::new(qemu);
    command.args(["-M", "none", "-nodefaults", "-display", "none", "-blockdev", nobody]).stdin(Stdio::null());
    let said = surroundings.set(&mut command).output();
    said.is_ok_and(|o| !o.status.success() && String::from_utf8_lossy(&o.stderr).to_lowercase().contains("connect"))
}

fn qemu_driver(qemu: &Path, progress: &mut dyn FnMut(&str)) -> Result<Surroundings, SetupError> {
    let none = Surroundings::default();
    if has_driver(qemu, &none) {
        return Ok(none);
    }
    let missing = || SetupError::Missing {
        tool: "QEMU's iSCSI driver",
        command: command_of([
            "sudo apt-get install qemu-block-extra",
            "sudo dnf install qemu-block-iscsi",
            "sudo pacman -S qemu-block-iscsi",
            "brew install qemu (built with libiscsi); else use a disk image",
        ]),
    };
    if in_path("apt-get").is_none() {
        return Err(missing());
    }
    let version = run(Command::new("dpkg-query").args(["-W", "-f=${Version}", QEMU_PACKAGE])).map_err(|_| missing())?;
    let name = format!("qemu-block-{}", plain(&version));
    let packages = || {
        let driver = format!("qemu-block-extra={version}");
        Ok([vec![driver, "libiscsi7".to_owned()], libraries_of("libiscsi7")?].concat())
    };
    let root = unpacked(&name, "QEMU's iSCSI driver", packages, progress)?;
    let modules = first_that_is(&root, ["usr/lib/x86_64-linux-gnu/qemu", "usr/lib/qemu"]).ok_or_else(missing)?;
    let surroundings = Surroundings(vec![("QEMU_MODULE_DIR", modules), ("LD_LIBRARY_PATH", libraries(&root))]);
    if has_driver(qemu, &surroundings) { Ok(surroundings) } else { Err(missing()) }
}

fn tgt(progress: &mut dyn FnMut(&str)) -> Result<Tgt, SetupError> {
    // It is an administrator's program: not in everybody's path.
    let installed = |name: &str| {
        in_path(name).or_else(|| first_that_is(Path::new("/"), [format!("usr/sbin/{name}"), format!("sbin/{name}")]))
    };
    if let (Some(daemon), Some(admin)) = (installed("tgtd"), installed("tgtadm")) {
        return Ok(Tgt { daemon, admin, surroundings: Surroundings::default() });
    }
    if in_path("apt-get").is_none() {
        return Err(SetupError::Missing {
            tool: "the iSCSI target tgt",
            command: command_of([
                "sudo apt-get install tgt",
                "sudo dnf install scsi-target-utils",
                "sudo pacman -S --needed base-devel (tgt is in the AUR)",
                "none for brew, tgt runs on Linux only: use --disk iscsi://HOST:PORT/IQN/LUN",
            ]),
        });
    }
    let packages = || Ok([vec!["tgt".to_owned()], libraries_of("tgt")?].concat());
    let root = unpacked("tgt", "the iSCSI target tgt", packages, progress)?;
    let program = |name: &str| root.join("usr/sbin").join(name);
    let surroundings = Surroundings(vec![("LD_LIBRARY_PATH", libraries(&root))]);
    Ok(Tgt { daemon: program("tgtd"), admin: program("tgtadm"), surroundings })
}

fn lio(qemu: &Path, progress: &mut dyn FnMut(&str)) -> Result<Lio, SetupError> {
    let of = |root: &Path| Lio { qemu: qemu.to_owned(), kernel: root.join("kernel"), initrd: root.join("initrd") };
    let made = kit().join(format!("lio-{}", initrd::VERSION));
    if made.is_dir() {
        return Ok(of(&made));
    }
    if in_path("apt-get").is_none() {
        return Err(SetupError::Missing {
            tool: "a Linux kernel for LIO's guest",
            command: "none: it is made of Debian's or Ubuntu's packages, with apt-get; here use --disk tgt or \
                      --disk iscsi://HOST:PORT/IQN/LUN"
                .to_owned(),
        });
    }
    let packages = || {
        let mut names = vec!["busybox-static".to_owned()];
        for kernel in KERNEL_PACKAGES {
            names.extend(depends(kernel, |name| {
                name.strip_prefix("linux-image-").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                    || name.starts_with("linux-modules-")
            })?);
            if names.len() > 1 {
                return Ok(names);
            }
        }
        Err(failed("apt-cache depends linux-image-amd64", "it names no kernel"))
    };
    let root = unpacked("lio-packages", "a Linux kernel and busybox, for LIO's guest", packages, progress)?;
    let new = kit().join(format!(".lio-{}", std::process::id()));
    let outcome = initrd::make(&root, &new)
        .map_err(|error| SetupError::Io { what: format!("cannot make LIO's guest of {}", root.display()), error });
    // Hundreds of megabytes, of which a few were needed.
    let _ = std::fs::remove_dir_all(&root);
    outcome.and_then(|()| settle(&new, &made))?;
    Ok(of(&made))
}

fn kit() -> PathBuf {
    workspace_root().join("target/kit")
}

/// A directory of the kit into which packages were unpacked, now or earlier.
fn unpacked(
    name: &str,
    what: &str,
    packages: impl Fn() -> Result<Vec<String>, SetupError>,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, SetupError> {
    let made = kit().join(name);
    if made.is_dir() {
        return Ok(made);
    }
    let mut names = packages();
    if names.is_err() && rustix::process::geteuid().is_root() {
        // A machine without any list of packages knows none.
        run(&mut apt_get(&["update", "-q"]))?;
        names = packages();
    }
    let names = names?;
    progress(&format!("fetching {what}: apt-get download {}", names.join(" ")));
    let new = kit().join(format!(".{name}-{}", std::process::id()));
    let outcome = fetch(&new, &names).and_then(|()| settle(&new, &made));
    let _ = std::fs::remove_dir_all(&new);
    outcome.map(|()| made)
}

/// Puts a new directory in its place; another process may have been faster.
fn settle(new: &Path, made: &Path) -> Result<(), SetupError> {
    match std::fs::rename(new, made) {
        Err(error) if !made.is_dir() => Err(SetupError::Io { what: format!("cannot make {}", made.display()), error }),
        _ => Ok(()),
    }
}

fn fetch(new: &Path, names: &[String]) -> Result<(), SetupError> {
    let archives = new.join("archives");
    let what = format!("cannot make {}", archives.display());
    std::fs::create_dir_all(&archives).map_err(|error| SetupError::Io { what, error })?;
    let download = || run(apt_get(&["download", "-q"]).args(names).current_dir(&archives));
    if let Err(error) = download() {
        if !rustix::process::geteuid().is_root() {
            return Err(failed("apt-get download", &format!("{error}\nrun: sudo apt-get update")));
        }
        // The list of packages may be older than the archive.
        run(&mut apt_get(&["update", "-q"]))?;
        download()?;
    }
    let list =
        std::fs::read_dir(&archives).map_err(|error| SetupError::Io { what: "cannot list packages".into(), error })?;
    for archive in list.filter_map(|entry| entry.ok().map(|e| e.path())) {
        run(Command::new("dpkg-deb").arg("--extract").args([archive.as_path(), new]))?;
    }
    let _ = std::fs::remove_dir_all(&archives);
    Ok(())
}

/// The libraries that apt-get would install anew along with a package.
fn libraries_of(package: &str) -> Result<Vec<String>, SetupError> {
    let plan = run(&mut apt_get(&["install", "--simulate", "--no-install-recommends", package]))?;
    Ok(plan.lines().filter_map(|line| new_library(line, package)).collect())
}

/// `Inst libaio1 (0.3.113-4 Debian:12 [amd64])`; an upgrade has its old version in brackets after the name.
fn new_library(line: &str, package: &str) -> Option<String> {
    let mut words = line.strip_prefix("Inst ")?.split(' ');
    let name = words.next()?;
    let new = words.next().is_some_and(|version| version.starts_with('('));
    let is_library = name.starts_with("lib") && !name.ends_with("-perl") && name != package;
    (new && is_library).then(|| name.to_owned())
}

/// The packages that a package depends on, and theirs, of which `wanted` says so.
fn depends(package: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, SetupError> {
    let quiet = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"].map(|k| format!("--no-{k}"));
    let tree = run(Command::new("apt-cache").args(["depends", "--recurse"]).args(quiet).arg(package))?;
    let names = tree.lines().filter(|line| !line.starts_with([' ', '<', '|']) && wanted(line));
    Ok(names.map(str::to_owned).collect())
}

fn libraries(root: &Path) -> PathBuf {
    // Packages of merged and of unmerged systems differ in the first folder.
    let both = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|dir| root.join(dir));
    std::env::join_paths(both).unwrap_or_default().into()
}

fn first_that_is<P: AsRef<OsStr>>(root: &Path, places: impl IntoIterator<Item = P>) -> Option<PathBuf> {
    places.into_iter().map(|place| root.join(place.as_ref())).find(|path| path.exists())
}

fn plain(version: &str) -> String {
    version.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '+' { c } else { '-' }).collect()
}

/// The command for the package manager that is there, of those for apt-get, dnf, pacman and brew.
fn command_of(commands: [&'static str; 4]) -> String {
    let managers = ["apt-get", "dnf", "pacman", "brew"];
    let found = managers.iter().zip(commands).find(|(program, _)| in_path(program).is_some());
    found.map_or_else(|| commands.join("  or  "), |(_, command)| command.to_owned())
}

fn failed(command: &str, output: &str) -> SetupError {
    SetupError::Failed { command: command.to_owned(), output: output.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_apts_plan_only_new_libraries_are_taken() {
        let of = |line| new_library(line, "libiscsi7");
        assert_eq!(of("Inst libaio1 (0.3.113-4 Debian:12 [amd64])"), Some("libaio1".to_owned()));
        assert_eq!(of("Inst libsystemd0 [252.38] (252.39 Debian:12 [amd64])"), None);
        assert_eq!(of("Inst libconfig-general-perl (2.65-2 Debian:12 [all])"), None);
        assert_eq!(of("Inst libiscsi7 (1.19.0-3 Debian:12 [amd64])"), None);
        assert_eq!(of("Conf libaio1 (0.3.113-4 Debian:12 [amd64])"), None);
        assert_eq!(of("Inst sg3-utils (1.46-3 Debian:12 [amd64])"), None);
    }

    #[test]
    fn a_version_becomes_a_directorys_name() {
        assert_eq!(plain("1:7.2+dfsg-7+deb12u18+b3"), "1-7.2+dfsg-7+deb12u18+b3");
    }
}
