//! Domains (DOM claims 1–23).

use crate::world::{MS, World, n};
use quorate_base::{NodeId, NodeSet};
use quorate_database::{DomainEntry, layout};
use quorate_groups::{DomainOp, JobId, JobState, Reason, Refusal, Registration};

fn set(ids: &[u8]) -> NodeSet {
    ids.iter().map(|i| n(*i)).collect()
}

fn ask(w: &mut World, node: u8, op: DomainOp) -> Option<Refusal> {
    ask_of(w, node, op, "payroll")
}

fn ask_of(w: &mut World, node: u8, op: DomainOp, domain: &str) -> Option<Refusal> {
    let before = w.check.answers.len();
    w.call(n(node), |e, ctx| e.ask(op, domain, ctx)).unwrap();
    w.settle();
    assert_eq!(w.check.answers.len(), before + 1, "every request is answered, once");
    w.check.answers[before].2
}

fn join(w: &mut World, node: u8, domain: &str) -> (JobId, JobState) {
    let r = Registration { group: domain, job: "clerk", subgroup: 0, deadline_ms: 0, of_domain: true };
    let id = w.call(n(node), |e, ctx| e.register(&r, ctx)).unwrap();
    w.settle();
    let state = w.state(node, id).unwrap();
    if matches!(state, JobState::Denied(_)) {
        w.call(n(node), |e, _| e.release(id));
    }
    (id, state)
}

fn joins(w: &mut World, node: u8) -> bool {
    matches!(join(w, node, "payroll").1, JobState::Member(_))
}

fn copy(w: &World, node: u8) -> Option<DomainEntry> {
    w.engine(node).copies().get("payroll").cloned()
}

fn restart(w: &mut World, node: NodeId) {
    assert!(w.start(node));
    w.settle();
}

fn all_down(w: &mut World) {
    for node in w.running() {
        w.kill(node, MS);
    }
    w.settle();
}

#[test]
fn dom_claims_1_to_5_8_9_12_13_22_and_23_create_join_and_look_in_each_copy() {
    let mut w = World::joined(4, 1);
    assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1]))), None);
    assert_eq!(
        ask(&mut w, 3, DomainOp::Create(set(&[3]))),
        Some(Refusal::Exists),
        "unique in the cluster (claims 5, 22)"
    );
    // Its own copy for each member, for nobody else.
    assert_eq!([0, 1, 2, 3].map(|i| copy(&w, i).is_some()), [true, true, false, false]);
    assert!(joins(&mut w, 1));
    assert!(!joins(&mut w, 2), "not listed");
    // Each says so; whose word came first is named.
    assert!(matches!(w.check.answers.last().unwrap().2, Some(Refusal::NotListed(_))));
    assert!(joins(&mut w, 0));
    assert_eq!(w.engine(3).tables().members.len(), 2);
}

#[test]
fn dom_claims_6_7_and_16_members_are_told_apart_by_their_node() {
    let mut w = World::joined(2, 2);
    assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1]))), None);
    assert!(joins(&mut w, 0) && joins(&mut w, 1), "two jobs of one name, on two nodes");
    let nodes: Vec<_> = w.engine(0).tables().members.iter().map(|m| (m.name.clone(), m.node)).collect();
    assert_eq!(nodes[0].0, nodes[1].0);
    assert_ne!(nodes[0].1, nodes[1].1);
}

#[test]
fn dom_claims_10_15_and_21_leave_takes_the_member_off_every_list() {
    let mut w = World::joined(3, 3);
    assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1, 2]))), None);
    let (job, _) = join(&mut w, 1, "payroll");
    assert_eq!(ask(&mut w, 1, DomainOp::Leave), None);
    assert_eq!(w.state(1, job), Some(JobState::Gone(Reason::Removed)));
    assert_eq!(copy(&w, 0).unwrap().nodes, set(&[0, 2]));
    assert_eq!(copy(&w, 0), copy(&w, 2));
    assert_eq!(copy(&w, 1), None);
    assert!(!joins(&mut w, 1));
    assert_eq!(ask(&mut w, 1, DomainOp::Leave), Some(Refusal::NotListed(n(0))));
}

#[test]
fn dom_claims_11_14_and_20_add_replicates_the_list_to_the_new_one() {
    let mut w = World::joined(3, 4);
    assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0]))), None);
    assert_eq!(ask(&mut w, 0, DomainOp::Add(n(2))), None);
    assert_eq!(copy(&w, 2).unwrap().nodes, set(&[0, 2]));
    assert_eq!(copy(&w, 0), copy(&w, 2));
    assert_eq!(ask(&mut w, 0, DomainOp::Add(n(2))), Some(Refusal::Listed));
    assert!(joins(&mut w, 2));
    assert_eq!(ask_of(&mut w, 0, DomainOp::Add(n(1)), "none such"), Some(Refusal::NoDomain));
}

