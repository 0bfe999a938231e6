//! The interconnect's stack on the NIC.

use quorate_arch_x86_64::clock;
use quorate_base::{Instant, NodeId};
use quorate_interconnect::Destination;
use quorate_interconnect::stack::{Stack, StackError, StackStorage};
use quorate_node::Post;
use spin::Mutex;

use crate::nic::Nic;

static STORAGE: Mutex<Option<&'static mut StackStorage<'static>>> = Mutex::new(None);

/// Gives the stack its memory. Once, at start.
pub fn give_storage(storage: &'static mut StackStorage<'static>) {
    *STORAGE.lock() = Some(storage);
}

/// NIC and stack. Until the node's id is known there is no stack and nothing is sent.
pub struct Link {
    nic: Nic,
    stack: Option<Stack<'static>>,
    carrier: bool,
    looked_at: Instant,
    posted: bool,
    /// The NIC was told not to interrupt.
    quiet: bool,
}

/// How often the link's state is looked at, µs: the device raises an interrupt too, so this is for devices that do not.
const CARRIER_US: u64 = 100_000;

impl Link {
    /// A NIC without a node yet.
    pub fn new(nic: Nic) -> Self {
        Self { nic, stack: None, carrier: true, looked_at: Instant::ZERO, posted: true, quiet: false }
    }

    /// The NIC's address.
    pub fn mac(&self) -> [u8; 6] {
        self.nic.mac()
    }

    /// The node is known: from here on it is heard.
    ///
    /// # Errors
    /// The NIC cannot serve.
    pub fn open(&mut self, node: NodeId, now: Instant) -> Result<(), StackError> {
        if self.stack.is_none()
            && let Some(storage) = STORAGE.lock().take()
        {
            let mac = self.nic.mac();
            self.stack = Some(Stack::new(storage, node, mac, &mut self.nic, now)?);
        }
        Ok(())
    }

    /// Moves frames both ways, if there are any: most turns of an idle node are about something else.
    pub fn poll(&mut self, now: Instant) {
        self.nic.settle();
        let Some(stack) = &mut self.stack else { return };
        let has_work = self.nic.has_work();
        if has_work && !self.quiet {
            self.nic.set_interrupts(false);
            self.quiet = true;
        }
        if self.posted || has_work || stack.poll_timeout(now) <= now {
            self.posted = false;
            stack.poll(now, &mut self.nic);
        }
    }

    /// Hands one datagram to `take`, if one came.
    pub fn receive(&mut self, take: impl FnOnce(&[u8])) -> bool {
        self.stack.as_mut().is_some_and(|stack| stack.receive(|bytes, _| take(bytes)))
    }

    /// The link's state if it changed.
    pub fn carrier_change(&mut self, now: Instant) -> Option<bool> {
        if now.since_us(self.looked_at) < CARRIER_US {
            return None;
        }
        self.looked_at = now;
        let carrier = self.nic.has_carrier();
        (core::mem::replace(&mut self.carrier, carrier) != carrier).then_some(carrier)
    }

    /// When [`Link::poll`] is due without an interrupt: what comes from here on interrupts. The last to be asked before the
    /// node sleeps.
    pub fn poll_timeout(&mut self, now: Instant) -> Instant {
        let Some(stack) = &self.stack else { return Instant::FAR };
        let due = stack.poll_timeout(now).min(self.nic.poll_timeout(now));
        if !self.quiet || due <= now {
            return due;
        }
        self.nic.set_interrupts(true);
        self.quiet = false;
        if self.nic.has_work() { now } else { due }
    }
}

impl Post for Link {
    fn post(&mut self, to: Destination, datagram: &[u8]) {
        self.posted = true;
        if let Some(stack) = &mut self.stack {
            // No room is a lost datagram: every message is repeated until it is answered. The stack counts it.
            let _ = stack.send_through(Instant(clock::now_us()), to, datagram, &mut self.nic);
        }
    }
}
