//! The dance under a model checker: every interleaving, every value that a relaxed load may return.
//!
//! The words are loom's, the steps are those that rings run.

use std::cell::Cell;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU16, Ordering, fence};
use loom::thread;

use super::*;
use crate::seeded;

/// The words of a ring, as both sides see them.
#[derive(Default)]
struct Shared {
    avail_idx: AtomicU16,
    used_idx: AtomicU16,
    avail_event: AtomicU16,
    used_event: AtomicU16,
    /// `avail.flags` and `used.flags`: "do not tell me".
    driver_quiet: AtomicBool,
    device_quiet: AtomicBool,
}

struct Device(Arc<Shared>);
struct Driver(Arc<Shared>);

macro_rules! words {
    ($side:ty, their $their_index:ident $their_event:ident $they_quiet:ident, our $index:ident $event:ident $quiet:ident) => {
        impl Words for $side {
            fn their_index(&self) -> u16 {
                self.0.$their_index.load(Ordering::Acquire)
            }
            fn set_our_index(&self, index: u16) {
                self.0.$index.store(index, Ordering::Release);
            }
            fn their_event(&self) -> u16 {
                self.0.$their_event.load(Ordering::Relaxed)
            }
            fn set_our_event(&self, index: u16) {
                self.0.$event.store(index, Ordering::Relaxed);
            }
            fn they_are_quiet(&self) -> bool {
                self.0.$they_quiet.load(Ordering::Relaxed)
            }
            fn set_quiet(&self, quiet: bool) {
                self.0.$quiet.store(quiet, Ordering::Relaxed);
            }
            fn full_fence(&self) {
                fence(Ordering::SeqCst);
            }
        }
    };
}
words!(Device, their avail_idx used_event driver_quiet, our used_idx avail_event device_quiet);
words!(Driver, their used_idx avail_event device_quiet, our avail_idx used_event driver_quiet);

/// One side, asleep or about to be, hears of `count` pieces of work that the other side publishes one by one.
///
/// Panics when it sleeps, work is there, and nobody has woken it.
fn check_no_lost_wake_up<S, T>(event_idx: bool, count: u16, ends: fn(Arc<Shared>) -> (S, T))
where
    S: Words + Send + 'static,
    T: Words + 'static,
{
    loom::model(move || {
        let (teller, sleeper) = ends(Arc::new(Shared::default()));
        // The sleeper was awake until now.
        disarm(&sleeper, event_idx, 0);
        let telling = thread::spawn(move || {
            (1..=count).any(|index| {
                teller.set_our_index(index);
                owes(&teller, event_idx, index, index - 1)
            })
        });
        // It takes what it sees; when it sees no more it arms, and sleeps if there is still none.
        let mut taken = sleeper.their_index();
        while arm(&sleeper, event_idx, taken) {
            taken = sleeper.their_index();
        }
        let woken = telling.join().unwrap();
        assert!(woken || taken == count, "asleep with work waiting, and nobody woke it");
    });
}

fn device_sleeps(event_idx: bool) {
    check_no_lost_wake_up(event_idx, 2, |shared| (Driver(shared.clone()), Device(shared)));
}

fn driver_sleeps(event_idx: bool) {
    check_no_lost_wake_up(event_idx, 2, |shared| (Device(shared.clone()), Driver(shared)));
}

/// V3.
#[test]
fn no_kick_is_lost_while_arming() {
    device_sleeps(true);
    device_sleeps(false);
}

/// V3, the other way round.
#[test]
fn no_call_is_lost_while_publishing() {
    driver_sleeps(true);
    driver_sleeps(false);
}

/// V3, seeded.
#[test]
fn a_missing_fence_is_caught() {
    for event_idx in [true, false] {
        let lost = std::panic::catch_unwind(|| seeded::with(Bug::MissingFence, || device_sleeps(event_idx)));
        assert!(lost.is_err(), "the check cannot fail");
    }
}

