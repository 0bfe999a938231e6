//! Three nodes in one program, a thread each: they form a cluster, one is killed, the others put it out, then they leave.

use crate::embedding::{Embedded, FileDisk, LEVELS, ProcessClock, SERVICE, UdpLink};
use quorate_base::capacity::{LEVELS_MAX, RECORD_PITCH};
use quorate_base::event::{Record, TraceSink};
use quorate_base::{
    BootNonce, ClusterId, FenceMethod, HaltReason, NodeId, NodeSet, NodeState, Preempted, Registrants, Timing,
    Transition, View,
};
use quorate_database::{Blanks, ClusterKey, MachineId, Name, NodeConfig, Superblock, layout};
use quorate_master_lock::DiskGeometry;
use quorate_node::{Boot, Node, Notification, Ports};
use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Result};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

/// Nodes of the story.
pub const NODES: u8 = 3;
/// The one that is killed.
pub const VICTIM: u8 = 2;
/// Longer than anything here takes, on however loaded a machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// A program's threads share the processors with all others: longer leases than the usual ones, ms.
const TIMING: Timing = Timing { io_max: 1000, lease: 4000, dead: 6000, ..Timing::DEFAULT };

/// What a node's service was told, or how the node ended.
#[derive(Clone, Debug)]
pub enum Said {
    /// A change, and who is joined at that level then.
    Told { subject: NodeId, transition: Transition, joined: NodeSet },
    /// It has seen all of them joined.
    Together,
    /// The node has ended.
    Ended(HaltReason),
}

/// What the outside asks of a node.
enum Ask {
    Leave,
    /// Stop where it stands, as by a power cut.
    Die,
}

/// The whole story: by whom it was said, and what.
pub type Story = Vec<(NodeId, Said)>;

/// Makes an empty membership database in a file.
fn create(path: &Path, nodes: u8) -> Result<()> {
    let other = |error: &dyn std::fmt::Display| Error::other(error.to_string());
    let mut random = [0; 48];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let (cluster, key) = (random[..16].try_into(), random[16..].try_into());
    let cluster = ClusterId(cluster.map_err(|e| other(&e))?);
    let superblock = Superblock {
        generation: 1,
        cluster,
        name: Name::new("threads").map_err(|e| other(&e))?,
        timing: TIMING,
        nodes,
        levels_max: LEVELS_MAX as u8,
        fence: FenceMethod::Lease,
        preempted: Preempted::default(),
        registrants: Registrants::default(),
        blanks: Blanks::Sealed,
        key: ClusterKey(key.map_err(|e| other(&e))?),
        key_epoch: 0,
    };
    let file = File::create(path)?;
    file.set_len(layout::PARTITION_BYTES)?;
    for (at, blank) in superblock.blanks.records(cluster, nodes) {
        file.write_all_at(&blank, at * RECORD_PITCH)?;
    }
    for node in NodeId::first(nodes) {
        let name = Name::new(&format!("thread-{node}")).map_err(|e| other(&e))?;
        file.write_all_at(&NodeConfig::named(name).encode(cluster, node), layout::config(node) * RECORD_PITCH)?;
    }
    for copy in [0, 1] {
        file.write_all_at(&superblock.encode(copy), layout::superblock(copy) * RECORD_PITCH)?;
    }
    file.sync_all()
}

/// Nobody looks at the trace here.
struct NoTrace;

impl TraceSink for NoTrace {
    fn record(&mut self, _: &Record<'_>) {}
}

/// A node for the thread that it is going to live in.
fn embed(me: NodeId, path: &Path, socket: UdpSocket, peers: Vec<SocketAddr>) -> Result<Embedded<NoTrace>> {
    let mut nonce = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut nonce)?;
    let boot = Boot {
        node: Some(me),
        machine: MachineId::default(),
        nonce: BootNonce(u64::from_le_bytes(nonce)),
        cluster: None,
        geometry: DiskGeometry::default(),
        trace_writes: false,
    };
    let node = Node::new(boot, LEVELS.levels().iter().copied(), env!("CARGO_PKG_VERSION"), "");
    let clock = ProcessClock(Instant::now());
    let disk = FileDisk { file: OpenOptions::new().read(true).write(true).open(path)?, clock, done: Vec::new() };
    Ok(Embedded { node: node.map_err(Error::other)?, clock, disk, link: UdpLink { socket, peers }, trace: NoTrace })
}

