//! Stacks on one in-memory Ethernet, on virtual time.

use super::*;
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::VecDeque;
use std::vec::Vec;

fn n(id: u8) -> NodeId {
    NodeId::new(id).unwrap()
}

fn ms(ms: u64) -> Instant {
    Instant(ms * 1000)
}

/// One port of the Ethernet: whole frames in and out.
#[derive(Default)]
struct Port {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    /// Frames that it still takes; `None`: any number.
    room: Option<usize>,
    mtu: Option<usize>,
}

struct Rx(Vec<u8>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Tx<'a>(&'a mut Vec<Vec<u8>>, &'a mut Option<usize>);

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = std::vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        if let Some(room) = self.1 {
            *room -= 1;
        }
        result
    }
}

impl Device for Port {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: WireInstant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Rx(frame), Tx(&mut self.sent, &mut self.room)))
    }

    fn transmit(&mut self, _: WireInstant) -> Option<Tx<'_>> {
        (self.room != Some(0)).then_some(Tx(&mut self.sent, &mut self.room))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu.unwrap_or(1514);
        capabilities
    }
}

fn mac(id: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, id]
}

/// A node's stack and port. Its storage is leaked: it must outlive the stack, as a static would.
fn end(id: u8) -> (Stack<'static>, Port) {
    let mut port = Port::default();
    let storage = Box::leak(Box::new(StackStorage::new()));
    let stack = Stack::new(storage, n(id), mac(id), &mut port, Instant::ZERO).unwrap();
    (stack, port)
}

/// All ends polled, and every frame carried to all other ports, as a hub does.
fn carry(now: Instant, ends: &mut [(Stack<'static>, Port)]) {
    for _ in 0..4 {
        for (stack, port) in &mut *ends {
            stack.poll(now, port);
        }
        for from in 0..ends.len() {
            for frame in core::mem::take(&mut ends[from].1.sent) {
                for (_, port) in ends.iter_mut().enumerate().filter(|(to, _)| *to != from).map(|(_, end)| end) {
                    port.received.push_back(frame.clone());
                }
            }
        }
    }
}

fn drain(stack: &mut Stack<'_>) -> Vec<(Vec<u8>, Ipv4Addr)> {
    let mut got = Vec::new();
    while stack.receive(|bytes, source| got.push((bytes.to_vec(), source))) {}
    got
}

#[test]
fn datagrams_to_all_and_to_one_arrive_without_any_arp() {
    let mut ends = [end(0), end(1), end(63)];
    carry(ms(0), &mut ends);
    ends[0].0.send(Destination::All, b"to all").unwrap();
    ends[0].0.send(Destination::Node(n(63)), b"to 63").unwrap();
    ends[2].0.send(Destination::Node(n(0)), &[9; DATAGRAM_MAX]).unwrap();
    let (stack, port) = &mut ends[0];
    stack.poll(ms(1), port);
    let frames = core::mem::take(&mut port.sent);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0][..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 8, 0]);
    assert_eq!(frames[1][..14], [1, 0, 0x5e, 77, 0, 64, 2, 0, 0, 0, 0, 0, 8, 0]);
    for frame in &frames {
        ends[1].1.received.push_back(frame.clone());
        ends[2].1.received.push_back(frame.clone());
    }
    carry(ms(1), &mut ends);
    let from0 = address(n(0));
    assert_eq!(drain(&mut ends[1].0), [(b"to all".to_vec(), from0)]);
    assert_eq!(drain(&mut ends[2].0), [(b"to all".to_vec(), from0), (b"to 63".to_vec(), from0)]);
    assert_eq!(drain(&mut ends[0].0), [(std::vec![9; DATAGRAM_MAX], address(n(63)))]);
}

#[test]
fn a_dead_peer_delays_nothing() {
    let mut ends = [end(0), end(1)];
    for i in 0..100u8 {
        let now = ms(u64::from(i) * 10);
        ends[0].0.send(Destination::Node(n(7)), b"is anybody there").unwrap();
        ends[0].0.send(Destination::Node(n(1)), &[i]).unwrap();
        ends[0].0.send(Destination::All, &[i]).unwrap();
        carry(now, &mut ends);
        assert_eq!(drain(&mut ends[1].0).len(), 2);
        assert_eq!(ends[0].0.poll_timeout(now), Instant::FAR);
    }
    // One IGMP report for the group at the start, then nothing but the datagrams.
    assert_eq!(ends[0].0.counters().frames_sent, 1 + 300);
}

