//! A run's directory: sockets and QEMU's messages while it lasts, nothing afterwards.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Longest path of the directory, bytes: a unix socket's whole path must fit 107.
const PATH_MAX: usize = 80;

/// Makes a fresh directory that only this user may enter.
///
/// # Errors
/// If it cannot be made.
pub fn make() -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = || format!("quorate-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let base = std::env::temp_dir();
    let base = if base.as_os_str().len() > PATH_MAX - 32 { Path::new("/tmp") } else { &base };
    loop {
        let dir = base.join(name());
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            // Left by a process that had this number before.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// One machine's sockets and files in the run's directory.
#[derive(Clone, Debug)]
pub struct MachinePaths {
    /// The switch's socket of this machine's port.
    pub hub: PathBuf,
    /// QEMU's socket of this machine's NIC.
    pub nic: PathBuf,
    /// First serial port.
    pub console: PathBuf,
    /// Second serial port.
    pub log: PathBuf,
    /// Third serial port.
    pub trace: PathBuf,
    /// QEMU's monitor.
    pub qmp: PathBuf,
    /// The disk as the harness serves it.
    pub disk: PathBuf,
    /// The firmware's variables.
    pub variables: PathBuf,
    /// What QEMU says.
    pub stderr: PathBuf,
}

impl MachinePaths {
    /// Of machine `n`.
    pub fn new(dir: &Path, n: usize) -> Self {
        let path = |end: &str| dir.join(format!("n{n}.{end}"));
        Self {
            hub: path("hub"),
            nic: path("nic"),
            console: path("con"),
            log: path("log"),
            trace: path("trc"),
            qmp: path("qmp"),
            disk: path("nbd"),
            variables: path("vars"),
            stderr: path("err"),
        }
    }
}
