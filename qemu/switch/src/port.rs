//! The switch on unix datagram sockets, driven by one thread.
//!
//! Port `i` is a socket of the switch's own (`hub`), to which node `i` sends and from which it is sent to. Nothing that a
//! node does stops the switch: an absent peer and a full socket cost that one frame, and are counted.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::engine::{Engine, Mac, PortCounters, Sent, Source};
use crate::fault::{Fault, LinkFaults};
use crate::pcap;
use crate::stranger::{Hostile, Stranger};

/// Bytes of one datagram at most: what QEMU can send.
const DATAGRAM_MAX: usize = 69_632;

/// Frames taken from one port before the others get their turn.
const TURN_FRAMES: usize = 64;

/// One port's sockets.
#[derive(Clone, Debug)]
pub struct PortSockets {
    /// Bound by the switch: the node's socket is connected to it.
    pub hub: PathBuf,
    /// Bound by the node. May be absent and come back.
    pub peer: PathBuf,
}

/// What a switch is made from.
#[derive(Clone, Debug, Default)]
pub struct SwitchOptions {
    /// The ports, in order.
    pub ports: Vec<PortSockets>,
    /// Seed of the faults.
    pub seed: u64,
    /// Stations and multicast groups whose port is known beforehand.
    pub told: Vec<(Mac, usize)>,
    /// Where to write all frames that come in.
    pub capture: Option<PathBuf>,
}

/// A running switch. Dropping it ends its thread and removes its sockets.
#[derive(Debug)]
pub struct Switch {
    shared: Arc<Shared>,
    wake: UnixDatagram,
    thread: Option<JoinHandle<()>>,
    floods: Mutex<Vec<JoinHandle<()>>>,
    hubs: Vec<PathBuf>,
}

#[derive(Debug)]
struct Shared {
    engine: Mutex<Engine>,
    capture: Mutex<Option<pcap::Writer<BufWriter<File>>>>,
    start: Instant,
    stop: AtomicBool,
    stranger: Mutex<Stranger<Vec<u8>>>,
    /// Hostile frames sent.
    hostile: AtomicU64,
}

/// Hostile frames are sent in bursts, each so long after the one before: no thread sleeps for shorter.
const BURST: Duration = Duration::from_millis(1);

impl Switch {
    /// Binds the sockets and starts the thread.
    ///
    /// # Errors
    /// If a socket or the capture file cannot be made.
    pub fn start(options: &SwitchOptions) -> io::Result<Self> {
        let mut engine = Engine::new(options.ports.len(), options.seed);
        for (address, port) in &options.told {
            engine.tell(*address, *port);
        }
        let mut sockets = Vec::new();
        for port in &options.ports {
            let socket = UnixDatagram::bind(&port.hub)?;
            socket.set_nonblocking(true)?;
            sockets.push((socket, port.peer.clone()));
        }
        let capture = match &options.capture {
            Some(path) => Some(pcap::Writer::new(BufWriter::new(File::create(path)?))?),
            None => None,
        };
        let (wake, woken) = UnixDatagram::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            engine: Mutex::new(engine),
            capture: Mutex::new(capture),
            start: Instant::now(),
            stop: AtomicBool::new(false),
            stranger: Mutex::new(Stranger::new(options.seed)),
            hostile: AtomicU64::new(0),
        });
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new().name("switch".into()).spawn(move || run(&shared, &sockets, &woken))?
        };
        let hubs = options.ports.iter().map(|p| p.hub.clone()).collect();
        Ok(Self { shared, wake, thread: Some(thread), floods: Mutex::default(), hubs })
    }

    /// Sets a fault from each of `from` to each of `to`, and back if `both_ways`.
    pub fn set(&self, from: &[usize], to: &[usize], both_ways: bool, fault: Fault) {
        self.shared.engine().set(from, to, both_ways, fault);
    }

    /// Ends all link faults.
    pub fn heal(&self) {
        self.shared.engine().heal();
    }

    /// Ends the link faults between `from` and `to`, in both directions.
    pub fn heal_between(&self, from: &[usize], to: &[usize]) {
        self.shared.engine().heal_between(from, to);
    }

    /// One direction's faults.
    pub fn link(&self, from: usize, to: usize) -> LinkFaults {
        self.shared.engine().link(from, to)
    }

    /// One port's counters.
    pub fn counters(&self, port: usize) -> PortCounters {
        self.shared.engine().counters(port)
    }

    /// Sends `frames` from a stranger, over and over, `rate` frames a second for `span`; each at least once. Returns how
    /// many were sent, when the last one is.
    pub fn inject(&self, frames: &[Vec<u8>], rate: f64, span: Duration) -> u64 {
        let gap = Duration::from_secs_f64(1.0 / rate.clamp(0.001, 1_000_000.0));
        let begin = Instant::now();
        let mut sent: u32 = 0;
        for frame in frames.iter().cycle() {
            let due = gap.saturating_mul(sent);
            if sent as usize >= frames.len() && due >= span {
                break;
            }
            if let Some(wait) = due.checked_sub(begin.elapsed()) {
                std::thread::sleep(wait);
            }
            self.shared.take(Source::Stranger, frame);
            // A full wake socket means that the thread is about to wake anyway.
            let _ = self.wake.send(&[0]);
            sent += 1;
        }
        u64::from(sent)
    }
}

