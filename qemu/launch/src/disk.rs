//! A machine's disk behind the harness: the image file, and between it and QEMU what a scenario wants to go wrong.
//!
//! QEMU is given a network block device on a unix socket. Requests are carried out in order, one at a time, which a
//! single disk may do.
//!
//! A *stall* takes two: QEMU's throttle holds the requests (see [`crate::cluster`]), and lets all of them through when
//! the guest resets the unit, which it does after a while. A reset waits for what is under way, with the whole machine
//! standing still meanwhile, so the requests must not wait here: what comes through during a stall is refused. The guest
//! never sees that refusal, because it is its reset that ended the request. So a stalled disk answers no request,
//! confirms no abort, confirms a reset; and nothing that was stalled and then reset ever happens. What is still stalled
//! when the fault ends happens then: late. QEMU's other means hold one request only (a break point in `blkdebug`), or
//! make a reset an assertion failure (an iothread in version 7.2).

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::fault::{DiskOperation, DiskRule, Extent, Overlay, Rules, Trick, Verdict, With};
use crate::idle::{Connection, Watch, wait_for_bytes};
use crate::nbd::{self, Command, Request};

/// How long a request takes from QEMU's throttle to the harness at most. Guests wait longer than this for a request before
/// they reset the unit.
const ON_THE_WAY: Duration = Duration::from_millis(20);

/// How a disk is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DiskCut {
    /// Requests never complete.
    #[default]
    Stall,
    /// The device is removed.
    Gone,
}

/// One machine's disk. Dropping it ends its thread.
#[derive(Debug)]
pub struct FaultDisk {
    shared: Arc<Shared>,
    socket: PathBuf,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    file: File,
    size: u64,
    faults: Mutex<Faults>,
    changed: Condvar,
    watch: Watch,
    /// Ends the machine's QEMU at once.
    kill: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("size", &self.size).field("faults", &self.faults).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Faults {
    /// Requests that come from then on are refused.
    refusing_from: Option<Instant>,
    delay: Duration,
    rules: Rules,
    /// Another disk stands in this one's place.
    other: Option<Arc<File>>,
    /// The harness is done.
    ending: bool,
}

/// Requests of one connection that are not answered yet, each with its time of arrival.
#[derive(Debug, Default)]
struct Pending {
    requests: Mutex<(VecDeque<(Instant, Request)>, bool)>,
}

impl FaultDisk {
    /// Serves `image` at `socket`. `kill` ends the machine's QEMU at once (for a torn write).
    ///
    /// # Errors
    /// If the image or the socket cannot be opened.
    pub fn start(image: &Path, socket: &Path, kill: Box<dyn Fn() + Send + Sync>) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(image)?;
        let size = file.metadata()?.len();
        let listener = UnixListener::bind(socket)?;
        let faults = Mutex::new(Faults::default());
        let shared = Arc::new(Shared { file, size, faults, changed: Condvar::new(), watch: Watch::default(), kill });
        let serving = shared.clone();
        let thread = std::thread::Builder::new().name("disk".into()).spawn(move || {
            for stream in listener.incoming() {
                if serving.lock().ending {
                    break;
                }
                // A connection that breaks is a QEMU that died: the next one gets a new one.
                let _ = stream.and_then(|s| serve(&serving, s));
            }
        })?;
        Ok(Self { shared, socket: socket.to_owned(), thread: Some(thread) })
    }

    /// Requests are held before they come here. What comes all the same, after those that are on their way now, was let
    /// through by a reset and is refused.
    pub fn stall(&self) {
        self.change(|f| f.refusing_from = Some(Instant::now() + ON_THE_WAY));
    }

    /// From now on every request takes this much longer.
    pub fn delay(&self, delay: Duration) {
        self.change(|f| f.delay = delay);
    }

    /// From now on some requests go wrong.
    pub fn rule(&self, rule: DiskRule) {
        self.change(|f| f.rules.add(rule));
    }

