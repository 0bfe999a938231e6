//! Whether a machine's disk is in use, as the harness sees it on the way between them; and how a machine is stopped at a
//! moment at which it is not.
//!
//! ```text
//! asked ──▶ here (may be held) ──▶ gone on ──▶ answered ──▶ here ──▶ gone back ──▶ idle ── `wanted` ──▶ stopped
//! ```
//! Invariants: a byte that has come is either still unread, which is looked at, or marked: it is marked before it is read.
//! A machine counts as stopped only if the look after the stop has taken effect finds what the one before found.
//!
//! A request that the guest has begun and its QEMU has not sent yet cannot be seen from here. So a machine is not stopped
//! at any moment of an idle time, but right when it has become as long as wanted: who works in a rhythm is then as far as
//! can be from its next request.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};

/// For so long a machine's disk is watched for a moment to stop the machine. A node's disk is idle some five times a second.
pub const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// So much longer than wanted the disk may have been idle when a stop has taken effect. Short against the time between two
/// beats of a node (200 ms), long against the time that a signal takes on a busy host.
const LATE_MAX: Duration = Duration::from_millis(20);

/// The distance of two looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The connections of one machine to its disk, of which the newest counts.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Option<Arc<Connection>>>);

/// One of them.
#[derive(Debug)]
pub struct Connection {
    /// What may have unread bytes.
    ends: Vec<OwnedFd>,
    traffic: Mutex<Traffic>,
}

#[derive(Debug)]
struct Traffic {
    /// When something last came or went.
    last: Instant,
    /// How much is here: it has come and not gone on yet.
    here: usize,
    /// What last came was the machine's, and is not whole or not answered.
    asked: bool,
    ended: bool,
}

impl Watch {
    /// A connection begins; `ends` are its sockets here.
    pub fn begin(&self, ends: Vec<OwnedFd>) -> Arc<Connection> {
        let traffic = Traffic { last: Instant::now(), here: 0, asked: false, ended: false };
        let connection = Arc::new(Connection { ends, traffic: Mutex::new(traffic) });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        connection
    }

    /// For how long nothing has come or gone, and nothing was under way. `None`: something is, or nobody is connected.
    pub fn idle(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.idle()
    }
}

impl Connection {
    /// Bytes of the machine are there to be read.
    pub fn asks(&self) {
        let mut traffic = self.lock();
        (traffic.last, traffic.asked) = (Instant::now(), true);
    }

    /// Something has come; `asked`: it is the machine's, or more of the machine's follows.
    pub fn came(&self, asked: bool) {
        let mut traffic = self.lock();
        (traffic.last, traffic.asked) = (Instant::now(), asked);
        traffic.here += 1;
    }

    /// One of what has come has gone on.
    pub fn went(&self) {
        let mut traffic = self.lock();
        traffic.last = Instant::now();
        traffic.here = traffic.here.saturating_sub(1);
    }

    /// It is over. What was under way is so no more, and what becomes of it cannot be seen.
    pub fn end(&self) {
        self.lock().ended = true;
    }

