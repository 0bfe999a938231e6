//! A machine's disk behind the harness: the image file, and between it and QEMU what a scenario wants to go wrong.
//!
//! QEMU's own means were tried first and do not hold a request: throttling lets everything through when the guest resets
//! the unit, a break point in `blkdebug` holds one request only. So QEMU is given a network block device on a unix
//! socket, and requests wait here: in order, one at a time, which a single disk may do. The SCSI adapter stands in a
//! thread of QEMU's own (an *iothread*), so that a LOGICAL UNIT RESET which waits for a stalled request stops nothing
//! but the adapter.
//!
//! A request that is stalled when QEMU dies never happens. One that is stalled when the fault ends happens then: late.

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

use crate::nbd::{self, Command, Request};

/// How a disk is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DiskCut {
    /// Requests never complete.
    #[default]
    Stall,
    /// The device is removed.
    Gone,
}

/// Which requests fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskOperation {
    /// Reads.
    Read,
    /// Writes.
    Write,
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
    /// Ends the machine's QEMU at once.
    kill: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("size", &self.size).field("faults", &self.faults).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Faults {
    stalled: bool,
    delay: Duration,
    failing_reads: u32,
    failing_writes: u32,
    tear: bool,
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
        let shared = Arc::new(Shared { file, size, faults, changed: Condvar::new(), kill });
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

    /// From now on no request completes.
    pub fn stall(&self) {
        self.change(|f| f.stalled = true);
    }

    /// From now on every request takes this much longer.
    pub fn delay(&self, delay: Duration) {
        self.change(|f| f.delay = delay);
    }

    /// The next `count` requests of that kind fail.
    pub fn fail(&self, operation: DiskOperation, count: u32) {
        self.change(|f| match operation {
            DiskOperation::Read => f.failing_reads = count,
            DiskOperation::Write => f.failing_writes = count,
        });
    }

    /// The next write stops half way, and the machine dies.
    pub fn tear(&self) {
        self.change(|f| f.tear = true);
    }

    /// Ends all faults; what was stalled happens now.
    pub fn heal(&self) {
        self.change(|f| *f = Faults { ending: f.ending, ..Faults::default() });
    }

    /// Whether requests are held.
    pub fn is_stalled(&self) -> bool {
        self.shared.lock().stalled
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
    std::thread::scope(|scope| {
        scope.spawn(|| {
            carry_out(shared, &pending, &writer);
            // Whatever ended it: the reading thread is to end as well.
            let _ = writer.shutdown(Shutdown::Both);
        });
        let mut stream = io::BufReader::new(stream);
        while let Ok(Some(request)) = nbd::request(&mut stream) {
            pending.lock().0.push_back((Instant::now(), request));
            wake(shared);
        }
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

/// What to do with a request.
enum Fate {
    Do(Request),
    Fail(Request),
    Tear(Request),
}

fn carry_out(shared: &Shared, pending: &Pending, mut stream: &UnixStream) {
    while let Some(fate) = next(shared, pending) {
        let answered = match fate {
            Fate::Do(Request { handle, command }) => match perform(shared, &command) {
                Ok(bytes) => nbd::reply(&mut stream, handle, Ok(&bytes)),
                Err(error) => nbd::reply(&mut stream, handle, Err(error)),
            },
            Fate::Fail(request) => nbd::reply(&mut stream, request.handle, Err(nbd::ERROR_IO)),
            Fate::Tear(request) => {
                if let Command::Write { offset, bytes, .. } = &request.command {
                    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                    // An error leaves less than half: torn as well.
                    let _ = shared.file.write_all_at(half, *offset);
                }
                (shared.kill)();
                return;
            }
        };
        if answered.is_err() {
            return;
        }
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
        if let Some(due) = due
            && !faults.stalled
            && due <= now
        {
            let (_, request) = requests.0.pop_front()?;
            return Some(judge(&mut faults, request));
        }
        drop(requests);
        faults = match due {
            Some(due) if !faults.stalled => {
                let wait = due.saturating_duration_since(now);
                shared.changed.wait_timeout(faults, wait).unwrap_or_else(PoisonError::into_inner).0
            }
            _ => shared.changed.wait(faults).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

fn judge(faults: &mut Faults, request: Request) -> Fate {
    let failing = match &request.command {
        Command::Write { .. } if faults.tear => {
            faults.tear = false;
            return Fate::Tear(request);
        }
        Command::Write { .. } => &mut faults.failing_writes,
        Command::Read { .. } => &mut faults.failing_reads,
        Command::Flush | Command::Unknown => return Fate::Do(request),
    };
    if *failing == 0 {
        return Fate::Do(request);
    }
    *failing -= 1;
    Fate::Fail(request)
}

fn perform(shared: &Shared, command: &Command) -> Result<Vec<u8>, u32> {
    let inside = |offset: u64, length: usize| match offset.checked_add(length as u64) {
        Some(end) if end <= shared.size => Ok(()),
        _ => Err(nbd::ERROR_INVALID),
    };
    let done = |result: io::Result<()>| result.map_err(|_| nbd::ERROR_IO);
    match command {
        Command::Read { offset, length } => {
            inside(*offset, *length as usize)?;
            let mut bytes = vec![0; *length as usize];
            done(shared.file.read_exact_at(&mut bytes, *offset))?;
            Ok(bytes)
        }
        Command::Write { offset, bytes, durable } => {
            inside(*offset, bytes.len())?;
            done(shared.file.write_all_at(bytes, *offset))?;
            if *durable {
                done(shared.file.sync_data())?;
            }
            Ok(Vec::new())
        }
        Command::Flush => done(shared.file.sync_data()).map(|()| Vec::new()),
        Command::Unknown => Err(nbd::ERROR_INVALID),
    }
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
    fn a_stalled_write_happens_when_the_fault_ends() {
        let mut rig = Rig::new();
        rig.disk.stall();
        rig.ask(1, 0, 1, &[1]);
        rig.client().set_read_timeout(Some(Duration::from_millis(30))).expect("timeout");
        assert!(rig.client().read(&mut [0]).is_err(), "no answer while it is stalled");
        assert_eq!(rig.image()[0], 7);
        rig.client().set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        rig.disk.heal();
        assert_eq!(rig.answer(0), (0, vec![]));
        assert_eq!(rig.image()[0], 1);
    }

    #[test]
    fn a_stalled_write_of_a_machine_that_died_never_happens() {
        let mut rig = Rig::new();
        rig.disk.stall();
        rig.ask(1, 0, 1, &[1]);
        rig.client = None;
        rig.client = Some(Rig::connect(&rig.dir.0));
        rig.disk.heal();
        rig.ask(0, 0, 1, &[]);
        assert_eq!(rig.answer(1), (0, vec![7]));
    }

    #[test]
    fn so_many_requests_of_a_kind_fail_and_no_more() {
        let mut rig = Rig::new();
        rig.disk.fail(DiskOperation::Write, 1);
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
    fn a_torn_write_is_half_there_and_the_machine_is_killed() {
        let mut rig = Rig::new();
        rig.disk.tear();
        rig.ask(1, 0, 4, &[1, 2, 3, 4]);
        let begin = Instant::now();
        while !rig.killed.load(Ordering::Acquire) {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        assert_eq!(rig.image()[..5], [1, 2, 7, 7, 7]);
    }
}