/// A device that is woken for something else, looks, and goes back to sleep without asking anew where nothing was taken.
///
/// Panics when it sleeps, work is there, and no wake-up is under way.
fn device_stays_armed(event_idx: bool) {
    const COUNT: u16 = 2;
    loom::model(move || {
        let shared = Arc::new(Shared::default());
        // What a kick descriptor is to an edge-triggered sleeper: raised by a kick, taken by whoever wakes.
        let kicked = Arc::new(AtomicBool::new(false));
        let (driver, device) = (Driver(shared.clone()), Device(shared));
        let mut asked = Asked::default();
        asked.disarm(&device, event_idx, 0);
        let telling = {
            let kicked = kicked.clone();
            thread::spawn(move || {
                for index in 1..=COUNT {
                    driver.set_our_index(index);
                    if owes(&driver, event_idx, index, index - 1) {
                        kicked.swap(true, Ordering::AcqRel);
                    }
                }
            })
        };
        let mut taken = device.their_index();
        let mut lie_down = |taken: &mut u16| {
            while asked.arm(&device, event_idx, *taken) {
                *taken = device.their_index();
            }
        };
        lie_down(&mut taken);
        // Woken, by a kick or by anything else: the breath looks.
        kicked.swap(false, Ordering::AcqRel);
        taken = device.their_index();
        lie_down(&mut taken);
        telling.join().unwrap();
        assert!(
            kicked.swap(false, Ordering::AcqRel) || taken == COUNT,
            "asleep with work waiting, and no kick under way"
        );
    });
}

/// V3.
#[test]
fn no_kick_is_lost_by_a_ring_that_stays_armed() {
    device_stays_armed(true);
    device_stays_armed(false);
}

/// V3, seeded.
#[test]
fn a_ring_that_is_armed_no_more_is_not_taken_for_one_that_is() {
    let lost = std::panic::catch_unwind(|| seeded::with(Bug::StaleAsk, || device_stays_armed(true)));
    assert!(lost.is_err(), "the check cannot fail");
}

/// What is put in the ring before the index moves is there for whoever sees the index.
#[test]
fn an_index_brings_its_entries_along() {
    loom::model(|| {
        let (shared, entry) = (Arc::new(Shared::default()), Arc::new(AtomicU16::new(0)));
        let (device, entry_of_device) = (Device(shared.clone()), entry.clone());
        let publishing = thread::spawn(move || {
            entry_of_device.store(7, Ordering::Relaxed);
            device.set_our_index(1);
        });
        if Driver(shared).their_index() == 1 {
            assert_eq!(entry.load(Ordering::Relaxed), 7);
        }
        publishing.join().unwrap();
    });
}

/// Words that only remember: what a side asks for and decides.
#[derive(Default)]
struct Plain {
    index: Cell<u16>,
    event: Cell<u16>,
    quiet: Cell<bool>,
}

impl Words for Plain {
    fn their_index(&self) -> u16 {
        self.index.get()
    }
    fn set_our_index(&self, index: u16) {
        self.index.set(index);
    }
    fn their_event(&self) -> u16 {
        self.event.get()
    }
    fn set_our_event(&self, index: u16) {
        self.event.set(index);
    }
    fn they_are_quiet(&self) -> bool {
        self.quiet.get()
    }
    fn set_quiet(&self, quiet: bool) {
        self.quiet.set(quiet);
    }
    fn full_fence(&self) {}
}

#[test]
fn a_disarmed_side_is_told_nothing_for_a_whole_round_of_the_index() {
    for start in [0u16, 1, 0x7fff, 0xffff] {
        let words = Plain::default();
        disarm(&words, true, start);
        let told =
            (1..=u16::MAX).find(|&n| owes(&words, true, start.wrapping_add(n), start.wrapping_add(n - 1)));
        assert_eq!(told, None, "disarmed at {start:#x}");
    }
}
