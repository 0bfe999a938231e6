//! Members and a master put together without a lock, a disk or a network: what the master would send is handed over, or
//! lost, as a test says. EP Table 1 row by row on a real member; takeovers in the middle; levels at run time.

use std::string::{String, ToString};
use std::vec::Vec as StdVec;
use std::{format, vec};

use quorate_base::event::{Event, Record, Subject, Trace, TraceClock, TraceSink};
use quorate_base::{
    Ballot, BootNonce, ClusterId, ClusterKey, Incarnation, Instant, LevelDecl, LevelOrder, NodeId, NodeSet, NodeState,
    RoundId, Timing, Transition, View, ViewName,
};
use quorate_interconnect::{self as interconnect, Destination, Interconnect};
use quorate_master_lock::{self as master_lock, DiskGeometry, MasterLock, OwnRecords};

use crate::context::{Context, Post};
use crate::master::{Master, MasterAt};
use crate::member::Member;
use crate::message::{LevelOutcome, Notify, Round, Scope, StepAt, VectorSets};
use crate::notification::{TABLE_1, may_follow};
use crate::registration::{Deregister, LevelStatus};
use crate::transition::Overtaken;

const LIFE: Incarnation = Incarnation(2);
const LEVEL: LevelOrder = LevelOrder(30);
const USER: LevelOrder = LevelOrder(100);

