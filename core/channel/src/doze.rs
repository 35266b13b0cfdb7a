//! Getting ready to sleep.

use std::os::fd::{AsFd, BorrowedFd};

use crate::BlockChannel;

/// Whether a channel lets its sidecore sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Its guests will kick, or there is nothing to wait for.
    Sleep,
    /// Requests wait already.
    Ready,
    /// A ring has no descriptor to kick: it must be polled.
    Poll,
}

impl BlockChannel {
    /// Asks the guest to kick for new requests, then looks once more.
    ///
    /// `completions_due`: the device has commands in flight, and will wake us when one ends. Then a channel that waits for
    /// room need not be looked at before.
    pub fn arm(&mut self, completions_due: bool) -> Rest {
        if self.fault.is_some() || self.lane.is_none() || self.starved && completions_due {
            return Rest::Sleep;
        }
        let held = self.holds > 0 || self.suspended;
        let mut rest = Rest::Sleep;
        for served in self.rings.iter_mut().flatten() {
            if held || served.stopping {
                if served.ring.resubmits() > 0 {
                    return Rest::Ready;
                }
            } else if served.kick.is_none() {
                rest = Rest::Poll;
            } else if served.ring.arm() {
                return Rest::Ready;
            }
        }
        rest
    }

    /// Asks the guest not to kick: its rings are looked at by themselves.
    pub fn disarm(&mut self) {
        if self.fault.is_some() || self.lane.is_none() {
            return;
        }
        for served in self.rings.iter_mut().flatten() {
            served.ring.disarm();
        }
    }

    /// The descriptors by which the guest kicks, each with its ring's index.
    pub fn kicks(&self) -> impl Iterator<Item = (u16, BorrowedFd<'_>)> {
        (0u16..)
            .zip(&self.rings)
            .filter_map(|(index, served)| Some((index, served.as_ref()?.kick.as_ref()?.as_fd())))
    }

    /// The guest kicked: counted.
    pub fn count_kick(&self) {
        self.counters.kicks.add(1);
    }
}