#[test]
fn strangers_get_no_answer_to_arp_ping_pieces_or_closed_ports() {
    let mut end0 = end(0);
    end0.0.poll(ms(0), &mut end0.1);
    end0.1.sent.clear();
    let mut ethernet = [mac(0), mac(9)].concat();
    ethernet.extend([8, 6]);
    let mut arp = ethernet.clone();
    arp.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend([&mac(9)[..], &[10, 77, 0, 10], &[0; 6], &[10, 77, 0, 1]].concat());
    let ip = |protocol: u8, payload: &[u8]| {
        let mut frame = ethernet.clone();
        frame[12..].copy_from_slice(&[8, 0]);
        let len = 20 + payload.len() as u16;
        let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 77, 0, 10, 10, 77, 0, 1];
        header[2..4].copy_from_slice(&len.to_be_bytes());
        let sum: u32 = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend(header);
        frame.extend(payload);
        frame
    };
    let ping = ip(1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let closed = ip(17, &[0, 1, 0, 53, 0, 8, 0, 0]);
    let unknown = ip(99, b"what");
    let open = ip(17, &[0x1b, 0xa5, 0x1b, 0xa5, 0, 11, 0, 0, b'a', b'b', b'c']);
    let mut piece = open.clone();
    (piece[20], piece[24]) = (0x20, piece[24] - 0x20);
    end0.1.received.extend([arp, ping, closed, unknown, piece, open]);
    end0.0.poll(ms(1), &mut end0.1);
    assert!(end0.1.sent.is_empty());
    assert_eq!(drain(&mut end0.0), [(b"abc".to_vec(), Ipv4Addr::new(10, 77, 0, 10))]);
    assert_eq!(end0.0.counters().frames_refused, 5);
    end0.1.received.extend(core::iter::repeat_n(ethernet, BURST + 1));
    end0.0.poll(ms(2), &mut end0.1);
    assert_eq!((end0.1.received.len(), end0.0.poll_timeout(ms(2))), (1, ms(2)), "the rest in another turn");
    end0.0.poll(ms(2), &mut end0.1);
    assert_eq!(end0.0.poll_timeout(ms(2)), Instant::FAR);
}

#[test]
fn a_flood_is_taken_in_bursts_and_nothing_that_was_taken_is_lost() {
    let mut ends = [end(0), end(1)];
    for size in [10usize, 700, DATAGRAM_MAX] {
        let mut frames = Vec::new();
        for i in 0..400u16 {
            let mut bytes = std::vec![0; size];
            bytes[..2].copy_from_slice(&i.to_le_bytes());
            ends[0].0.send(Destination::All, &bytes).unwrap();
            let (stack, port) = &mut ends[0];
            stack.poll(ms(0), port);
            frames.append(&mut port.sent);
        }
        frames.retain(|frame| frame.len() > 100 || size == 10);
        let (stack, port) = &mut ends[1];
        port.received.extend(frames);
        let mut next = 0u16;
        for turn in 0..100 {
            let before = port.received.len();
            stack.poll(ms(turn), port);
            assert!(before - port.received.len() <= BURST);
            if !port.received.is_empty() {
                assert_eq!(stack.poll_timeout(ms(turn)), ms(turn), "it wants another turn");
            }
            // A caller that takes only some of them each time loses none either.
            for _ in 0..9 + turn {
                stack.receive(|bytes, _| {
                    if bytes.len() == size {
                        assert_eq!(bytes[..2], next.to_le_bytes());
                        next += 1;
                    }
                });
            }
        }
        assert_eq!((next, port.received.len()), (400, 0));
        assert_eq!(stack.poll_timeout(ms(0)), Instant::FAR);
    }
}

