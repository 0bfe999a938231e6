//! A node that has its identity: lock, interconnect and membership, in one turn each (DESIGN 4: the beat runs in the same
//! turn as the membership machine, so that a stuck machine shows).

use quorate_base::capacity::DATAGRAM_MAX;
use quorate_base::event::Trace;
use quorate_base::{BootNonce, ClusterId, DiskOp, DiskTag, HaltReason, Instant, LevelOrder, NodeId, Timing};
use quorate_interconnect::{self as interconnect, Destination, Interconnect, Received};
use quorate_master_lock::{self as master_lock, LockEvent, MasterLock, OwnIdentity};
use quorate_membership::{Change, Config, Context, Membership, Post};

use crate::birth::{BIRTH_TAG, Boot, Born};
use crate::node::Input;

/// First tag of the lock's requests; birth's own is below it.
const LOCK_TAG: u32 = 1;

/// The identity is read back a beat after it was written; until then nothing but it is written. Who sees another's there
/// leaves the heartbeat block to it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Verify {
    At(Instant),
    Reading,
    Done,
}

/// A node with an identity.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub me: NodeId,
    pub lock: MasterLock,
    pub net: Interconnect,
    pub membership: Membership,
    pub nodes: u8,
    pub timing: Timing,
    /// When this life began.
    pub since: Instant,
    nonce: BootNonce,
    cluster: ClusterId,
    identity: OwnIdentity,
    verify: Verify,
    disk: Option<(DiskTag, DiskOp)>,
}

impl Live {
    pub(crate) fn new(boot: &Boot, born: &Born, now: Instant) -> Self {
        let (me, incarnation, nonce) = (born.me, born.incarnation, boot.nonce);
        let superblock = &born.superblock;
        let (cluster, nodes, timing) = (superblock.cluster, superblock.nodes, superblock.timing);
        let lock = master_lock::Config {
            me,
            incarnation,
            nonce,
            cluster,
            nodes,
            timing,
            first_tag: LOCK_TAG,
            own: born.own.clone(),
            geometry: boot.geometry,
        };
        let net =
            interconnect::Config { me, incarnation, nonce, cluster, nodes, timing, counter_floor: born.frame_floor };
        let membership = Config { me, incarnation, nodes, timing, weights: born.weights, was_clean: born.own.clean };
        let mut lock = MasterLock::new(lock, now);
        lock.guard_identity(born.identity);
        Self {
            me,
            lock,
            net: Interconnect::new(net, now),
            membership: Membership::new(&membership),
            nodes,
            timing,
            since: now,
            nonce,
            cluster,
            identity: born.identity,
            verify: Verify::At(now.plus_ms(timing.disk_heartbeat)),
            disk: None,
        }
    }