impl Switch {
    /// From now on, for `span`, a stranger sends `rate` frames a second of these kinds. Returns at once.
    ///
    /// # Errors
    /// If there can be no thread for it.
    pub fn flood(&self, kinds: &[Hostile], rate: u32, span: Duration) -> io::Result<()> {
        let (shared, wake, kinds) = (self.shared.clone(), self.wake.try_clone()?, kinds.to_vec());
        let thread = std::thread::Builder::new().name("stranger".into());
        let flood = thread.spawn(move || flood(&shared, &wake, &kinds, rate, span))?;
        self.floods.lock().unwrap_or_else(PoisonError::into_inner).push(flood);
        Ok(())
    }

    /// How many hostile frames were sent so far.
    pub fn hostile_frames(&self) -> u64 {
        self.shared.hostile.load(Ordering::Relaxed)
    }
}

fn flood(shared: &Shared, wake: &UnixDatagram, kinds: &[Hostile], rate: u32, span: Duration) {
    let begin = Instant::now();
    let mut sent = 0;
    while !shared.stop.load(Ordering::Acquire) {
        let elapsed = begin.elapsed();
        let due = (elapsed.min(span).as_secs_f64() * f64::from(rate)) as u64;
        while sent < due {
            let frame = shared.stranger().frame(kinds);
            shared.take(Source::Stranger, &frame);
            shared.hostile.fetch_add(1, Ordering::Relaxed);
            sent += 1;
        }
        // A full wake socket means that the thread is about to wake anyway.
        let _ = wake.send(&[0]);
        if elapsed >= span {
            return;
        }
        std::thread::sleep(BURST);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.wake.send(&[0]);
        for flood in self.floods.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = flood.join();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for hub in &self.hubs {
            let _ = std::fs::remove_file(hub);
        }
    }
}

impl Shared {
    // Every section under the lock leaves the engine whole, so a panic elsewhere does not spoil it.
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stranger(&self) -> MutexGuard<'_, Stranger<Vec<u8>>> {
        self.stranger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    fn take(&self, source: Source, frame: &[u8]) {
        let now_us = self.now_us();
        let mut capture = self.capture.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = capture.as_mut()
            && writer.frame(now_us, frame).is_err()
        {
            // A full disk ends the capture, not the run.
            *capture = None;
        }
        drop(capture);
        match source {
            Source::Port(_) => self.stranger().sees(&frame.to_vec()),
            Source::Stranger => {}
        }
        self.engine().frame(now_us, source, frame);
    }
}

fn run(shared: &Shared, sockets: &[(UnixDatagram, PathBuf)], woken: &UnixDatagram) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    while !shared.stop.load(Ordering::Acquire) {
        wait(shared, sockets, woken);
        while woken.recv(&mut buffer).is_ok() {}
        for (port, (socket, _)) in sockets.iter().enumerate() {
            for _ in 0..TURN_FRAMES {
                let Ok(length) = socket.recv(&mut buffer) else { break };
                shared.take(Source::Port(port), buffer.get(..length).unwrap_or_default());
            }
        }
        send_due(shared, sockets);
    }
    if let Some(writer) = shared.capture.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        let _ = writer.flush();
    }
}

/// Sleeps until a frame comes in, one is due, or somebody wakes the thread.
fn wait(shared: &Shared, sockets: &[(UnixDatagram, PathBuf)], woken: &UnixDatagram) {
    let mut fds: Vec<PollFd<'_>> = sockets.iter().map(|(s, _)| PollFd::new(s, PollFlags::IN)).collect();
    fds.push(PollFd::new(woken, PollFlags::IN));
    let due = shared.engine().poll_timeout();
    let timeout = due.map(|due_us| {
        let wait_us = due_us.saturating_sub(shared.now_us());
        Timespec { tv_sec: (wait_us / 1_000_000) as i64, tv_nsec: (wait_us % 1_000_000 * 1000) as _ }
    });
    // An interrupted poll is a wake-up like any other.
    let _ = poll(&mut fds, timeout.as_ref());
}

