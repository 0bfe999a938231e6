//! Jobs, main threads, work threads, ACK rounds (ACK claims 1–26). Claims 8 to 13, 14 and 15, 16 to 23 and 24 to 26 say of a
//! method and of a program what claims 1 to 7 say of the apparatus; one test serves all of a kind.

use crate::engine::number;
use crate::world::{MS, SECOND, Threads, World, n};
use quorate_groups::capacity::{CHANGES_MAX, GROUP_WINDOW_MAX, OUT_GROUP_MAX};
use quorate_groups::{CallError, JobId, JobState, Reason, Registration};

const HANGS: Threads = Threads { work_us: 0, rounds: 1, take_us: 0, hang: true };

fn three_members(seed: u64, deadline_ms: u32) -> (World, [JobId; 3]) {
    let mut w = World::joined(3, seed);
    let r = Registration { group: "g", job: "job", subgroup: 0, deadline_ms, of_domain: false };
    let jobs = [0, 1, 2].map(|i| w.call(n(i), |e, ctx| e.register(&r, ctx)).unwrap());
    w.settle();
    (w, jobs)
}

fn threads(w: &mut World, node: u8, job: JobId, t: Threads) {
    w.nodes[usize::from(node)].as_mut().unwrap().threads.insert(job, t);
}

fn reasons(w: &World) -> Vec<Reason> {
    w.check.members.values().filter_map(|m| m.3.map(|(_, reason)| reason)).collect()
}

#[test]
fn ack_claims_1_5_6_8_12_13_16_22_23_a_fault_unregisters_the_job_and_all_are_told() {
    let (mut w, jobs) = three_members(1, 0);
    // It fails in the middle of its local work, when the others have acknowledged.
    threads(&mut w, 1, jobs[1], HANGS);
    w.call(n(0), |e, ctx| e.start(jobs[0], 0, b"p", ctx)).unwrap();
    w.run_for(20 * MS);
    assert!(w.engine(1).step(jobs[1], 0).is_some());
    assert_eq!(w.check.rounds, [], "the others wait for it");
    w.call(n(1), |e, ctx| e.fault(jobs[1], 42, ctx)).unwrap();
    w.settle();
    assert_eq!(reasons(&w), [Reason::Fault(42)]);
    assert_eq!(w.state(1, jobs[1]), Some(JobState::Gone(Reason::Fault(42))));
    let rounds: Vec<_> = w.check.rounds.iter().map(|(_, round, gone, last)| (*round, *gone, *last)).collect();
    assert_eq!(rounds, [(0, 1, false), (1, 0, true)]);
    assert_eq!(w.log(1), w.log(2), "the one that failed is told as well: its node lives");
}

#[test]
fn ack_claims_2_9_19_local_work_between_rounds_only() {
    let (mut w, jobs) = three_members(2, 0);
    for i in 0..3 {
        let t = Threads { work_us: 3 * MS * u64::from(i) + 1, rounds: 3, ..Threads::default() };
        threads(&mut w, i, jobs[usize::from(i)], t);
    }
    w.call(n(2), |e, ctx| e.start(jobs[2], 1, b"three rounds", ctx)).unwrap();
    w.run_for(2 * MS);
    let step = w.engine(1).step(jobs[1], 1).expect("its local work");
    assert_eq!((step.round, &step.bytes[..]), (0, &b"three rounds"[..]));
    assert!(w.engine(0).step(jobs[0], 1).is_none(), "the fast one waits in its round");
    let early = w.call(n(0), |e, ctx| e.ack_round(jobs[0], 1, false, ctx));
    assert_eq!(early, Err(CallError::NothingDue), "a round is acknowledged once");
    w.settle();
    let rounds: Vec<_> = w.check.rounds.iter().map(|(_, round, gone, last)| (*round, *gone, *last)).collect();
    assert_eq!(rounds, [(0, 0, false), (1, 0, false), (2, 0, true)]);
}