    /// One turn. Gives the reason if the node must halt.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        input: Input<'_>,
        carrier: bool,
        post: &mut dyn Post,
        trace: &mut Trace<'_>,
    ) -> Option<HaltReason> {
        match input {
            Input::Disk { tag: BIRTH_TAG, result } => {
                if let Err(reason) = self.verified(result) {
                    return Some(reason);
                }
            }
            Input::Disk { tag, result } => {
                self.lock.handle(now, master_lock::Input::Disk { tag, result }, trace);
            }
            Input::Datagram(bytes) => self.receive(now, bytes, post, trace),
            Input::Tick | Input::Carrier(_) => {}
        }
        if self.verify != Verify::Done {
            return self.verify_turn(now, carrier, post, trace);
        }
        let halt = self.turn(now, carrier, post, trace);
        self.heartbeat(now, post, trace);
        halt
    }

    /// Until the identity is verified the node listens and is heard, and writes nothing.
    fn verify_turn(
        &mut self,
        now: Instant,
        carrier: bool,
        post: &mut dyn Post,
        trace: &mut Trace<'_>,
    ) -> Option<HaltReason> {
        if let Verify::At(at) = self.verify
            && now >= at
        {
            self.verify = Verify::Reading;
            self.disk = Some((BIRTH_TAG, OwnIdentity::read(self.me)));
        }
        self.net.handle_timeout(now, trace);
        self.tell(now, carrier);
        self.heartbeat(now, post, trace);
        None
    }

    fn verified(&mut self, result: Result<&[u8], quorate_base::DiskError>) -> Result<(), HaltReason> {
        if self.verify != Verify::Reading {
            return Ok(());
        }
        let bytes = result.map_err(|error| HaltReason::Disk { error })?;
        self.identity.check(bytes, self.cluster, self.me, self.nonce)?;
        self.verify = Verify::Done;
        Ok(())
    }

    fn receive(&mut self, now: Instant, bytes: &[u8], post: &mut dyn Post, trace: &mut Trace<'_>) {
        // A frame that does not verify is counted by the interconnect and has no other effect.
        let Ok(received) = self.net.receive(now, bytes, trace) else { return };
        if self.verify != Verify::Done {
            return;
        }
        let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
        match received {
            Received::Heartbeat { from } => self.membership.on_heartbeat(from, &mut ctx),
            Received::Message { from, incarnation, payload } => {
                self.membership.on_message(from, incarnation, payload, &mut ctx);
            }
        }
    }

    /// Lock, evidence, membership; again as long as the lock has something to do at once.
    fn turn(&mut self, now: Instant, carrier: bool, post: &mut dyn Post, trace: &mut Trace<'_>) -> Option<HaltReason> {
        // Bounded: each pass lets the lock begin a request at most, and with one under way it has nothing to do at once.
        for _ in 0..8 {
            self.tell(now, carrier);
            self.lock.handle(now, master_lock::Input::Tick, trace);
            while let Some(output) = self.lock.poll_output() {
                match output {
                    master_lock::Output::Disk { tag, op } => self.disk = Some((tag, op)),
                    master_lock::Output::Halt(reason) => return Some(reason),
                    master_lock::Output::Event(event) => {
                        if event == LockEvent::Beat {
                            self.expect_peers();
                        }
                        let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
                        self.membership.on_lock_event(event, &mut ctx);
                    }
                }
            }
            self.net.handle_timeout(now, trace);
            let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
            self.membership.handle_timeout(&mut ctx);
            if let Some(reason) = self.membership.take_halt() {
                return Some(reason);
            }
            if self.lock.poll_timeout() > now {
                break;
            }
        }
        None
    }

    /// What the disk says of the peers' lives: older ones are not listened to any more.
    fn expect_peers(&mut self) {
        for n in NodeId::first(self.nodes).filter(|n| *n != self.me) {
            if let Some(h) = &self.lock.peer(n).heartbeat {
                self.net.expect(n, h.incarnation, Some(h.nonce));
                self.net.expect_floor(n, h.incarnation, h.frame_floor);
            }
        }
    }

    /// What the next heartbeats say of this node.
    fn tell(&mut self, now: Instant, carrier: bool) {
        self.membership.set_carrier(carrier);
        let state = self.membership.told_state();
        self.lock.set_status(master_lock::Status {
            state,
            hears: self.net.hears(),
            carrier,
            frame_floor: self.net.frame_floor(),
        });
        let (committed, _) = self.lock.committed();
        self.net.set_status(interconnect::Status {
            state,
            frozen: self.lock.frozen(now),
            carrier,
            ballot: self.lock.highest_promise(),
            is_master: self.lock.may_act(now),
            committed,
        });
    }

    fn heartbeat(&mut self, now: Instant, post: &mut dyn Post, trace: &mut Trace<'_>) {
        if self.net.poll_timeout() > now {
            return;
        }
        let mut datagram = [0; DATAGRAM_MAX];
        if let Some(len) = self.net.poll_heartbeat(now, trace, &mut datagram)
            && let Some(bytes) = datagram.get(..len)
        {
            post.post(Destination::All, bytes);
        }
    }

    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        level: LevelOrder,
        change: &Change,
        post: &mut dyn Post,
        trace: &mut Trace<'_>,
    ) -> bool {
        let mut ctx = Context { now, lock: &mut self.lock, net: &mut self.net, post, trace };
        self.membership.acknowledge(level, change, &mut ctx)
    }

    pub(crate) fn poll_disk(&mut self) -> Option<(DiskTag, DiskOp)> {
        self.disk.take()
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        let own = match self.verify {
            Verify::At(at) => at,
            Verify::Reading => Instant::FAR,
            Verify::Done => self.lock.poll_timeout().min(self.membership.poll_timeout()),
        };
        own.min(self.net.poll_timeout())
    }
}
