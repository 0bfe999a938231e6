//! Inside an epoch: places are given out, frames held by all are delivered, who is behind gets what it lacks.

use heapless::Vec;
use quorate_base::capacity::NODES_MAX;
use quorate_base::{NodeId, NodeSet};
use quorate_interconnect::Destination;

use crate::capacity::{
    BODY_MAX, CONTROL_WINDOW, DATA_WINDOW, GROUP_WINDOW_MAX, GROUPS_MAX, PARTS_MAX, REPEAT_US, SHARED_WINDOW,
    SNAPSHOT_MAX, WAITING_MAX,
};
use crate::engine::{Context, Engine, Known, Said, Snapshot};
use crate::epoch::EpochId;
use crate::item::{Item, Position, STREAMS, Stream, items};
use crate::message::Message;
use crate::store::{Body, Frame};
use crate::tables::Tables;
use crate::told::{Hear, Told};

/// Frames that one who is behind is sent at a time.
const RESEND_MAX: u64 = 8;

/// How much may go by before the sequencer is told at once that windows may open, in frames.
const TELL_CONTROL: u64 = CONTROL_WINDOW as u64 / 4;
const TELL_DATA: u32 = DATA_WINDOW as u32 / 2;

impl Engine {
    pub(crate) fn is_sequencer_of(&self, epoch: EpochId) -> bool {
        epoch.node == self.me && self.epoch.as_ref().is_some_and(|e| e.id == epoch) && !self.is_flushing()
    }

    fn is_sequencer(&self) -> bool {
        self.epoch.as_ref().is_some_and(|e| self.is_sequencer_of(e.id))
    }

    /// Whether the epoch's roster is delivered here: only then are the tables those of the epoch.
    fn is_under_way(&self) -> bool {
        !self.fresh && self.epoch.as_ref().is_some_and(|e| self.tables.order > e.cut)
    }

    /// The epoch's first frame.
    pub(crate) fn order_roster(&mut self, order: u64) {
        let Some(e) = &self.epoch else { return };
        let left = self.left.nodes();
        let item = Item::Roster { epoch: e.id, roster: e.roster.clone(), left };
        let mut bytes = [0; BODY_MAX];
        let Some(body) = postcard::to_slice(&item, &mut bytes).ok().and_then(|b| Vec::from_slice(b).ok()) else {
            return;
        };
        let frame = Frame { order, node: self.me, stream: Stream::CONTROL, number: 0, body };
        if self.store.insert(frame) {
            self.advance_held();
        }
    }

    /// Submits this node's own frames: those that were not yet.
    pub(crate) fn submit(&mut self, ctx: &mut Context<'_>) {
        self.submit_since(quorate_base::Instant::ZERO, ctx);
    }

    fn submit_since(&mut self, again: quorate_base::Instant, ctx: &mut Context<'_>) {
        let Some(epoch) = self.epoch.as_ref().map(|e| e.id).filter(|epoch| epoch.node != self.me) else { return };
        // Who has no state yet sends nothing: what it sent might be delivered before the state that it gets, and it would not
        // hear of it.
        if self.fresh || self.is_flushing() || self.out.is_empty() {
            return;
        }
        // Whose places are to be given out waits at the sequencer: no more than has room there. Its own do not.
        let ahead = (WAITING_MAX / self.epoch_others().len().max(1)).max(1);
        let mut repeated = 0;
        self.out.submit(ctx.now, again, ahead, |stream, number, body| {
            repeated += u64::from(again > quorate_base::Instant::ZERO);
            ctx.send(Destination::Node(epoch.node), &Message::Submit { epoch, stream, number, body });
        });
        self.counters.repeated += repeated;
    }

