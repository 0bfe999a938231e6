//! Three nodes as three host processes, their consoles, and what a load on them comes to.

mod host;
mod link;

pub use host::live;

use std::fs::File;
use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::UdpSocket;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use quorate_base::capacity::{LEVELS_MAX, RECORD_PITCH};
use quorate_base::{ClusterId, FenceMethod, NodeId, Preempted, Registrants, Timing};
use quorate_database::{Blanks, ClusterKey, Name, NodeConfig, Superblock, layout};

/// Longer than anything here takes, on however loaded a machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Processes share the processors with all others: longer leases than the usual ones, ms.
const TIMING: Timing =
    Timing { net_suspect: 2000, io_max: 1000, lease: 4000, dead: 6000, disk_suspect: 1000, ..Timing::DEFAULT };

/// A node's process and its console.
struct Process {
    child: Child,
    typed: ChildStdin,
    said: BufReader<ChildStdout>,
}

/// A cluster of host processes.
pub struct Native {
    folder: PathBuf,
    nodes: Vec<Process>,
}

fn other(what: impl std::fmt::Display) -> Error {
    Error::other(what.to_string())
}

/// Makes an empty membership database in a file, as `cargo cluster db create` does.
fn create(path: &Path, nodes: u8) -> Result<()> {
    let mut random = [0; 48];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let (cluster, key) = random.split_at(16);
    let cluster = ClusterId(cluster.try_into().map_err(other)?);
    let superblock = Superblock {
        generation: 1,
        cluster,
        name: Name::new("native").map_err(other)?,
        timing: TIMING,
        nodes,
        levels_max: LEVELS_MAX as u8,
        fence: FenceMethod::Lease,
        preempted: Preempted::default(),
        registrants: Registrants::default(),
        blanks: Blanks::Sealed,
        key: ClusterKey(key.try_into().map_err(other)?),
        key_epoch: 0,
    };
    let file = File::create(path)?;
    file.set_len(layout::PARTITION_BYTES)?;
    for (at, blank) in superblock.blanks.records(cluster, nodes) {
        file.write_all_at(&blank, at * RECORD_PITCH)?;
    }
    for node in NodeId::first(nodes) {
        let name = Name::new(&format!("process-{node}")).map_err(other)?;
        file.write_all_at(&NodeConfig::named(name).encode(cluster, node), layout::config(node) * RECORD_PITCH)?;
    }
    for copy in [0, 1] {
        file.write_all_at(&superblock.encode(copy), layout::superblock(copy) * RECORD_PITCH)?;
    }
    file.sync_all()
}

impl Native {
    /// Starts the processes by `program`, which must hand over to [`live`] when it is given `host-node ID FILE PORTS`, and
    /// waits until all take part in group services.
    ///
    /// # Errors
    /// If one does not start, or they do not join.
    pub fn start(program: &Path, nodes: u8) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("quorate-native-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let disk = folder.join("disk.img");
        create(&disk, nodes)?;
        let sockets: Vec<UdpSocket> = (0..nodes).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_>>()?;
        let ports: Vec<String> =
            sockets.iter().map(|s| Ok(s.local_addr()?.port().to_string())).collect::<Result<_>>()?;
        // They are free now, and each node binds its own.
        drop(sockets);
        let mut native = Self { folder, nodes: Vec::new() };
        for node in 0..nodes {
            let mut child = Command::new(program)
                .arg("host-node")
                .arg(node.to_string())
                .arg(&disk)
                .arg(ports.join(","))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (Some(typed), Some(said)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(other("a node's console is not there"));
            };
            native.nodes.push(Process { child, typed, said: BufReader::new(said) });
        }
        let wanted = format!("of nodes {},", quorate_base::NodeSet::first(nodes));
        native.until("all nodes take part in group services", |native| {
            for node in 0..nodes {
                let said = native.command(node, "groups")?;
                if !said.contains(&wanted) {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(native)
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(self)? {
            if Instant::now() > end {
                let said = self.command(0, "groups")? + &self.command(0, "status")?;
                return Err(other(format!("{what}: not within {} s\n{said}", PATIENCE.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// For how long all processes have had a processor, ns; `None` where the system does not tell.
    pub fn ran_ns(&self) -> Option<u64> {
        let mut ran = 0;
        for process in &self.nodes {
            for thread in std::fs::read_dir(format!("/proc/{}/task", process.child.id())).ok()? {
                let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
                ran += text.split_whitespace().next()?.parse::<u64>().ok()?;
            }
        }
        Some(ran)
    }

    /// Types a line at a node's console.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn command(&mut self, node: u8, line: &str) -> Result<String> {
        let process = self.nodes.get_mut(usize::from(node)).ok_or_else(|| other(format!("there is no node {node}")))?;
        writeln!(process.typed, "{line}")?;
        process.typed.flush()?;
        let mut answer = String::new();
        loop {
            let mut part = String::new();
            if process.said.read_line(&mut part)? == 0 {
                return Err(other(format!("node {node} has ended")));
            }
            if part.trim_end() == host::END {
                return Ok(answer);
            }
            answer.push_str(&part);
        }
    }

    /// Types a line that must be answered with `ok`.
    ///
    /// # Errors
    /// If it is not.
    pub fn order(&mut self, node: u8, line: &str) -> Result<()> {
        match self.command(node, line)?.trim_end() {
            "ok" => Ok(()),
            said => Err(other(format!("node {node}, '{line}': {said}"))),
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        for process in &mut self.nodes {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl crate::groups::Consoles for Native {
    fn type_at(&mut self, node: u8, line: &str) -> std::result::Result<String, quorate_scenario::Trouble> {
        self.command(node, line).map_err(|error| quorate_scenario::Trouble::Failed(error.to_string()))
    }

    fn rest(&mut self) -> std::result::Result<(), quorate_scenario::Trouble> {
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_database::sealed::header;
    use quorate_database::{BallotBlock, Block, Heartbeat, Identity};

    #[test]
    fn what_no_node_has_written_is_sealed() {
        let path = std::env::temp_dir().join(format!("quorate-native-database-{}", std::process::id()));
        create(&path, 3).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let at = |record: u64| &bytes[usize::try_from(record * RECORD_PITCH).unwrap()..];
        let Some(cluster) = header(at(layout::superblock(0))).map(|header| header.cluster) else {
            panic!("there is no superblock")
        };
        for copy in [0, 1] {
            let Block::Good(superblock) = Superblock::decode(at(layout::superblock(copy)), copy) else {
                panic!("copy {copy} of the superblock is no good")
            };
            assert_eq!((superblock.cluster, superblock.blanks), (cluster, Blanks::Sealed));
        }
        for node in NodeId::first(3) {
            let heartbeat = at(layout::heartbeat(node));
            let found = Blanks::Sealed.judge(heartbeat, Heartbeat::decode(heartbeat, cluster, node));
            assert_eq!(found, Block::Blank, "heartbeat of node {node}");
            for slot in [0, 1] {
                let (identity, ballot) = (at(layout::identity(node, slot)), at(layout::ballot(node, slot)));
                let found = Blanks::Sealed.judge(identity, Identity::decode(identity, cluster, node, slot));
                assert_eq!(found, Block::Blank, "identity of node {node}");
                let found = Blanks::Sealed.judge(ballot, BallotBlock::decode(ballot, cluster, node, slot));
                assert_eq!(found, Block::Blank, "ballot of node {node}");
            }
        }
    }
}