#[test]
fn remove_puts_another_member_out_and_delete_all() {
    let mut w = World::joined(3, 5);
    assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1, 2]))), None);
    let jobs = [0, 1, 2].map(|i| join(&mut w, i, "payroll").0);
    assert_eq!(ask(&mut w, 0, DomainOp::Remove(n(2))), None);
    assert_eq!(w.state(2, jobs[2]), Some(JobState::Gone(Reason::Removed)));
    assert_eq!(ask(&mut w, 1, DomainOp::Delete), None);
    assert_eq!(w.state(0, jobs[0]), Some(JobState::Gone(Reason::Removed)));
    assert!((0..3).all(|i| copy(&w, i).is_none()));
    assert_eq!(ask(&mut w, 1, DomainOp::Delete), Some(Refusal::NoDomain));
    assert_eq!(ask(&mut w, 1, DomainOp::Create(set(&[1]))), None, "the name is free again");
}

#[test]
fn dom_claims_17_and_18_several_groups_and_one_node_in_several() {
    let mut w = World::joined(3, 6);
    assert_eq!(ask_of(&mut w, 0, DomainOp::Create(set(&[0, 1])), "payroll"), None);
    assert_eq!(ask_of(&mut w, 1, DomainOp::Create(set(&[1, 2])), "orders"), None);
    for (node, domain, may) in
        [(0, "payroll", true), (1, "payroll", true), (1, "orders", true), (2, "orders", true), (0, "orders", false)]
    {
        assert_eq!(matches!(join(&mut w, node, domain).1, JobState::Member(_)), may, "{node} {domain}");
    }
    assert_eq!(w.engine(0).tables().groups.len(), 2);
}

#[test]
fn dom_claim_19_every_copy_must_list_the_requestor() {
    // One node's copy is made to differ on the disk while all are down.
    let mut w = World::joined(3, 7);
    assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1, 2]))), None);
    assert_eq!(ask(&mut w, 0, DomainOp::Remove(n(2))), None);
    assert!(joins(&mut w, 0) && joins(&mut w, 1));
    assert!(!joins(&mut w, 2), "each finds that it is not listed");
    assert_eq!(ask(&mut w, 1, DomainOp::Add(n(2))), None);
    assert!(joins(&mut w, 2));
}

#[test]
fn dom_claim_5_a_restart_of_the_whole_cluster_brings_back_every_domain() {
    let mut w = World::joined(3, 8);
    for (i, name) in ["a", "b", "c", "payroll"].into_iter().enumerate() {
        assert_eq!(ask_of(&mut w, i as u8 % 3, DomainOp::Create(set(&[0, 1, 2])), name), None);
    }
    assert_eq!(ask(&mut w, 0, DomainOp::Remove(n(2))), None);
    let before = [0, 1, 2].map(|i| w.engine(i).copies().entries().to_vec());
    all_down(&mut w);
    assert!(w.running().is_empty());
    for i in 0..3 {
        assert!(w.start(n(i)));
    }
    w.settle();
    let sorted = |mut e: Vec<DomainEntry>| {
        e.sort_by(|a, b| a.name.cmp(&b.name));
        e
    };
    for (i, known) in (0..3).zip(before) {
        assert_eq!(sorted(w.engine(i).copies().entries().to_vec()), sorted(known));
    }
    assert!(joins(&mut w, 0) && !joins(&mut w, 2));
}

#[test]
fn a_member_removed_while_it_was_away_cannot_come_back() {
    for whole_restart in [false, true] {
        let mut w = World::joined(3, 9);
        assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1, 2]))), None);
        w.kill(n(2), MS);
        w.settle();
        assert_eq!(ask(&mut w, 0, DomainOp::Remove(n(2))), None);
        if whole_restart {
            // It is the first to come back, alone, with its old list.
            all_down(&mut w);
        }
        restart(&mut w, n(2));
        assert!(!joins(&mut w, 2), "whole restart: {whole_restart}");
        assert_eq!(copy(&w, 2), None);
    }
}

