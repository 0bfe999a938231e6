//! The interconnect of a host process: UDP on the loopback interface, several datagrams per system call.
//!
//! Most of what a message costs natively is the way through the kernel, not what is done with it. So the datagrams of one turn
//! are kept until its end, and those of equal length to one peer go down in one call, as segments that the kernel takes apart
//! (UDP_SEGMENT) or, on the loopback interface, hands over as they are (UDP_GRO). Where the system has neither, each goes by
//! itself. What finds no room is lost, as on a network; the node sends it again.

use std::io::{IoSliceMut, Result};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use quorate_interconnect::Destination;
use quorate_node::Post;

/// Bytes of a packet of datagrams at most: what UDP over IPv4 can carry.
const PACKET_MAX: usize = 65_507;

/// Packets that are taken in one call.
const TAKE: usize = 4;

/// Datagrams to one peer that go down together: of equal length, and at most one shorter one at their end.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Length of the first, and of all but the last.
    each: usize,
}

impl Batch {
    /// Whether one of that length may follow, where so many may go together.
    fn takes(&self, len: usize, most: usize) -> bool {
        let is_closed = !self.bytes.len().is_multiple_of(self.each.max(1));
        self.bytes.is_empty()
            || (!is_closed
                && len <= self.each
                && self.bytes.len() < self.each * most
                && self.bytes.len() + len <= PACKET_MAX)
    }

    fn add(&mut self, datagram: &[u8]) {
        if self.bytes.is_empty() {
            self.each = datagram.len();
        }
        self.bytes.extend_from_slice(datagram);
    }
}

/// A node's socket, and what waits to go out.
pub(super) struct Link {
    socket: UdpSocket,
    state: UdpSocketState,
    me: usize,
    peers: Vec<(SocketAddr, Batch)>,
}

/// What came.
pub(super) struct Came {
    /// Per packet, how long it is and each of its datagrams, and its bytes.
    packets: [(RecvMeta, Vec<u8>); TAKE],
    /// How many there are.
    count: usize,
}

impl Link {
    pub(super) fn new(socket: UdpSocket, me: usize, peers: Vec<SocketAddr>) -> Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let peers = peers.into_iter().map(|peer| (peer, Batch::default())).collect();
        Ok(Self { socket, state, me, peers })
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        let Self { socket, state, peers, .. } = self;
        for (peer, batch) in peers.iter_mut().filter(|(_, batch)| !batch.bytes.is_empty()) {
            send(socket, state, *peer, batch);
        }
    }

    /// Takes what is there in place of what came before. False if there is nothing.
    pub(super) fn take(&self, came: &mut Came) -> bool {
        let mut meta = [RecvMeta::default(); TAKE];
        let mut buffers = came.packets.each_mut().map(|(_, bytes)| IoSliceMut::new(bytes));
        // A peer that has gone is the same as one that says nothing.
        came.count = self.state.recv((&self.socket).into(), &mut buffers, &mut meta).unwrap_or(0);
        for ((place, _), meta) in came.packets.iter_mut().zip(meta) {
            *place = meta;
        }
        came.count > 0
    }
}

impl Came {
    /// Nothing.
    pub(super) fn new() -> Self {
        Self { packets: [(); TAKE].map(|()| (RecvMeta::default(), vec![0; PACKET_MAX])), count: 0 }
    }

    /// Its datagrams, one by one.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().take(self.count).flat_map(|(meta, bytes)| {
            let bytes = bytes.get(..meta.len).unwrap_or_default();
            bytes.chunks(meta.stride.max(1))
        })
    }
}

fn send(socket: &UdpSocket, state: &UdpSocketState, peer: SocketAddr, batch: &mut Batch) {
    let Batch { bytes, each } = batch;
    let transmit = Transmit { destination: peer, ecn: None, contents: bytes, segment_size: Some(*each), src_ip: None };
    if state.try_send(socket.into(), &transmit).is_err() && state.max_gso_segments() == 1 && bytes.len() > *each {
        // The system turns out not to take several at a time.
        for datagram in bytes.chunks(*each) {
            let _ = socket.send_to(datagram, peer);
        }
    }
    bytes.clear();
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Post for Link {
    fn post(&mut self, to: Destination, datagram: &[u8]) {
        let Self { socket, state, me, peers, .. } = self;
        for (n, (peer, batch)) in peers.iter_mut().enumerate() {
            let is_meant = match to {
                Destination::Node(node) => node.index() == n,
                Destination::All => n != *me,
            };
            if !is_meant {
                continue;
            }
            if !batch.takes(datagram.len(), state.max_gso_segments()) {
                send(socket, state, *peer, batch);
            }
            batch.add(datagram);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_base::NodeId;

    fn pair() -> (Link, Link) {
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let peers: Vec<SocketAddr> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
        let [a, b] = sockets;
        (Link::new(a, 0, peers.clone()).unwrap(), Link::new(b, 1, peers).unwrap())
    }

    fn all_of(link: &Link, count: usize) -> Vec<Vec<u8>> {
        let (mut all, mut came) = (Vec::new(), Came::new());
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while all.len() < count && std::time::Instant::now() < end {
            if link.take(&mut came) {
                all.extend(came.datagrams().map(<[u8]>::to_vec));
            }
        }
        all
    }

    #[test]
    fn datagrams_of_any_lengths_come_one_by_one_and_in_order() {
        let (mut a, b) = pair();
        let lengths = [1400, 1400, 1400, 200, 200, 1472, 1, 1, 1, 1, 900, 1000, 72];
        let sent: Vec<Vec<u8>> = (0..).zip(lengths).map(|(i, len)| vec![i; len]).collect();
        for datagram in &sent {
            a.post(Destination::All, datagram);
        }
        a.post(Destination::Node(NodeId::new(1).unwrap()), b"last");
        a.flush();
        let came = all_of(&b, sent.len() + 1);
        assert_eq!(came.split_last().unwrap(), (&b"last".to_vec(), sent.as_slice()));
        assert!(!a.take(&mut Came::new()), "what goes to all does not come back");
    }

    #[test]
    fn a_batch_ends_with_a_shorter_one_and_when_it_is_full() {
        let mut batch = Batch::default();
        assert!(batch.takes(100, 3));
        batch.add(&[0; 100]);
        assert!(!batch.takes(101, 3) && batch.takes(100, 3) && batch.takes(7, 3) && !batch.takes(100, 1));
        batch.add(&[0; 100]);
        batch.add(&[0; 7]);
        assert!(!batch.takes(7, 64), "nothing follows the shorter one");
        let mut batch = Batch::default();
        (0..3).for_each(|_| batch.add(&[0; 100]));
        assert!(!batch.takes(100, 3) && batch.takes(100, 4));
        let mut batch = Batch::default();
        (0..44).for_each(|_| batch.add(&[0; 1472]));
        assert!(!batch.takes(1472, 64), "more than a packet holds");
    }
}
