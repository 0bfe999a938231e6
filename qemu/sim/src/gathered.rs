//! What group services must have come to, once a cluster has settled: everybody at one place with the same tables, nothing
//! under way, nothing on its way, every message that a job which is still a member sent delivered, and the copies of each
//! domain alike.

use quorate_database::DomainEntry;
use quorate_groups::{Engine, JobState};
use quorate_node::Groups;

use crate::director::STEP_US;
use crate::world::{Broken, World};

/// How long that may take, µs: a job that hangs is put out after 3 s (`traffic.rs`), then what it held up goes on.
const WITHIN_US: u64 = 8_000_000;

/// Waits until group services have nothing left to do.
pub(crate) fn gathered(world: &mut World) -> Result<(), Box<Broken>> {
    let began = world.now;
    loop {
        match open(world) {
            None => break,
            Some(what) if world.now - began > WITHIN_US => {
                return Err(world.describe(format!("group services have ended all that began: not in time: {what}")));
            }
            Some(_) => {}
        }
        world.run_until(world.now + STEP_US)?;
    }
    match differ(world) {
        None => Ok(()),
        Some(what) => Err(world.describe(what)),
    }
}

fn engines(world: &World) -> Vec<(u8, &Groups, &Engine)> {
    let all = world.machines().iter();
    all.filter_map(|m| m.groups.as_deref().and_then(|g| Some((m.id.get(), g, g.engine()?)))).collect()
}

/// What is not through yet.
fn open(world: &World) -> Option<String> {
    for (node, groups, engine) in engines(world) {
        let tables = engine.tables();
        let (behind, kept, own) = engine.queues();
        let at_rest = engine.is_caught_up() && !engine.is_flushing();
        if !at_rest || (behind, kept, own) != (0, 0, 0) {
            return Some(format!(
                "node {node}: caught up {}, waits for an epoch {}, {behind} frames behind, {kept} kept, {own} own on \
                 their way",
                engine.is_caught_up(),
                engine.is_flushing()
            ));
        }
        if let Some(p) = tables.protocols.first() {
            return Some(format!("node {node}: ACK round {} of protocol {}", p.round, p.id.order));
        }
        if let Some(m) = tables.merges.first() {
            return Some(format!("node {node}: round {} of merge {}", m.round, m.id.order));
        }
        if let Some(ask) = tables.asks.first() {
            return Some(format!("node {node}: a request for domain {}", ask.ask.domain));
        }
        if !engine.copies().is_durable() {
            return Some(format!("node {node}: its copies of domains are not written"));
        }
        let member = |load: &&quorate_node::load::Load| matches!(engine.job(load.job), Some(JobState::Member(_)));
        if let Some(load) = groups.loads().iter().filter(member).find(|load| !load.is_done()) {
            return Some(format!("node {node}: {} messages sent, {} came back", load.sent, load.back));
        }
    }
    None
}

/// What differs between nodes that all have the same to go by.
fn differ(world: &World) -> Option<String> {
    let all = engines(world);
    let (first, _, of_first) = all.first()?;
    for (node, _, engine) in &all {
        let (own, other) = (engine.tables(), of_first.tables());
        if (own.order, &own.groups, &own.members) != (other.order, &other.groups, &other.members) {
            return Some(format!("nodes {first} and {node}: group services' tables differ"));
        }
    }
    let said = |e: &DomainEntry| (e.birth, e.version, e.nodes, e.deleted);
    for (a, _, engine) in &all {
        for entry in engine.copies().entries().iter().filter(|entry| !entry.deleted) {
            for (b, _, other) in all.iter().filter(|(b, ..)| entry.nodes.iter().any(|n| n.get() == *b)) {
                if other.copies().get(&entry.name).map(said) != Some(said(entry)) {
                    return Some(format!("nodes {a} and {b}: copies of domain {} differ", entry.name));
                }
            }
        }
    }
    None
}