#[test]
fn ack_claims_3_4_10_11_20_21_the_main_thread_hears_everything_while_work_threads_hang() {
    let (mut w, jobs) = three_members(3, 0);
    threads(&mut w, 2, jobs[2], HANGS);
    w.call(n(0), |e, ctx| e.start(jobs[0], 0, b"", ctx)).unwrap();
    for k in 1..=3 {
        w.send(0, jobs[0], &number(k, 10)).unwrap();
        w.run_for(MS);
    }
    let other = w.register(1, "other", "x", 0);
    w.run_for(MS);
    assert_eq!(w.log(2), w.log(1), "what is told is told at once");
    assert!(matches!(w.state(1, other), Some(JobState::Member(_))));
    // Nothing was missed: it lies there.
    threads(&mut w, 2, jobs[2], Threads::default());
    let taken: Vec<_> = (0..6).filter_map(|_| w.take(n(2), jobs[2])).collect();
    assert_eq!(taken, [number(1, 10), number(2, 10), number(3, 10)]);
    w.settle();
}

#[test]
fn ack_claims_7_14_15_17_18_24_25_26_a_member_that_dies_between_rounds_hangs_nobody() {
    for victim in 0..3 {
        let (mut w, jobs) = three_members(10 + u64::from(victim), 0);
        for i in 0..3 {
            threads(&mut w, i, jobs[usize::from(i)], Threads { work_us: 4 * MS, rounds: 4, ..Threads::default() });
        }
        w.call(n((victim + 1) % 3), |e, ctx| e.start(jobs[usize::from((victim + 1) % 3)], 0, b"", ctx)).unwrap();
        w.run_until(w.now + SECOND, |w| w.check.rounds.len() == 2);
        w.kill(n(victim), 3 * MS);
        w.settle();
        let gone: u32 = w.check.rounds.iter().map(|r| r.2).sum();
        assert_eq!((w.check.rounds.len(), gone), (4, 1), "{:?}", w.check.rounds);
        assert_eq!(reasons(&w), [Reason::NodeFailed]);
    }
}

#[test]
fn a_work_thread_that_never_returns_is_seen_and_put_out_by_its_deadline() {
    let (mut w, jobs) = three_members(4, 50);
    threads(&mut w, 1, jobs[1], HANGS);
    w.call(n(0), |e, ctx| e.start(jobs[0], 3, b"", ctx)).unwrap();
    w.run_for(40 * MS);
    let waits = w.engine(1).jobs().find(|j| j.0 == jobs[1]).unwrap().4.expect("it is seen");
    assert!(w.now - waits.0 > 35 * MS && reasons(&w).is_empty());
    w.settle();
    assert_eq!(reasons(&w), [Reason::Deadline]);
    assert!(w.engine(0).tables().protocols.is_empty());
}

#[test]
fn a_deadline_that_ends_while_words_have_no_room_waits_for_room_without_spinning() {
    let (mut w, jobs) = three_members(6, 50);
    threads(&mut w, 1, jobs[1], HANGS);
    w.call(n(0), |e, ctx| e.start(jobs[0], 3, b"", ctx)).unwrap();
    w.run_for(10 * MS);
    // Nobody orders any more, and what waits for that fills up.
    w.kill(n(0), 200 * MS);
    let is_full = |w: &mut World| w.call(n(1), |e, ctx| e.start(jobs[1], 0, b"", ctx)).is_err();
    assert!((0..2000).any(|_| is_full(&mut w)), "2000 requests have room");
    w.run_for(100 * MS);
    assert_eq!(reasons(&w), [], "nobody can have heard of it");
    w.settle();
    let mut why = reasons(&w);
    why.sort_by_key(|reason| *reason == Reason::Deadline);
    assert_eq!(why, [Reason::NodeFailed, Reason::Deadline]);
}

