//! Getting ready to sleep.
//!
//! A ring that has something now and then is asked for kicks before a sleep, and asked for none while its sidecore is awake
//! and looks by itself. A ring that had nothing for several sleeps is left as it is, asking for kicks: its guest pays for one,
//! with the next request, and meanwhile neither falling asleep nor waking up costs anything for it. So what a sleep costs
//! grows with the rings that are at work, not with those that are there.

use std::os::fd::{AsFd, BorrowedFd};

use crate::BlockChannel;

/// Sleeps without a request after which a ring is left asking for kicks.
const QUIET_SLEEPS: u8 = 2;

/// Whether a channel lets its sidecore sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// There is nothing to wait for, or it will kick.
    Sleep(Asked),
    /// Requests wait already.
    Ready,
    /// A ring has no descriptor to kick: it must be polled.
    Poll,
}

/// What a channel's guests are asked for. Stands until the channel has a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Asked {
    /// Nothing that is worth remembering.
    #[default]
    Nothing,
    /// Kicks, until the sidecore looks by itself.
    Kicks,
    /// Kicks, also while the sidecore is awake.
    KicksAlways,
}

impl BlockChannel {
    /// Asks the guest to kick for new requests, then looks once more.
    ///
    /// `completions_due`: the device has commands in flight, and will wake us when one ends. Then a channel that waits for
    /// room need not be looked at before.
    pub fn arm(&mut self, completions_due: bool) -> Rest {
        if self.fault.is_some() || self.lane.is_none() || self.starved && completions_due {
            return Rest::Sleep(Asked::Nothing);
        }
        let held = self.holds > 0 || self.suspended;
        // What waits is not affordable before a known time, and whoever puts us to sleep sees to it that we are woken then.
        if self.is_limited() && !held && self.rings.iter().flatten().all(|served| !served.stopping) {
            return Rest::Sleep(Asked::Nothing);
        }
        let (mut asked, mut polled) = (Asked::KicksAlways, false);
        for served in self.rings.iter_mut().flatten() {
            if held || served.stopping {
                if served.ring.resubmits() > 0 {
                    return Rest::Ready;
                }
                asked = Asked::Nothing;
            } else if served.kick.is_none() {
                polled = true;
            } else if served.waiting > 0 || served.ring.arm() {
                return Rest::Ready;
            } else if served.lies_down() < QUIET_SLEEPS {
                asked = asked.min(Asked::Kicks);
            }
        }
        if polled { Rest::Poll } else { Rest::Sleep(asked) }
    }

    /// Whether its last turn ended for want of room.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// Asks the guest not to kick: its rings are looked at by themselves. Those that had nothing for long stay as they are.
    pub fn disarm(&mut self) {
        if self.fault.is_some() || self.lane.is_none() {
            return;
        }
        for served in self.rings.iter_mut().flatten() {
            if served.quiet_sleeps < QUIET_SLEEPS {
                served.ring.disarm();
            }
        }
    }

    /// The descriptors by which the guest kicks, each with its ring's index.
    pub fn kicks(&self) -> impl Iterator<Item = (u16, BorrowedFd<'_>)> {
        (0u16..)
            .zip(&self.rings)
            .filter_map(|(index, served)| Some((index, served.as_ref()?.kick.as_ref()?.as_fd())))
    }

    /// The descriptor by which the guest kicks for one ring.
    #[must_use]
    pub fn kick(&self, index: u16) -> Option<BorrowedFd<'_>> {
        Some(self.rings.get(usize::from(index))?.as_ref()?.kick.as_ref()?.as_fd())
    }

    /// The guest kicked: counted.
    pub fn count_kick(&self) {
        self.counters.kicks.add(1);
    }
}
