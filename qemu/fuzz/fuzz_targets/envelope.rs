//! Any datagram, and any payload in a right envelope, given to the interconnect: dropped with a reason, or taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate_base::event::{Trace, TraceClock};
use quorate_base::{BootNonce, ClusterId, Incarnation, Instant, NodeId, Timing};
use quorate_interconnect::envelope::{Envelope, foreign_version};
use quorate_interconnect::{Config, Heartbeat, Interconnect};

fn config(me: NodeId) -> Config {
    Config {
        me,
        incarnation: Incarnation(1),
        nonce: BootNonce(u64::from(me.get()) + 1),
        cluster: ClusterId([7; 16]),
        nodes: 3,
        timing: Timing::DEFAULT,
        counter_floor: 0,
    }
}

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (wrapped, bytes) = input;
    let (Some(me), Some(peer)) = (NodeId::new(0), NodeId::new(1)) else { return };
    let (mut clock, mut sink) = (TraceClock::default(), quorate_base::event::NoTrace);
    let mut trace = Trace::new(Instant::ZERO, &mut clock, &mut sink);
    let _ = foreign_version(&bytes);
    let _ = Heartbeat::parse(&bytes);
    let mut receiver = Interconnect::new(config(me), Instant::ZERO);
    receiver.expect(peer, Incarnation(1), Some(BootNonce(2)));
    if wrapped {
        let mut sender = Interconnect::new(config(peer), Instant::ZERO);
        let mut frame = [0; 1600];
        let to = quorate_interconnect::Destination::Node(me);
        if let Ok(len) = sender.send(to, &bytes, &mut trace, &mut frame) {
            assert!(receiver.receive(Instant::ZERO, &frame[..len], &mut trace).is_ok());
            // The same frame again is a replay.
            assert!(receiver.receive(Instant::ZERO, &frame[..len], &mut trace).is_err());
        }
    } else {
        if let Ok(envelope) = Envelope::new_checked(&bytes) {
            let _ = (envelope.verify_plain(), envelope.repr(), envelope.payload());
        }
        let _ = receiver.receive(Instant::ZERO, &bytes, &mut trace);
    }
});
