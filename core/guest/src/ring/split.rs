//! The split virtqueue (virtio 1.3 2.7), device side.
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::collections::VecDeque;

use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC};

use super::ahead::{self, Ahead};
use super::chain::Chain;
use super::event::{self, Asked, Words};
use super::heads::{Head, HeadSet};
use super::walk::walk;
use super::words::{RingWatch, RingWords};
use crate::inflight::InflightQueue;
use crate::memory::{Hint, MemoryMap};
use crate::seeded::{self, Bug};
use crate::{GuestError, RingFault};

/// A ring as a front-end sets it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSetup {
    /// Entries (SET_VRING_NUM).
    pub size: u32,
    /// The front-end's address of the descriptor table (SET_VRING_ADDR).
    pub desc_user_addr: u64,
    /// The front-end's address of the available ring.
    pub avail_user_addr: u64,
    /// The front-end's address of the used ring.
    pub used_user_addr: u64,
    /// The available index to begin at (SET_VRING_BASE). With an in-flight region, that region and the used ring say it.
    pub base: u16,
    /// The features that driver and device agreed on.
    pub features: u64,
}

/// A split virtqueue in service. Belongs to one thread at a time.
///
/// A breath takes chains with [`pop`](Self::pop), returns them with [`push_used`](Self::push_used) as they complete,
/// and ends in one [`publish`](Self::publish) and one look at [`should_call`](Self::should_call).
#[derive(Debug)]
pub struct SplitRing {
    words: RingWords,
    setup: RingSetup,
    event_idx: bool,
    asked: Asked,
    indirect: bool,
    /// The next available entry to take.
    next_avail: u16,
    /// The driver's available index when last looked at.
    avail_index: u16,
    /// The next used entry to fill.
    next_used: u16,
    /// The used index that the driver can see.
    published: u16,
    /// The used index at which the driver was last told, or asked whether it wants to be.
    told: u16,
    /// The driver may be waiting for a call that a predecessor of ours owed it.
    call_owed: bool,
    out: HeadSet,
    ahead: Ahead,
    /// For addresses seen ahead: one of its own, as those of a chain's buffers lie elsewhere.
    ahead_hint: Hint,
    strays: u64,
    inflight: Option<InflightQueue>,
    /// What a predecessor had taken and not returned, in the order in which it took them; then what was put back.
    resubmit: VecDeque<u16>,
}

impl SplitRing {
    /// Starts a ring: finds its parts in the front-end's memory and picks up where a predecessor left off.
    pub fn new(
        map: &MemoryMap,
        setup: &RingSetup,
        inflight: Option<InflightQueue>,
    ) -> Result<Self, GuestError> {
        let words = RingWords::resolve(map, setup)?;
        let used = words.used_index();
        let mut ring = Self {
            setup: *setup,
            event_idx: setup.features & RING_EVENT_IDX != 0,
            asked: Asked::default(),
            indirect: setup.features & RING_INDIRECT_DESC != 0,
            next_avail: setup.base,
            avail_index: setup.base,
            next_used: used,
            published: used,
            told: used,
            // A needless call does no harm; a call lost between publishing and a crash would hang the guest.
            call_owed: used != 0,
            out: HeadSet::new(words.size()),
            ahead: Ahead::new(words.size()),
            ahead_hint: Hint::default(),
            strays: 0,
            inflight,
            resubmit: VecDeque::new(),
            words,
        };
        if let Some(inflight) = &mut ring.inflight {
            ring.resubmit = inflight.recover(ring.words.size(), used)?.into();
            // Every chain taken is in the used ring or still in flight, so their number says how far we had come.
            ring.next_avail = used.wrapping_add(ring.resubmits());
            ring.avail_index = ring.next_avail;
        }
        // Room for all that can be put back, so that the data path need not make any.
        ring.resubmit.reserve(usize::from(ring.words.size()));
        Ok(ring)
    }

    /// Finds the ring's parts again in memory that replaces what it was started in. On failure it stays where it was.
    pub fn relocate(&mut self, map: &MemoryMap) -> Result<(), GuestError> {
        self.words = RingWords::resolve(map, &self.setup)?;
        self.asked.forget();
        Ok(())
    }

    /// A look at what the guest puts on the ring, from outside of it. Good until the ring is relocated or stopped.
    #[must_use]
    pub fn watch(&self) -> RingWatch {
        self.words.watch(self.next_avail)
    }

