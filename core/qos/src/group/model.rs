//! Q1, Q3: a line's word under a model checker, run by loom through every interleaving that the memory model allows.
//!
//! A model of `Line`: the word, with the number of the terms in force in its low bits, and two sets of terms, each of a number and
//! a rate. Sidecores lease by `look` and `lease`; control retunes. The steps and their orderings are those of `group.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec::Vec;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;

/// The low bits of the word.
const EPOCH: u64 = 3;

#[derive(Debug, Default)]
struct Terms {
    epoch: AtomicU64,
    per_second: AtomicU64,
}

/// What is left out, to show that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A lease adds to the word as it was when the terms were looked at, whatever it is by now.
    StoreForSwap,
    /// A lease does not ask whether its terms are still in force.
    StaleTerms,
    /// The word is given out before the terms.
    WordBeforeTerms,
}

#[derive(Debug)]
struct Line {
    word: AtomicU64,
    terms: [Terms; 2],
    bug: Bug,
}

impl Line {
    fn new(bug: Bug) -> Self {
        let line = Self { word: AtomicU64::new(0), terms: Default::default(), bug };
        line.store(0);
        line
    }

    fn stored(&self, epoch: u64) -> &Terms {
        let [even, odd] = &self.terms;
        if epoch & 1 == 0 { even } else { odd }
    }

    /// The rate is told by the number, so that terms that are half of one set and half of another show.
    fn store(&self, epoch: u64) {
        self.stored(epoch).epoch.store(epoch, Ordering::Relaxed);
        self.stored(epoch).per_second.store(rate(epoch), Ordering::Relaxed);
    }

    /// `Line::look`.
    fn look(&self) -> (u64, u64, u64) {
        loop {
            let word = self.word.load(Ordering::Acquire);
            let terms = self.stored(word);
            let epoch = terms.epoch.load(Ordering::Relaxed);
            let per_second = terms.per_second.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if (self.word.load(Ordering::Relaxed) ^ word) & EPOCH == 0 {
                return (word, epoch, per_second);
            }
            thread::yield_now();
        }
    }

    /// `Line::lease`, of one token. Gives where it lies, or nothing when the terms have changed since they were looked at.
    fn lease(&self, epoch: u64, looked: u64) -> Option<u64> {
        if self.bug == Bug::StoreForSwap {
            self.word.store(looked + (EPOCH + 1), Ordering::Release);
            return Some(looked / (EPOCH + 1));
        }
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if self.bug != Bug::StaleTerms && (word ^ epoch) & EPOCH != 0 {
                return None;
            }
            let next = word + EPOCH + 1;
            match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    assert_eq!(word & EPOCH, epoch & EPOCH, "by terms that are out of force");
                    return Some(word / (EPOCH + 1));
                }
                Err(present) => word = present,
            }
        }
    }

    /// `Line::retune`, to the next terms, with the places of the line as they are.
    fn retune(&self) {
        let (mut word, epoch, _) = self.look();
        let next_epoch = epoch + 1;
        fence(Ordering::Release);
        if self.bug != Bug::WordBeforeTerms {
            self.store(next_epoch);
        }
        loop {
            let next = word & !EPOCH | next_epoch & EPOCH;
            match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(present) => word = present,
            }
        }
        if self.bug == Bug::WordBeforeTerms {
            self.store(next_epoch);
        }
    }
}

fn rate(epoch: u64) -> u64 {
    100 + epoch
}

/// A sidecore leases `count` tokens. Gives where they lie, and checks that its terms were one set, and the one in force.
fn lease(line: &Line, count: usize) -> Vec<u64> {
    let mut places = Vec::new();
    while places.len() < count {
        let (word, epoch, per_second) = line.look();
        assert_eq!((epoch & EPOCH, per_second), (word & EPOCH, rate(epoch)), "terms of two sets");
        match line.lease(epoch, word) {
            Some(place) => places.push(place),
            None => thread::yield_now(),
        }
    }
    places
}

/// Two sidecores lease, and control retunes `retunes` times: no token is leased twice or lost, and nobody goes by terms that are not
/// whole.
fn explore(bug: Bug, leased: [usize; 2], retunes: usize) {
    loom::model(move || {
        let line = Arc::new(Line::new(bug));
        let [here, there] = leased;
        let sidecore = (there > 0).then(|| {
            let line = line.clone();
            thread::spawn(move || lease(&line, there))
        });
        let control = (retunes > 0).then(|| {
            let line = line.clone();
            thread::spawn(move || (0..retunes).for_each(|_| line.retune()))
        });
        let mut places = lease(&line, here);
        if let Some(sidecore) = sidecore {
            places.extend(sidecore.join().unwrap());
        }
        if let Some(control) = control {
            control.join().unwrap();
        }
        places.sort_unstable();
        assert_eq!(places, (0..places.len() as u64).collect::<Vec<_>>(), "a token twice, or none");
        let (word, epoch, _) = line.look();
        assert_eq!(word / (EPOCH + 1), places.len() as u64);
        assert_eq!(epoch, retunes as u64);
    });
}

/// Q1: whatever two sidecores do at once, the stretches that they lease do not overlap.
#[test]
fn no_token_is_leased_twice() {
    explore(Bug::None, [2, 2], 0);
}

/// Q3: whoever leases while control retunes, twice so that the first set of terms is stored over, goes by terms that are whole and in
/// force.
#[test]
fn terms_that_are_stored_over_are_used_by_nobody() {
    explore(Bug::None, [1, 0], 2);
    explore(Bug::None, [1, 1], 1);
}

/// The seeded bugs: each is found.
#[test]
fn a_word_that_is_stored_and_terms_that_are_stale_or_late_are_caught() {
    for (bug, leased, retunes) in
        [(Bug::StoreForSwap, [1, 1], 0), (Bug::StaleTerms, [1, 0], 1), (Bug::WordBeforeTerms, [1, 0], 1)]
    {
        let explored = catch_unwind(AssertUnwindSafe(|| explore(bug, leased, retunes)));
        assert!(explored.is_err(), "{bug:?} was not found");
    }
}
