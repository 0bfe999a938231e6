//! The nodes' real stacks on the simulated Ethernet: what passes, what is dropped, and that each frame is accounted for.

use quorate_base::{NodeId, NodeSet};
use quorate_interconnect::stack::StackCounters;
use quorate_sim::{Broken, Setup, World};

const BROADCAST: [u8; 6] = [0xff; 6];
const STRANGER: [u8; 6] = [0x52, 0x54, 0, 9, 9, 9];

fn n(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

fn must<T>(result: Result<T, Box<Broken>>) -> T {
    match result {
        Ok(value) => value,
        Err(broken) => panic!("{broken}"),
    }
}

fn formed(nodes: u8, change: impl FnOnce(&mut World)) -> World {
    let mut world = World::new(&Setup::new(7, nodes));
    change(&mut world);
    (0..usize::from(nodes)).for_each(|m| world.start(m));
    must(world.wait("all joined", 10_000, |w| w.settled(NodeSet::first(nodes))));
    world
}

fn counters(world: &World, m: usize) -> StackCounters {
    world.machine(m).unwrap().stack_counters()
}

/// Every frame that a stack took became a datagram, was refused by the gate or was dropped by the stack.
fn accounted(c: StackCounters) -> bool {
    c.frames_received == c.frames_refused + c.frames_dropped + c.datagrams_received
}

fn ones_complement(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

/// An IPv4 frame from a stranger.
fn ipv4(to: [u8; 6], protocol: u8, address: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, (20 + payload.len()) as u8, 0, 0, 0x40, 0, 1, protocol, 0, 0, 10, 77, 0, 200];
    header.extend_from_slice(&address);
    let sum = ones_complement(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&to[..], &STRANGER, &[8, 0], &header, payload].concat()
}

/// A UDP datagram to the interconnect's port, without a UDP checksum.
fn udp(payload: &[u8]) -> Vec<u8> {
    let port = 7077u16.to_be_bytes();
    let length = (8 + payload.len() as u16).to_be_bytes();
    ipv4(BROADCAST, 17, [10, 77, 0, 255], &[&port[..], &port, &length, &[0, 0], payload].concat())
}

#[test]
fn what_a_node_posts_goes_through_both_stacks_as_frames() {
    let world = formed(2, |_| {});
    let (zero, one) = (counters(&world, 0), counters(&world, 1));
    for c in [zero, one] {
        // And one report of its group.
        assert_eq!(c.frames_sent, c.datagrams_sent + 1, "{c:?}");
        assert!(c.datagrams_received > 3 && c.datagrams_unsent == 0 && c.frames_refused == 0, "{c:?}");
        assert!(accounted(c), "{c:?}");
    }
    assert_eq!(world.network.frames, zero.frames_sent + one.frames_sent);
}

#[test]
fn a_damaged_frame_is_dropped_and_counted_and_nothing_comes_of_it() {
    let mut world = formed(6, |_| {});
    let all = |world: &World| {
        let each = (0..6).map(|m| counters(world, m));
        each.fold((0, 0), |(frames, lost), c| (frames + c.frames_received, lost + c.frames_refused + c.frames_dropped))
    };
    world.network.faults.corrupt_per_million = 1_000_000;
    // What is on its way is whole, and is to be in first.
    must(world.run_ms(1));
    let before = all(&world);
    must(world.run_ms(300));
    world.network.faults.corrupt_per_million = 0;
    let after = all(&world);
    let (frames, lost) = (after.0 - before.0, after.1 - before.1);
    // A flipped bit of the source's address, or of bytes of the header that no checksum covers, does no harm.
    assert!(frames >= 60 && 10 * lost >= 8 * frames, "{lost} of {frames} damaged frames were dropped");
    assert!((0..6).all(|m| accounted(counters(&world, m))));
    must(world.run_ms(3000));
    assert!(world.settled(NodeSet::first(6)));
    must(world.finish());
}

#[test]
fn a_cable_that_damages_every_fifth_frame_keeps_nobody_out() {
    // With every other one, four heartbeats in a row are lost often enough for somebody to be put out, and rightly.
    let mut world = formed(3, |w| w.network.faults.corrupt_per_million = 200_000);
    world.network.faults.corrupt_per_million = 0;
    must(world.run_ms(3000));
    assert!(world.settled(NodeSet::first(3)));
    assert!((0..3).all(|m| accounted(counters(&world, m)) && counters(&world, m).frames_dropped > 0));
    must(world.finish());
}

#[test]
fn the_ring_of_a_paused_machine_is_finite() {
    let mut world = formed(5, |_| {});
    let before = counters(&world, 2);
    world.pause(2);
    // 40 heartbeats a second: more than 64 in two seconds.
    must(world.run_ms(2000));
    assert_eq!(counters(&world, 2), before, "it takes nothing while it stands still");
    let lost = world.machine(2).unwrap().frames_overrun();
    assert!(lost > 0, "the ring was full");
    world.resume(2);
    // It may have been put out meanwhile, and then it counts no more.
    let taken = counters(&world, 2).frames_received.checked_sub(before.frames_received);
    assert!(taken == Some(64) || world.machine(2).unwrap().node().is_none(), "{taken:?} frames waited for it");
}

#[test]
fn strangers_get_no_answer_and_do_no_harm() {
    let mut world = formed(2, |_| {});
    // For two milliseconds only the stranger is heard.
    world.network.cut(n(1), n(0));
    must(world.run_ms(1));
    let before = counters(&world, 0);
    let arp = [&BROADCAST[..], &STRANGER, &[8, 6], &[0; 28]].concat();
    let ping = ipv4(BROADCAST, 1, [10, 77, 0, 255], &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    for frame in [&arp[..], &ping, &[0xff; 9], &[]] {
        world.inject_frame(frame);
    }
    world.inject_frame(&udp(b"let me in"));
    must(world.run_ms(1));
    let after = counters(&world, 0);
    assert_eq!(after.frames_refused - before.frames_refused, 4, "{after:?}");
    let foreign = after.datagrams_received - before.datagrams_received;
    assert_eq!(foreign, 1, "the stack hands it on, and the node refuses what is no envelope");
    world.network.heal();
    must(world.run_ms(2000));
    assert!(world.settled(NodeSet::first(2)));
    let c = counters(&world, 0);
    assert_eq!(c.frames_sent, c.datagrams_sent + 1, "no answer to anybody");
    must(world.finish());
}

/// RFC 2236: a switch that watches groups asks who is in which.
#[test]
fn an_igmp_query_is_answered_on_virtual_time() {
    let mut world = formed(2, |_| {});
    let query = [0x11, 10, 0xee, 0xf5, 0, 0, 0, 0];
    world.inject_frame(&ipv4([0x01, 0, 0x5e, 0, 0, 1], 2, [224, 0, 0, 1], &query));
    must(world.run_ms(1500));
    for m in [0, 1] {
        let c = counters(&world, m);
        // All-systems is a group, too, but nobody reports it (section 6).
        assert!(c.frames_sent > c.datagrams_sent + 1, "{c:?}");
    }
    must(world.finish());
}

#[test]
fn a_switch_that_floods_groups_serves_as_well() {
    let mut world = formed(3, |w| w.network.floods_groups = true);
    let others = |w: &World| (0..3).map(|m| counters(w, m).frames_dropped).sum::<u64>();
    assert!(others(&world) > 10, "frames of other nodes' groups are dropped by the stack: {}", others(&world));
    let left = NodeSet::first(3).without(n(1));
    world.leave(1);
    must(world.wait("left", 3000, |w| w.settled(left)));
    must(world.finish());
}
