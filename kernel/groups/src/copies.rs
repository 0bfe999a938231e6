//! This node's own copies of domains, on the shared disk (DOM claims 5, 12, 19): one record in two slots, written by this node
//! alone, read by every node when it joins.
//!
//! Who joins takes from the others' records what is newer than its own: so the first node that comes back after all were
//! down does not decide by an old list, and one that was removed while it was away knows it before anybody asks.
//!
//! Invariants: what is said to be written is durable; one request at a time; a record that cannot be read is nobody's copy,
//! and is told.

use heapless::Vec;
use quorate_base::capacity::RECORD_BYTES;
use quorate_base::{ClusterId, DiskError, DiskOp, Instant, NodeId, NodeSet};
use quorate_database::{Block, DOMAINS_MAX, DomainBlock, layout};

use crate::domain::DomainEntry;
use crate::item::Name;
use crate::told::{Hear, Told};

/// After a failed request the next try comes so many ms later.
const RETRY_MS: u32 = 200;

/// Nodes whose two slots are read with one request.
pub const NODES_PER_READ: u8 = 2;

/// All records are read twice: after the first time it is known which domains may concern this node, after the second that no
/// record says anything newer of them, in whatever order they were read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Pass {
    First,
    Second,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Disk {
    /// Nothing is read yet.
    NotYet,
    /// The own records are to be read: first, so that what others know better is seen to be about a copy that is there.
    ReadOwn,
    /// They are being read.
    ReadingOwn,
    /// The records from this node on are to be read, for the first time or again.
    Read(u8, Pass),
    /// They are being read.
    Reading(u8, Pass),
    /// Nothing is under way.
    Idle,
    /// A write is under way, of what stood after so many changes.
    Writing(u64),
}

/// The copies.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Copies {
    me: NodeId,
    cluster: ClusterId,
    nodes: u8,
    entries: Vec<DomainEntry, DOMAINS_MAX>,
    /// Of the newest own record: its sequence and slot.
    sequence: u64,
    slot: u8,
    disk: Disk,
    /// Grows with each change.
    changes: u64,
    /// How many of them are durable.
    written: u64,
    /// Nothing is tried before.
    not_before: Instant,
    /// Own entries that the next message is to tell the others.
    to_tell: Vec<Name, DOMAINS_MAX>,
    /// Records of nodes that could not be read.
    unread: NodeSet,
}

impl Copies {
    /// Of a node that has read nothing yet. `nodes` are configured.
    pub fn new(me: NodeId, cluster: ClusterId, nodes: u8) -> Self {
        Self {
            me,
            cluster,
            nodes,
            entries: Vec::new(),
            sequence: 0,
            slot: 1,
            disk: Disk::NotYet,
            changes: 0,
            written: 0,
            not_before: Instant::ZERO,
            to_tell: Vec::new(),
            unread: NodeSet::EMPTY,
        }
    }

    /// This node has the state that all have: now the records may be read. What was answered before stands in them, and what is
    /// decided from now on this node is told.
    pub fn load(&mut self) {
        if self.disk == Disk::NotYet {
            self.disk = Disk::ReadOwn;
        }
    }

    /// Whether all records were read.
    pub fn is_loaded(&self) -> bool {
        matches!(self.disk, Disk::Idle | Disk::Writing(_))
    }

    /// Whether everything is durable.
    pub fn is_durable(&self) -> bool {
        self.is_loaded() && self.written == self.changes
    }

    /// Nodes whose records could not be read.
    pub fn unread(&self) -> NodeSet {
        self.unread
    }

    /// All copies.
    pub fn entries(&self) -> &[DomainEntry] {
        &self.entries
    }

    /// One copy.
    pub fn get(&self, name: &str) -> Option<&DomainEntry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// Whether another domain has no room here. One that is kept only for others makes room: whoever still has an older copy
    /// is told so by others that keep it, and at the latest by the disk.
    pub fn is_full(&self) -> bool {
        self.entries.is_full() && self.entries.iter().all(|e| e.nodes.contains(self.me))
    }

    /// What is kept: what lists this node, and what others may not know yet.
    fn keeps(&self, entry: &DomainEntry) -> bool {
        entry.nodes.contains(self.me) || !entry.behind.is_empty()
    }

