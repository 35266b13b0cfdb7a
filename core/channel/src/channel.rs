use std::sync::Arc;

use vfiomux_block::{LaneId, Segment};
use vfiomux_guest::{Hint, MemoryMap, RingWatch};
use vfiomux_hw::{DmaBuffer, Epoch};

use crate::desk::Desks;
use crate::dirty::Tracking;
use crate::flush::Flushes;
use crate::limit::Gate;
use crate::own_memory::OwnMemory;
use crate::ring::ServedRing;
use crate::slot::Slots;
use crate::{ChannelCounters, ChannelError, ChannelId, ChannelSettings, Fault};

/// Desks of a channel that bounces: so many requests may read into bounce buffers at a time.
const BOUNCING_DESKS: u8 = 8;

/// One virtio block device, from the guest's rings to a device's lane and back.
///
/// Belongs to one sidecore at a time. Made by control, handed over in an order, handed back when it is removed.
#[derive(Debug)]
pub struct BlockChannel {
    pub(crate) settings: ChannelSettings,
    pub(crate) counters: Arc<ChannelCounters>,
    /// Where its commands go; `None` after a barrier, until control gives it another.
    pub(crate) lane: Option<LaneId>,
    /// What the front-end lends. Counts requests: each names memory from the time it is popped until it is returned.
    pub(crate) memory: Option<Epoch<Arc<MemoryMap>>>,
    /// The same map, for use while the rest of the channel is changed.
    pub(crate) map: Option<Arc<MemoryMap>>,
    pub(crate) hint: Hint,
    pub(crate) rings: Box<[Option<Box<ServedRing>>]>,
    /// The ring to be looked at first in the next breath.
    pub(crate) first_ring: usize,
    pub(crate) slots: Slots,
    pub(crate) desks: Desks,
    pub(crate) own: Option<OwnMemory>,
    /// The segments of one command, where they are not a slice of the chain.
    pub(crate) parts: Vec<Segment>,
    /// The bytes of a list of ranges.
    pub(crate) list: Box<[u8]>,
    pub(crate) flushes: Flushes,
    /// What it is held to, if to anything.
    pub(crate) gate: Option<Box<Gate>>,
    /// What it notes of its commands while it is being copied.
    pub(crate) tracking: Option<Box<Tracking>>,
    /// Orders that wait for the channel to be drained.
    pub(crate) holds: u32,
    pub(crate) suspended: bool,
    /// It is being removed: what cannot be submitted any more fails.
    pub(crate) ending: bool,
    pub(crate) fault: Option<Fault>,
    pub(crate) fault_reported: bool,
    /// Something was returned to a ring and is not published.
    pub(crate) dirty: bool,
    /// In its last turn the lane, or a pool of ours, had no room: completions are due before it can go on.
    pub(crate) starved: bool,
}

impl BlockChannel {
    /// A channel without memory and rings. `own_memory` is [`ChannelSettings::own_memory_bytes`] long or longer, from the
    /// device's domain; `None` when that is zero.
    pub fn new(settings: ChannelSettings, own_memory: Option<DmaBuffer>) -> Result<Self, ChannelError> {
        settings.check()?;
        let needed_bytes = settings.own_memory_bytes();
        let own = match own_memory {
            Some(buffer) if needed_bytes > 0 => Some(OwnMemory::new(&settings, buffer)?),
            None if needed_bytes > 0 => return Err(ChannelError::Bounce { needed_bytes, given_bytes: 0 }),
            _ => None,
        };
        let segments_max =
            vfiomux_guest::ring::SEGMENTS_MAX.max(own.as_ref().map_or(0, OwnMemory::zeroes_count));
        Ok(Self {
            counters: Arc::default(),
            lane: None,
            memory: None,
            map: None,
            hint: Hint::default(),
            rings: (0..settings.rings).map(|_| None).collect(),
            first_ring: 0,
            slots: Slots::new(settings.requests),
            desks: Desks::new(if own.is_some() { BOUNCING_DESKS } else { 1 }),
            own,
            parts: Vec::with_capacity(segments_max),
            list: vec![0; crate::RANGES_MAX as usize * crate::request::RANGE_BYTES].into(),
            flushes: Flushes::new(settings.requests),
            gate: None,
            tracking: None,
            holds: 0,
            suspended: false,
            ending: false,
            fault: None,
            fault_reported: false,
            dirty: false,
            starved: false,
            settings,
        })
    }

    /// Who it is.
    #[inline]
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.settings.id
    }

    /// As it was asked for.
    #[must_use]
    pub fn settings(&self) -> &ChannelSettings {
        &self.settings
    }

    /// Its counters, to be read from anywhere.
    #[must_use]
    pub fn counters(&self) -> &Arc<ChannelCounters> {
        &self.counters
    }

    /// Where its commands go.
    #[must_use]
    pub fn lane(&self) -> Option<LaneId> {
        self.lane
    }

    /// Requests with us: popped and not returned.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.memory.as_ref().map_or(0, Epoch::in_flight)
    }

    /// Whether it is quarantined, and why.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// A look at each of its rings from outside, for as long as they stay where they are. A quarantined channel has none.
    pub fn watches(&self) -> impl Iterator<Item = RingWatch> + '_ {
        let rings = self.rings.iter().flatten().filter(|_| self.fault.is_none());
        rings.map(|served| served.ring.watch())
    }

    /// Lets the guest see what was returned, and interrupts it where it asks to be: one store and at most one call a ring.
    ///
    /// Gives how many calls were made.
    pub fn publish(&mut self) -> u64 {
        if !std::mem::take(&mut self.dirty) || self.fault.is_some() {
            return 0;
        }
        let mut calls = 0;
        for served in self.rings.iter_mut().flatten() {
            if std::mem::take(&mut served.dirty) {
                calls += u64::from(served.publish());
            }
        }
        self.counters.calls.add(calls);
        calls
    }

    /// Lets the guest see what was returned so far. Whether it is to be interrupted is asked by [`Self::publish`].
    pub fn show(&mut self) {
        for served in self.rings.iter_mut().flatten().filter(|served| served.dirty) {
            served.ring.publish();
        }
    }

    /// Whether [`Self::publish`] has something to do.
    #[inline]
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }
}