    /// Another's frame came to be ordered.
    pub(crate) fn on_submit(&mut self, frame: Frame) {
        let same = |f: &Frame| f.node == frame.node && f.stream == frame.stream && f.number == frame.number;
        if self.waiting.iter().any(same) {
            return;
        }
        if self.waiting.is_full() {
            self.counters.waited += 1;
            // What waits for a window does not keep out what has its turn, nor control frames, which are to open it.
            let others = self.waiting.iter().rposition(|f| f.stream != Stream::CONTROL);
            let has_turn = self.has_turn(frame.node, frame.stream, frame.number, self.open_streams());
            match others.filter(|_| has_turn) {
                Some(at) => drop(self.waiting.swap_remove(at)),
                None => return,
            }
        }
        // There is room now.
        let _ = self.waiting.push(frame);
    }

    /// Whether a frame is the next of its stream, its window is open, and nobody else's message is unfinished.
    fn has_turn(&self, node: NodeId, stream: Stream, number: u32, open: [bool; STREAMS]) -> bool {
        let next = number == self.last_ordered(node, stream).wrapping_add(1);
        let mid = stream.slot().and_then(|slot| self.mid.get(usize::from(slot)).copied().flatten());
        next && mid.is_none_or(|busy| busy == node) && open.get(stream.index()).copied().unwrap_or(false)
    }

    /// Gives places to those of the waiting frames, and of this node's own, whose turn it is: control frames first, then one
    /// node after the other.
    pub(crate) fn order_waiting(&mut self, ctx: &mut Context<'_>) {
        if !self.is_sequencer() || !self.is_under_way() {
            return;
        }
        while !self.waiting.is_empty() || self.out.awaits_place() {
            let open = self.open_streams();
            let after = |node: NodeId| (node.get() + NODES_MAX as u8 - self.served.get() - 1) % NODES_MAX as u8;
            let rank = |node, stream| if stream == Stream::CONTROL { 0 } else { 1 + after(node) };
            let turn = |(at, f): (usize, &Frame)| {
                let has = self.has_turn(f.node, f.stream, f.number, open);
                has.then_some((rank(f.node, f.stream), Some(at)))
            };
            let others = self.waiting.iter().enumerate().filter_map(turn).min();
            let own = Stream::all().filter_map(|stream| {
                let number = self.out.head(stream)?;
                let has = self.has_turn(self.me, stream, number, open);
                has.then_some((rank(self.me, stream), stream))
            });
            let own = own.min_by_key(|(rank, _)| *rank);
            match (others, own) {
                (Some((rank, Some(at))), own) if own.is_none_or(|(own, _)| rank <= own) => {
                    let frame = self.waiting.swap_remove(at);
                    self.order(frame, ctx);
                }
                (_, Some((_, stream))) => {
                    let Some((number, body)) = self.out.seal_head(stream, ctx.now) else { break };
                    self.order(Frame { order: 0, node: self.me, stream, number, body }, ctx);
                }
                _ => break,
            }
        }
        // What came twice.
        let ordered = &self.ordered;
        let last = |f: &Frame| ordered.get(f.node.index()).and_then(|s| s.get(f.stream.index())).copied().unwrap_or(0);
        self.waiting.retain(|f| f.number > last(f));
    }

    fn last_ordered(&self, node: NodeId, stream: Stream) -> u32 {
        self.ordered.get(node.index()).and_then(|s| s.get(stream.index())).copied().unwrap_or(0)
    }

    fn order(&mut self, mut frame: Frame, ctx: &mut Context<'_>) {
        let Some(epoch) = self.epoch.as_ref().map(|e| e.id) else { return };
        frame.order = self.held + 1;
        let (order, node, stream, number) = (frame.order, frame.node, frame.stream, frame.number);
        self.served = node;
        let body = frame.body.clone();
        if !self.store.insert(frame) {
            return;
        }
        self.advance_held();
        if let Some(last) = self.ordered.get_mut(node.index()).and_then(|s| s.get_mut(stream.index())) {
            *last = number;
        }
        if node == self.me {
            self.out.ordered(stream, number);
        }
        self.note_parts(node, stream, &body);
        if stream == Stream::CONTROL {
            if self.controls.is_full() {
                self.controls.pop_front();
            }
            let _ = self.controls.push_back(order);
        }
        if !self.epoch_others().is_empty() {
            ctx.send(Destination::All, &Message::Ordered { epoch, order, node, stream, number, body: &body });
            // Who gives out a place has all up to it: nobody needs to be told twice.
            self.said.held = self.held;
        }
    }