#[test]
fn a_member_that_does_not_take_slows_its_groups_senders_and_nobody_else() {
    let (mut w, jobs) = three_members(5, 0);
    let others = [0, 1].map(|i| w.register(i, "quick", "q", 0));
    w.settle();
    threads(&mut w, 2, jobs[2], HANGS);
    let mut sent = 0;
    for _ in 0..40 {
        while w.send(0, jobs[0], &number(sent + 1, 1200)).is_ok() {
            sent += 1;
        }
        w.run_for(5 * MS);
    }
    assert_eq!(sent as usize, GROUP_WINDOW_MAX + OUT_GROUP_MAX, "bounded");
    let slot = w.engine(0).tables().group("g").unwrap().slot;
    assert_eq!(w.engine(0).holds_back(slot).iter().collect::<Vec<_>>(), [n(2)], "it is named");
    for k in 1..=30 {
        w.send(0, others[0], &number(k, 1200)).unwrap();
        w.run_for(MS);
    }
    // ACK rounds are not held up by a closed window either.
    threads(&mut w, 2, jobs[2], Threads::default());
    w.settle();
    assert_eq!(w.check.messages() as u64, 30 + sent);
}

#[test]
fn who_lets_too_many_changes_gather_is_put_out() {
    let (mut w, jobs) = three_members(6, 0);
    threads(&mut w, 2, jobs[2], HANGS);
    for _ in 0..CHANGES_MAX {
        let job = w.register(1, "g", "coming and going", 0);
        w.run_for(3 * MS);
        w.call(n(1), |e, ctx| e.unregister(job, ctx)).unwrap();
        w.run_for(3 * MS);
        w.call(n(1), |e, _| e.release(job));
        if w.state(2, jobs[2]) == Some(JobState::Gone(Reason::Overrun)) {
            w.settle();
            return;
        }
    }
    panic!("{:?}", w.state(2, jobs[2]));
}

#[test]
fn a_job_that_unregisters_leaves_after_all_that_it_sent() {
    let (mut w, jobs) = three_members(7, 0);
    let JobState::Member(member) = w.state(1, jobs[1]).unwrap() else { panic!() };
    for k in 1..=4 {
        w.send(1, jobs[1], &number(k, 900)).unwrap();
    }
    // The last frame may find no room; then the call says so, and is made again.
    while w.call(n(1), |e, ctx| e.unregister(jobs[1], ctx)) == Err(CallError::Full) {
        assert!(w.one());
    }
    w.settle();
    assert_eq!(w.check.delivered(member), 4);
    assert_eq!(reasons(&w), [Reason::Unregistered]);
}

#[test]
fn names_and_capacities_are_refused_by_name() {
    use quorate_groups::Denied;
    let (mut w, _) = three_members(8, 0);
    let r = |group, job| Registration { group, job, subgroup: 0, deadline_ms: 0, of_domain: false };
    let register = |w: &mut World, group, job| w.call(n(0), |e, ctx| e.register(&r(group, job), ctx));
    assert_eq!(register(&mut w, "g", "job"), Err(CallError::Jobs));
    assert_eq!(register(&mut w, "", "job"), Err(CallError::Value));
    assert_eq!(register(&mut w, "g", "a name of twenty-five byte"), Err(CallError::Value));
    for name in ["1", "2", "3", "4", "5", "6", "7"] {
        register(&mut w, name, "x").unwrap();
        w.settle();
    }
    assert_eq!(register(&mut w, "8", "x"), Err(CallError::Jobs));
    let over = w.register(1, "one group too many", "x", 0);
    w.settle();
    assert_eq!(w.state(1, over), Some(JobState::Denied(Denied::TooManyGroups)));
    let private = Registration { of_domain: true, ..r("1", "x") };
    let of_domain = w.call(n(2), |e, ctx| e.register(&private, ctx)).unwrap();
    w.settle();
    assert_eq!(w.state(2, of_domain), Some(JobState::Denied(Denied::Domain)));
}
