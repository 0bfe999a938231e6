//! The shared disk behind an iSCSI target: real persistent reservations, which QEMU's own disks do not have.
//!
//! ```text
//! Disk::Image   QEMU opens the file                        no reservations
//! Disk::Tgt     tgtd, a process of this host               no PREEMPT AND ABORT
//! Disk::Lio     the Linux kernel's target, in a guest      the complete command set
//! Disk::Iscsi   somebody else's target                     whatever it has
//!
//! prepare()      what is missing is fetched         -> Programs
//! Target::start  on a free port of 127.0.0.1        -> Portal, for QEMU and for `quorate_iscsi`
//!   .restart()   the target loses power: all registrations are gone, the sessions break, the image stays
//! drop           the process is gone
//! ```
//! Invariant: a target listens on 127.0.0.1 only, has its own control socket in its own directory, and ends with the
//! harness however that ends (`guard.rs`).

mod initrd;
mod kit;
mod lio;
mod relay;
mod tgt;

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quorate_base::{Preempted, Registrants};
use quorate_iscsi::{IscsiError, Portal, PortalError, Unit};

use crate::error::LaunchError;
use crate::guard::Guard;
use crate::run_dir;

pub use kit::{Programs, prepare};
pub use relay::Relay;

/// The name of our own targets. `.invalid` is nobody's domain (RFC 2606).
const TARGET_NAME: &str = "iqn.2025-01.invalid.quorate:shared";

/// How long a target may take from its start to its first session. LIO's guest boots in 4 to 8 s on an idle host.
const START_MAX: Duration = Duration::from_secs(90);

/// How long one look at a target that starts may take.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// How often another port is tried: between the look for a free one and its use somebody else may take it.
const PORTS_TRIED: u32 = 5;

/// What stands behind the nodes' disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Disk {
    /// An image file that QEMU opens itself.
    #[default]
    Image,
    /// The image behind a `tgtd` of our own.
    Tgt,
    /// The image behind LIO, in a small Linux guest of our own.
    Lio,
    /// A unit of a target that is not ours.
    Iscsi(Portal),
}

impl Disk {
    /// The words of scenario files.
    pub const WORDS: [(&'static str, Self); 3] = [("image", Self::Image), ("tgt", Self::Tgt), ("lio", Self::Lio)];

    /// Whether nodes reach it over iSCSI.
    pub fn is_iscsi(&self) -> bool {
        *self != Self::Image
    }

    /// What it makes of a preemption, as far as it is known: what a database on it says where nobody says anything else. tgt
    /// runs with one thread here (`tgt.rs`), and forgets who holds the reservation when one of all holders is preempted.
    pub fn preemption(&self) -> (Preempted, Registrants) {
        match self {
            Self::Tgt => (Preempted::Ends, Registrants::Only),
            Self::Image | Self::Lio | Self::Iscsi(_) => Default::default(),
        }
    }

    /// What `--disk` names: a kind of target of our own, a unit of another, or an image.
    ///
    /// # Errors
    /// If it is a URL and a wrong one.
    pub fn named(word: &str) -> Result<(Self, Option<PathBuf>), PortalError> {
        match word {
            "tgt" => Ok((Self::Tgt, None)),
            "lio" => Ok((Self::Lio, None)),
            // Also `iscsi:` and `ISCSI://`: nobody has an image of such a name, and what is wrong is said.
            url if url.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("iscsi:")) => {
                Ok((Self::Iscsi(Portal::parse(url)?), None))
            }
            path => Ok((Self::Image, Some(path.into()))),
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image => f.write_str("image"),
            Self::Tgt => f.write_str("tgt"),
            Self::Lio => f.write_str("lio"),
            Self::Iscsi(portal) => portal.fmt(f),
        }
    }
}

/// The initiator name of machine `n` at its `start`, from 1. Each start has a name of its own: QEMU takes another session id
/// each time, and LIO takes the second session of the reservation holder's name for one that is not registered.
pub fn initiator_name(n: usize, start: u32) -> String {
    format!("iqn.2025-01.invalid.quorate:node{n}.{start}")
}

/// The initiator name of the harness itself, which looks and never registers.
pub const OUTSIDER: &str = "iqn.2025-01.invalid.quorate:harness";

/// A target that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Target {
    // Dropped in this order: the process, then the guard, which removes the directory.
    process: Option<Process>,
    kind: Kind,
    port: u16,
    dir: PathBuf,
    image: PathBuf,
    block_size: u32,
    guard: Guard,
}

/// One of our own, and the programs that it is made of.
#[derive(Clone, Debug)]
enum Kind {
    Tgt(kit::Tgt),
    Lio(kit::Lio),
}

#[derive(Debug)]
enum Process {
    Tgt(tgt::Tgt),
    Lio(lio::Lio),
}