    /// From now on reads of an extent give what stands there now.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn keep(&self, extent: Extent) -> io::Result<()> {
        let length = usize::try_from(extent.end.saturating_sub(extent.start)).unwrap_or(0);
        let mut bytes = vec![0; length];
        self.shared.file.read_exact_at(&mut bytes, extent.start)?;
        let trick = Trick::Old(bytes);
        self.rule(DiskRule { operation: DiskOperation::Read, extent: Some(extent), count: None, trick });
        Ok(())
    }

    /// From now on another image stands in this one's place, of the same size.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn swap(&self, image: &Path) -> io::Result<()> {
        let other = Arc::new(OpenOptions::new().read(true).write(true).open(image)?);
        self.change(|f| f.other = Some(other));
        Ok(())
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.change(|f| *f = Faults { ending: f.ending, ..Faults::default() });
    }

    /// For how long no request has come, been answered or waited for its answer. `None`: one does, or nobody is connected.
    pub fn idle(&self) -> Option<Duration> {
        self.shared.watch.idle()
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for FaultDisk {
    fn drop(&mut self) {
        self.change(|f| f.ending = true);
        // Ends the wait for a next connection. Where somebody removed the socket the thread cannot be woken: it is left
        // to end with the process.
        if UnixStream::connect(&self.socket).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<(Instant, Request)>, bool)> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One QEMU's connection: this thread reads requests, another one carries them out.
fn serve(shared: &Shared, mut stream: UnixStream) -> io::Result<()> {
    if !nbd::greet(&mut stream, shared.size)? {
        return Ok(());
    }
    let pending = Pending::default();
    let writer = stream.try_clone()?;
    let connection = shared.watch.begin(vec![stream.try_clone()?.into()]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            carry_out(shared, &pending, &connection, &writer);
            // Whatever ended it: the reading thread is to end as well.
            let _ = writer.shutdown(Shutdown::Both);
        });
        let mut stream = io::BufReader::new(stream);
        loop {
            if stream.buffer().is_empty() {
                wait_for_bytes(stream.get_ref());
                connection.asks();
            }
            let Ok(Some(request)) = nbd::request(&mut stream) else { break };
            pending.lock().0.push_back((Instant::now(), request));
            connection.came(!stream.buffer().is_empty());
            wake(shared);
        }
        connection.end();
        pending.lock().1 = true;
        wake(shared);
    });
    Ok(())
}

/// Wakes who waits for requests or faults. The lock is taken so that the waiter is either before its look or asleep.
fn wake(shared: &Shared) {
    drop(shared.lock());
    shared.changed.notify_all();
}

/// What to do with a request, and on which disk if not on its own.
type Fate = (Request, Verdict, Option<Arc<File>>);

fn carry_out(shared: &Shared, pending: &Pending, connection: &Connection, mut stream: &UnixStream) {
    while let Some((request, verdict, other)) = next(shared, pending) {
        let Request { handle, command } = request;
        let file = other.as_deref().unwrap_or(&shared.file);
        let result = match (verdict, command) {
            (Verdict::Fail, _) => Err(nbd::ERROR_IO),
            (Verdict::Lose, _) => Ok(Vec::new()),
            (Verdict::Tear(at), Command::Write { offset, bytes, .. }) => {
                let at = at.and_then(|at| usize::try_from(at).ok()).unwrap_or(bytes.len() / 2);
                let first = bytes.get(..at).unwrap_or(&bytes);
                // An error leaves less than that: torn as well.
                let _ = file.write_all_at(first, offset);
                (shared.kill)();
                return;
            }
            (Verdict::DoAt(offset), Command::Write { bytes, durable, .. }) => {
                perform(file, shared.size, &Command::Write { offset, bytes, durable })
            }
            (Verdict::Do(overlays), command) => {
                perform(file, shared.size, &command).and_then(|bytes| overlay(file, &command, bytes, &overlays))
            }
            (_, command) => perform(file, shared.size, &command),
        };
        let answered = match result {
            Ok(bytes) => nbd::reply(&mut stream, handle, Ok(&bytes)),
            Err(error) => nbd::reply(&mut stream, handle, Err(error)),
        };
        if answered.is_err() {
            return;
        }
        connection.went();
    }
}

