use vfiomux_guest::{Call, Head, Kick, SplitRing};

use crate::Turn;

/// A ring to be served, and what belongs to it.
#[derive(Debug)]
pub struct RingStart {
    /// The ring, resolved in the memory that the channel has.
    pub ring: SplitRing,
    /// Interrupts the guest; without one the guest polls.
    pub call: Option<Call>,
    /// Hears the guest; without one the sidecore polls and never sleeps.
    pub kick: Option<Kick>,
}

/// A ring that is served no more.
#[derive(Debug)]
pub struct StoppedRing {
    /// Which of the channel's rings.
    pub index: u16,
    /// The next available entry: where a successor begins (vhost-user: GET_VRING_BASE).
    pub base: u16,
    /// Still interrupts the guest.
    pub call: Option<Call>,
    /// Still hears the guest.
    pub kick: Option<Kick>,
}

/// A ring in service.
#[derive(Debug)]
pub(crate) struct ServedRing {
    pub(crate) ring: SplitRing,
    pub(crate) call: Option<Call>,
    pub(crate) kick: Option<Kick>,
    /// Chains known to wait.
    pub(crate) waiting: u16,
    /// Since when they may have waited: the last look that did not find them.
    pub(crate) since_ns: u64,
    /// Nothing new is taken; what is out, and what is to be taken again, is brought to an end.
    pub(crate) stopping: bool,
    /// Something was returned and is not published.
    pub(crate) dirty: bool,
    /// Where the ring stood when its sidecore last lay down.
    lay_down_at: u16,
    /// Times since then that it lay down and the ring still stood there.
    pub(crate) quiet_sleeps: u8,
}

impl ServedRing {
    pub(crate) fn new(start: RingStart) -> Self {
        let RingStart { ring, call, kick } = start;
        let lay_down_at = ring.next_avail();
        Self {
            ring,
            call,
            kick,
            waiting: 0,
            since_ns: 0,
            stopping: false,
            dirty: false,
            lay_down_at,
            quiet_sleeps: 0,
        }
    }

    /// Its sidecore is about to sleep. Gives how many times in a row that was with nothing taken from the ring in between; none
    /// are counted for a ring whose guest would kick for every request while it is asked to kick.
    pub(crate) fn lies_down(&mut self) -> u8 {
        let next = self.ring.next_avail();
        let quiet = next == self.lay_down_at && self.ring.may_stay_armed();
        self.lay_down_at = next;
        self.quiet_sleeps = if quiet { self.quiet_sleeps.saturating_add(1) } else { 0 };
        self.quiet_sleeps
    }

    /// Looks for what the guest has put on the ring, unless some is known to wait. False: it did not look, so that what has come
    /// since an earlier look is still to be found.
    #[inline]
    pub(crate) fn look(&mut self, turn: Turn) -> bool {
        if self.waiting > 0 {
            return false;
        }
        self.waiting = self.ring.pending();
        // What came in just before the last look would have been seen then; so this is the longest that it has waited.
        self.since_ns = turn.looked_ns.min(turn.now_ns);
        true
    }

    /// Leaves a chain that was popped where it was: on the guest's ring, or among those that are popped `again`.
    #[cold]
    pub(crate) fn leave(&mut self, head: Head, again: bool) {
        if again {
            self.ring.put_back(head);
        } else {
            self.ring.leave(head);
        }
        self.waiting = self.waiting.saturating_add(1);
    }

    /// Lets the guest see what was returned. Gives whether it was called.
    pub(crate) fn publish(&mut self) -> bool {
        self.ring.publish();
        self.ring.should_call() && self.call.as_ref().is_some_and(Call::signal)
    }

    /// Whether none of its requests is with us.
    pub(crate) fn is_drained(&self) -> bool {
        self.ring.out() == 0 && self.ring.resubmits() == 0
    }
}