    fn idle(&self) -> Option<Duration> {
        let traffic = self.lock();
        // Whoever reads marks first, which the lock keeps it from now: what is not unread here is marked.
        let unread = self.ends.iter().any(|end| ioctl_fionread(end).is_ok_and(|bytes| bytes > 0));
        let in_use = traffic.ended || traffic.asked || traffic.here > 0 || unread;
        (!in_use).then(|| traffic.last.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until there is something to read: bytes, or the end.
pub fn wait_for_bytes(stream: &impl AsFd) {
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    // Another error than a signal's shows in the read that follows.
    while poll(&mut fds, None) == Err(Errno::INTR) {}
}

/// Stops a machine as soon as its disk has been idle for so long. `stop` returns when it has taken effect; if it came too
/// late, or a request had begun meanwhile, `go_on` undoes it, and the wait begins anew. False: there was no such moment.
///
/// # Errors
/// Those of `stop` and `go_on`.
pub fn stop_when_idle<E>(
    wanted: Duration,
    idle: impl Fn() -> Option<Duration>,
    mut stop: impl FnMut() -> Result<(), E>,
    mut go_on: impl FnMut() -> Result<(), E>,
) -> Result<bool, E> {
    let is_due = || idle().is_some_and(|idle| idle >= wanted && idle <= wanted + LATE_MAX);
    until(IDLE_LIMIT, || {
        if !is_due() {
            return Ok(false);
        }
        stop()?;
        let still = is_due();
        if !still {
            go_on()?;
        }
        Ok(still)
    })
}

/// Waits until that is so. False: it was not, for so long.
pub fn comes_true(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    until(limit, || Ok::<_, Infallible>(is_so())).unwrap_or(false)
}

fn until<E>(limit: Duration, mut look: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if look()? {
            return Ok(true);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    const WANTED: Duration = Duration::from_millis(50);

    /// What is done when the looks find that, one after another; then a disk that is in use.
    fn done(found: &[Option<u64>], limit: usize) -> (Vec<&'static str>, usize) {
        let (looks, done) = (Cell::new(0), RefCell::new(Vec::new()));
        let idle = || {
            let found = found.get(looks.replace(looks.get() + 1)).copied().flatten();
            found.map(Duration::from_millis)
        };
        let act = |what| {
            done.borrow_mut().push(what);
            // Else a test that fails would last as long as the limit.
            if done.borrow().len() < limit { Ok(()) } else { Err(()) }
        };
        let outcome = stop_when_idle(WANTED, idle, || act("stop"), || act("go on"));
        assert!(outcome != Ok(false));
        (done.into_inner(), looks.get())
    }

    #[test]
    fn a_machine_is_stopped_when_its_disk_has_just_been_idle_for_so_long() {
        assert_eq!(done(&[None, Some(49), Some(50), Some(51)], 9), (vec!["stop"], 4));
        // Too late: the next request may be near, or begun already.
        assert_eq!(done(&[Some(71), None, Some(49), Some(70), Some(70)], 9), (vec!["stop"], 5));
    }

    #[test]
    fn a_request_that_began_before_the_stop_took_effect_lets_it_go_on_and_the_wait_begins_anew() {
        let again = ["stop", "go on", "stop"];
        for meanwhile in [None, Some(0), Some(49), Some(71)] {
            assert_eq!(done(&[Some(50), meanwhile, Some(20), Some(50), Some(51)], 9), (again.to_vec(), 5));
        }
    }

    #[test]
    fn what_cannot_be_stopped_ends_the_wait() {
        assert_eq!(done(&[Some(50), Some(50)], 1), (vec!["stop"], 1));
    }

    #[test]
    fn a_connection_is_idle_when_all_that_came_has_gone_and_was_answered() {
        let watch = Watch::default();
        assert_eq!(watch.idle(), None, "nobody is connected");
        let (mut machine, mut here) = UnixStream::pair().expect("sockets");
        let connection = watch.begin(vec![here.try_clone().expect("socket").into()]);
        assert!(watch.idle().is_some());
        machine.write_all(b"ask").expect("write");
        assert_eq!(watch.idle(), None, "it is unread");
        wait_for_bytes(&here);
        connection.asks();
        here.read_exact(&mut [0; 3]).expect("read");
        assert_eq!(watch.idle(), None, "it is not whole");
        connection.came(true);
        connection.went();
        assert_eq!(watch.idle(), None, "it is not answered");
        connection.came(false);
        assert_eq!(watch.idle(), None, "the answer is here");
        std::thread::sleep(Duration::from_millis(20));
        let begin = Instant::now();
        connection.went();
        assert!(watch.idle().expect("idle") <= begin.elapsed(), "the answer has only just gone");
        std::thread::sleep(Duration::from_millis(20));
        assert!(watch.idle().expect("idle") >= Duration::from_millis(20));
        let newer = watch.begin(Vec::new());
        connection.asks();
        assert!(watch.idle().is_some(), "the newest counts");
        newer.end();
        assert_eq!(watch.idle(), None, "nobody is connected");
    }
}