    /// Which streams' windows are open: for control frames by what the slowest has delivered, for messages by what its jobs
    /// have taken.
    fn open_streams(&self) -> [bool; STREAMS] {
        let applied = self.epoch_nodes().iter().map(|n| self.applied_of(n)).min().unwrap_or(0);
        let control = self.controls.iter().filter(|order| **order > applied).count() < CONTROL_WINDOW;
        let ordered = self.data_ordered();
        let mut open = [true; STREAMS];
        for node in self.epoch_nodes() {
            let taken = self.taken_of(node);
            for slot in 0..GROUPS_MAX as u8 {
                if let Some(open) = open.get_mut(Stream::of_group(slot).index()) {
                    *open = *open && has_room(slot, &ordered, &taken);
                }
            }
        }
        if let Some(open) = open.get_mut(Stream::CONTROL.index()) {
            *open = control;
        }
        open
    }

    /// Nodes that have no room for one more frame with messages of a group.
    fn slow_for(&self, slot: u8) -> NodeSet {
        let ordered = self.data_ordered();
        self.epoch_nodes().iter().filter(|n| !has_room(slot, &ordered, &self.taken_of(*n))).collect()
    }

    /// Notes whether a frame that gets its place ends in the middle of a message.
    fn note_parts(&mut self, node: NodeId, stream: Stream, body: &[u8]) {
        let Some(mid) = stream.slot().and_then(|slot| self.mid.get_mut(usize::from(slot))) else { return };
        for (_, item) in items(body) {
            if let Item::Part { more, .. } = item {
                *mid = more.then_some(node);
            }
        }
    }

    /// Nodes that a group's senders wait for: their jobs have not taken its messages.
    pub fn holds_back(&self, slot: u8) -> NodeSet {
        self.slow_for(slot)
    }

    /// How many frames with messages have their places, per slot.
    fn data_ordered(&self) -> [u32; GROUPS_MAX] {
        let mut ordered = self.tables.data_frames;
        for f in self.store.iter_from(self.tables.order + 1) {
            if let Some(count) = f.stream.slot().and_then(|slot| ordered.get_mut(usize::from(slot))) {
                *count = count.wrapping_add(1);
            }
        }
        ordered
    }

    fn epoch_nodes(&self) -> NodeSet {
        self.epoch.as_ref().map_or(NodeSet::EMPTY, |e| e.roster.nodes())
    }

    fn applied_of(&self, node: NodeId) -> u64 {
        let cut = self.epoch.as_ref().map_or(0, |e| e.cut);
        if node == self.me { self.tables.order } else { self.known[node.index()].applied.max(cut) }
    }

    fn taken_of(&self, node: NodeId) -> [u32; GROUPS_MAX] {
        let known = &self.known[node.index()];
        if node == self.me {
            self.taken()
        } else if known.applied == 0 || !known.begun {
            // It has no state yet: it has taken what it will not get.
            self.base
        } else {
            known.taken
        }
    }

    /// How many frames with messages nobody here needs any more, per slot.
    fn taken(&self) -> [u32; GROUPS_MAX] {
        let mut taken = self.tables.data_frames;
        for f in self.store.iter().filter(|f| f.order <= self.tables.order) {
            if let Some(count) = f.stream.slot().and_then(|slot| taken.get_mut(usize::from(slot))) {
                *count = count.wrapping_sub(1);
            }
        }
        taken
    }

