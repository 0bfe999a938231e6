//! Ordered messages and membership changes (MISSION F1).

use crate::world::{MS, Net, World, n};
use quorate_groups::JobState;

pub fn number(i: u64, more: usize) -> Vec<u8> {
    let mut bytes = i.to_le_bytes().to_vec();
    bytes.resize(8 + more, i as u8);
    bytes
}

#[test]
fn nodes_form_an_epoch_and_jobs_register() {
    let mut w = World::joined(3, 1);
    assert!(w.membership.is_quiet());
    let jobs: Vec<_> = (0..3).map(|i| w.register(i, "g", "job", i)).collect();
    w.settle();
    for (i, job) in (0..3).zip(&jobs) {
        assert!(matches!(w.state(i, *job), Some(JobState::Member(_))));
        assert_eq!(w.engine(i).tables().members.len(), 3);
    }
    for i in 0..3u8 {
        for k in 1..=5 {
            w.send(i, jobs[usize::from(i)], &number(k, 3)).unwrap();
        }
    }
    w.settle();
    assert_eq!(w.check.messages(), 15);
    for i in 0..3 {
        w.check.check_taken(n(i), w.up(n(i)).life, w.engine(i));
    }
    assert_eq!(w.log(1), w.log(2));
}

#[test]
fn a_lossy_link_loses_nothing() {
    let mut w = World::joined(3, 2);
    w.net = Net { delay_us: (10, 900), lost_permille: 200, doubled_permille: 100 };
    let jobs: Vec<_> = (0..3).map(|i| w.register(i, "g", "job", 0)).collect();
    w.settle();
    for k in 1..=40 {
        for i in 0..3u8 {
            while w.send(i, jobs[usize::from(i)], &number(k, 100)).is_err() {
                assert!(w.one());
            }
        }
    }
    w.settle();
    assert_eq!(w.check.messages(), 120);
    w.run_for(MS);
}

/// Three members that each have sent three messages; `victim` dies after so many steps. `mute`: nothing that it sends after
/// half of them leaves it.
fn dies_while_all_send(victim: u8, steps: usize, evicted: bool, mute: bool) -> World {
    let mut w = World::joined(3, 7);
    let jobs: Vec<_> = (0..3).map(|i| w.register(i, "g", "job", 0)).collect();
    w.settle();
    for i in 0..3u8 {
        if mute && steps == 0 {
            w.cut.insert(n(victim));
        }
        for k in 1..=3 {
            w.send(i, jobs[usize::from(i)], &number(k, 20)).unwrap();
        }
    }
    for step in 0..steps {
        if mute && step == steps / 2 {
            w.cut.insert(n(victim));
        }
        w.one();
    }
    if evicted {
        w.evict(n(victim));
        w.run_for(MS);
    }
    w.kill(n(victim), MS);
    w.settle();
    for i in (0..3).filter(|i| *i != victim) {
        let JobState::Member(id) = w.state(i, jobs[usize::from(i)]).unwrap() else { panic!() };
        assert_eq!(w.check.delivered(id), 3, "what node {i} sent, victim {victim}, step {steps}");
        w.check.check_taken(n(i), w.up(n(i)).life, w.engine(i));
    }
    w
}

#[test]
fn mission_f1_sequencer_or_sender_killed_before_during_and_after_sending() {
    // Node 0 is the sequencer. Order, uniformity and that nothing is lost or doubled are checked with every delivery.
    let mut of_the_dead = [0; 4];
    for victim in 0..3 {
        for steps in 0..80 {
            for mute in [false, true] {
                let w = dies_while_all_send(victim, steps, false, mute);
                of_the_dead[w.check.messages() - 6] += 1;
            }
        }
    }
    assert!(of_the_dead[0] > 0 && of_the_dead[3] > 0, "before and after: {of_the_dead:?}");
}

#[test]
fn a_node_that_is_put_out_while_it_lives_delivers_nothing_that_the_others_do_not() {
    for victim in 0..3 {
        for steps in (0..60).step_by(2) {
            dies_while_all_send(victim, steps, true, false);
        }
    }
}

#[test]
fn two_sequencers_in_a_row_die() {
    for first in 0..40 {
        let mut w = World::joined(4, 8);
        let jobs: Vec<_> = (0..4).map(|i| w.register(i, "g", "job", 0)).collect();
        w.settle();
        for i in 0..4u8 {
            w.send(i, jobs[usize::from(i)], &number(1, 500)).unwrap();
        }
        for _ in 0..first {
            w.one();
        }
        w.kill(n(0), MS);
        w.run_for(MS + (first as u64) * 150);
        w.kill(n(1), MS);
        w.settle();
        for i in 2..4 {
            let JobState::Member(id) = w.state(i, jobs[usize::from(i)]).unwrap() else { panic!() };
            assert_eq!(w.check.delivered(id), 1);
        }
        assert_eq!(w.engine(2).epoch().unwrap().0.node, n(2));
    }
}

#[test]
fn a_reply_reaches_one_member_and_is_ordered_like_any_message() {
    let mut w = World::joined(3, 9);
    let jobs: Vec<_> = (0..3).map(|i| w.register(i, "g", "job", 0)).collect();
    w.settle();
    let JobState::Member(first) = w.state(0, jobs[0]).unwrap() else { panic!() };
    w.call(n(1), |e, ctx| e.send(jobs[1], Some(first), &number(1, 12), ctx)).unwrap();
    w.settle();
    for i in 0..3 {
        w.check.check_taken(n(i), w.up(n(i)).life, w.engine(i));
    }
    assert_eq!(w.log(1).last(), w.log(2).last());
}

#[test]
fn an_idle_cluster_says_nothing() {
    let mut w = World::joined(3, 10);
    let sent = w.sent;
    w.run_for(10 * crate::world::SECOND);
    assert_eq!(w.sent, sent);
}

#[test]
fn one_message_costs_three_hops_and_small_ones_share_frames() {
    let mut w = World::joined(3, 11);
    w.net = Net { delay_us: (100, 100), ..Net::CALM };
    let job = w.register(2, "g", "job", 0);
    w.settle();
    let (at, messages) = (w.now, w.check.messages());
    w.send(2, job, &number(1, 56)).unwrap();
    assert!(w.run_until(at + MS, |w| w.check.messages() > messages));
    assert_eq!(w.now - at, 300, "to the sequencer, to all, and from all that they hold it");
    w.settle();
    let (frames, mut k) = (w.engine(0).counters().delivered, 1);
    while k < 500 {
        if w.send(2, job, &number(k + 1, 56)).is_ok() {
            k += 1;
        } else {
            assert!(w.one());
        }
    }
    w.settle();
    let frames = w.engine(0).counters().delivered - frames;
    assert!(frames < 499 / 10, "{frames} frames for 499 messages");
}

#[test]
fn kernel_readme_the_engine_stays_within_its_memory() {
    let bytes = size_of::<quorate_groups::Engine>();
    println!("{bytes} bytes");
    assert!(bytes < 320 * 1024, "{bytes}");
}
