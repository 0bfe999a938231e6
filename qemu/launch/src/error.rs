//! What can go wrong on the host side: what, where, whose.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::idle::IDLE_LIMIT;
use crate::qmp::QmpError;

/// Why the set-up could not be done. Commands end with status 2 and print it as their last line.
#[derive(Debug)]
pub enum SetupError {
    /// A tool is missing and cannot be installed from here; what to run.
    Missing {
        /// Which tool.
        tool: &'static str,
        /// The exact command that installs it.
        command: String,
    },
    /// A command of the set-up failed.
    Failed {
        /// The command.
        command: String,
        /// The end of what it said.
        output: String,
    },
    /// A file could not be used.
    Io {
        /// What was tried.
        what: String,
        /// How it failed.
        error: io::Error,
    },
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { tool, command } => write!(f, "{tool} is missing; run: {command}"),
            Self::Failed { command, output } if output.is_empty() => write!(f, "`{command}` failed"),
            Self::Failed { command, output } => write!(f, "{output}\n`{command}` failed"),
            Self::Io { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for SetupError {}

/// Why something could not be done to a machine.
#[derive(Debug)]
pub enum LaunchError {
    /// A file, socket or process of the host.
    Io {
        /// What was tried.
        what: String,
        /// How it failed.
        error: io::Error,
    },
    /// There is no machine of that number.
    NoSuchMachine(usize),
    /// The machine is not running.
    NotRunning(usize),
    /// The machine is already running.
    Running(usize),
    /// The machine is paused, so its QEMU answers nothing.
    Paused(usize),
    /// QEMU ended by itself.
    Ended {
        /// Which machine.
        machine: usize,
        /// What QEMU said.
        stderr: String,
    },
    /// QEMU refused a command or did not answer it.
    Qmp {
        /// Which machine.
        machine: usize,
        /// The command.
        command: String,
        /// How it failed.
        error: QmpError,
    },
    /// The node's console did not answer.
    Console {
        /// Which machine.
        machine: usize,
        /// The command.
        text: String,
        /// What it had said so far.
        so_far: String,
    },
    /// An iSCSI target of our own did not do what it must; what it said.
    Target(String),
    /// A fault that a disk over iSCSI cannot have.
    NotOverIscsi(&'static str),
    /// Machines are to boot by firmware, and the set-up has none.
    NoFirmware,
    /// The cluster was made without [`disk_faults`](crate::ClusterOptions::disk_faults).
    NoDiskFaults,
    /// There was no moment to stop the machine at.
    NeverIdle {
        /// Which machine.
        machine: usize,
        /// For how long its disk was to be idle.
        idle: Duration,
    },
}

impl LaunchError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, error } => write!(f, "{what}: {error}"),
            Self::NoSuchMachine(n) => write!(f, "there is no machine {n}"),
            Self::NotRunning(n) => write!(f, "machine {n} is not running"),
            Self::Running(n) => write!(f, "machine {n} is already running"),
            Self::Paused(n) => write!(f, "machine {n} is paused; resume it first"),
            Self::Ended { machine, stderr } => write!(f, "machine {machine}: QEMU ended: {stderr}"),
            Self::Qmp { machine, command, error } => write!(f, "machine {machine}: QMP {command}: {error}"),
            Self::Console { machine, text, so_far } => {
                write!(f, "machine {machine}: no reply to `{text}` at the console; it said: {so_far:?}")
            }
            Self::Target(why) => write!(f, "iSCSI target: {why}"),
            Self::NotOverIscsi(what) => write!(f, "a disk over iSCSI cannot {what}"),
            Self::NoFirmware => f.write_str("no UEFI firmware was set up"),
            Self::NoDiskFaults => f.write_str("this cluster's disk is not behind the harness"),
            Self::NeverIdle { machine, idle } => write!(
                f,
                "machine {machine} was not paused: in {} s there was no moment at which its disk had just been idle for {} ms \
                 after a request; ask for less than lies between two beats of its node, which must run and have its disk",
                IDLE_LIMIT.as_secs(),
                idle.as_millis()
            ),
        }
    }
}

impl std::error::Error for LaunchError {}
