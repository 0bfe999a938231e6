//! LIO, the Linux kernel's own target, in a guest: QEMU with TCG, a kernel and an initial file system (`initrd.rs`), the
//! image as its disk, and a forwarded port.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use super::{START_MAX, TARGET_NAME, held, initrd, kit};
use crate::error::LaunchError;
use crate::guard::Guard;
use crate::identity::DISK_SERIAL;

/// Number of the unit.
pub const LUN: u16 = 0;

/// Memory of the guest, MiB: the kernel of a distribution unpacks itself.
const MEMORY_MIB: u32 = 256;

/// A guest that serves the image.
#[derive(Debug)]
pub struct Lio {
    child: Child,
    said: PathBuf,
}

impl Lio {
    /// Starts the guest and waits until it says that its target is set up.
    ///
    /// # Errors
    /// If it does not come that far.
    pub fn start(
        programs: &kit::Lio,
        dir: &Path,
        port: u16,
        image: &Path,
        block_size: u32,
        guard: &Guard,
    ) -> Result<Self, LaunchError> {
        let said = dir.join("lio.err");
        let errors = File::create(&said).map_err(LaunchError::io(format!("cannot make {}", said.display())))?;
        let mut command = held(&programs.qemu);
        command.args(arguments(programs, port, image, block_size));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(LaunchError::io("cannot start LIO's guest"))?;
        guard.add(child.id());
        let console = child.stdout.take();
        let gone = child.stdin.take().map(|mut go| go.write_all(b"go\n"));
        let mut lio = Self { child, said };
        let outcome = match (gone, console) {
            (Some(Ok(())), Some(console)) => lio.wait(console, guard),
            _ => Err(LaunchError::Target("LIO's guest could not be started".to_owned())),
        };
        if outcome.is_err() {
            lio.kill(guard);
        }
        outcome.map(|()| lio)
    }

    /// Reads the guest's console until it says how it went, and on until it ends: nobody else would empty the pipe.
    fn wait(&mut self, console: impl std::io::Read + Send + 'static, guard: &Guard) -> Result<(), LaunchError> {
        let (send, heard) = mpsc::channel();
        std::thread::spawn(move || {
            let mut last = String::new();
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                let word = if line.contains(initrd::READY) {
                    Some(Ok(()))
                } else {
                    line.contains(initrd::FAILED).then(|| Err(line.clone()))
                };
                // Nobody listens any more after the first word.
                let _ = word.map(|w| send.send(w));
                last = line;
            }
            let _ = send.send(Err(format!("its console ends with: {last}")));
        });
        match heard.recv_timeout(START_MAX) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => {
                let why = self.ended(guard).unwrap_or(why);
                Err(LaunchError::Target(format!("LIO's guest: {why}")))
            }
            Err(_) => Err(LaunchError::Target(format!("LIO's guest did not start within {} s", START_MAX.as_secs()))),
        }
    }

    /// Why it has ended, if it has.
    pub fn ended(&mut self, guard: &Guard) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        guard.remove(self.child.id());
        let said = std::fs::read(&self.said).unwrap_or_default();
        Some(format!("QEMU ended ({status}): {}", String::from_utf8_lossy(&said).trim()))
    }

    /// Ends it at once, as a loss of power does.
    pub fn kill(&mut self, guard: &Guard) {
        // Already gone is as good.
        let _ = self.child.kill();
        guard.remove(self.child.id());
        let _ = self.child.wait();
    }
}

fn arguments(programs: &kit::Lio, port: u16, image: &Path, block_size: u32) -> Vec<String> {
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    // The harness reads the image while the guest serves it, and edits it while no node runs.
    let disk = serde_json::json!({"driver": "file", "node-name": "f0", "filename": shown(image), "locking": "off"});
    // On a busy host the guest's timer may miss the ticks by which the kernel tests it, and that would be a panic.
    let words = format!(
        "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off target={TARGET_NAME} serial={DISK_SERIAL}"
    );
    let device = serde_json::json!({"driver": "virtio-blk-pci", "drive": "d0", "logical_block_size": block_size,
        "physical_block_size": block_size, "share-rw": true});
    let forward = format!("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:3260");
    [
        // KVM is not needed, and not every host's boots a distribution's kernel.
        ("-M", "q35,accel=tcg,sata=off,smbus=off".to_owned()),
        ("-cpu", "max".to_owned()),
        ("-m", MEMORY_MIB.to_string()),
        ("-display", "none".to_owned()),
        ("-serial", "stdio".to_owned()),
        ("-kernel", shown(&programs.kernel)),
        ("-initrd", shown(&programs.initrd)),
        ("-append", words),
        ("-blockdev", disk.to_string()),
        ("-blockdev", serde_json::json!({"driver": "raw", "node-name": "d0", "file": "f0"}).to_string()),
        ("-device", device.to_string()),
        ("-netdev", forward),
        ("-device", "virtio-net-pci,netdev=n0,romfile=".to_owned()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .chain(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned))
    .collect()
}