#[test]
fn a_device_that_takes_nothing_fills_the_queue_and_is_asked_again() {
    let (mut stack, mut port) = end(0);
    port.room = Some(0);
    let mut queued = 0;
    while stack.send(Destination::All, &[7; 500]).is_ok() {
        queued += 1;
        stack.poll(ms(0), &mut port);
    }
    assert!(queued >= 64, "a message to each of 63 peers and a heartbeat: {queued}");
    assert_eq!((stack.counters().datagrams_unsent, port.sent.len()), (1, 0));
    assert_eq!(stack.poll_timeout(ms(5)), Instant(5000 + RETRY_US));
    port.room = None;
    stack.poll(ms(6), &mut port);
    assert_eq!(port.sent.len(), queued + 1, "and the IGMP report");
    assert_eq!(stack.poll_timeout(ms(6)), Instant::FAR);
    assert_eq!(stack.send(Destination::All, &[0; DATAGRAM_MAX + 1]), Err(StackFull));
}

#[test]
fn a_device_that_cannot_serve_is_refused() {
    let mut port = Port::default();
    let mut new = |mac, mtu| {
        port.mtu = mtu;
        let storage = Box::leak(Box::new(StackStorage::new()));
        Stack::new(storage, n(0), mac, &mut port, Instant::ZERO).map(|_| ())
    };
    assert_eq!(new([1, 0, 0, 0, 0, 0], None), Err(StackError::Mac([1, 0, 0, 0, 0, 0])));
    assert_eq!(new([0; 6], None), Err(StackError::Mac([0; 6])));
    assert_eq!(new(mac(0), Some(1513)), Err(StackError::Mtu(1513)));
    assert_eq!(new(mac(0), Some(1514)), Ok(()));
}

#[test]
fn igmp_queries_get_one_report_however_many_come_at_once() {
    let (mut stack, mut port) = end(4);
    stack.poll(ms(0), &mut port);
    port.sent.clear();
    let mut query = [&[1, 0, 0x5e, 0, 0, 1][..], &mac(9), &[8, 0]].concat();
    query.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0xcf, 0x88, 10, 77, 0, 10, 224, 0, 0, 1]);
    query.extend([0x11, 10, 0xee, 0xf5, 0, 0, 0, 0]);
    for _ in 0..50 {
        port.received.push_back(query.clone());
    }
    stack.poll(ms(1), &mut port);
    stack.poll(ms(2000), &mut port);
    assert_eq!(stack.counters().frames_refused, 0);
    assert_eq!(port.sent.len(), 1);
    assert_eq!(port.sent[0][30..34], group(n(4)).octets(), "addressed to the group itself");
}

#[test]
fn more_than_the_queue_holds_goes_through_while_the_device_takes_it() {
    let (mut stack, mut port) = end(0);
    let bytes = [7; DATAGRAM_MAX];
    let wanted = 2 * SEND_BYTES / DATAGRAM_MAX;
    for _ in 0..wanted {
        stack.send_through(ms(1), Destination::Node(n(1)), &bytes, &mut port).unwrap();
    }
    stack.poll(ms(1), &mut port);
    // And the report of its group.
    assert_eq!(port.sent.len(), wanted + 1);
    port.room = Some(0);
    let refused =
        (0..wanted).filter(|_| stack.send_through(ms(2), Destination::All, &bytes, &mut port).is_err()).count();
    assert!(refused > 0, "a device that takes nothing makes no room");
    assert_eq!(stack.counters().datagrams_unsent, refused as u64);
}

proptest! {
    #[test]
    fn any_frames_never_panic_nor_stop_the_next_good_one(
        frames in prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..120)), 1..40),
    ) {
        let mut ends = [end(0), end(1)];
        ends[1].0.send(Destination::Node(n(0)), &[5; 60]).unwrap();
        let (stack, port) = &mut ends[1];
        stack.poll(ms(0), port);
        let good = port.sent.pop().unwrap();
        let (stack, port) = &mut ends[0];
        for (like, bytes) in frames {
            let mut frame = good.clone();
            match like {
                // Any bytes; any end of a good frame; any piece of one replaced; any beginning of one.
                0 => frame = bytes,
                1 => frame.extend(bytes),
                2 => {
                    let at = bytes.first().map_or(0, |b| usize::from(*b) % frame.len());
                    for (place, byte) in frame[at..].iter_mut().zip(bytes) {
                        *place = byte;
                    }
                }
                _ => frame.truncate(bytes.len()),
            }
            port.received.push_back(frame);
        }
        stack.poll(ms(1), port);
        drain(stack);
        port.received.push_back(good);
        stack.poll(ms(2), port);
        prop_assert_eq!(drain(stack), [(std::vec![5; 60], address(n(1)))]);
    }
}
