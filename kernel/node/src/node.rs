//! The node as its outside sees it: inputs, outputs, stages.

use quorate_base::event::{Event, Trace, TraceClock, TraceSink};
use quorate_base::reservation::{Attention, ReservationAnswer, ReservationError, ReservationOp};
use quorate_base::text::format_cut;
use quorate_base::{DiskError, DiskOp, DiskTag, HaltReason, Incarnation, Instant, LevelDecl, LevelOrder, NodeId};
use quorate_database::EndAction;
use quorate_epitaph::Epitaph;
use quorate_membership::{Change, Deregister, DeregisterError, Membership, Notification, Post, RegisterError};

use crate::birth::{Birth, BirthOutput, Boot};
use crate::history::History;
use crate::live::{Live, OWN};

/// One input.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Time passed: [`Node::poll_timeout`] was reached.
    Tick,
    /// A disk request is done; for a read with its bytes, each record at the start of its pitch.
    Disk {
        /// Which.
        tag: DiskTag,
        /// How it ended. No answer may come while the fate of a request is open.
        result: Result<&'a [u8], DiskError>,
    },
    /// A datagram came.
    Datagram(&'a [u8]),
    /// The NIC's link went up or down.
    Carrier(bool),
    /// A reservation command is done.
    Reservation {
        /// Which.
        tag: DiskTag,
        /// How it ended. No answer may come while its fate is open.
        result: Result<&'a ReservationAnswer, ReservationError>,
    },
    /// A read was answered by this unit attention, and is repeated by the port. It comes before that read's completion.
    Attention(Attention),
}

/// One output.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "a record travels by value: there is no allocator")]
pub enum Output {
    /// Begin a disk request.
    Disk {
        /// To be given back with its completion.
        tag: DiskTag,
        /// What.
        op: DiskOp,
    },
    /// Begin a reservation command.
    Reservation {
        /// To be given back with its answer.
        tag: DiskTag,
        /// What.
        op: ReservationOp,
    },
    /// The node has ended; nothing comes after it. Datagrams that were posted before are to be sent.
    Halt(HaltReason),
}

/// What a call may use besides the node itself.
pub struct Ports<'a> {
    /// Where datagrams go.
    pub post: &'a mut dyn Post,
    /// Where trace events go.
    pub sink: &'a mut dyn TraceSink,
}

#[expect(clippy::large_enum_variant, reason = "there is one node, and no allocator")]
#[derive(Clone, Debug)]
enum Stage {
    Birth(Birth),
    Live(Live),
    Halted(HaltReason),
}

/// One node of the cluster.
#[derive(Clone, Debug)]
pub struct Node {
    stage: Stage,
    clock: TraceClock,
    levels: heapless::Vec<OwnedDecl, { quorate_base::capacity::LEVELS_MAX }>,
    version: heapless::String<32>,
    cmdline: heapless::String<512>,
    carrier: bool,
    ends: Option<(EndAction, EndAction)>,
    output: Option<Output>,
    epitaph: Option<Epitaph>,
    history: History,
    last: Instant,
}

/// A level declaration that the node keeps until it is born.
#[derive(Clone, Debug)]
pub(crate) struct OwnedDecl {
    pub order: LevelOrder,
    pub name: quorate_base::LevelName,
    pub barriers: quorate_base::Barriers,
    pub everywhere: bool,
    pub deadline_ms: u32,
}

/// Why a node cannot begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewNodeError {
    /// More than `LEVELS_MAX` levels.
    TooManyLevels,
    /// A name longer than `LEVEL_NAME_MAX` bytes, or none.
    LevelName,
    /// Two levels of one order, or barriers outside of `1..=BARRIERS_MAX`.
    Level(LevelOrder),
    /// No level of order 0: the membership level itself must be in the table.
    NoMembershipLevel,
}

impl core::fmt::Display for NewNodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooManyLevels => f.write_str("more than 32 levels"),
            Self::LevelName => f.write_str("a level's name has 1 to 16 bytes"),
            Self::Level(order) => write!(f, "level {order}: declared twice, or barriers not 1 to 16"),
            Self::NoMembershipLevel => f.write_str("no membership level (order 0)"),
        }
    }
}

impl core::error::Error for NewNodeError {}

