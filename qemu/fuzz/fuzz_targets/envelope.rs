//! Any datagram, and any payload in an envelope under the right or under another key, given to an interconnect that knows its
//! sender: dropped with a reason, or taken. Behind the right key the payloads' own readers are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_base::event::{NoTrace, Trace, TraceClock};
use quorate_base::{BootNonce, ClusterId, ClusterKey, Incarnation, Instant, NodeId, Timing};
use quorate_interconnect::envelope::{Envelope, Repr, foreign_version};
use quorate_interconnect::seal::SealKey;
use quorate_interconnect::{Channel, Config, Destination, Drop, Heartbeat, Interconnect, Opened, Received};

const KEY: ClusterKey = ClusterKey([9; 32]);

fn config(me: NodeId) -> Config {
    Config {
        me,
        incarnation: Incarnation(1),
        nonce: BootNonce(u64::from(me.get()) + 1),
        cluster: ClusterId([7; 16]),
        key: KEY,
        key_epoch: 0,
        nodes: 3,
        timing: Timing::DEFAULT,
        counter_floor: 0,
    }
}

fuzz_target!(|input: (u8, u64, Vec<u8>)| {
    let (kind, counter, bytes) = input;
    let (Some(me), Some(peer)) = (NodeId::new(0), NodeId::new(1)) else { return };
    let (mut clock, mut sink) = (TraceClock::default(), NoTrace);
    let mut trace = Trace::new(Instant::ZERO, &mut clock, &mut sink);
    let (mut frame, mut opened) = ([0; 1600], Opened::new());
    let _ = foreign_version(&bytes);
    let _ = Heartbeat::parse(&bytes);
    let mut receiver = Interconnect::new(config(me), Instant::ZERO);
    let mut sender = Interconnect::new(config(peer), Instant::ZERO);
    // Each says who it is, and the sender answers.
    for (from, to) in [(true, 0), (false, 0), (true, 20_000)] {
        let (from, to, now) =
            if from { (&mut sender, &mut receiver, Instant(to)) } else { (&mut receiver, &mut sender, Instant(to)) };
        if let Some(len) = from.poll_heartbeat(now, &mut trace, &mut frame) {
            let _ = to.receive(now, &frame[..len], &mut opened, &mut trace);
        }
    }
    assert!(receiver.heard(peer, Incarnation(1)));
    let now = Instant(30_000);
    if kind % 4 == 0 {
        if let Ok(envelope) = Envelope::new_checked(&bytes) {
            let key = SealKey::derive(&KEY, envelope.repr().from, envelope.repr().incarnation, envelope.repr().nonce);
            let _ = envelope.open(&key, &mut opened);
        }
        let _ = receiver.receive(now, &bytes, &mut opened, &mut trace);
        return;
    }
    let counter = (2 << 20) + (counter >> 1);
    let repr = Repr {
        epoch: 0,
        channel: if kind % 4 == 1 { Channel::Membership } else { Channel::Heartbeat },
        from: peer,
        to: Destination::Node(me),
        incarnation: Incarnation(1),
        nonce: BootNonce(2),
        cluster: ClusterId([7; 16]),
        counter,
        lamport: counter,
    };
    let right = SealKey::derive(&KEY, peer, Incarnation(1), BootNonce(2));
    let wrong = SealKey::derive(&KEY, peer, Incarnation(2), BootNonce(2));
    let key = if kind % 4 == 3 { &wrong } else { &right };
    let Some(len) = repr.emit(&bytes, key, &mut frame) else { return };
    match receiver.receive(now, &frame[..len], &mut opened, &mut trace) {
        Ok(Received::Message { payload, .. }) => assert!(kind % 4 == 1 && payload == bytes),
        Ok(Received::Heartbeat { .. } | Received::Halted { .. }) => {
            assert!(kind % 4 == 2 && Heartbeat::parse(&bytes).is_some());
        }
        Ok(Received::Introduction { .. }) => panic!("it is proven"),
        Err(Drop::Heartbeat) => assert!(kind % 4 == 2 && Heartbeat::parse(&bytes).is_none()),
        Err(Drop::Tag) => assert_eq!(kind % 4, 3),
        Err(other) => panic!("{other}"),
    }
    // The same frame again is a replay, or of a life that is over; under the wrong key it is nothing.
    assert!(receiver.receive(now, &frame[..len], &mut opened, &mut trace).is_err());
});
