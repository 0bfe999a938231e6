//! Subgroup merge (SUB claims 1–24). Claims 16 to 22 say of an apparatus and a system, 23 and 24 of a program, what claims 1 to
//! 9 say of the method. Of claim 11 the scan has kept nothing but its number, between 10 (a join request) and 12: it is taken for the
//! other request that brings subgroups together, the merge.

use crate::world::{MS, SECOND, World, n};
use quorate_base::NodeId;
use quorate_groups::JobId;

/// Four members, two subgroups: nodes 0 and 1 come with subgroup 1, nodes 2 and 3 with subgroup 2. The lowest-named of
/// subgroup 1 is on node 1, of subgroup 2 on node 2.
fn two_subgroups(seed: u64) -> (World, Vec<JobId>) {
    let mut w = World::joined(4, seed);
    let mut jobs = Vec::new();
    for (node, (name, subgroup)) in (0..).zip([("d", 1), ("a", 1), ("b", 2), ("c", 2)]) {
        let job = w.register(node, "g", name, subgroup);
        w.call(n(node), |e, _| e.set_group_data(job, &[node])).unwrap();
        jobs.push(job);
    }
    w.settle();
    (w, jobs)
}

fn merge(w: &mut World, node: u8, job: JobId) {
    w.call(n(node), |e, ctx| e.merge(job, ctx)).unwrap();
}

/// Who sent group data, in order, as it is told.
fn senders(w: &World, node: u8) -> Vec<String> {
    let data = w.log(node).into_iter().filter(|t| t.starts_with("GroupData"));
    data.map(|t| t.split("name: \"").nth(1).unwrap().split('"').next().unwrap().to_owned()).collect()
}

fn subgroups(w: &World, node: u8) -> Vec<u8> {
    w.engine(node).tables().members.iter().map(|m| m.subgroup).collect()
}

#[test]
fn sub_claims_1_2_3_7_to_14_16_17_18_21_to_24_each_leader_sends_once() {
    let (mut w, jobs) = two_subgroups(1);
    merge(&mut w, 3, jobs[3]);
    w.settle();
    let mut sent = senders(&w, 0);
    sent.sort();
    assert_eq!(sent, ["a", "b"], "the lowest-named of each subgroup, nobody else");
    assert_eq!(w.check.merged.values().copied().collect::<Vec<_>>(), [2], "one message for each subgroup");
    assert_eq!(subgroups(&w, 0), [1; 4], "they are one subgroup now");
    // Another request clears the indicators (claim 3a); there is one subgroup to speak for.
    merge(&mut w, 0, jobs[0]);
    w.settle();
    assert_eq!(w.check.merged.len(), 2);
    assert_eq!(senders(&w, 0).len(), 3);
    for node in 1..4 {
        assert_eq!(
            w.log(0).iter().rev().take(8).collect::<Vec<_>>(),
            w.log(node).iter().rev().take(8).collect::<Vec<_>>()
        );
    }
}

#[test]
fn sub_claims_4_and_19_data_is_complete_when_the_round_is_through() {
    let (mut w, jobs) = two_subgroups(2);
    merge(&mut w, 0, jobs[0]);
    w.settle();
    let log = w.log(2);
    let place = |what: &str| log.iter().position(|t| t.starts_with(what)).unwrap();
    let last_data = log.iter().rposition(|t| t.starts_with("GroupData")).unwrap();
    assert!(place("MergeBegins") < place("GroupData"));
    assert!(last_data < place("MergeRound") && place("MergeRound") < place("Merged"));
}

/// Kills the nodes in turn, each at the given moment, and says how many messages with group data there were.
fn killed(seed: u64, after_steps: usize, victims: &[NodeId]) -> (World, u32) {
    let (mut w, jobs) = two_subgroups(seed);
    merge(&mut w, 3, jobs[3]);
    for victim in victims {
        for _ in 0..after_steps {
            w.one();
        }
        w.kill(*victim, 2 * MS);
    }
    w.settle();
    let data = w.check.data.values().sum();
    (w, data)
}

#[test]
fn sub_claims_2_5_6_15_20_a_leader_killed_before_during_and_after_it_sends() {
    let (mut before, mut after) = (0, 0);
    // Every step from the request to long after the end is a point at which the leader of subgroup 1 dies.
    for steps in 0..90 {
        let (w, data) = killed(20, steps, &[n(1)]);
        if w.check.merges.is_empty() {
            continue;
        }
        assert_eq!(w.check.merged.len(), 1, "the merge ends, at step {steps}");
        assert_eq!(data, 2, "each subgroup's data once, whoever sent it, at step {steps}");
        let by_second = senders(&w, 3).contains(&"d".to_owned());
        before += u32::from(by_second);
        after += u32::from(!by_second);
        assert_eq!(subgroups(&w, 3), [1; 3]);
    }
    assert!(before > 5 && after > 5, "both kinds: its successor sent {before} times, it itself {after} times");
}

#[test]
fn sub_claim_15_two_leaders_in_a_row() {
    let mut neither = 0;
    for steps in 0..60 {
        // First the leader of subgroup 1, then its successor: nobody is left of that subgroup.
        let (w, data) = killed(30, steps, &[n(1), n(0)]);
        if w.check.merges.is_empty() {
            continue;
        }
        assert_eq!(w.check.merged.len(), 1, "the merge ends, at step {steps}");
        let own = w.check.data.keys().filter(|(_, subgroup)| *subgroup == 2).count();
        assert_eq!(own, 1);
        assert!((1..=2).contains(&data));
        neither += u32::from(data == 1);
    }
    assert!(neither > 0);
    for steps in 0..60 {
        // A leader of each.
        let (w, data) = killed(31, steps, &[n(1), n(2)]);
        assert!(w.check.merges.is_empty() || (w.check.merged.len(), data) == (1, 2), "at step {steps}");
    }
}

#[test]
fn a_join_during_a_merge_takes_no_part_in_it_and_disturbs_nothing() {
    for steps in (0..100).step_by(3) {
        let (mut w, jobs) = two_subgroups(40);
        merge(&mut w, 2, jobs[2]);
        for _ in 0..steps {
            w.one();
        }
        // By name it would lead subgroup 1.
        w.register(3, "g", "0", 1);
        w.settle();
        assert_eq!(w.check.data.values().sum::<u32>(), 2);
        assert_eq!(w.check.merged.len(), 1);
    }
}

#[test]
fn a_node_that_joins_during_a_merge_gets_it_with_its_state() {
    for steps in (0..80).step_by(5) {
        let mut w = World::joined(3, 50);
        w.kill(n(2), MS);
        w.settle();
        let jobs = [("a", 1), ("b", 2)].map(|(name, subgroup)| w.register(subgroup - 1, "g", name, subgroup));
        w.settle();
        assert!(w.start(n(2)));
        for _ in 0..steps {
            w.one();
        }
        merge(&mut w, 0, jobs[0]);
        w.run_until(w.now + SECOND, |w| w.engine(2).is_caught_up());
        w.kill(n(0), MS);
        w.settle();
        assert_eq!(w.check.merged.len(), w.check.merges.len(), "at step {steps}");
        assert!(w.engine(2).tables().merges.is_empty());
    }
}

#[test]
fn a_second_request_during_a_merge_is_denied_by_name() {
    let (mut w, jobs) = two_subgroups(60);
    merge(&mut w, 0, jobs[0]);
    merge(&mut w, 1, jobs[1]);
    w.settle();
    assert_eq!(w.check.merged.len(), 1);
    let denied = w.log(2).into_iter().filter(|t| t.contains("why: Merging")).count();
    assert_eq!(denied, 1);
}
