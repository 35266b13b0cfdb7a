//! V3: no wake-up is lost between the last look and the sleep.
//!
//! A model of the handshake in `mailbox.rs`, run by loom through every interleaving that the memory model allows. The queue is
//! one flag, raised and looked at without ordering of its own; the wake descriptor is a flag that stays up, as an eventfd does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread;

#[derive(Default)]
struct Handshake {
    order: AtomicBool,
    asleep: AtomicBool,
    woken: AtomicBool,
}

impl Handshake {
    /// `Handle::send`.
    fn send(&self, fenced: bool) {
        self.order.store(true, Ordering::Relaxed);
        if fenced {
            fence(Ordering::SeqCst);
        }
        if self.asleep.load(Ordering::Relaxed) {
            self.woken.store(true, Ordering::Relaxed);
        }
    }

    /// `Mailbox::fall_asleep` and the second look. True: it sleeps.
    fn lie_down(&self, fenced: bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        if fenced {
            fence(Ordering::SeqCst);
        }
        !self.order.load(Ordering::Relaxed)
    }
}

/// Fails when the sidecore sleeps, an order waits, and nobody wakes it.
fn explore(control_fenced: bool, sidecore_fenced: bool) {
    loom::model(move || {
        let shared = Arc::new(Handshake::default());
        let control = {
            let shared = shared.clone();
            thread::spawn(move || shared.send(control_fenced))
        };
        let sleeps = shared.lie_down(sidecore_fenced);
        control.join().unwrap();
        let woken = shared.woken.load(Ordering::Relaxed);
        assert!(!sleeps || woken, "asleep with an order in the mailbox");
    });
}

#[test]
fn no_order_is_slept_through() {
    explore(true, true);
}

/// The seeded bug: the check catches either fence missing.
#[test]
fn a_missing_fence_is_caught() {
    for (control, sidecore) in [(false, true), (true, false), (false, false)] {
        let explored = catch_unwind(AssertUnwindSafe(|| explore(control, sidecore)));
        assert!(explored.is_err(), "without a fence ({control}, {sidecore}) nothing was found");
    }
}