/// What the service makes of a notification: here it tells the story.
fn tell(me: NodeId, notification: &Notification, said: &Sender<(NodeId, Said)>) {
    let joined = NodeId::first(NODES).filter(|n| notification.vector.state(*n) == NodeState::Joined).collect();
    for change in notification.changes.iter().filter(|change| !change.overtaken) {
        let (subject, transition) = (change.subject.node, change.subject.transition);
        // Nobody may listen any more.
        let _ = said.send((me, Said::Told { subject, transition, joined }));
    }
}

/// A thread's life.
fn live(me: NodeId, mut embedded: Box<Embedded<NoTrace>>, asked: &Receiver<Ask>, said: &Sender<(NodeId, Said)>) {
    let mut together = false;
    loop {
        match asked.try_recv() {
            Ok(Ask::Die) | Err(TryRecvError::Disconnected) => return,
            Ok(Ask::Leave) => {
                let Embedded { node, clock, link, trace, .. } = &mut *embedded;
                node.leave(quorate_base::port::Clock::now(clock), &mut Ports { post: link, sink: trace });
            }
            Err(TryRecvError::Empty) => {}
        }
        let turned = embedded.turn(&mut |notification| {
            if notification.level == SERVICE {
                tell(me, notification, said);
            }
        });
        if let Err(reason) = turned {
            let _ = said.send((me, Said::Ended(reason)));
            return;
        }
        let joined = |view: &View| view.joined().len() == usize::from(NODES);
        if !together && embedded.node.membership().is_some_and(|membership| joined(membership.view().1)) {
            together = true;
            let _ = said.send((me, Said::Together));
        }
    }
}

/// Collects what is said until `holds`.
fn wait(
    what: &str,
    story: &mut Story,
    said: &Receiver<(NodeId, Said)>,
    holds: impl Fn(&[(NodeId, Said)]) -> bool,
) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds(story) {
        match said.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => story.push(line),
            Err(RecvTimeoutError::Timeout) => return Err(Error::other(format!("{what}: it does not come: {story:?}"))),
            Err(RecvTimeoutError::Disconnected) => return Err(Error::other(format!("{what}: all ended: {story:?}"))),
        }
    }
    Ok(())
}

/// Whether a node was told something, and had so many joined then.
pub fn told(story: &[(NodeId, Said)], me: NodeId, whom: NodeId, what: Transition) -> bool {
    let is =
        |said: &Said| matches!(said, Said::Told { subject, transition, .. } if (*subject, *transition) == (whom, what));
    story.iter().any(|(by, said)| *by == me && is(said))
}

/// How a node ended, if it did.
pub fn ended(story: &[(NodeId, Said)], me: NodeId) -> Option<HaltReason> {
    story.iter().find_map(|(by, said)| match said {
        Said::Ended(reason) if *by == me => Some(*reason),
        _ => None,
    })
}

/// Plays the story on a database at `path`, which is made anew.
///
/// # Errors
/// What did not come about.
pub fn play(path: &Path) -> Result<Story> {
    create(path, NODES)?;
    let sockets: Vec<UdpSocket> = (0..NODES).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_>>()?;
    let peers: Vec<SocketAddr> = sockets.iter().map(UdpSocket::local_addr).collect::<Result<_>>()?;
    let (say, said) = channel();
    let mut asks = Vec::new();
    let mut story = Story::new();
    let mut threads = Vec::new();
    for (me, socket) in NodeId::first(NODES).zip(sockets) {
        let embedded = Box::new(embed(me, path, socket, peers.clone())?);
        let (ask, asked) = channel();
        let say = say.clone();
        // A kernel's usual 8 KiB would not do: see README, "memory and stack".
        let thread = std::thread::Builder::new().name(format!("node-{me}")).stack_size(1 << 20);
        threads.push(thread.spawn(move || live(me, embedded, &asked, &say))?);
        asks.push(ask);
    }
    drop(say);
    let all = || NodeId::first(NODES);
    let victim = NodeId::new(VICTIM).ok_or_else(|| Error::other("the victim is no node"))?;
    let survivors = || all().filter(|node| *node != victim);
    let ask = |node: NodeId, what| asks.get(node.index()).is_some_and(|ask| ask.send(what).is_ok());

    wait("everybody joins", &mut story, &said, |story| {
        all().all(|me| story.iter().any(|(by, said)| *by == me && matches!(said, Said::Together)))
    })?;
    ask(victim, Ask::Die);
    wait("the victim is put out", &mut story, &said, |story| {
        survivors().all(|me| told(story, me, victim, Transition::ForcedLeaving))
    })?;
    for node in survivors() {
        ask(node, Ask::Leave);
        wait("a survivor leaves", &mut story, &said, |story| ended(story, node).is_some())?;
    }
    for thread in threads {
        thread.join().map_err(|_| Error::other("a node's thread panicked"))?;
    }
    Ok(story)
}