impl Node {
    /// A node that begins with its birth. `levels` are the static levels, the membership level (order 0) among them.
    ///
    /// # Errors
    /// See [`NewNodeError`]. A table that was built by `LevelTable` in a `const` cannot fail.
    pub fn new<'d>(
        boot: Boot,
        levels: impl IntoIterator<Item = LevelDecl<'d>>,
        version: &str,
        cmdline: &str,
    ) -> Result<Self, NewNodeError> {
        let mut owned: heapless::Vec<OwnedDecl, { quorate_base::capacity::LEVELS_MAX }> = heapless::Vec::new();
        for l in levels {
            let name = quorate_base::LevelName::try_from(l.name).map_err(|_| NewNodeError::LevelName)?;
            if name.is_empty() {
                return Err(NewNodeError::LevelName);
            }
            if !l.barriers.is_valid() || owned.iter().any(|o| o.order == l.order) {
                return Err(NewNodeError::Level(l.order));
            }
            let decl = OwnedDecl {
                order: l.order,
                name,
                barriers: l.barriers,
                everywhere: l.everywhere,
                deadline_ms: l.deadline_ms,
            };
            owned.push(decl).map_err(|_| NewNodeError::TooManyLevels)?;
        }
        if owned.iter().all(|o| o.order != LevelOrder::MEMBERSHIP) {
            return Err(NewNodeError::NoMembershipLevel);
        }
        let clock = TraceClock { writes: boot.trace_writes, ..TraceClock::default() };
        Ok(Self {
            stage: Stage::Birth(Birth::new(boot)),
            clock,
            levels: owned,
            version: format_cut(format_args!("{version}")),
            cmdline: format_cut(format_args!("{cmdline}")),
            carrier: true,
            ends: None,
            output: None,
            epitaph: None,
            history: History::default(),
            last: Instant::ZERO,
        })
    }

    /// What this machine's last life left, before the first input. The trace tells it right after `boot`, the console when it
    /// is asked.
    pub fn set_epitaph(&mut self, epitaph: Epitaph) {
        self.epitaph = Some(epitaph);
    }

    /// The last transitions, as this life saw them.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How this machine's last life ended, if it left word.
    pub fn epitaph(&self) -> Option<&Epitaph> {
        self.epitaph.as_ref()
    }

    /// Takes one input. Outputs are drained by [`poll_output`](Self::poll_output) after each call.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, ports: &mut Ports<'_>) {
        self.last = now;
        if let Input::Carrier(up) = input {
            self.carrier = up;
        }
        let mut trace = Trace::new(now, &mut self.clock, ports.sink);
        let halt = match &mut self.stage {
            Stage::Halted(_) => return,
            Stage::Live(live) => {
                let halt = live.handle(now, input, self.carrier, ports.post, &mut trace);
                live.remember(now, &mut self.history);
                halt
            }
            Stage::Birth(birth) => {
                let done = match input {
                    Input::Disk { result, .. } => birth.completed(now, result),
                    Input::Reservation { result, .. } => birth.reservation(now, result),
                    Input::Attention(_) => {
                        birth.attention();
                        None
                    }
                    Input::Tick | Input::Datagram(_) | Input::Carrier(_) => None,
                };
                match done {
                    None => None,
                    Some(BirthOutput::Disk(..) | BirthOutput::Reservation(_)) => None,
                    Some(BirthOutput::Halt(reason)) => Some(reason),
                    Some(BirthOutput::Born) => self.begin_life(now, ports),
                }
            }
        };
        if let Stage::Birth(birth) = &self.stage
            && self.ends.is_none()
        {
            self.ends = birth.ends();
        }
        if let Some(reason) = halt {
            self.halt(now, reason, ports);
        }
    }

    // Kept apart: what it builds is large, and its stack is needed once in the node's life.
    #[inline(never)]
    fn begin_life(&mut self, now: Instant, ports: &mut Ports<'_>) -> Option<HaltReason> {
        let Stage::Birth(birth) = &mut self.stage else { return None };
        let Some(born) = birth.take_born() else {
            return Some(HaltReason::Impossible { what: "born without an identity" });
        };
        let boot = birth.boot().clone();
        self.clock.incarnation = Some(born.incarnation);
        let mut trace = Trace::new(now, &mut self.clock, ports.sink);
        trace.receive(born.lamport);
        trace.event(Event::Boot { version: &self.version, cmdline: &self.cmdline });
        if let Some(epitaph) = &self.epitaph {
            trace.event(epitaph.event());
        }
        let mut live = Live::new(&boot, &born, now);
        if let Some(registration) = born.registration {
            live.lock.guard_reservation(registration, &mut trace);
        }
        for l in &self.levels {
            let decl = LevelDecl {
                order: l.order,
                name: &l.name,
                barriers: l.barriers,
                everywhere: l.everywhere,
                deadline_ms: l.deadline_ms,
            };
            if live.membership.register(&decl, &mut trace).is_err() {
                return Some(HaltReason::Impossible { what: "a checked level could not be registered" });
            }
        }
        self.stage = Stage::Live(live);
        None
    }

    fn halt(&mut self, now: Instant, reason: HaltReason, ports: &mut Ports<'_>) {
        let mut trace = Trace::new(now, &mut self.clock, ports.sink);
        if let Stage::Live(live) = &mut self.stage {
            live.membership.deregister_all(&mut trace);
            // Before the stage is over: no request of this life is given out any more from here on.
            live.say_halted(now, ports.post, &mut trace);
        }
        let text = format_cut::<192>(format_args!("{reason}"));
        if reason.is_wanted() {
            trace.event(Event::Halt { reason: &text });
        } else {
            trace.event(Event::Panic { reason: &text });
        }
        self.stage = Stage::Halted(reason);
        self.output = Some(Output::Halt(reason));
    }

    /// Ends this node for a reason that its outside found: no disk, a driver that failed for good.
    pub fn end(&mut self, now: Instant, reason: HaltReason, ports: &mut Ports<'_>) {
        if !matches!(self.stage, Stage::Halted(_)) {
            self.halt(now, reason, ports);
        }
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.output.take() {
            return Some(output);
        }
        match &mut self.stage {
            Stage::Live(live) => live.poll_output(),
            Stage::Birth(birth) => match birth.poll(self.last)? {
                BirthOutput::Disk(tag, op) => Some(Output::Disk { tag, op }),
                BirthOutput::Reservation(op) => Some(Output::Reservation { tag: OWN, op }),
                // A halt without an input: the next tick reports it, because events need their ports.
                BirthOutput::Halt(reason) => {
                    self.stage = Stage::Halted(reason);
                    Some(Output::Halt(reason))
                }
                BirthOutput::Born => None,
            },
            Stage::Halted(_) => None,
        }
    }

    /// When [`Input::Tick`] is due; `Instant::FAR` if only an input can go on.
    pub fn poll_timeout(&self) -> Instant {
        match &self.stage {
            Stage::Birth(birth) => birth.poll_timeout(),
            Stage::Live(live) => live.poll_timeout(),
            Stage::Halted(_) => Instant::FAR,
        }
    }

    /// This node's id, once the configuration was read: the interconnect's stack needs it.
    pub fn id(&self) -> Option<NodeId> {
        match &self.stage {
            Stage::Birth(birth) => birth.me(),
            Stage::Live(live) => Some(live.me),
            Stage::Halted(_) => None,
        }
    }

    /// The cluster's time-outs, once the node lives.
    pub fn timing(&self) -> Option<quorate_base::Timing> {
        self.live().map(|l| l.timing)
    }

    /// This life, once its identity is written.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.clock.incarnation
    }

    /// Why it halted, if it has.
    pub fn halted(&self) -> Option<HaltReason> {
        match self.stage {
            Stage::Halted(reason) => Some(reason),
            _ => None,
        }
    }

    /// What this node's record says to do after that end (EP p. 4: "needed to boot, shutdown, or panic a node"). A node
    /// that does not know its record yet halts.
    pub fn end_action(&self, reason: &HaltReason) -> EndAction {
        match self.ends {
            Some((on_shutdown, _)) if reason.is_wanted() => on_shutdown,
            Some((_, on_panic)) => on_panic,
            None => EndAction::Halt,
        }
    }

    /// The membership manager, once the node lives.
    pub fn membership(&self) -> Option<&Membership> {
        self.live().map(|l| &l.membership)
    }

    /// How many frames its interconnect sent, took and dropped, once the node lives.
    pub fn frames(&self) -> Option<&quorate_interconnect::Counters> {
        self.live().map(|l| l.net.counters())
    }

    pub(crate) fn live(&self) -> Option<&Live> {
        match &self.stage {
            Stage::Live(live) => Some(live),
            _ => None,
        }
    }

    pub(crate) fn birth_waits_for(&self) -> Option<&'static str> {
        match &self.stage {
            Stage::Birth(birth) => Some(birth.waits_for()),
            _ => None,
        }
    }

    /// Whether this node may write to the shared disk now: its lease stands, and so does its registration if the cluster
    /// fences by the reservation. Every layer asks before it submits.
    pub fn may_write(&self, now: Instant) -> bool {
        self.live().is_some_and(|l| !l.lock.frozen(now) && now < l.lock.lease_until() && l.lock.is_open())
    }

    /// How the cluster fences, once the node lives.
    pub fn fence_method(&self) -> Option<quorate_base::FenceMethod> {
        self.live().map(|l| l.fence_method())
    }

    /// Whether the hardware watchdog may be patted now (DESIGN 7). Asked after a turn, when everything that was due is done:
    /// - no work that was due is left lying;
    /// - a member's lease stands, or it ran out and the node knows that it is frozen: an outage of the disk, however long,
    ///   resets nobody;
    /// - a node that is being born or in no view yet has no lease and needs none: that it does what is due is enough;
    /// - a node that has halted is not patted any more. What becomes of its machine then is [`Node::end_action`]'s.
    pub fn may_pat(&self, now: Instant) -> bool {
        let through = now < self.poll_timeout();
        match &self.stage {
            Stage::Birth(_) => through,
            Stage::Live(live) => through && live.lease_in_hand(now),
            Stage::Halted(_) => false,
        }
    }

    /// Asks for a graceful leave (EP p. 6).
    pub fn leave(&mut self, now: Instant, ports: &mut Ports<'_>) {
        match &mut self.stage {
            Stage::Live(live) => {
                live.membership.leave(now);
                self.handle(now, Input::Tick, ports);
            }
            Stage::Birth(_) => self.halt(now, HaltReason::Left, ports),
            Stage::Halted(_) => {}
        }
    }

    /// Registers a level at run time (EP p. 6, the event manager): of user space, above every static level of this node; it
    /// counts as one that not every node has. It joins by itself once the node is joined, and then its thread of control
    /// takes notifications like that of any other. `Membership::level_status` tells how it stands.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub fn register(
        &mut self,
        now: Instant,
        level: &LevelDecl<'_>,
        ports: &mut Ports<'_>,
    ) -> Result<(), RegisterError> {
        let Stage::Live(live) = &mut self.stage else { return Err(RegisterError::NotAlive) };
        let mut trace = Trace::new(now, &mut self.clock, ports.sink);
        live.membership.register_run_time(now, level, &mut trace)?;
        self.handle(now, Input::Tick, ports);
        Ok(())
    }

    /// De-registers a level that was registered at run time: gracefully, by a leave of that level; or because what served it
    /// has died, and then it is gone at once and the others recover.
    ///
    /// # Errors
    /// See [`DeregisterError`].
    pub fn deregister(
        &mut self,
        now: Instant,
        level: LevelOrder,
        how: Deregister,
        ports: &mut Ports<'_>,
    ) -> Result<(), DeregisterError> {
        let Stage::Live(live) = &mut self.stage else { return Err(DeregisterError::NotAlive) };
        let mut trace = Trace::new(now, &mut self.clock, ports.sink);
        live.membership.deregister(now, level, how, &mut trace)?;
        self.handle(now, Input::Tick, ports);
        Ok(())
    }

    /// A level that has a notification to take, if there is one.
    pub fn poll_level(&self) -> Option<LevelOrder> {
        let membership = &self.live()?.membership;
        membership.member().levels().iter().map(|l| l.order).find(|order| membership.has_notification(*order))
    }

    /// Calls group services with a way out through this node: to the link, sealed, and to the trace. `None` unless it lives.
    pub(crate) fn with_groups<R>(
        &mut self,
        now: Instant,
        ports: &mut Ports<'_>,
        f: impl FnOnce(&mut dyn quorate_groups::Outside) -> R,
    ) -> Option<R> {
        let Stage::Live(live) = &mut self.stage else { return None };
        let mut trace = Trace::new(now, &mut self.clock, ports.sink);
        Some(f(&mut crate::groups::Around { live, post: ports.post, trace: &mut trace }))
    }

    /// Whether there is another message for group services.
    pub(crate) fn has_group_message(&self) -> bool {
        self.live().is_some_and(Live::has_group_message)
    }

    /// Whether another message for group services would be kept.
    pub(crate) fn has_room_for_group_message(&self) -> bool {
        self.live().is_none_or(Live::has_room_for_group_message)
    }

    /// The next message for group services.
    pub(crate) fn take_group_message(&mut self) -> Option<crate::live::GroupMessage> {
        self.live_mut()?.take_group_message()
    }

    /// What became of their request to the disk.
    pub(crate) fn take_group_disk(&mut self) -> Option<Result<crate::live::GroupRecords, DiskError>> {
        self.live_mut()?.take_group_disk()
    }

    pub(crate) fn group_disk_is_free(&self) -> bool {
        self.live().is_some_and(Live::group_disk_is_free)
    }

    pub(crate) fn begin_group_disk(&mut self, now: Instant, op: DiskOp) {
        if let Some(live) = self.live_mut() {
            live.begin_group_disk(now, op);
        }
    }

    fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.stage {
            Stage::Live(live) => Some(live),
            _ => None,
        }
    }

    /// A level's thread of control takes its notification (EP p. 5: it blocks until there is one).
    pub fn take_notification(&mut self, level: LevelOrder) -> Option<Notification> {
        match &mut self.stage {
            Stage::Live(live) => live.membership.take_notification(level),
            _ => None,
        }
    }

    /// A level acknowledges a change. False if that was overtaken meanwhile.
    pub fn acknowledge(&mut self, now: Instant, level: LevelOrder, change: &Change, ports: &mut Ports<'_>) -> bool {
        let mut trace = Trace::new(now, &mut self.clock, ports.sink);
        let taken = match &mut self.stage {
            Stage::Live(live) => live.acknowledge(now, level, change, ports.post, &mut trace),
            _ => false,
        };
        self.handle(now, Input::Tick, ports);
        taken
    }
}