fn n(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

fn subject(node: u8, transition: Transition) -> Subject {
    Subject { node: n(node), incarnation: LIFE, transition }
}

fn round(ballot: u64, sequence: u32) -> RoundId {
    RoundId { ballot: Ballot(ballot), sequence }
}

/// Keeps events as short lines.
#[derive(Default)]
struct Lines(StdVec<String>);

impl TraceSink for Lines {
    fn record(&mut self, record: &Record<'_>) {
        let line = match &record.event {
            Event::Notify(s) => {
                format!(
                    "notify {} {} {} barrier {} in {}",
                    s.level, s.subject.node, s.subject.transition, s.barrier, s.round
                )
            }
            Event::Ack(s) => format!("ack {} {} {}", s.level, s.subject.node, s.subject.transition),
            Event::StaleAck(s) => format!("stale {} {} {}", s.level, s.subject.node, s.subject.transition),
            Event::State { subject, level: Some(level), is, .. } => format!("state {level} {subject} {is}"),
            Event::Register { level, .. } => format!("register {level}"),
            Event::Deregister { level, .. } => format!("deregister {level}"),
            Event::Refuse { peer, reason, .. } => format!("refuse {peer} {reason}"),
            _ => return,
        };
        self.0.push(line);
    }
}

struct Nowhere;

impl Post for Nowhere {
    fn post(&mut self, _: Destination, _: &[u8]) {}
}

/// One node: its member's side, what it traced, and what a context needs.
struct Desk {
    member: Member,
    lines: Lines,
    clock: TraceClock,
    lock: MasterLock,
    net: Interconnect,
}

impl Desk {
    fn new(id: u8) -> Self {
        let (me, nonce, cluster, nodes, timing) = (n(id), BootNonce(7), ClusterId([1; 16]), 4, Timing::DEFAULT);
        let geometry = DiskGeometry::default();
        let lock = master_lock::Config {
            me,
            incarnation: LIFE,
            nonce,
            cluster,
            nodes,
            timing,
            first_tag: 1,
            blanks: Default::default(),
            own: OwnRecords::default(),
            geometry,
        };
        let key = ClusterKey([2; 32]);
        let net = interconnect::Config {
            me,
            incarnation: LIFE,
            nonce,
            cluster,
            key,
            key_epoch: 0,
            nodes,
            timing,
            counter_floor: 0,
        };
        let mut desk = Self {
            member: Member::new(me),
            lines: Lines::default(),
            clock: TraceClock::default(),
            lock: MasterLock::new(lock, Instant::ZERO),
            net: Interconnect::new(net, Instant::ZERO),
        };
        desk.trace(|member, trace| {
            for decl in [LevelDecl::new(0, "membership"), LevelDecl::new(30, "kernel").barriers(2, 1, 1)] {
                member.register(&decl, trace).unwrap();
            }
        });
        desk
    }

    fn trace<T>(&mut self, f: impl FnOnce(&mut Member, &mut Trace<'_>) -> T) -> T {
        let mut trace = Trace::new(Instant(1000), &mut self.clock, &mut self.lines);
        f(&mut self.member, &mut trace)
    }

    fn with<T>(&mut self, f: impl FnOnce(&mut Member, &mut Context<'_, '_>) -> T) -> T {
        let mut trace = Trace::new(Instant(1000), &mut self.clock, &mut self.lines);
        let mut ctx = Context {
            now: Instant(1000),
            lock: &mut self.lock,
            net: &mut self.net,
            post: &mut Nowhere,
            trace: &mut trace,
        };
        f(&mut self.member, &mut ctx)
    }

    fn view(&mut self, old: &View, new: &View) {
        let me = self.member.me;
        self.trace(|member, trace| member.on_view(old, new, Some(me), trace));
    }

    fn notify(&mut self, notify: &Notify) {
        self.trace(|member, trace| member.on_notify(notify, trace));
    }

    /// Its levels take what there is and acknowledge it; how many there were.
    fn work(&mut self, view: &View) -> usize {
        self.trace(|member, trace| {
            let orders: StdVec<LevelOrder> = member.levels().iter().map(|l| l.order).collect();
            let mut done = 0;
            for order in orders {
                let Some(notification) = member.take_notification(order, view) else { continue };
                for change in notification.changes.iter().filter(|c| !c.overtaken) {
                    assert!(member.acknowledge(order, change, trace));
                    done += 1;
                }
            }
            done
        })
    }

    fn traced(&self, piece: &str) -> StdVec<&str> {
        self.lines.0.iter().map(String::as_str).filter(|l| l.contains(piece)).collect()
    }
}

fn view(number: u64, states: &[NodeState]) -> View {
    let mut view = View::empty(number);
    for (id, state) in states.iter().enumerate() {
        view.set(n(id as u8), *state, LIFE);
    }
    view
}

const BALLOT: u64 = 64;

/// Nodes 0, 1, 2 …, joined in the same view; node 0 is the master, and what it says is handed over by [`Self::pump`].
struct Cluster {
    desks: StdVec<Desk>,
    view: View,
    master: Master,
}

impl Cluster {
    fn new(nodes: u8) -> Self {
        let view = view(9, &vec![NodeState::Joined; usize::from(nodes)]);
        let mut desks: StdVec<Desk> = (0..nodes).map(Desk::new).collect();
        for desk in &mut desks {
            desk.view(&View::EMPTY, &view);
        }
        let master = take_over(&mut desks, 0, Ballot(BALLOT), &view, &[]);
        Self { desks, view, master }
    }

    /// A new master at `at`; the nodes in `dead` do not answer.
    fn take_over(&mut self, at: usize, ballot: u64, dead: &[usize]) {
        self.master = take_over(&mut self.desks, at, Ballot(ballot), &self.view, dead);
    }

    /// The master goes on; what it says to others is handed over, but to those in `deaf`. True if anything was said.
    fn pump(&mut self, deaf: &[usize]) -> bool {
        let me = self.master.me.index();
        let (master, view) = (&mut self.master, &self.view);
        self.desks[me].with(|member, ctx| master.advance(ctx, member));
        self.desks[me].work(view);
        self.desks[me].with(|member, ctx| master.take_own_acks(member, ctx));
        let mut said = false;
        for i in 0..master.rounds.len() {
            let Some(notify) = master.notify_message(i) else { continue };
            let awaiting = awaiting(master, notify.round.id);
            for to in awaiting.iter().filter(|to| !deaf.contains(&to.index()) && to.index() != me) {
                said = true;
                let mut own = notify.clone();
                master.hide_aborted(&mut own, to);
                let desk = &mut self.desks[to.index()];
                desk.notify(&own);
                desk.work(view);
                let acks = desk.member.take_acks();
                master.on_acks(to, LIFE, &acks);
            }
        }
        self.desks[me].with(|member, ctx| master.advance(ctx, member));
        said || !self.master.rounds.is_empty()
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            if !self.pump(&[]) {
                return;
            }
        }
        panic!("does not come to an end: {:?}", self.master.rounds);
    }

    /// What a node's run-time levels want reaches the master.
    fn ask(&mut self, from: usize) -> StdVec<(LevelOrder, LevelOutcome)> {
        let ballot = self.master.ballot();
        let request = self.desks[from].member.level_request(ballot, false);
        let master = &mut self.master;
        let me = master.me.index();
        let result = self.desks[me].with(|_, ctx| master.on_level_request(n(from as u8), LIFE, &request, ctx));
        let Some(result) = result else { return StdVec::new() };
        self.desks[from].trace(|member, trace| member.on_level_result(&result, trace));
        result.results.to_vec()
    }

    fn register(&mut self, at: usize) {
        let decl = LevelDecl::new(100, "user").barriers(2, 2, 2);
        self.desks[at].trace(|member, trace| member.register_run_time(&decl, true, trace)).unwrap();
    }

    fn deregister(&mut self, at: usize, how: Deregister) {
        self.desks[at].trace(|member, trace| member.deregister(USER, how, true, trace)).unwrap();
    }

    /// It registers and is through.
    fn joined(&mut self, at: usize) {
        self.register(at);
        assert_eq!(self.ask(at), []);
        self.settle();
        assert_eq!(self.desks[at].member.level_status(USER), Some(LevelStatus::At(NodeState::Joined)));
    }

    fn user_states(&self, of: u8) -> StdVec<Option<NodeState>> {
        self.desks.iter().map(|d| d.member.state_at(USER, n(of))).collect()
    }
}

fn awaiting(master: &Master, round: RoundId) -> NodeSet {
    use crate::transition::At;
    master.progress.iter().flatten().fold(NodeSet::EMPTY, |set, p| match p.at {
        At::Running { round: id, awaiting, .. } if id == round => set.or(awaiting),
        _ => set,
    })
}

fn take_over(desks: &mut [Desk], at: usize, ballot: Ballot, view: &View, dead: &[usize]) -> Master {
    let who = MasterAt {
        me: n(at as u8),
        incarnation: LIFE,
        nodes: desks.len() as u8,
        timing: Timing::DEFAULT,
        preempted: Default::default(),
        unclean: NodeSet::EMPTY,
    };
    let mut master = desks[at].with(|member, ctx| Master::new(ballot, view, ctx, member, who));
    for (id, desk) in desks.iter().enumerate().filter(|(id, _)| *id != at && !dead.contains(id)) {
        let from = n(id as u8);
        if !view.has_member(from, LIFE) {
            continue;
        }
        let (levels, died) = desk.member.all_offers();
        master.on_answer_levels(from, &levels, died);
        let mut first = 0;
        loop {
            let part = desk.member.answer(ballot, first);
            master.on_answer(from, &part);
            if part.is_last() {
                break;
            }
            first = part.next;
        }
    }
    let takeover = master.takeover.take().unwrap();
    assert!(takeover.waiting().is_empty());
    desks[at].with(|_, ctx| master.restore(takeover, ctx));
    // No disk shows a victim's heartbeat here: the fence is another test's.
    master.fences = [None; quorate_base::capacity::NODES_MAX];
    master
}

// EP Table 1.

fn step(scope: Scope, barrier: u8) -> StepAt {
    StepAt { subject: 0, barrier, scope, top: LevelOrder(100), overtakes: None, took_part: false }
}

fn notify(at: Subject, id: RoundId, level: LevelOrder, vector: VectorSets, barrier: u8) -> Notify {
    let participants = NodeSet::first(3);
    let round = Round { id, level, participants, subjects: [at].into_iter().collect() };
    Notify {
        view: ViewName { ballot: id.ballot, number: 9 },
        sequence: id.sequence,
        round,
        steps: [step(Scope::Node, barrier)].into_iter().collect(),
        vector,
        recover: NodeSet::EMPTY,
    }
}

fn vector(of_two: NodeState) -> VectorSets {
    let mut vector = VectorSets { joined: NodeSet::first(2), ..VectorSets::default() };
    vector.insert(n(2), of_two);
    vector
}

/// A member, node 0, whose level has been sent `sent` about node 2, and works on it if that is work.
fn sent(sent: NodeState) -> (Desk, View) {
    let is = if sent == NodeState::Inactive { NodeState::Inactive } else { NodeState::Joined };
    let view = view(9, &[NodeState::Joined, NodeState::Joined, is]);
    let mut desk = Desk::new(0);
    desk.view(&View::EMPTY, &view);
    let begin = match sent {
        NodeState::Joining => Some((Transition::Joining, NodeState::Inactive)),
        NodeState::Leaving => Some((Transition::Leaving, NodeState::Joined)),
        NodeState::ForcedLeaving => Some((Transition::ForcedLeaving, NodeState::Joined)),
        NodeState::Inactive | NodeState::Joined => None,
    };
    if let Some((transition, before)) = begin {
        let level = desk.member.levels.iter_mut().find(|l| l.order == LEVEL).unwrap();
        level.vector.set(n(2), before);
        desk.notify(&notify(subject(2, transition), round(BALLOT, 1), LEVEL, vector(transition.during()), 0));
        let taken = desk.member.take_notification(LEVEL, &view).unwrap();
        assert_eq!((taken.changes.len(), taken.vector.state(n(2))), (1, sent));
    }
    (desk, view)
}

/// Every row against every re-notification: what the table allows reaches the level and ends the work on what was sent;
/// what it does not allow is impossible, and the node halts.
#[test]
fn ep_table_1_row_by_row() {
    for row in TABLE_1 {
        for next in [Transition::Joining, Transition::Leaving, Transition::ForcedLeaving] {
            let (mut desk, view) = sent(row.sent);
            // A transition of its own, not the same step once more.
            let other = Subject { incarnation: Incarnation(3), ..subject(2, next) };
            desk.notify(&notify(other, round(BALLOT, 2), LEVEL, vector(next.during()), 0));
            let allowed = may_follow(row.sent, next);
            // Whoever has a node where the transition leaves it needs no telling: acknowledged by the manager.
            let unneeded = row.sent == next.after();
            assert_eq!(desk.member.unneeded() == 1 && desk.member.has_acks(), unneeded, "{} then {next}", row.sent);
            assert_eq!(desk.member.impossible().is_none(), allowed || unneeded, "{} then {next}", row.sent);
            let taken = desk.member.take_notification(LEVEL, &view);
            assert_eq!(taken.is_some(), allowed, "{} then {next}", row.sent);
            assert_eq!(row.again.contains(&next) || row.begins.contains(&next), allowed);
        }
    }
}

#[test]
fn ep_table_1_joining_becomes_joined_when_all_have_acknowledged() {
    let (mut desk, _) = sent(NodeState::Joining);
    assert!(desk.traced("state 30").is_empty());
    desk.notify(&notify(subject(1, Transition::ForcedLeaving), round(BALLOT, 3), LEVEL, vector(NodeState::Joined), 0));
    assert_eq!(desk.member.state_at(LEVEL, n(2)), Some(NodeState::Joined));
    assert_eq!(desk.traced("state 30"), ["state 30 2 joined"]);
}

#[test]
fn ep_table_1_leaving_becomes_inactive_when_all_have_acknowledged() {
    let (mut desk, _) = sent(NodeState::Leaving);
    desk.notify(&notify(
        subject(1, Transition::ForcedLeaving),
        round(BALLOT, 3),
        LEVEL,
        vector(NodeState::Inactive),
        0,
    ));
    assert_eq!(desk.traced("state 30"), ["state 30 2 inactive"]);
}

/// The level aborts what it was doing: its acknowledgement of it comes too late.
#[test]
fn ep_table_1_forced_leaving_overtakes_a_join_and_a_leave() {
    for (was, transition) in [(NodeState::Joining, Transition::Joining), (NodeState::Leaving, Transition::Leaving)] {
        let (mut desk, view) = sent(was);
        let old = crate::notification::Change {
            subject: subject(2, transition),
            round: round(BALLOT, 1),
            barrier: 0,
            overtaken: false,
        };
        desk.notify(&notify(
            subject(2, Transition::ForcedLeaving),
            round(BALLOT, 2),
            LEVEL,
            vector(NodeState::ForcedLeaving),
            0,
        ));
        assert!(!desk.trace(|member, trace| member.acknowledge(LEVEL, &old, trace)), "{was}");
        let taken = desk.member.take_notification(LEVEL, &view).unwrap();
        assert_eq!(taken.changes[0].subject.transition, Transition::ForcedLeaving);
        assert!(desk.trace(|member, trace| member.acknowledge(LEVEL, &taken.changes[0], trace)));
        assert_eq!(desk.traced("stale").len(), 1);
    }
}

#[test]
fn ep_table_1_forced_leaving_is_never_sent_twice() {
    let (mut desk, view) = sent(NodeState::ForcedLeaving);
    let again =
        notify(subject(2, Transition::ForcedLeaving), round(BALLOT, 1), LEVEL, vector(NodeState::ForcedLeaving), 0);
    desk.notify(&again);
    assert!(desk.member.take_notification(LEVEL, &view).is_none());
    assert!(desk.member.impossible().is_none());
}

/// Inactive and Joined come along with a real transition of another node, and by themselves they wake nobody.
#[test]
fn ep_table_1_inactive_and_joined_are_sent_only_along_with_others() {
    for row in TABLE_1.iter().filter(|row| !row.alone) {
        let (mut desk, view) = sent(row.sent);
        let mut alone = notify(subject(1, Transition::Leaving), round(BALLOT, 2), LEVEL, vector(row.sent), 0);
        alone.steps.clear();
        desk.notify(&alone);
        assert!(desk.member.take_notification(LEVEL, &view).is_none(), "{}", row.sent);
        desk.notify(&notify(subject(1, Transition::Leaving), round(BALLOT, 3), LEVEL, vector(row.sent), 0));
        let taken = desk.member.take_notification(LEVEL, &view).unwrap();
        assert_eq!((taken.changes.len(), taken.vector.state(n(2))), (1, row.sent));
    }
}

// Takeover.

/// EP Fig. 13 with two masters dying: node 1 knows that node 3 was joining at level 30, and it has begun to take its forced
/// leave, at level 0, from a second master, which died too. Node 0, the third, was never told of the join: its level is
/// told, overtaken at once.
#[test]
fn design_5_a_second_takeover_during_an_aborted_join_still_delivers_the_joining_first() {
    for at_level in [LevelOrder(0), LEVEL] {
        let joined = NodeState::Joined;
        let before = view(9, &[joined, joined, NodeState::Inactive, NodeState::Joining]);
        let after = view(10, &[joined, joined, NodeState::Inactive, NodeState::ForcedLeaving]);
        let mut desks: StdVec<Desk> = (0..4).map(Desk::new).collect();
        for desk in &mut desks[..2] {
            desk.view(&View::EMPTY, &before);
        }
        let participants = NodeSet::first(2).with(n(3));
        let mut told = |m: usize, at: Subject, id: RoundId, level: LevelOrder, overtakes: Option<Overtaken>| {
            let mut vector = VectorSets { joined: NodeSet::first(2), ..VectorSets::default() };
            vector.insert(n(3), at.transition.during());
            let mut notify = notify(at, id, level, vector, 0);
            notify.round.participants = participants;
            notify.steps[0] = StepAt {
                top: LEVEL,
                overtakes,
                took_part: overtakes.is_some() && level == LEVEL,
                ..step(Scope::Node, 0)
            };
            desks[m].notify(&notify);
            desks[m].work(&before);
        };
        let join = round(BALLOT, 5);
        for m in [0, 1] {
            told(m, subject(3, Transition::Joining), round(BALLOT, 4), LevelOrder(0), None);
        }
        told(1, subject(3, Transition::Joining), join, LEVEL, None);
        // The second master put node 3 out, and told node 1 alone of it.
        let overtakes = Some(Overtaken { level: LEVEL, was: NodeState::Joining, round: Some(join) });
        told(1, subject(3, Transition::ForcedLeaving), round(65, 1), LevelOrder(0), overtakes);
        if at_level == LEVEL {
            told(0, subject(3, Transition::ForcedLeaving), round(65, 1), LevelOrder(0), overtakes);
            told(1, subject(3, Transition::ForcedLeaving), round(65, 2), LEVEL, overtakes);
        }
        for desk in &mut desks[..2] {
            desk.view(&before, &after);
        }
        let master = take_over(&mut desks, 0, Ballot(128), &after, &[]);
        let mut cluster = Cluster { desks, view: after, master };
        cluster.settle();
        let traced = cluster.desks[0].traced("notify 30 3");
        let (joining, forced) = (traced[0], traced[1]);
        assert_eq!(joining, format!("notify 30 3 joining barrier 0 in {join}"), "from level {at_level}");
        assert!(forced.starts_with("notify 30 3 forced-leaving barrier 0") && traced.len() == 2, "{traced:?}");
        // Node 1 had its Joining, and gets no second one.
        assert_eq!(cluster.desks[1].traced("notify 30 3 joining").len(), 1);
        assert_eq!(cluster.desks[1].traced("notify 30 3 forced-leaving").len(), 1);
    }
}

// Levels at run time.

#[test]
fn a_level_that_waits_is_no_matter_of_the_others() {
    let mut cluster = Cluster::new(3);
    cluster.register(1);
    assert!(cluster.desks[1].member.offers().iter().all(|o| o.order != USER), "it has not joined");
    assert!(cluster.desks[1].member.has_wishes(false));
    cluster.take_over(2, 130, &[]);
    assert!(!cluster.master.map.has(n(1), USER));
    assert_eq!(cluster.ask(1), []);
    cluster.settle();
    assert!(!cluster.desks[1].member.has_wishes(false));
    assert!(cluster.desks[1].member.offers().iter().any(|o| o.order == USER));
}

#[test]
fn joins_and_leaves_at_one_level_go_through_every_barrier_and_end_once() {
    let mut cluster = Cluster::new(3);
    (0..3).for_each(|m| cluster.joined(m));
    for of in 0..3 {
        assert_eq!(cluster.user_states(of), [Some(NodeState::Joined); 3]);
    }
    assert_eq!(cluster.desks[0].traced("notify 100 2 joining").len(), 2);
    assert_eq!(cluster.desks[0].traced("state 100 2 joined").len(), 1);
    cluster.deregister(1, Deregister::Graceful);
    assert_eq!(cluster.ask(1), []);
    cluster.settle();
    assert_eq!(cluster.user_states(1), [Some(NodeState::Inactive), None, Some(NodeState::Inactive)]);
    assert_eq!(cluster.desks[1].traced("deregister"), ["deregister 100"]);
    cluster.joined(1);
    assert_eq!(cluster.user_states(1), [Some(NodeState::Joined); 3]);
    assert_eq!(cluster.desks[0].traced("state 100 1").len(), 3);
}

#[test]
fn a_death_waits_for_no_round_and_nobody_waits_for_the_dead() {
    let mut cluster = Cluster::new(3);
    (0..2).for_each(|m| cluster.joined(m));
    cluster.register(2);
    assert_eq!(cluster.ask(2), []);
    cluster.pump(&[1]);
    // Node 1's process dies before it has taken the join of node 2.
    cluster.deregister(1, Deregister::Died);
    assert_eq!(cluster.desks[1].traced("deregister"), ["deregister 100"]);
    assert_eq!(cluster.ask(1), []);
    cluster.settle();
    assert_eq!(cluster.user_states(2), [Some(NodeState::Joined), None, Some(NodeState::Joined)]);
    assert_eq!(cluster.user_states(1), [Some(NodeState::Inactive), None, Some(NodeState::Inactive)]);
    assert_eq!(cluster.desks[0].traced("notify 100 1 forced-leaving").len(), 2);
    assert_eq!(cluster.ask(1), [(USER, LevelOutcome::Gone)], "asked again: through");
    assert!(!cluster.desks[1].member.has_wishes(false));
}

/// Who had not taken the Joining yet takes it before the Forced-Leaving; the subject is no participant.
#[test]
fn a_death_in_the_middle_of_its_join_overtakes_it() {
    let mut cluster = Cluster::new(3);
    (0..2).for_each(|m| cluster.joined(m));
    cluster.register(2);
    assert_eq!(cluster.ask(2), []);
    cluster.pump(&[1]);
    assert!(cluster.desks[1].traced("notify 100 2").is_empty());
    cluster.deregister(2, Deregister::Died);
    assert_eq!(cluster.ask(2), []);
    cluster.settle();
    let traced = cluster.desks[1].traced("notify 100 2");
    assert!(traced[0].contains("joining barrier 0") && traced[1].contains("forced-leaving barrier 0"), "{traced:?}");
    assert!(cluster.desks[2].traced("forced-leaving").is_empty());
    assert_eq!(cluster.desks[0].traced("notify 100 2 joining").len(), 1);
}

/// The first master told some of each step and died. Every step is taken once by every level.
#[test]
fn a_takeover_in_the_middle_completes_a_local_transition_once() {
    for (how, transition) in
        [(None, "joining"), (Some(Deregister::Graceful), "leaving"), (Some(Deregister::Died), "forced-leaving")]
    {
        for deaf in [1, 2] {
            for steps in 1..6 {
                let mut cluster = Cluster::new(4);
                (0..3).for_each(|m| cluster.joined(m));
                let subject = match how {
                    None => 3,
                    Some(_) => 1,
                };
                match how {
                    None => cluster.register(3),
                    Some(how) => cluster.deregister(subject, how),
                }
                assert_eq!(cluster.ask(subject), []);
                let before: StdVec<usize> = cluster
                    .desks
                    .iter()
                    .map(|d| d.traced(&format!("notify 100 {subject} {transition}")).len())
                    .collect();
                assert_eq!(before, [0; 4]);
                for at in 0..steps {
                    // Each step first to some, then to all, so that masters die with some a step ahead.
                    let to_some = [deaf, 3];
                    cluster.pump(if at + 1 == steps { &to_some } else { &[] });
                }
                cluster.take_over(2, 130, &[]);
                cluster.settle();
                cluster.ask(subject);
                cluster.settle();
                cluster.ask(subject);
                assert!(!cluster.desks[subject].member.has_wishes(false), "{transition} {deaf} {steps}");
                let is = if how.is_none() { NodeState::Joined } else { NodeState::Inactive };
                for (m, desk) in cluster.desks.iter().enumerate() {
                    let told = desk.traced(&format!("notify 100 {subject} {transition}")).len();
                    let ends = desk.traced(&format!("state 100 {subject} {is}")).len();
                    let has = desk.member.state_at(USER, n(subject as u8));
                    let context = format!("{transition} deaf {deaf} steps {steps} at node {m}: {:?}", desk.lines.0);
                    match (m, how) {
                        (3, Some(_)) => assert_eq!((told, ends, has), (0, 0, None), "{context}"),
                        (1, Some(Deregister::Died)) => assert_eq!((told, ends, has), (0, 0, None), "{context}"),
                        (1, Some(Deregister::Graceful)) => assert_eq!((told, ends, has), (2, 1, None), "{context}"),
                        _ => assert_eq!((told, ends, has), (2, 1, Some(is)), "{context}"),
                    }
                    assert!(desk.member.impossible().is_none(), "{context}");
                }
            }
        }
    }
}

/// The node dies while its level joins: the forced leave of the node takes what was under way along (Table 1).
#[test]
fn a_forced_leave_of_the_node_overtakes_its_levels_join_also_after_a_takeover() {
    for takeover in [false, true] {
        let mut cluster = Cluster::new(3);
        (0..2).for_each(|m| cluster.joined(m));
        cluster.register(2);
        assert_eq!(cluster.ask(2), []);
        cluster.pump(&[1]);
        let mut after = cluster.view.successor();
        after.set(n(2), NodeState::ForcedLeaving, LIFE);
        let before = cluster.view.clone();
        for desk in &mut cluster.desks[..2] {
            desk.view(&before, &after);
        }
        cluster.view = after.clone();
        if takeover {
            cluster.take_over(0, 192, &[2]);
        } else {
            let master = &mut cluster.master;
            cluster.desks[0].with(|member, ctx| master.on_committed(&after, ctx, member));
            cluster.master.fences = [None; quorate_base::capacity::NODES_MAX];
        }
        cluster.settle();
        let traced = cluster.desks[1].traced("notify 100 2");
        assert!(traced[0].contains("joining barrier 0") && traced[1].contains("forced-leaving"), "{traced:?}");
        assert_eq!(traced.len(), 3, "{traced:?}");
        let at_30 = cluster.desks[1].traced("notify 30 2");
        assert!(at_30[0].contains("forced-leaving") && at_30.len() == 1, "joined below: {at_30:?}");
        let place = |what: &str| cluster.desks[1].lines.0.iter().position(|l| l.contains(what)).unwrap();
        assert!(place("notify 30 2") < place("notify 100 2"), "from the lowest level up");
    }
}

/// A request that was on its way for long does not put out what was registered since.
#[test]
fn an_old_request_undoes_nothing() {
    let mut cluster = Cluster::new(2);
    cluster.joined(1);
    cluster.deregister(1, Deregister::Died);
    let old = cluster.desks[1].member.level_request(Ballot(BALLOT), false);
    assert_eq!(cluster.ask(1), []);
    cluster.settle();
    assert_eq!(cluster.ask(1), [(USER, LevelOutcome::Gone)]);
    cluster.joined(1);
    let master = &mut cluster.master;
    assert!(cluster.desks[0].with(|_, ctx| master.on_level_request(n(1), LIFE, &old, ctx)).is_none());
    cluster.settle();
    assert!(cluster.master.map.has(n(1), USER));
}

#[test]
fn other_barriers_are_refused_by_name_and_the_level_says_so() {
    let mut cluster = Cluster::new(2);
    cluster.joined(0);
    let decl = LevelDecl::new(100, "user").barriers(9, 1, 1);
    cluster.desks[1].trace(|member, trace| member.register_run_time(&decl, true, trace)).unwrap();
    let results = cluster.ask(1);
    assert_eq!(results.len(), 1);
    assert!(matches!(cluster.desks[1].member.level_status(USER), Some(LevelStatus::Refused(_))));
    assert_eq!(cluster.desks[0].traced("refuse"), ["refuse 1 its barriers differ at level 100".to_string()]);
    assert!(!cluster.desks[1].member.has_wishes(false), "it is not asked for again");
    cluster.deregister(1, Deregister::Graceful);
    assert_eq!(cluster.desks[1].traced("deregister"), ["deregister 100"]);
}
