//! How QEMU makes the processors.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The accelerator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Accel {
    /// TCG, unless KVM is there and boots the node image faster.
    #[default]
    Auto,
    /// QEMU's own translator: everywhere, and the default where KVM is a slow one.
    Tcg,
    /// The host's.
    Kvm,
}

/// How long a boot is watched at most. TCG needs 0.2 s on a quiet machine.
const BOOT_MAX: Duration = Duration::from_secs(10);

impl Accel {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }

    /// TCG or KVM: for [`Accel::Auto`] both are tried, once in a process, which takes about two boots, and only where
    /// there is a KVM.
    pub(crate) fn resolve(self, qemu: &Path, image: &Path) -> Self {
        static FASTER: OnceLock<Accel> = OnceLock::new();
        match self {
            Self::Auto => *FASTER.get_or_init(|| Self::faster(qemu, image)),
            chosen => chosen,
        }
    }

    fn faster(qemu: &Path, image: &Path) -> Self {
        if std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
            return Self::Tcg;
        }
        let Some(tcg) = boot_time(Self::Tcg, qemu, image, BOOT_MAX) else { return Self::Tcg };
        match boot_time(Self::Kvm, qemu, image, tcg) {
            Some(kvm) if kvm < tcg => Self::Kvm,
            _ => Self::Tcg,
        }
    }

    /// QEMU's arguments.
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            // One processor: a thread of its own for it gains nothing.
            Self::Tcg | Self::Auto => ["-accel", "tcg,thread=single", "-cpu", "qemu64"],
            Self::Kvm => ["-accel", "kvm", "-cpu", "qemu64"],
        }
    }
}

/// From QEMU's start to the node image's first word, on a machine without disk or network; `None` if that takes longer
/// than `limit`.
fn boot_time(accel: Accel, qemu: &Path, image: &Path, limit: Duration) -> Option<Duration> {
    let begin = Instant::now();
    let mut child = Command::new(qemu)
        .args(["-M", "q35", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none"])
        .args(accel.arguments())
        .arg("-kernel")
        .arg(image)
        .args(["-chardev", "stdio,id=con,signal=off", "-device", "isa-serial,chardev=con"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut said = child.stdout.take()?;
    let (send, first_word) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        if std::io::Read::read(&mut said, &mut [0]).is_ok_and(|n| n > 0) {
            let _ = send.send(Instant::now());
        }
    });
    let word = first_word.recv_timeout(limit.saturating_sub(begin.elapsed()));
    let _ = child.kill();
    let _ = child.wait();
    let _ = reader.join();
    word.ok().map(|at| at - begin)
}
