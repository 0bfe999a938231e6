//! The host program of `examples/threads`: a cluster of three threads on a file and UDP.

#[path = "../examples/threads/cluster.rs"]
mod cluster;
#[path = "../examples/threads/embedding.rs"]
mod embedding;

use cluster::{NODES, Said, VICTIM, ended, told};
use quorate_base::{HaltReason, NodeId, NodeSet, Transition};

#[test]
fn three_threads_form_a_cluster_and_put_a_dead_one_out() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("threads.img");
    let story = cluster::play(&path).unwrap();
    let victim = NodeId::new(VICTIM).unwrap();
    let survivors = || NodeId::first(NODES).filter(|node| *node != victim);
    for me in survivors() {
        assert!(told(&story, me, victim, Transition::ForcedLeaving));
        assert_eq!(ended(&story, me), Some(HaltReason::Left), "{me}");
        assert!(survivors().all(|other| !told(&story, me, other, Transition::ForcedLeaving)), "{story:?}");
    }
    assert_eq!(ended(&story, victim), None, "it was dead before it could say so");
    // All three were joined at once, as each survivor's own state vector has it when the victim goes.
    let all: NodeSet = NodeId::first(NODES).collect();
    let at_the_death = |me| {
        story.iter().find_map(|(by, said)| match said {
            Said::Told { transition: Transition::ForcedLeaving, joined, .. } if *by == me => Some(*joined),
            _ => None,
        })
    };
    for me in survivors() {
        assert_eq!(at_the_death(me), Some(all.minus([victim].into_iter().collect())), "{me}");
    }
}