impl Target {
    /// Starts a target of the kind `disk` names, if that is one of our own, over an image. Returns when it serves.
    ///
    /// # Errors
    /// If a program is missing ([`prepare`] was not called for this kind), or the target does not start.
    pub fn start(disk: &Disk, image: &Path, block_size: u32, programs: &Programs) -> Result<Option<Self>, LaunchError> {
        let kind = match disk {
            Disk::Image | Disk::Iscsi(_) => return Ok(None),
            Disk::Tgt => programs.tgt.clone().map(Kind::Tgt),
            Disk::Lio => programs.lio.clone().map(Kind::Lio),
        };
        let kind = kind.ok_or_else(|| LaunchError::Target(format!("the programs for {disk} are not there")))?;
        let dir = run_dir::make().map_err(LaunchError::io("cannot make a directory for the target"))?;
        let guard = Guard::start(&dir).map_err(LaunchError::io("cannot start the guard"))?;
        let image = std::path::absolute(image).map_err(LaunchError::io("cannot name the image"))?;
        let mut target = Self { process: None, kind, port: 0, dir, image, block_size, guard };
        let mut outcome = Ok(());
        for _ in 0..PORTS_TRIED {
            target.port = free_port().map_err(LaunchError::io("there is no free port on 127.0.0.1"))?;
            outcome = target.power_on();
            if outcome.is_ok() {
                return Ok(Some(target));
            }
            target.power_off();
        }
        outcome.map(|()| None)
    }

    /// Where it is.
    pub fn portal(&self) -> Portal {
        let lun = match self.kind {
            // Its unit 0 is the controller.
            Kind::Tgt(_) => tgt::LUN,
            Kind::Lio(_) => lio::LUN,
        };
        Portal { host: "127.0.0.1".to_owned(), port: self.port, target: TARGET_NAME.to_owned(), lun }
    }

    /// The target loses power for `off` and comes back: every session breaks, what was registered or reserved is gone.
    /// Returns when it serves again.
    ///
    /// # Errors
    /// If it does not come back.
    pub fn restart(&mut self, off: Duration) -> Result<(), LaunchError> {
        self.power_off();
        std::thread::sleep(off);
        self.power_on()
    }

    fn power_on(&mut self) -> Result<(), LaunchError> {
        let process = match &self.kind {
            Kind::Tgt(programs) => {
                tgt::Tgt::start(programs, &self.dir, self.port, &self.image, self.block_size, &self.guard)
                    .map(Process::Tgt)
            }
            Kind::Lio(programs) => {
                lio::Lio::start(programs, &self.dir, self.port, &self.image, self.block_size, &self.guard)
                    .map(Process::Lio)
            }
        };
        self.process = Some(process?);
        self.wait_until_it_serves()
    }

    fn power_off(&mut self) {
        match self.process.take() {
            Some(Process::Tgt(mut tgt)) => tgt.kill(&self.guard),
            Some(Process::Lio(mut lio)) => lio.kill(&self.guard),
            None => {}
        }
    }

    /// A session is the proof: a port that somebody answers at may be another's.
    fn wait_until_it_serves(&mut self) -> Result<(), LaunchError> {
        let deadline = Instant::now() + START_MAX;
        loop {
            match Unit::open(&self.portal(), OUTSIDER, LOOK_MAX) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(LaunchError::Target(error.to_string())),
                // It is not there yet; a guest that boots refuses or breaks connections in several ways.
                Err(IscsiError::Unreachable { .. } | IscsiError::Refused { .. } | IscsiError::Protocol(_)) => {}
                Err(error) => return Err(LaunchError::Target(error.to_string())),
            }
            let ended = match &mut self.process {
                Some(Process::Tgt(tgt)) => tgt.ended(&self.guard),
                Some(Process::Lio(lio)) => lio.ended(&self.guard),
                None => Some("it was never started".to_owned()),
            };
            if let Some(why) = ended {
                return Err(LaunchError::Target(why));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        match &mut self.process {
            Some(Process::Tgt(tgt)) => tgt.stop(&self.guard),
            Some(Process::Lio(lio)) => lio.kill(&self.guard),
            None => {}
        }
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A command that does not begin before its guard knows of it: a harness that is killed in between leaves nothing. The
/// child reads one line from its standard input first; whoever starts it sends that line.
fn held(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r go && exec \"$0\" \"$@\" </dev/null"]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_a_kind_of_target_a_unit_or_an_image() {
        assert_eq!(Disk::named("tgt").unwrap(), (Disk::Tgt, None));
        assert_eq!(Disk::named("lio").unwrap(), (Disk::Lio, None));
        assert_eq!(Disk::named("./tgt").unwrap(), (Disk::Image, Some("./tgt".into())));
        assert_eq!(Disk::named("a.img").unwrap(), (Disk::Image, Some("a.img".into())));
        let (disk, image) = Disk::named("iscsi://san:3260/iqn.x/3").unwrap();
        assert!(disk.is_iscsi() && image.is_none() && disk.to_string() == "iscsi://san:3260/iqn.x/3");
        for wrong in ["iscsi:san", "iscsi://", "ISCSI://san/iqn.x/1"] {
            assert!(Disk::named(wrong).unwrap_err().to_string().contains("iscsi://HOST:PORT/IQN/LUN"), "{wrong}");
        }
    }
}
