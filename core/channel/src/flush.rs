//! The channel's part in merged flushes.
//!
//! A device flush makes durable what was completed before it, whoever wrote it. So the flushes that channels of one
//! namespace ask for while one is at the device can all share the next. The sidecore keeps the one at the device; a channel
//! keeps its requests that wait for the next, and those that the present one answers.

use vfiomux_guest::MemoryMap;

use crate::slot::{Outcome, SlotId};
use crate::{BlockChannel, Ending};

/// Flush requests of a channel.
#[derive(Debug)]
pub(crate) struct Flushes {
    /// For the next device flush.
    waiting: Vec<SlotId>,
    /// In the one under way.
    current: Vec<SlotId>,
}

impl Flushes {
    pub(crate) fn new(requests: u16) -> Self {
        Self {
            waiting: Vec::with_capacity(usize::from(requests)),
            current: Vec::with_capacity(usize::from(requests)),
        }
    }

    pub(crate) fn wait(&mut self, lead: SlotId) {
        self.waiting.push(lead);
    }

    pub(crate) fn take_waiting(&mut self) -> Option<SlotId> {
        self.waiting.pop()
    }
}

impl BlockChannel {
    /// Whether flush requests wait for a device flush.
    #[inline]
    #[must_use]
    pub fn flush_waits(&self) -> bool {
        !self.flushes.waiting.is_empty()
    }

    /// A device flush was submitted, which answers all that wait. `shared`: another channel takes part already.
    ///
    /// # Panics
    ///
    /// When an earlier one has not ended: requests would be answered before their writes are durable.
    pub fn begin_flush(&mut self, shared: bool) {
        assert!(self.flushes.current.is_empty(), "two flushes of one channel at a time");
        std::mem::swap(&mut self.flushes.waiting, &mut self.flushes.current);
        let count = self.flushes.current.len() as u64;
        self.counters.flushes_merged.add(count.saturating_sub(u64::from(!shared)));
    }

    /// The device flush that [`Self::begin_flush`] told of has ended. After a barrier its requests wait for the next one.
    pub fn end_flush(&mut self, ending: Ending, now_ns: u64) {
        let Some(map) = self.map.take() else { return };
        if ending == Ending::Barrier && self.fault.is_none() {
            let Flushes { waiting, current } = &mut self.flushes;
            waiting.append(current);
        }
        while let Some(lead) = self.flushes.current.pop() {
            self.end_piece(lead, ending, &map, now_ns);
        }
        self.map = Some(map);
    }

    /// Ends the flushes that wait for a device flush without one.
    pub(crate) fn fail_waiting_flushes(&mut self, map: &MemoryMap, which: impl Fn(&Self, u16) -> bool) {
        let mut index = 0;
        while let Some(&lead) = self.flushes.waiting.get(index) {
            let ring = self.slots.request_mut(lead).map(|request| request.ring);
            if ring.is_some_and(|ring| !which(self, ring)) {
                index += 1;
                continue;
            }
            self.flushes.waiting.remove(index);
            if let Some(request) = self.slots.request_mut(lead) {
                request.outcome = Outcome::Failed;
                request.pieces = 0;
                let submitted_ns = request.submitted_ns;
                self.finish(lead, map, submitted_ns);
            }
        }
    }
}