    /// How many entries the ring has.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.words.size()
    }

    /// How many chains wait to be popped. Looks at the ring only if none are known to.
    #[inline]
    pub fn pending(&mut self) -> u16 {
        if self.next_avail == self.avail_index {
            self.look();
        }
        // Both are at most the ring's size, unless the guest's index is wrong, of which `pop` tells.
        self.avail_index.wrapping_sub(self.next_avail).saturating_add(self.resubmits())
    }

    /// Looks at what the guest has put on the ring.
    #[inline(always)]
    fn look(&mut self) {
        self.avail_index = self.words.their_index();
        let waiting = self.avail_index.wrapping_sub(self.next_avail);
        self.ahead.recall(&self.words, self.next_avail, waiting);
    }

    /// Takes the next chain: its memory into `chain`, and the head with which it is returned.
    ///
    /// A ring whose guest broke the rules takes nothing, so that [`Self::next_avail`] still names the chain at fault.
    #[inline(always)]
    pub fn pop(&mut self, map: &MemoryMap, chain: &mut Chain) -> Result<Option<Head>, RingFault> {
        if !self.resubmit.is_empty() {
            return self.pop_again(map, chain);
        }
        if self.next_avail == self.avail_index {
            self.look();
            if self.next_avail == self.avail_index {
                return Ok(None);
            }
        }
        let waiting = self.avail_index.wrapping_sub(self.next_avail);
        if waiting > self.words.size() {
            return Err(RingFault::AvailIndex);
        }
        let index = self.words.avail_entry(self.next_avail);
        if ahead::reaches(waiting) {
            ahead::follow(&self.words, map, self.next_avail, &mut self.ahead_hint);
        }
        let table = walk(&self.words, map, self.indirect, index, chain)?;
        self.ahead.remember(index, table, chain);
        if !self.out.insert(index) {
            return Err(RingFault::HeadInFlight);
        }
        if let Some(inflight) = &mut self.inflight {
            inflight.begin(index);
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(Head { index }))
    }

    #[cold]
    fn pop_again(&mut self, map: &MemoryMap, chain: &mut Chain) -> Result<Option<Head>, RingFault> {
        let Some(&index) = self.resubmit.front() else { return Ok(None) };
        walk(&self.words, map, self.indirect, index, chain)?;
        if !self.out.insert(index) {
            return Err(RingFault::HeadInFlight);
        }
        self.resubmit.pop_front();
        Ok(Some(Head { index }))
    }

    /// Takes a head back without returning it to the guest, to be popped again, after what is to be popped again already.
    ///
    /// For a chain whose commands were ended before their time. What hangs from the head is read anew: no command of the
    /// earlier reading is under way.
    pub fn put_back(&mut self, head: Head) {
        if self.out.remove(head.index) {
            self.resubmit.push_back(head.index);
        } else {
            self.strays += 1;
        }
    }

    /// Leaves the chain that was popped last on the guest's ring after all, as if it had not been popped: for one that must wait,
    /// and may wait with the guest. It is the next to be popped, and what hangs from it is read anew.
    ///
    /// Not for a chain that was popped again: it is ours already, and is [put back](Self::put_back).
    pub fn leave(&mut self, head: Head) {
        if !self.out.remove(head.index) {
            self.strays += 1;
            return;
        }
        if let Some(inflight) = &mut self.inflight {
            inflight.withdraw(head.index);
        }
        self.next_avail = self.next_avail.wrapping_sub(1);
    }

    /// How many chains are to be popped again: a predecessor's, and those put back.
    #[inline]
    #[must_use]
    pub fn resubmits(&self) -> u16 {
        // At most one for each of the ring's heads, whose number fits 16 bits.
        u16::try_from(self.resubmit.len()).unwrap_or(u16::MAX)
    }

    /// Returns a chain of which `len` bytes were written. The guest sees it after [`Self::publish`].
    #[inline(always)]
    pub fn push_used(&mut self, head: Head, len: u32) {
        let Head { index } = head;
        // A head of another ring, or of this one before it was stopped: the guest must not get it from us (I2).
        if !self.out.remove(index) {
            self.strays += 1;
            return;
        }
        self.push(index, len);
        if seeded::is(Bug::DoubleReturn) {
            self.push(index, len);
        }
    }

    #[inline(always)]
    fn push(&mut self, index: u16, len: u32) {
        self.words.set_used_entry(self.next_used, index, len);
        if let Some(inflight) = &mut self.inflight {
            inflight.link(index);
        }
        self.next_used = self.next_used.wrapping_add(1);
    }

    /// Lets the guest see all that was returned: one store.
    #[inline]
    pub fn publish(&mut self) {
        if self.next_used == self.published {
            return;
        }
        self.words.set_our_index(self.next_used);
        if let Some(inflight) = &mut self.inflight {
            inflight.complete(self.next_used);
        }
        self.published = self.next_used;
    }

    /// Whether the guest wants to be called for what was published since this was last asked. True at most once for it.
    #[inline]
    pub fn should_call(&mut self) -> bool {
        if self.published == self.told && !self.call_owed {
            return false;
        }
        let told = std::mem::replace(&mut self.told, self.published);
        let owed = std::mem::take(&mut self.call_owed);
        event::owes(&self.words, self.event_idx, self.published, told) || owed
    }

    /// Asks the guest to kick, then looks once more: true when there is work already, and sleeping would be wrong.
    ///
    /// On a ring that was armed before, has had nothing taken from it since and was not disarmed, that is a look and no more.
    #[inline]
    #[must_use = "when there is work already, the guest will not kick for it"]
    pub fn arm(&mut self) -> bool {
        self.asked.arm(&self.words, self.event_idx, self.next_avail) || !self.resubmit.is_empty()
    }

    /// Whether a ring that is armed may stay so while somebody is awake and looks by itself. With event indices the guest
    /// kicks once for that, with the next that it puts on the ring; without, it would kick every time.
    #[inline]
    #[must_use]
    pub fn may_stay_armed(&self) -> bool {
        self.event_idx
    }

    /// Asks the guest not to kick: somebody is awake and looks by itself.
    #[inline]
    pub fn disarm(&mut self) {
        self.asked.disarm(&self.words, self.event_idx, self.next_avail);
    }

    /// The next entry of the available ring to be taken: what GET_VRING_BASE answers.
    #[must_use]
    pub fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// How many chains are out: popped and not returned.
    #[must_use]
    pub fn out(&self) -> u32 {
        self.out.len()
    }

    /// How many heads were pushed that this ring had not given out. Anything but zero is a defect above.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Takes the ring out of service and returns its base. What is out stays in the in-flight region, if there is one.
    ///
    /// Kicks are asked for again, so that the guest wakes whoever serves the ring next.
    pub fn stop(mut self) -> u16 {
        self.publish();
        event::arm(&self.words, self.event_idx, self.next_avail);
        self.next_avail
    }
}