    /// A frame came.
    pub(crate) fn on_ordered(&mut self, from: NodeId, epoch: EpochId, frame: Frame) {
        if self.fetched(epoch, frame.clone()) {
            return;
        }
        let ours = self.epoch.as_ref().is_some_and(|e| e.id == epoch && e.id.node == from);
        if !ours || self.is_flushing() {
            return;
        }
        let known = &mut self.known[from.index()];
        (known.begun, known.held) = (true, known.held.max(frame.order));
        if frame.node == self.me {
            self.out.ordered(frame.stream, frame.number);
        }
        if frame.order > self.held && self.store.insert(frame) {
            self.advance_held();
        }
    }

    pub(crate) fn advance_held(&mut self) {
        while self.store.get(self.held + 1).is_some() {
            self.held += 1;
        }
    }

    pub(crate) fn on_status(&mut self, from: NodeId, epoch: EpochId, known: Known, asks: bool, ctx: &mut Context<'_>) {
        if self.epoch.as_ref().is_none_or(|e| e.id != epoch) {
            return;
        }
        let old = &mut self.known[from.index()];
        // Statuses may overtake each other; everything in them only grows.
        if known.held >= old.held && known.applied >= old.applied {
            *old = known;
        }
        old.begun = true;
        if asks {
            self.say_status(Destination::Node(from), false, ctx);
        }
    }

    /// Delivers the next frame if all of the epoch hold it. True if it did.
    pub(crate) fn deliver(&mut self, ctx: &mut Context<'_>) -> bool {
        let order = self.tables.order + 1;
        let Some(e) = self.epoch.as_ref().filter(|_| !self.fresh && !self.is_flushing()) else { return false };
        let all_hold = e.roster.nodes().iter().all(|n| {
            let known = &self.known[n.index()];
            if n == self.me { self.held >= order } else { known.begun && known.held >= order }
        });
        if !all_hold {
            return false;
        }
        let Some(frame) = self.store.get(order).cloned() else { return false };
        self.apply(&frame, ctx);
        true
    }

    fn apply(&mut self, frame: &Frame, ctx: &mut Context<'_>) {
        let Frame { order, node, stream, number, ref body } = *frame;
        self.counters.delivered += 1;
        self.tables.begin_frame(order, node, stream, number);
        // Of a frame with messages only those stay that count, for the jobs that have not taken them.
        let mut kept = Body::new();
        for (index, (range, item)) in items(body).enumerate() {
            let at = Position { order, index: index as u16 };
            let mut told = Heard { jobs: &mut self.jobs, me: self.me, now: ctx.now, hear: ctx.outside };
            let counts = self.tables.apply(at, node, stream, &item, &mut told);
            match item {
                Item::Roster { .. } => self.on_roster(),
                Item::AskCopies => self.copies.on_asked(node),
                Item::Copy(entry) => self.copies.on_copy(&entry, node, self.tables.caught_up, &mut told),
                _ => {}
            }
            if counts {
                // Not longer than what it is taken from.
                let _ = kept.extend_from_slice(body.get(range).unwrap_or_default());
            }
        }
        if node == self.me && number != 0 {
            self.out.delivered(stream, number);
        }
        if stream == Stream::CONTROL {
            self.store.retain(|f| f.order != order);
        } else {
            if let Some(f) = self.store.get_mut(order) {
                f.body = kept;
            }
        }
        // Also after a control frame: a job that went needs nothing any more.
        self.drop_taken((stream != Stream::CONTROL).then_some(ctx.now));
    }

    /// The epoch's roster was delivered.
    fn on_roster(&mut self) {
        // Once it is the roster of this epoch the sequencer knows what is ordered: everything before it is delivered.
        for n in NodeId::all() {
            for stream in Stream::all() {
                self.ordered[n.index()][stream.index() % STREAMS] = self.tables.last_frame(n, stream);
            }
        }
        self.base = self.tables.data_frames;
        for (mid, partial) in self.mid.iter_mut().zip(&self.tables.partial) {
            *mid = partial.as_ref().map(|p| p.node);
        }
        self.snapshot = None;
        if self.epoch.as_ref().is_some_and(|e| e.source == Some(self.me) && self.tables.order > e.cut) {
            let mut bytes = Vec::new();
            if bytes.resize_default(SNAPSHOT_MAX).is_ok()
                && let Ok(len) = postcard::to_slice(&self.tables, &mut bytes).map(|used| used.len())
            {
                bytes.truncate(len);
                let parts = len.div_ceil(BODY_MAX) as u8;
                self.snapshot = Some(Snapshot { order: self.tables.order, parts, bytes });
            }
        }
    }