    /// Puts a copy in the place of the one of that name, or takes it away where this node need not keep it.
    pub fn put(&mut self, entry: DomainEntry, hear: &mut dyn Hear) {
        hear.hear(&Told::Copy { entry: &entry });
        self.changes += 1;
        let at = self.entries.iter().position(|e| e.name == entry.name);
        let keep = self.keeps(&entry);
        match (at, keep) {
            (Some(at), true) => {
                if let Some(place) = self.entries.get_mut(at) {
                    *place = entry;
                }
            }
            (Some(at), false) => {
                self.entries.swap_remove(at);
            }
            (None, true) => {
                if self.entries.is_full()
                    && let Some(at) = self.entries.iter().position(|e| !e.nodes.contains(self.me))
                {
                    self.entries.swap_remove(at);
                }
                // Asked before whether there is room; a copy that is only told and finds none is told again with the next
                // join.
                let _ = self.entries.push(entry);
            }
            (None, false) => self.changes -= 1,
        }
    }

    /// Another node tells its copy. `running`: nodes that hear it as well.
    pub fn on_copy(&mut self, other: &DomainEntry, from: NodeId, running: NodeSet, hear: &mut dyn Hear) {
        let mine = self.get(&other.name).cloned();
        let Some(mine) = mine else {
            if other.deleted || other.nodes.contains(self.me) {
                self.put(heard(other, running), hear);
            }
            return;
        };
        if from != self.me && mine.contradicts(other) {
            hear.hear(&Told::CopiesDiffer { mine: &mine, other });
        }
        if other.is_newer(&mine) {
            self.to_tell.retain(|n| *n != other.name);
            self.put(heard(other, running), hear);
        } else if mine.is_newer(other) {
            self.tell(&mine.name);
        } else {
            self.to_tell.retain(|n| *n != other.name);
            let known = heard(&mine, running);
            if known != mine {
                self.put(known, hear);
            }
        }
    }

    /// The others are to be told this node's copy.
    pub fn tell(&mut self, name: &Name) {
        if !self.to_tell.contains(name) {
            // At most one for each entry.
            let _ = self.to_tell.push(name.clone());
        }
    }

    /// All of this node's copies are to be told.
    pub fn tell_all(&mut self) {
        self.to_tell = self.entries.iter().map(|e| e.name.clone()).collect();
    }

    /// A node that came asks for the copies that concern it. All that have one tell it: who else has one each cannot know.
    pub fn on_asked(&mut self, by: NodeId) {
        for i in 0..self.entries.len() {
            let needed = |e: &&DomainEntry| by != self.me && e.nodes.or(e.behind).contains(by);
            if let Some(name) = self.entries.get(i).filter(needed).map(|e| e.name.clone()) {
                self.tell(&name);
            }
        }
    }

    /// The next copy that the others are to be told.
    pub fn next_to_tell(&mut self) -> Option<DomainEntry> {
        while let Some(name) = self.to_tell.first().cloned() {
            if let Some(entry) = self.get(&name) {
                return Some(entry.clone());
            }
            self.to_tell.retain(|n| *n != name);
        }
        None
    }

    /// It is on its way.
    pub fn told(&mut self, name: &Name) {
        self.to_tell.retain(|n| n != name);
    }

    /// The next request to the disk.
    pub fn poll_disk(&mut self, now: Instant) -> Option<DiskOp> {
        if now < self.not_before {
            return None;
        }
        match self.disk {
            Disk::ReadOwn => {
                self.disk = Disk::ReadingOwn;
                Some(DiskOp::Read { first: layout::domain(self.me, 0), count: 2 })
            }
            Disk::Read(first, pass) => {
                self.disk = Disk::Reading(first, pass);
                let count = NODES_PER_READ.min(self.nodes.saturating_sub(first)).max(1);
                let at = NodeId::new(first).map_or(0, |n| layout::domain(n, 0));
                Some(DiskOp::Read { first: at, count: 2 * u16::from(count) })
            }
            Disk::Idle if self.written != self.changes => {
                self.disk = Disk::Writing(self.changes);
                let slot = self.slot ^ 1;
                let block = DomainBlock { sequence: self.sequence + 1, entries: self.entries.clone() };
                let record = block.encode(self.cluster, self.me, slot);
                Some(DiskOp::Write { at: layout::domain(self.me, slot), record, not_after: None })
            }
            _ => None,
        }
    }

