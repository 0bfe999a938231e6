//! Deadlines of tasks. The executor programs the machine's one timer to the nearest.
//!
//! A sleeping future has a slot from its first poll until it is ready or dropped.

use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use critical_section::Mutex;
use quorate_arch_x86_64::clock;

/// Sleeping futures at the same time: each task sleeps in one or two places.
pub const TIMERS_MAX: usize = 32;

struct Entry {
    deadline_us: u64,
    waker: Waker,
}

static SLOTS: Mutex<RefCell<[Option<Entry>; TIMERS_MAX]>> = Mutex::new(RefCell::new([const { None }; TIMERS_MAX]));

/// Sleeps until `clock::now_us()` is at least `deadline_us`.
pub const fn sleep_until(deadline_us: u64) -> Sleep {
    Sleep { deadline_us, slot: None }
}

/// From [`sleep_until`].
pub struct Sleep {
    deadline_us: u64,
    slot: Option<usize>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if clock::now_us() >= self.deadline_us {
            self.release();
            return Poll::Ready(());
        }
        let entry = Entry { deadline_us: self.deadline_us, waker: context.waker().clone() };
        critical_section::with(|section| {
            let mut slots = SLOTS.borrow_ref_mut(section);
            let slot = self.slot.or_else(|| slots.iter().position(Option::is_none));
            // More sleepers than slots is a mistake in the composition of the image, not something a peer can cause.
            let slot = slot.unwrap_or_else(|| panic!("more than {TIMERS_MAX} sleeping futures"));
            slots[slot] = Some(entry);
            self.slot = Some(slot);
        });
        Poll::Pending
    }
}

impl Sleep {
    fn release(&mut self) {
        if let Some(slot) = self.slot.take() {
            critical_section::with(|section| SLOTS.borrow_ref_mut(section)[slot] = None);
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.release();
    }
}

/// Wakes everyone whose deadline has passed and returns the nearest of the others.
pub fn wake_expired(now_us: u64) -> Option<u64> {
    critical_section::with(|section| {
        let slots = SLOTS.borrow_ref(section);
        let mut nearest: Option<u64> = None;
        for entry in slots.iter().flatten() {
            if entry.deadline_us <= now_us {
                entry.waker.wake_by_ref();
            } else {
                nearest = Some(nearest.map_or(entry.deadline_us, |nearest| nearest.min(entry.deadline_us)));
            }
        }
        nearest
    })
}