#[test]
fn a_domain_deleted_or_grown_while_a_member_was_away_is_so_when_it_is_back() {
    for (op, left) in [(DomainOp::Delete, None), (DomainOp::Add(n(3)), Some(set(&[0, 1, 2, 3])))] {
        let mut w = World::joined(4, 10);
        assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1, 2]))), None);
        w.kill(n(2), MS);
        w.settle();
        assert_eq!(ask(&mut w, 1, op), None);
        // It cannot read the others' records, so that only messages can tell.
        for node in [0, 1, 3] {
            for slot in [0, 1] {
                w.unreadable.insert(layout::domain(n(node), slot));
            }
        }
        restart(&mut w, n(2));
        assert!(w.engine(2).copies().unread().contains(n(0)));
        assert_eq!(copy(&w, 2).map(|e| e.nodes), left);
        assert_eq!(copy(&w, 0).filter(|e| !e.deleted).map(|e| e.nodes), left);
        assert!(copy(&w, 0).is_none_or(|e| e.behind.is_empty()));
    }
}

#[test]
fn a_stale_list_of_a_third_node_lets_nobody_back_in() {
    let mut w = World::joined(4, 14);
    w.kill(n(2), MS);
    w.settle();
    assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 2, 3]))), None);
    w.kill(n(3), MS);
    w.settle();
    assert_eq!(ask(&mut w, 0, DomainOp::Remove(n(2))), None);
    all_down(&mut w);
    // It never had a copy; node 0's does not list it any more, and node 3's, which is read after that, still does.
    restart(&mut w, n(2));
    assert_eq!(copy(&w, 2).filter(|e| e.nodes.contains(n(2))), None);
    assert!(!joins(&mut w, 2));
}

#[test]
fn an_answer_comes_when_every_copy_is_durable() {
    for seed in 0..20 {
        let mut w = World::joined(3, 100 + seed);
        assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1, 2]))), None);
        let before = w.check.answers.len();
        w.call(n(1), |e, ctx| e.ask(DomainOp::Remove(n(2)), "payroll", ctx)).unwrap();
        while w.check.answers.len() == before {
            assert!(w.one());
        }
        for node in 0..3 {
            assert!(w.engine(node).copies().is_durable(), "node {node}, seed {seed}");
        }
    }
}

#[test]
fn copies_that_cannot_be_read_are_told_by_the_others() {
    let mut w = World::joined(3, 11);
    assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1, 2]))), None);
    w.kill(n(2), MS);
    w.settle();
    assert_eq!(ask(&mut w, 0, DomainOp::Remove(n(1))), None);
    for node in 0..3 {
        w.unreadable.insert(layout::domain(n(node), 0));
    }
    restart(&mut w, n(2));
    assert_eq!(w.engine(2).copies().unread(), NodeSet::first(3));
    assert_eq!(copy(&w, 2), copy(&w, 0));
    assert!(copy(&w, 2).is_some());
}

#[test]
fn the_last_domain_that_fits_fits_and_the_next_is_refused_by_node() {
    let mut w = World::joined(2, 12);
    for i in 0..8 {
        assert_eq!(ask_of(&mut w, 0, DomainOp::Create(set(&[0, 1])), &format!("domain {i}")), None);
    }
    let refused = ask_of(&mut w, 0, DomainOp::Create(set(&[0, 1])), "one too many");
    assert!(matches!(refused, Some(Refusal::Full(_))));
    assert_eq!(ask_of(&mut w, 0, DomainOp::Create(NodeSet::EMPTY), "x"), Some(Refusal::Empty));
}

#[test]
fn whoever_dies_during_a_request_all_copies_that_live_agree() {
    for steps in 0..120 {
        for victim in 0..3 {
            let mut w = World::joined(3, 13);
            assert_eq!(ask(&mut w, 0, DomainOp::Create(set(&[0, 1, 2]))), None);
            w.call(n(0), |e, ctx| e.ask(DomainOp::Remove(n(2)), "payroll", ctx)).unwrap();
            for _ in 0..steps {
                w.one();
            }
            w.kill(n(victim), 2 * MS);
            w.settle();
            let alive: Vec<u8> = (0..2).filter(|i| *i != victim).collect();
            let copies: Vec<_> = alive.iter().map(|i| copy(&w, *i)).collect();
            assert!(copies.windows(2).all(|p| p[0] == p[1]), "victim {victim} at step {steps}");
            assert!(w.running().iter().all(|n| w.up(*n).engine.tables().asks.is_empty()));
            restart(&mut w, n(victim));
            let lists: Vec<_> = (0..3).filter_map(|i| copy(&w, i)).map(|e| e.nodes).collect();
            assert!(lists.windows(2).all(|p| p[0] == p[1]), "victim {victim} at step {steps}: {lists:?}");
        }
    }
}
