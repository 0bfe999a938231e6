//! What a call of the membership machine may use: the time, the lock with its evidence, the interconnect, the way out.

use quorate_base::capacity::DATAGRAM_MAX;
use quorate_base::event::{Event, Trace};
use quorate_base::{Instant, NodeId};
use quorate_interconnect::{Destination, Interconnect};
use quorate_master_lock::MasterLock;

use crate::message::Message;

/// Takes finished datagrams. The interconnect's stack, or a simulator's network.
pub trait Post {
    /// Sends one datagram, or drops it: every message is repeated until it is answered.
    fn post(&mut self, to: Destination, datagram: &[u8]);
}

/// For one call.
pub struct Context<'a, 't> {
    /// The call's time.
    pub now: Instant,
    /// The master lock and what the disk says of the peers.
    pub lock: &'a mut MasterLock,
    /// The envelope and what the network says of the peers.
    pub net: &'a mut Interconnect,
    /// Where datagrams go.
    pub post: &'a mut dyn Post,
    /// Where events go.
    pub trace: &'a mut Trace<'t>,
}

impl Context<'_, '_> {
    /// Seals and posts a message.
    pub fn send(&mut self, to: Destination, message: &Message) {
        let mut payload = [0; DATAGRAM_MAX];
        let mut datagram = [0; DATAGRAM_MAX];
        let sealed = message
            .encode(&mut payload)
            .ok()
            .and_then(|bytes| self.net.send(to, bytes, self.trace, &mut datagram).ok());
        match sealed.and_then(|len| datagram.get(..len)) {
            Some(bytes) => self.post.post(to, bytes),
            None => self.trace.event(Event::Note { what: "a membership message does not fit a datagram" }),
        }
    }

    /// Sends to one node.
    pub fn send_to(&mut self, node: NodeId, message: &Message) {
        self.send(Destination::Node(node), message);
    }
}