    /// Sends the state to those that have none.
    fn send_snapshot(&mut self, ctx: &mut Context<'_>) {
        let (Some(snapshot), Some(e), false) = (&self.snapshot, &self.epoch, self.fresh) else { return };
        let (epoch, order, parts) = (e.id, snapshot.order, snapshot.parts);
        for n in e.roster.nodes().without(self.me) {
            if self.known[n.index()].applied != 0 || !self.known[n.index()].begun {
                continue;
            }
            for (part, bytes) in snapshot.bytes.chunks(BODY_MAX).enumerate() {
                let message = Message::Snapshot { epoch, order, part: part as u8, parts, bytes };
                ctx.send(Destination::Node(n), &message);
            }
        }
    }

    /// A part of the state came.
    pub(crate) fn on_snapshot(
        &mut self,
        epoch: EpochId,
        order: u64,
        part: u8,
        parts: u8,
        bytes: &[u8],
        ctx: &mut Context<'_>,
    ) {
        // Nothing of an earlier epoch, once a later one is promised: it was said there that this node has no state.
        if !self.fresh || self.is_flushing() || self.epoch.as_ref().is_none_or(|e| e.id != epoch || e.source.is_none())
        {
            return;
        }
        if part == 0 {
            self.snapshot = Some(Snapshot { order, parts: 0, bytes: Vec::new() });
        }
        // Parts that come out of turn are sent again.
        let Some(incoming) = self.snapshot.as_mut().filter(|i| i.parts == part && i.order == order) else { return };
        if incoming.bytes.extend_from_slice(bytes).is_err() {
            self.snapshot = None;
            return;
        }
        incoming.parts += 1;
        if incoming.parts < parts {
            return;
        }
        let tables = postcard::from_bytes::<Tables>(&incoming.bytes).ok().filter(|t| t.order == order);
        self.snapshot = None;
        let Some(tables) = tables else {
            self.counters.dropped += 1;
            return;
        };
        self.tables = tables;
        (self.fresh, self.announce) = (false, true);
        self.store.retain(|f| f.order > order);
        self.base = self.tables.data_frames;
        for n in NodeId::all() {
            for stream in Stream::all() {
                self.ordered[n.index()][stream.index() % STREAMS] = self.tables.last_frame(n, stream);
            }
        }
        self.tell(&Told::CaughtUp { order }, ctx);
    }

    /// Says how far this node is, if that is news to anybody.
    pub(crate) fn say(&mut self, ctx: &mut Context<'_>) {
        let Some(e) = self.epoch.as_ref().filter(|_| !self.is_flushing()) else { return };
        let now = self.how_far();
        let windows = now.applied.saturating_sub(self.said.applied) >= TELL_CONTROL
            || now.taken.iter().zip(self.said.taken).any(|(now, said)| now.wrapping_sub(said) >= TELL_DATA)
            || (self.said.applied == 0) != (now.applied == 0);
        if now.held != self.said.held {
            self.say_status(Destination::All, false, ctx);
        } else if windows && e.id.node != self.me {
            let to = Destination::Node(e.id.node);
            self.say_status(to, false, ctx);
        }
    }

    fn how_far(&self) -> Said {
        let applied = if self.fresh { 0 } else { self.tables.order };
        Said { held: self.held, applied, taken: self.taken() }
    }