fn send_due(shared: &Shared, sockets: &[(UnixDatagram, PathBuf)]) {
    let mut engine = shared.engine();
    loop {
        let now_us = shared.now_us();
        let Some(output) = engine.poll_output(now_us) else { return };
        let Some((socket, peer)) = sockets.get(output.port) else { continue };
        let fate = match socket.send_to(&output.frame, peer) {
            Ok(_) => Sent::Done,
            Err(e) if e.kind() == ErrorKind::WouldBlock => Sent::Full,
            Err(_) => Sent::Absent,
        };
        engine.sent(now_us, output, fate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        dir: PathBuf,
        nodes: Vec<UnixDatagram>,
        switch: Switch,
    }

    impl Rig {
        fn new(name: &str, ports: usize, told: Vec<(Mac, usize)>) -> Self {
            let dir = std::env::temp_dir().join(format!("quorate-switch-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("temporary folder");
            let ports: Vec<_> = (0..ports)
                .map(|n| PortSockets { hub: dir.join(format!("h{n}")), peer: dir.join(format!("n{n}")) })
                .collect();
            let capture = Some(dir.join("net.pcap"));
            let options = SwitchOptions { ports, seed: 1, told, capture };
            let switch = Switch::start(&options).expect("switch");
            let nodes = (0..options.ports.len()).map(|n| Self::node(&dir, n)).collect();
            Self { dir, nodes, switch }
        }

        fn node(dir: &std::path::Path, n: usize) -> UnixDatagram {
            let _ = std::fs::remove_file(dir.join(format!("n{n}")));
            let node = UnixDatagram::bind(dir.join(format!("n{n}"))).expect("node's socket");
            node.connect(dir.join(format!("h{n}"))).expect("hub's socket");
            node.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            node
        }

        /// Waits until the switch has found node `n` absent `times` times: it serves its ports one after the other, and a
        /// frame that has reached one of them may still be on its way to the next.
        fn dropped_absent(&self, n: usize, times: u64) {
            let begin = Instant::now();
            while self.switch.counters(n).dropped_absent < times {
                assert!(begin.elapsed() < Duration::from_secs(10), "node {n}: {:?}", self.switch.counters(n));
                std::thread::yield_now();
            }
        }

        fn receive(&self, n: usize) -> Vec<u8> {
            let mut buffer = [0; 2048];
            let length = self.nodes[n].recv(&mut buffer).expect("a frame");
            buffer[..length].to_vec()
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    fn broadcast(tag: u8) -> Vec<u8> {
        [&[0xff; 6][..], &[0x52, 0x54, 0, 0x51, 0, tag], &[8, 0, tag]].concat()
    }

    #[test]
    fn frames_cross_real_sockets_and_a_restarted_peer_is_found_again() {
        let mut rig = Rig::new("cross", 3, vec![]);
        rig.nodes[0].send(&broadcast(1)).expect("send");
        assert_eq!(rig.receive(1), broadcast(1));
        assert_eq!(rig.receive(2), broadcast(1));
        // Node 2's process dies: its socket file stays, nobody listens; then the file is gone too.
        drop(rig.nodes.pop());
        rig.nodes[0].send(&broadcast(2)).expect("send");
        assert_eq!(rig.receive(1), broadcast(2));
        rig.dropped_absent(2, 1);
        std::fs::remove_file(rig.dir.join("n2")).expect("socket file");
        rig.nodes[0].send(&broadcast(3)).expect("send");
        assert_eq!(rig.receive(1), broadcast(3));
        rig.dropped_absent(2, 2);
        rig.nodes.push(Rig::node(&rig.dir, 2));
        rig.nodes[0].send(&broadcast(4)).expect("send");
        assert_eq!(rig.receive(2), broadcast(4));
        assert_eq!(rig.switch.counters(2).dropped_absent, 2);
        assert_eq!(rig.switch.counters(2).sent, 2);
    }

    #[test]
    fn a_peer_that_does_not_read_costs_its_own_frames_only() {
        let rig = Rig::new("full", 3, vec![]);
        for n in 0..2000u32 {
            rig.nodes[0].send(&broadcast((n % 251) as u8)).expect("send");
            assert_eq!(rig.receive(1), broadcast((n % 251) as u8));
        }
        assert_eq!(rig.switch.counters(1).sent, 2000);
        assert!(rig.switch.counters(2).sent < 2000);
    }

    #[test]
    fn a_stranger_is_heard_and_captured() {
        let rig = Rig::new("inject", 2, vec![]);
        let sent = rig.switch.inject(&[broadcast(9), vec![1]], 100_000.0, Duration::ZERO);
        assert_eq!(sent, 2);
        assert_eq!(rig.receive(0), broadcast(9));
        assert_eq!(rig.receive(0), [1]);
        let capture = rig.dir.join("net.pcap");
        rig.switch.shared.stop.store(true, Ordering::Release);
        let _ = rig.switch.wake.send(&[0]);
        while !rig.switch.thread.as_ref().expect("thread").is_finished() {
            std::thread::yield_now();
        }
        let bytes = std::fs::read(capture).expect("capture");
        assert_eq!(pcap::read(&bytes), Ok(vec![broadcast(9), vec![1]]));
    }

    #[test]
    fn a_delay_on_real_sockets_holds_the_frame_back() {
        let rig = Rig::new("delay", 2, vec![]);
        rig.switch.set(&[0], &[1], false, Fault::Delay { ms: 30, jitter_ms: 0 });
        let begin = Instant::now();
        rig.nodes[0].send(&broadcast(1)).expect("send");
        assert_eq!(rig.receive(1), broadcast(1));
        assert!(begin.elapsed() >= Duration::from_millis(30));
    }
}
