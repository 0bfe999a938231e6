//! A `tgtd` of our own: a process with its own control socket, one target, one unit.
//!
//! It has one thread for reads and writes, so that it carries them out in the order in which it accepted them: what it
//! accepted of a node before that one's preemption is over when it answers a read that was sent after it. With more threads (16 is
//! its usual number) nothing says when that is over.
//!
//! It ignores SIGTERM while it has a target, so in an orderly end the target is deleted first.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{TARGET_NAME, held, kit};
use crate::error::LaunchError;
use crate::guard::Guard;
use crate::identity::DISK_SERIAL;

/// Number of the unit: 0 is tgt's controller.
pub const LUN: u16 = 1;

/// Number of the control socket; its directory makes it ours alone.
const CONTROL: &str = "1";

/// Threads that read and write the image.
const THREADS: &str = "1";

/// How long the process may take until it answers on its control socket, or to end when it is asked to.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A running `tgtd`.
#[derive(Debug)]
pub struct Tgt {
    child: Child,
    programs: kit::Tgt,
    socket: PathBuf,
    log: PathBuf,
}

impl Tgt {
    /// Starts it and gives it its target.
    ///
    /// # Errors
    /// If it does not start or refuses its configuration.
    pub fn start(
        programs: &kit::Tgt,
        dir: &Path,
        port: u16,
        image: &Path,
        block_size: u32,
        guard: &Guard,
    ) -> Result<Self, LaunchError> {
        let (socket, log) = (dir.join("tgt"), dir.join("tgtd.log"));
        let said = File::create(&log).map_err(LaunchError::io(format!("cannot make {}", log.display())))?;
        let mut command = held(&programs.daemon);
        command
            .args(["-f", "-C", CONTROL, "--nr_iothreads", THREADS, "--iscsi"])
            .arg(format!("portal=127.0.0.1:{port}"));
        programs.surround(&mut command).env("TGT_IPC_SOCKET", &socket);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(said);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(LaunchError::io("cannot start tgtd"))?;
        guard.add(child.id());
        let gone = child.stdin.take().map(|mut go| go.write_all(b"go\n"));
        let mut tgt = Self { child, programs: programs.clone(), socket, log };
        let outcome = match gone {
            Some(Ok(())) => tgt.configure(image, block_size, guard),
            _ => Err(LaunchError::Target("tgtd could not be started".to_owned())),
        };
        if outcome.is_err() {
            tgt.kill(guard);
        }
        outcome.map(|()| tgt)
    }

    fn configure(&mut self, image: &Path, block_size: u32, guard: &Guard) -> Result<(), LaunchError> {
        let deadline = Instant::now() + ANSWER_MAX;
        while let Err(error) = self.ask(&["--mode", "system", "--op", "show"]) {
            if let Some(why) = self.ended(guard) {
                return Err(LaunchError::Target(why));
            }
            if Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let image = image.to_string_lossy();
        let (size, unit) = (block_size.to_string(), LUN.to_string());
        // Its world-wide name cannot be set: the target makes one of its own.
        let identity = format!("vendor_id=QUORATE,product_id=SHARED,scsi_sn={DISK_SERIAL},scsi_id={DISK_SERIAL}");
        let unit = ["--mode", "logicalunit", "--tid", "1", "--lun", unit.as_str(), "--op"];
        let commands: [&[&str]; 4] = [
            &["--mode", "target", "--op", "new", "--tid", "1", "--targetname", TARGET_NAME],
            &[&unit[..], &["new", "--backing-store", &image, "--bstype", "rdwr", "--blocksize", &size]].concat(),
            &[&unit[..], &["update", "--params", &identity]].concat(),
            &["--mode", "target", "--op", "bind", "--tid", "1", "--initiator-address", "127.0.0.1"],
        ];
        commands.iter().try_for_each(|command| self.ask(command))
    }

    /// One command of `tgtadm`.
    fn ask(&self, arguments: &[&str]) -> Result<(), LaunchError> {
        let mut command = Command::new(&self.programs.admin);
        self.programs.surround(&mut command).env("TGT_IPC_SOCKET", &self.socket);
        command.args(["-C", CONTROL, "--lld", "iscsi"]).args(arguments).stdin(Stdio::null());
        let output = command.output().map_err(LaunchError::io("cannot run tgtadm"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(LaunchError::Target(format!("tgtadm {}: {said}", arguments.join(" "))))
    }

    /// Why it has ended, if it has.
    pub fn ended(&mut self, guard: &Guard) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        guard.remove(self.child.id());
        let said = std::fs::read(&self.log).unwrap_or_default();
        Some(format!("tgtd ended ({status}): {}", String::from_utf8_lossy(&said).trim()))
    }

    /// Ends it in an orderly way.
    pub fn stop(&mut self, guard: &Guard) {
        // Whatever fails here, the end is certain below.
        let _ = self.ask(&["--mode", "target", "--op", "delete", "--force", "--tid", "1"]);
        let _ = self.ask(&["--mode", "system", "--op", "delete"]);
        let deadline = Instant::now() + ANSWER_MAX;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill(guard);
    }

    /// Ends it at once, as a loss of power does.
    pub fn kill(&mut self, guard: &Guard) {
        // Already gone is as good.
        let _ = self.child.kill();
        guard.remove(self.child.id());
        let _ = self.child.wait();
    }
}