    /// When there may be something to do for the disk.
    pub fn poll_timeout(&self) -> Instant {
        match self.disk {
            Disk::ReadOwn | Disk::Read(..) => self.not_before,
            Disk::Idle if self.written != self.changes => self.not_before,
            _ => Instant::FAR,
        }
    }

    /// The request is done.
    pub fn on_disk(&mut self, now: Instant, result: Result<&[u8], DiskError>) {
        match self.disk {
            Disk::ReadingOwn => {
                match result {
                    Ok(bytes) => self.on_read(self.me, bytes),
                    Err(_) => drop(self.unread.insert(self.me)),
                }
                self.disk = Disk::Read(0, Pass::First);
            }
            Disk::Reading(first, pass) => {
                match result {
                    Ok(bytes) => {
                        let ids = NodeId::first(self.nodes).skip(usize::from(first));
                        for (n, slots) in ids.zip(bytes.chunks(2 * RECORD_BYTES)) {
                            self.on_read(n, slots);
                        }
                    }
                    Err(_) => {
                        let last = first.saturating_add(NODES_PER_READ).min(self.nodes);
                        let these = NodeSet::first(last).minus(NodeSet::first(first));
                        self.unread = self.unread.or(these);
                    }
                }
                let next = first.saturating_add(NODES_PER_READ);
                self.disk = match pass {
                    _ if next < self.nodes => Disk::Read(next, pass),
                    Pass::First => Disk::Read(0, Pass::Second),
                    Pass::Second => {
                        self.end_reading();
                        Disk::Idle
                    }
                };
            }
            Disk::Writing(changes) => {
                self.disk = Disk::Idle;
                if result.is_ok() {
                    self.written = changes;
                    self.sequence += 1;
                    self.slot ^= 1;
                } else {
                    // It may have landed: the other slot stays what it was, and this one is written again.
                    self.not_before = now.plus_ms(RETRY_MS);
                }
            }
            Disk::NotYet | Disk::ReadOwn | Disk::Read(..) | Disk::Idle => {}
        }
    }

    /// The two slots of a node.
    fn on_read(&mut self, n: NodeId, slots: &[u8]) {
        let (a, b) = slots.split_at(slots.len().min(RECORD_BYTES));
        let read = [(0, a), (1, b)].map(|(slot, bytes)| DomainBlock::decode(bytes, self.cluster, n, slot));
        if read.iter().any(Block::is_unknown) {
            self.unread.insert(n);
        }
        let Some((slot, block)) = DomainBlock::newer(read) else { return };
        if n == self.me {
            (self.sequence, self.slot) = (block.sequence, slot);
        }
        for entry in block.entries {
            self.take_read(entry, n);
        }
    }

    /// An entry of a record on the disk: what is newer of a domain that may concern this node takes the place, also where it
    /// says that it does not.
    fn take_read(&mut self, entry: DomainEntry, from: NodeId) {
        let at = self.entries.iter().position(|e| e.name == entry.name);
        match at.and_then(|at| self.entries.get_mut(at)) {
            Some(mine) if entry.is_newer(mine) => {
                *mine = entry;
                self.changes += 1;
            }
            Some(_) => {}
            None if entry.nodes.contains(self.me) || from == self.me => {
                // What finds no room is told by those that run.
                let _ = self.entries.push(entry);
                // What stands in the own record is durable already.
                self.changes += u64::from(from != self.me);
            }
            None => {}
        }
    }

    /// Only what this node is to keep stays.
    fn end_reading(&mut self) {
        let me = self.me;
        let before = self.entries.len();
        self.entries.retain(|e| e.nodes.contains(me) || !e.behind.is_empty());
        self.changes += u64::from(before != self.entries.len());
    }
}

/// A copy once `running` nodes have heard it: none of them is behind any more.
fn heard(entry: &DomainEntry, running: NodeSet) -> DomainEntry {
    DomainEntry { behind: entry.behind.minus(running), ..entry.clone() }
}