    pub(crate) fn say_status(&mut self, to: Destination, asks: bool, ctx: &mut Context<'_>) {
        let Some(epoch) = self.epoch.as_ref().map(|e| e.id) else { return };
        let Said { held, applied, taken } = self.how_far();
        let heard_by_sequencer = to == Destination::All || to == Destination::Node(epoch.node);
        if heard_by_sequencer {
            self.said = Said { held: if to == Destination::All { held } else { self.said.held }, applied, taken };
        }
        if !self.epoch_others().is_empty() {
            ctx.send(to, &Message::Status { epoch, held, applied, taken, asks });
        }
    }

    /// Whether anything is outstanding that may have to be repeated.
    pub(crate) fn is_busy(&self) -> bool {
        if self.is_flush_due() {
            return true;
        }
        if self.epoch.is_none() || self.is_flushing() {
            return false;
        }
        let behind = |n: NodeId| {
            let known = &self.known[n.index()];
            !known.begun || known.held < self.held || known.applied < self.tables.order.min(self.held)
        };
        self.fresh
            || self.tables.order < self.held
            || !self.out.is_empty()
            || self.how_far() != self.said
            || (self.is_sequencer() && self.epoch_others().iter().any(behind))
            || (!self.fresh
                && self.snapshot.is_some()
                && self.epoch_others().iter().any(|n| self.known[n.index()].applied == 0))
    }

    /// Repeats what is outstanding.
    pub(crate) fn repeat(&mut self, ctx: &mut Context<'_>) {
        self.repeat_lead(ctx);
        if self.epoch.is_none() || self.is_flushing() {
            return;
        }
        let again = quorate_base::Instant(ctx.now.0.saturating_sub(REPEAT_US));
        self.submit_since(again, ctx);
        self.send_missing(ctx);
        self.send_snapshot(ctx);
        if self.is_busy() {
            let asks = self.fresh || self.tables.order < self.held || self.is_sequencer();
            self.say_status(Destination::All, asks, ctx);
        }
    }

    /// Sends what those that are behind lack.
    fn send_missing(&mut self, ctx: &mut Context<'_>) {
        let Some(e) = self.epoch.as_ref().filter(|e| self.is_sequencer_of(e.id)) else { return };
        let epoch = e.id;
        for n in self.epoch_others() {
            let known = self.known[n.index()];
            if !known.begun || known.held >= self.held {
                continue;
            }
            for order in (known.held + 1..=self.held).take(RESEND_MAX as usize) {
                let Some(f) = self.store.get(order) else { continue };
                self.counters.repeated += 1;
                let (node, stream, number) = (f.node, f.stream, f.number);
                let message = Message::Ordered { epoch, order, node, stream, number, body: &f.body };
                ctx.send(Destination::Node(n), &message);
            }
        }
    }
}

/// Whether a node that has taken so much has room for one more frame with messages of a group.
///
/// Beyond the group's own window it may have of what is shared as much as is left, but none that would not be enough to
/// finish the longest message: of those that got something the last can always go on, so that messages in parts of
/// several groups do not wait for each other for ever.
fn has_room(slot: u8, ordered: &[u32; GROUPS_MAX], taken: &[u32; GROUPS_MAX]) -> bool {
    let open = |slot: usize| ordered[slot % GROUPS_MAX].wrapping_sub(taken[slot % GROUPS_MAX]) as usize;
    let own = open(slot.into());
    if own < DATA_WINDOW {
        return true;
    }
    let used: usize = (0..GROUPS_MAX).map(|slot| open(slot).saturating_sub(DATA_WINDOW)).sum();
    let needed = PARTS_MAX.saturating_sub(own).max(1);
    own < GROUP_WINDOW_MAX && used + needed <= SHARED_WINDOW
}

/// Tells the jobs first, then whoever else hears.
struct Heard<'a> {
    jobs: &'a mut crate::job::Jobs,
    me: NodeId,
    now: quorate_base::Instant,
    hear: &'a mut dyn Hear,
}

impl Hear for Heard<'_> {
    fn hear(&mut self, told: &Told<'_>) {
        self.jobs.hear(self.me, self.now, told);
        self.hear.hear(told);
    }
}
