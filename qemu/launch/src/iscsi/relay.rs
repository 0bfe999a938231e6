//! One machine's way to the target through the harness, where a scenario wants that way to fail: a relay of its iSCSI
//! connections that can hold, delay and cut them.
//!
//! What is held is bytes, so also what ends requests: a task management function is held as the requests are, and no
//! reset is confirmed. When the fault ends, what was held arrives: late. A machine that dies while its bytes are held
//! takes them with it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::idle::{Connection, Watch, wait_for_bytes};

/// Bytes that are taken in one go.
const PIECE_BYTES: usize = 64 << 10;

/// A relay that listens. Dropping it ends its connections and its thread.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    watch: Watch,
}

#[derive(Debug, Default)]
struct State {
    holding: bool,
    delay: Duration,
    ending: bool,
    /// Both ends of every connection, to be cut.
    open: Vec<(TcpStream, TcpStream)>,
}

/// Bytes on their way, each piece with the time at which it came. `None` is the end.
type Queue = Mutex<VecDeque<(Instant, Option<Vec<u8>>)>>;

impl Relay {
    /// Listens on a free port of 127.0.0.1 and passes connections on to `target`, `host:port`.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start(target: String) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || {
            for stream in listener.incoming() {
                if serving.lock().ending {
                    break;
                }
                // A target that is not there refuses; so do we, by closing.
                let _ = stream.and_then(|from| connect(&serving, from, &target));
            }
        })?;
        Ok(Self { shared, address, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on nothing passes, in either direction.
    pub fn hold(&self) {
        self.change(|s| s.holding = true);
    }

    /// From now on everything that the machine sends takes this much longer.
    pub fn delay(&self, delay: Duration) {
        self.change(|s| s.delay = delay);
    }

    /// Ends what holds and delays.
    pub fn heal(&self) {
        self.change(|s| (s.holding, s.delay) = (false, Duration::ZERO));
    }

    /// Ends every connection that is open now: the target loses the session, the machine makes a new one.
    pub fn cut(&self) {
        self.change(cut);
    }

    /// For how long no byte has come or gone, of a connection on which the target had the last word. `None`: it has not, or
    /// bytes wait here. A node asks its disk one thing after another, so then nothing is on its way. (Of two requests at
    /// once one would not be seen that the target lets wait for so long after it answered the other.)
    pub fn idle(&self) -> Option<Duration> {
        self.shared.watch.idle()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

fn cut(state: &mut State) {
    for (a, b) in state.open.drain(..) {
        // Closed already is as good.
        let _ = a.shutdown(Shutdown::Both);
        let _ = b.shutdown(Shutdown::Both);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.change(|state| {
            state.ending = true;
            cut(state);
        });
        // Ends the wait for a next connection.
        if TcpStream::connect(self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(shared: &Arc<Shared>, machine: TcpStream, target: &str) -> io::Result<()> {
    let target = TcpStream::connect(target)?;
    for stream in [&machine, &target] {
        stream.set_nodelay(true)?;
    }
    let both = || Ok::<_, io::Error>((machine.try_clone()?, target.try_clone()?));
    shared.lock().open.push(both()?);
    let ends = both()?;
    let connection = shared.watch.begin(vec![ends.0.into(), ends.1.into()]);
    let ((from, to), (back_to, back_from)) = (both()?, both()?);
    pass(shared, &connection, (from, to), true)?;
    pass(shared, &connection, (back_from, back_to), false)
}

/// Passes bytes one way, the machine's if they may be delayed: one thread takes them in, one sends them when their time has
/// come.
fn pass(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    (mut from, mut to): (TcpStream, TcpStream),
    delayed: bool,
) -> io::Result<()> {
    let queue = Arc::new(Queue::default());
    let (taking, filling) = (shared.clone(), queue.clone());
    let (coming, going) = (connection.clone(), connection.clone());
    let push = move |piece| {
        filling.lock().unwrap_or_else(PoisonError::into_inner).push_back((Instant::now(), piece));
        // The lock is taken so that the sender is either before its look or asleep.
        drop(taking.lock());
        taking.changed.notify_all();
    };
    std::thread::Builder::new().name("relay-in".into()).spawn(move || {
        let mut bytes = vec![0; PIECE_BYTES];
        loop {
            wait_for_bytes(&from);
            // It is marked before it is read; at the end one more, of a connection that does not count any more.
            coming.came(delayed);
            let Ok(length @ 1..) = from.read(&mut bytes) else { break };
            push(Some(bytes.get(..length).unwrap_or_default().to_vec()));
        }
        coming.end();
        push(None);
    })?;
    let shared = shared.clone();
    std::thread::Builder::new().name("relay-out".into()).spawn(move || {
        while let Some(piece) = next(&shared, &queue, delayed) {
            if to.write_all(&piece).is_err() {
                break;
            }
            going.went();
        }
        let _ = to.shutdown(Shutdown::Both);
    })?;
    Ok(())
}

/// The next piece, when it may pass; `None` at the end. An end is not held: who is gone takes what it had sent along.
fn next(shared: &Shared, queue: &Queue, delayed: bool) -> Option<Vec<u8>> {
    let mut state = shared.lock();
    loop {
        let mut pieces = queue.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ending || state.holding && pieces.back().is_some_and(|(_, piece)| piece.is_none()) {
            return None;
        }
        let delay = if delayed { state.delay } else { Duration::ZERO };
        let due = pieces.front().map(|(came, _)| *came + delay).filter(|_| !state.holding);
        let now = Instant::now();
        if due.is_some_and(|due| due <= now) {
            return pieces.pop_front().and_then(|(_, piece)| piece);
        }
        drop(pieces);
        state = match due {
            Some(due) => {
                let wait = due.saturating_duration_since(now);
                shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that sends back what it gets, and a machine's connection through a relay to it.
    fn rig() -> (Relay, TcpStream) {
        let target = TcpListener::bind(("127.0.0.1", 0)).expect("port");
        let address = target.local_addr().expect("address").to_string();
        std::thread::spawn(move || {
            for stream in target.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut bytes = [0; 16];
                    let (mut from, mut to) = (stream.try_clone().expect("stream"), stream);
                    while let Ok(length @ 1..) = from.read(&mut bytes) {
                        if to.write_all(&bytes[..length]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let relay = Relay::start(address).expect("relay");
        let machine = TcpStream::connect(("127.0.0.1", relay.port())).expect("connection");
        machine.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
        (relay, machine)
    }

    fn echo(machine: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        machine.write_all(text).expect("write");
        let mut back = vec![0; text.len()];
        machine.read_exact(&mut back).expect("read");
        back
    }

    #[test]
    fn bytes_pass_and_what_is_held_arrives_late() {
        let (relay, mut machine) = rig();
        assert_eq!(echo(&mut machine, b"one"), b"one");
        relay.hold();
        machine.write_all(b"two").expect("write");
        machine.set_read_timeout(Some(Duration::from_millis(100))).expect("time-out");
        let mut bytes = [0; 3];
        assert!(machine.read_exact(&mut bytes).is_err(), "it is held");
        machine.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
        relay.heal();
        machine.read_exact(&mut bytes).expect("read");
        assert_eq!(&bytes, b"two");
    }

    #[test]
    fn a_delay_is_one_way() {
        let (relay, mut machine) = rig();
        relay.delay(Duration::from_millis(50));
        let begin = Instant::now();
        assert_eq!(echo(&mut machine, b"late"), b"late");
        assert!(begin.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn a_cut_ends_the_connection_and_a_new_one_passes() {
        let (relay, mut machine) = rig();
        assert_eq!(echo(&mut machine, b"one"), b"one");
        relay.cut();
        assert!(matches!(machine.read(&mut [0; 1]), Ok(0) | Err(_)));
        let mut again = TcpStream::connect(("127.0.0.1", relay.port())).expect("connection");
        assert_eq!(echo(&mut again, b"two"), b"two");
    }

    /// How long the relay has been idle, as soon as it is so long.
    fn idle(relay: &Relay, least_ms: u64) -> Duration {
        let begin = Instant::now();
        loop {
            match relay.idle() {
                Some(idle) if idle >= Duration::from_millis(least_ms) => return idle,
                _ => assert!(begin.elapsed() < Duration::from_secs(10), "never idle"),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_way_is_idle_since_the_last_byte_of_an_answer() {
        let (relay, mut machine) = rig();
        assert_eq!(echo(&mut machine, b"one"), b"one");
        let before = idle(&relay, 20);
        std::thread::sleep(Duration::from_millis(30));
        assert!(idle(&relay, 0) >= before + Duration::from_millis(30), "nothing came: it goes on counting");
        let begin = Instant::now();
        assert_eq!(echo(&mut machine, b"two"), b"two");
        assert!(idle(&relay, 0) <= begin.elapsed(), "it counts from the last byte");
    }

    #[test]
    fn a_way_is_not_idle_while_bytes_wait_here_or_for_an_answer() {
        let (relay, mut machine) = rig();
        assert_eq!(echo(&mut machine, b"one"), b"one");
        idle(&relay, 0);
        relay.hold();
        machine.write_all(b"two").expect("write");
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(relay.idle(), None, "it is held");
        let begin = Instant::now();
        relay.heal();
        machine.read_exact(&mut [0; 3]).expect("read");
        assert!(idle(&relay, 0) <= begin.elapsed(), "what was held has only just passed");
        // A target that does not answer.
        let silent = TcpListener::bind(("127.0.0.1", 0)).expect("port");
        let relay = Relay::start(silent.local_addr().expect("address").to_string()).expect("relay");
        let mut machine = TcpStream::connect(("127.0.0.1", relay.port())).expect("connection");
        let (mut target, _) = silent.accept().expect("connection");
        machine.write_all(b"two").expect("write");
        target.read_exact(&mut [0; 3]).expect("read");
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(relay.idle(), None, "it is not answered");
        target.write_all(b"two").expect("write");
        machine.read_exact(&mut [0; 3]).expect("read");
        idle(&relay, 0);
        relay.cut();
        assert!(matches!(machine.read(&mut [0; 1]), Ok(0) | Err(_)));
        let begin = Instant::now();
        while relay.idle().is_some() {
            assert!(begin.elapsed() < Duration::from_secs(10), "nobody is connected");
        }
    }
}