/// Waits for the next request whose time has come; `None` when the connection is gone.
fn next(shared: &Shared, pending: &Pending) -> Option<Fate> {
    let mut faults = shared.lock();
    loop {
        let mut requests = pending.lock();
        if requests.1 || faults.ending {
            return None;
        }
        let due = requests.0.front().map(|(came, _)| *came + faults.delay);
        let now = Instant::now();
        if due.is_some_and(|due| due <= now) {
            let (came, request) = requests.0.pop_front()?;
            return Some(judge(&mut faults, came, request));
        }
        drop(requests);
        faults = match due {
            Some(due) => {
                let wait = due.saturating_duration_since(now);
                shared.changed.wait_timeout(faults, wait).unwrap_or_else(PoisonError::into_inner).0
            }
            None => shared.changed.wait(faults).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

fn judge(faults: &mut Faults, came: Instant, request: Request) -> Fate {
    let refused = faults.refusing_from.is_some_and(|from| came >= from);
    let verdict = match &request.command {
        Command::Read { .. } | Command::Write { .. } if refused => Verdict::Fail,
        Command::Read { offset, length } => {
            faults.rules.judge(DiskOperation::Read, &(*offset..offset.saturating_add(u64::from(*length))))
        }
        Command::Write { offset, bytes, .. } => {
            faults.rules.judge(DiskOperation::Write, &(*offset..offset.saturating_add(bytes.len() as u64)))
        }
        Command::Flush | Command::Unknown => Verdict::Do(Vec::new()),
    };
    (request, verdict, faults.other.clone())
}

fn perform(file: &File, size: u64, command: &Command) -> Result<Vec<u8>, u32> {
    let inside = |offset: u64, length: usize| match offset.checked_add(length as u64) {
        Some(end) if end <= size => Ok(()),
        _ => Err(nbd::ERROR_INVALID),
    };
    let done = |result: io::Result<()>| result.map_err(|_| nbd::ERROR_IO);
    match command {
        Command::Read { offset, length } => {
            inside(*offset, *length as usize)?;
            let mut bytes = vec![0; *length as usize];
            done(file.read_exact_at(&mut bytes, *offset))?;
            Ok(bytes)
        }
        Command::Write { offset, bytes, durable } => {
            inside(*offset, bytes.len())?;
            done(file.write_all_at(bytes, *offset))?;
            if *durable {
                done(file.sync_data())?;
            }
            Ok(Vec::new())
        }
        Command::Flush => done(file.sync_data()).map(|()| Vec::new()),
        Command::Unknown => Err(nbd::ERROR_INVALID),
    }
}

/// Puts other bytes over parts of what a read gave.
fn overlay(file: &File, command: &Command, mut bytes: Vec<u8>, overlays: &[Overlay]) -> Result<Vec<u8>, u32> {
    let Command::Read { offset, .. } = command else { return Ok(bytes) };
    let request = *offset..offset.saturating_add(bytes.len() as u64);
    for overlay in overlays {
        let Some((at, skip, length)) = overlay.meet(&request) else { continue };
        let Some(place) = bytes.get_mut(at..at + length) else { continue };
        match &overlay.with {
            With::From(from) => file.read_exact_at(place, from.saturating_add(skip)).map_err(|_| nbd::ERROR_IO)?,
            With::Old(old) => {
                let old = usize::try_from(skip).ok().and_then(|skip| old.get(skip..skip + length));
                place.copy_from_slice(old.ok_or(nbd::ERROR_IO)?);
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Rig {
        disk: FaultDisk,
        killed: Arc<AtomicBool>,
        client: Option<UnixStream>,
        dir: Dir,
    }

    /// Removed last: the disk's socket stands in it.
    struct Dir(PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    impl Rig {
        fn new() -> Self {
            let dir = Dir(crate::run_dir::make().expect("directory"));
            let image = dir.0.join("image");
            std::fs::write(&image, vec![7; 8192]).expect("image");
            let killed = Arc::new(AtomicBool::new(false));
            let kill = killed.clone();
            let kill = Box::new(move || kill.store(true, Ordering::Release));
            let disk = FaultDisk::start(&image, &dir.0.join("socket"), kill).expect("disk");
            let client = Some(Self::connect(&dir.0));
            Self { disk, killed, client, dir }
        }

        fn connect(dir: &Path) -> UnixStream {
            let mut client = UnixStream::connect(dir.join("socket")).expect("socket");
            client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            let export_name = [&3u32.to_be_bytes()[..], b"IHAVEOPT", &[0, 0, 0, 1, 0, 0, 0, 0]].concat();
            client.write_all(&export_name).expect("write");
            let mut greeting = [0; 18 + 10];
            client.read_exact(&mut greeting).expect("greeting");
            client
        }

        fn client(&mut self) -> &mut UnixStream {
            self.client.as_mut().expect("connected")
        }

        fn ask(&mut self, kind: u16, offset: u64, length: u32, bytes: &[u8]) {
            let head = [&0x2560_9513u32.to_be_bytes()[..], &0u16.to_be_bytes(), &kind.to_be_bytes()].concat();
            let rest = [&1u64.to_be_bytes()[..], &offset.to_be_bytes(), &length.to_be_bytes(), bytes].concat();
            self.client().write_all(&[head, rest].concat()).expect("write");
        }

        fn answer(&mut self, length: usize) -> (u32, Vec<u8>) {
            let mut head = [0; 16];
            self.client().read_exact(&mut head).expect("answer");
            let error = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            let mut bytes = vec![0; if error == 0 { length } else { 0 }];
            self.client().read_exact(&mut bytes).expect("bytes");
            (error, bytes)
        }

        fn image(&self) -> Vec<u8> {
            std::fs::read(self.dir.0.join("image")).expect("image")
        }
    }

    fn any_write(count: u32, trick: Trick) -> DiskRule {
        DiskRule { operation: DiskOperation::Write, extent: None, count: Some(count), trick }
    }

    #[test]
    fn reads_and_writes_reach_the_image() {
        let mut rig = Rig::new();
        rig.ask(1, 512, 4, &[1, 2, 3, 4]);
        assert_eq!(rig.answer(0), (0, vec![]));
        rig.ask(0, 510, 4, &[]);
        assert_eq!(rig.answer(4), (0, vec![7, 7, 1, 2]));
        rig.ask(3, 0, 0, &[]);
        assert_eq!(rig.answer(0), (0, vec![]));
        rig.ask(0, 8190, 4, &[]);
        assert_eq!(rig.answer(4), (nbd::ERROR_INVALID, vec![]));
        rig.ask(0, u64::MAX, 4, &[]);
        assert_eq!(rig.answer(4), (nbd::ERROR_INVALID, vec![]));
    }

    #[test]
    fn what_comes_through_a_stall_is_refused_but_not_what_was_on_its_way() {
        let mut rig = Rig::new();
        rig.disk.stall();
        let begin = Instant::now();
        let mut answers = Vec::new();
        while begin.elapsed() < 2 * ON_THE_WAY {
            rig.ask(1, 0, 1, &[1]);
            answers.push(rig.answer(0).0);
        }
        assert_eq!((answers.first(), answers.last()), (Some(&0), Some(&nbd::ERROR_IO)));
        rig.ask(3, 0, 0, &[]);
        assert_eq!(rig.answer(0).0, 0, "a flush has nothing to wait for");
        rig.disk.heal();
        rig.ask(1, 0, 1, &[2]);
        assert_eq!((rig.answer(0).0, rig.image()[0]), (0, 2));
    }

    #[test]
    fn a_machine_that_comes_back_finds_the_disk_again() {
        let mut rig = Rig::new();
        rig.disk.delay(Duration::from_secs(1000));
        rig.ask(1, 0, 1, &[1]);
        rig.client = None;
        rig.client = Some(Rig::connect(&rig.dir.0));
        rig.disk.heal();
        rig.ask(0, 0, 1, &[]);
        assert_eq!(rig.answer(1), (0, vec![7]), "what waited when the machine died never happens");
    }

    #[test]
    fn so_many_requests_of_a_kind_fail_and_no_more() {
        let mut rig = Rig::new();
        rig.disk.rule(any_write(1, Trick::Fail));
        rig.ask(0, 0, 1, &[]);
        rig.ask(1, 0, 1, &[1]);
        rig.ask(1, 0, 1, &[2]);
        let answers = [rig.answer(1).0, rig.answer(0).0, rig.answer(0).0];
        assert_eq!(answers, [0, nbd::ERROR_IO, 0]);
    }

    #[test]
    fn a_delay_holds_each_request_that_long() {
        let mut rig = Rig::new();
        rig.disk.delay(Duration::from_millis(30));
        let begin = Instant::now();
        rig.ask(0, 0, 1, &[]);
        rig.ask(0, 0, 1, &[]);
        assert_eq!((rig.answer(1).0, rig.answer(1).0), (0, 0));
        assert!(begin.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn a_disk_is_idle_since_its_last_answer_and_not_while_a_request_waits() {
        let mut rig = Rig::new();
        rig.ask(0, 0, 1, &[]);
        rig.answer(1);
        let begin = Instant::now();
        while rig.disk.idle().is_none_or(|idle| idle < Duration::from_millis(20)) {
            assert!(begin.elapsed() < Duration::from_secs(10), "never idle for so long");
        }
        rig.disk.delay(Duration::from_secs(1000));
        // Half a request is one that has begun.
        rig.client().write_all(&[0x25]).expect("write");
        assert_eq!(rig.disk.idle(), None);
        rig.client().write_all(&0x2560_9513u32.to_be_bytes()[1..]).expect("write");
        rig.client().write_all(&[[0; 20].as_slice(), &1u32.to_be_bytes()].concat()).expect("write");
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(rig.disk.idle(), None, "it waits");
        let begin = Instant::now();
        rig.disk.heal();
        rig.answer(1);
        // It counts from the answer on.
        while rig.disk.idle().is_none_or(|idle| idle > begin.elapsed()) {
            assert!(begin.elapsed() < Duration::from_secs(10), "never idle");
        }
        rig.client = None;
        while rig.disk.idle().is_some() {
            assert!(begin.elapsed() < Duration::from_secs(10), "nobody is connected");
        }
    }

    #[test]
    fn a_torn_write_is_half_there_and_the_machine_is_killed() {
        let mut rig = Rig::new();
        rig.disk.rule(any_write(1, Trick::Tear(None)));
        rig.ask(1, 0, 4, &[1, 2, 3, 4]);
        let begin = Instant::now();
        while !rig.killed.load(Ordering::Acquire) {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        assert_eq!(rig.image()[..5], [1, 2, 7, 7, 7]);
    }

    #[test]
    fn a_lost_write_is_answered_and_a_misdirected_one_lands_elsewhere() {
        let mut rig = Rig::new();
        rig.disk.rule(any_write(1, Trick::Lose));
        rig.ask(1, 0, 1, &[1]);
        assert_eq!((rig.answer(0).0, rig.image()[0]), (0, 7));
        let operation = DiskOperation::Write;
        rig.disk.rule(DiskRule { operation, extent: Some(0..512), count: None, trick: Trick::Redirect(4096) });
        rig.ask(1, 1, 2, &[1, 2]);
        assert_eq!(rig.answer(0).0, 0);
        assert_eq!((rig.image()[..3].to_vec(), rig.image()[4096..4100].to_vec()), (vec![7; 3], vec![7, 1, 2, 7]));
        rig.disk.heal();
        rig.ask(1, 1, 1, &[3]);
        assert_eq!((rig.answer(0).0, rig.image()[1]), (0, 3));
    }

    #[test]
    fn a_read_gives_what_stands_elsewhere_or_what_stood_there() {
        let mut rig = Rig::new();
        rig.ask(1, 4096, 4, &[1, 2, 3, 4]);
        rig.answer(0);
        rig.disk.keep(8..10).expect("kept");
        rig.ask(1, 8, 2, &[9, 9]);
        rig.answer(0);
        let operation = DiskOperation::Read;
        rig.disk.rule(DiskRule { operation, extent: Some(2..4), count: Some(1), trick: Trick::Redirect(4097) });
        rig.ask(0, 0, 11, &[]);
        assert_eq!(rig.answer(11).1, [7, 7, 2, 3, 7, 7, 7, 7, 7, 7, 7]);
        rig.ask(0, 0, 4, &[]);
        assert_eq!(rig.answer(4).1, [7; 4]);
        rig.disk.heal();
        rig.ask(0, 7, 3, &[]);
        assert_eq!(rig.answer(3).1, [7, 9, 9]);
    }

    #[test]
    fn another_disk_in_its_place_takes_reads_and_writes() {
        let mut rig = Rig::new();
        let other = rig.dir.0.join("other");
        std::fs::write(&other, vec![5; 8192]).expect("other");
        rig.disk.swap(&other).expect("swapped");
        rig.ask(1, 0, 1, &[1]);
        rig.answer(0);
        rig.ask(0, 0, 2, &[]);
        assert_eq!(rig.answer(2).1, [1, 5]);
        assert_eq!(rig.image()[..2], [7, 7]);
        rig.disk.heal();
        rig.ask(0, 0, 2, &[]);
        assert_eq!(rig.answer(2).1, [7, 7]);
    }
}
