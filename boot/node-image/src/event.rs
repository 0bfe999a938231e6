//! An event: an interrupt handler or a task raises it, one task waits for it.
//!
//! Raising twice before the wait is one event, as with interrupts. Events are never lost: a wait that starts after the raise ends at once.

use crate::timers::sleep_until;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use critical_section::Mutex;

/// An event with room for one waiter.
pub struct Event {
    raised: Mutex<Cell<bool>>,
    waiter: Mutex<RefCell<Option<Waker>>>,
}

impl Event {
    /// Not raised.
    pub const fn new() -> Self {
        Self { raised: Mutex::new(Cell::new(false)), waiter: Mutex::new(RefCell::new(None)) }
    }

    /// Raises it. Short enough for an interrupt handler.
    pub fn raise(&self) {
        critical_section::with(|section| {
            self.raised.borrow(section).set(true);
            if let Some(waiter) = self.waiter.borrow_ref(section).as_ref() {
                waiter.wake_by_ref();
            }
        });
    }

    /// Ready, and not raised any more, if it was raised; else keeps the waker.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        critical_section::with(|section| {
            if self.raised.borrow(section).replace(false) {
                return Poll::Ready(());
            }
            let mut waiter = self.waiter.borrow_ref_mut(section);
            match waiter.as_mut() {
                Some(waker) => waker.clone_from(context.waker()),
                None => *waiter = Some(context.waker().clone()),
            }
            Poll::Pending
        })
    }

    /// Waits until it is raised.
    pub async fn wait(&self) {
        poll_fn(|context| self.poll(context)).await;
    }

    /// Waits until it is raised, at most until `deadline_us` of the clock. `true` if it was raised.
    pub async fn wait_until(&self, deadline_us: u64) -> bool {
        let mut sleep = sleep_until(deadline_us);
        poll_fn(|context| match (self.poll(context), Pin::new(&mut sleep).poll(context)) {
            (Poll::Ready(()), _) => Poll::Ready(true),
            (Poll::Pending, Poll::Ready(())) => Poll::Ready(false),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        })
        .await
    }
}
