//! What control does to a channel, through its sidecore.

use std::sync::Arc;

use vfiomux_block::LaneId;
use vfiomux_guest::{Call, Kick, MemoryMap, SplitRing};
use vfiomux_hw::{DmaBuffer, Epoch, Quiesced};

use crate::dirty::Tracking;
use crate::ring::ServedRing;
use crate::seeded::{self, Bug};
use crate::slot::Outcome;
use crate::{
    BlockChannel, ChannelError, ChannelId, ChannelSettings, DirtyMap, ExtentMap, Fault, RingStart,
    StoppedRing,
};

/// What became of a new memory map.
#[derive(Debug)]
pub enum SetMemory {
    /// It is in use. The old one, if there was one, is named by no command.
    Replaced(Option<Quiesced<Arc<MemoryMap>>>),
    /// Requests in flight name memory that it does not hold: try again when the channel is drained.
    Drain(Arc<MemoryMap>),
}

/// What a channel that is removed gives up.
#[derive(Debug)]
pub struct Remains {
    /// Its memory, which no command names any more.
    pub memory: Option<Quiesced<Arc<MemoryMap>>>,
    /// Its rings that had not been stopped.
    pub rings: Vec<StoppedRing>,
}

impl BlockChannel {
    /// Starts to be served on a lane. `last_stamp` is the last that an earlier channel of the same index used.
    pub fn join(&mut self, lane: LaneId, last_stamp: u32) {
        self.lane = Some(lane);
        self.slots.continue_stamps(last_stamp);
    }

    /// The last stamp used: where the next channel of the same index goes on.
    #[must_use]
    pub fn last_stamp(&self) -> u32 {
        self.slots.last_stamp()
    }

    /// Submits to another lane from now on, or to none.
    pub fn set_lane(&mut self, lane: Option<LaneId>) {
        self.lane = lane;
    }

    /// Whether none of its requests is with us.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.slots.in_use() == 0
            && (self.fault.is_some() || self.served().all(|ring| ring.ring.resubmits() == 0))
    }

    /// Whether no command of it is at a device and no request half done: it can be handed to another sidecore. What is to be
    /// done again goes along in its rings.
    #[must_use]
    pub fn is_movable(&self) -> bool {
        seeded::is(Bug::MovedUndrained) || self.slots.in_use() == 0
    }

    /// Takes another name, for another sidecore, which gives it a lane when it [joins](Self::join). For a channel that
    /// [can be moved](Self::is_movable), and that no sidecore has.
    pub fn rename(&mut self, id: ChannelId) {
        self.settings.id = id;
        self.lane = None;
        for served in self.rings.iter_mut().flatten() {
            // Looked for anew there, so that what waits does not count from a look that was made here.
            served.waiting = 0;
        }
    }

    /// From now on marks in `map` what its commands change, until it is told otherwise or goes to another device.
    pub fn track(&mut self, map: Option<Arc<DirtyMap>>) {
        self.tracking = map.map(|map| Box::new(Tracking::new(map, self.settings.requests)));
    }

    /// Whether everything that it changed since was marked in `map`.
    #[must_use]
    pub fn tracks(&self, map: &Arc<DirtyMap>) -> bool {
        self.tracking.as_ref().is_some_and(|tracking| tracking.marks(map))
    }

    /// Goes to another device, where its blocks are elsewhere: for a channel that [can be moved](Self::is_movable), and that
    /// no sidecore has. `own_memory` is as [`Self::new`] takes it, from that device's domain. Rings, counters and what it is
    /// held to go along; its memory is to be [replaced](Self::set_memory) by a map that the other device reaches.
    ///
    /// # Errors
    ///
    /// When the settings cannot be; it is then as it was.
    pub fn relocate(
        &mut self,
        settings: ChannelSettings,
        own_memory: Option<DmaBuffer>,
    ) -> Result<(), ChannelError> {
        let there = Self::new(settings, own_memory)?;
        (self.settings, self.own, self.desks, self.parts) =
            (there.settings, there.own, there.desks, there.parts);
        self.tracking = None;
        self.rename(self.settings.id);
        Ok(())
    }

    /// Takes no new requests while held; those in flight go on. Each hold is let go of by one [`Self::release`].
    pub fn hold(&mut self) {
        self.holds += 1;
    }

    /// Lets go of a hold.
    pub fn release(&mut self) {
        self.holds = self.holds.saturating_sub(1);
    }

    /// Takes no new requests until [`Self::resume`]; those in flight go on.
    pub fn suspend(&mut self) {
        self.suspended = true;
    }

    /// Takes requests again.
    pub fn resume(&mut self) {
        self.suspended = false;
    }

    /// Begins to end the channel: nothing new is taken, and what cannot be submitted any more fails.
    pub fn begin_removal(&mut self) {
        self.ending = true;
        for served in self.rings.iter_mut().flatten() {
            served.stopping = true;
        }
    }

    /// Whether it is being removed.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Gives up memory and rings, once drained; `None` before.
    pub fn end_removal(&mut self) -> Option<Remains> {
        if !self.is_drained() {
            return None;
        }
        self.publish();
        let rings = (0..self.settings.rings).filter_map(|index| self.take_ring(index)).collect();
        self.map = None;
        let memory = self.memory.take().map(Epoch::close).transpose();
        match memory {
            Ok(memory) => Some(Remains { memory, rings }),
            Err(open) => {
                self.memory = Some(open);
                None
            }
        }
    }

    /// Puts another memory map in place of the present one.
    pub fn set_memory(&mut self, map: Arc<MemoryMap>) -> SetMemory {
        let Some(epoch) = self.memory.as_mut() else {
            self.memory = Some(Epoch::open(map.clone()));
            self.map = Some(map);
            return SetMemory::Replaced(None);
        };
        let in_use = map.clone();
        match epoch.widen(map, |new, old| new.is_superset_of(old)) {
            Ok(old) => {
                self.map = Some(in_use);
                SetMemory::Replaced(Some(old))
            }
            Err(map) if !self.is_drained() => SetMemory::Drain(map),
            Err(map) => self.swap_memory(map),
        }
    }

    /// Puts another memory map in place, with nothing in flight, and finds the rings in it.
    fn swap_memory(&mut self, map: Arc<MemoryMap>) -> SetMemory {
        self.publish();
        match self.memory.take().map(Epoch::close) {
            Some(Err(open)) => {
                self.memory = Some(open);
                SetMemory::Drain(map)
            }
            closed => {
                let mut lost = None;
                for (index, served) in self.rings.iter_mut().enumerate() {
                    if let Some(served) = served
                        && served.ring.relocate(&map).is_err()
                    {
                        lost = Some(index as u16);
                    }
                }
                self.memory = Some(Epoch::open(map.clone()));
                self.map = Some(map);
                if let Some(index) = lost {
                    self.quarantine(Fault::RingLost { index });
                }
                SetMemory::Replaced(closed.and_then(Result::ok))
            }
        }
    }

    /// Whether the front-end has lent memory.
    #[must_use]
    pub fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Whether ring `index` is in service.
    #[must_use]
    pub fn has_ring(&self, index: u16) -> bool {
        self.ring(index).is_some()
    }

    /// Puts a ring into service. It comes back when there is no such ring, or it is in service already.
    pub fn start_ring(&mut self, index: u16, start: Box<RingStart>) -> Result<(), Box<RingStart>> {
        match self.rings.get_mut(usize::from(index)) {
            Some(place @ None) => {
                let mut served = ServedRing::new(*start);
                // While we look by ourselves the guest need not kick.
                served.ring.disarm();
                // A predecessor that died may have returned chains without calling the guest for them. If nothing else is
                // under way nothing else will be returned, so the guest is called for them now.
                served.dirty = true;
                self.dirty = true;
                *place = Some(Box::new(served));
                Ok(())
            }
            _ => Err(start),
        }
    }

    /// Takes nothing new from a ring from now on.
    pub fn begin_stop(&mut self, index: u16) {
        if let Some(served) = self.ring_mut(index) {
            served.stopping = true;
        }
    }

    /// Whether nothing of a ring is with us: it can be taken out.
    #[must_use]
    pub fn ring_is_drained(&self, index: u16) -> bool {
        match self.ring(index) {
            Some(_) if self.fault.is_some() => self.slots.in_use() == 0,
            Some(served) => served.is_drained(),
            None => true,
        }
    }

    /// Takes a ring out of service; `None` when it was not in service, or is not drained.
    pub fn take_ring(&mut self, index: u16) -> Option<StoppedRing> {
        if !self.ring_is_drained(index) {
            return None;
        }
        let served = self.rings.get_mut(usize::from(index))?.take()?;
        let ServedRing { ring, call, kick, .. } = *served;
        // What was returned is published by `stop`; a quarantined channel's memory is touched no more.
        let base = if self.fault.is_none() { stop(ring, call.as_ref()) } else { ring.next_avail() };
        Some(StoppedRing { index, base, call, kick })
    }

    /// Interrupts the guest by another descriptor. False when the ring is not in service.
    pub fn set_call(&mut self, index: u16, call: Option<Call>) -> bool {
        let Some(served) = self.ring_mut(index) else { return false };
        served.call = call;
        // What was returned before may not have been heard through the old one; a needless call does no harm.
        if let Some(call) = &served.call {
            call.signal();
        }
        true
    }

    /// Hears the guest by another descriptor. False when the ring is not in service.
    pub fn set_kick(&mut self, index: u16, kick: Option<Kick>) -> bool {
        self.ring_mut(index).map(|served| served.kick = kick).is_some()
    }

    /// Gives the channel other blocks, when they only grow what it has or it is drained; else they come back.
    pub fn set_extents(&mut self, extents: ExtentMap) -> Result<ExtentMap, ExtentMap> {
        if extents.extends(&self.settings.extents) || self.is_drained() {
            Ok(std::mem::replace(&mut self.settings.extents, extents))
        } else {
            Err(extents)
        }
    }

    /// Quarantines the channel: its memory is touched no more, and its requests end without an answer.
    pub fn quarantine(&mut self, fault: Fault) {
        if self.fault.is_some() {
            return;
        }
        self.fault = Some(fault);
        self.dirty = false;
        // What no device command will end is forgotten now; the rest as its commands end.
        if let Some(desk) = self.desks.current.take()
            && let Some(lead) = self.desks.get_mut(desk).map(|desk| desk.lead)
            && let Some(request) = self.slots.request_mut(lead)
        {
            request.open = false;
            if request.pieces == 0 {
                self.retire(lead);
            }
        }
        while let Some(lead) = self.flushes.take_waiting() {
            self.retire(lead);
        }
    }

    /// The fault, the first time that this is asked after it was found.
    pub fn take_fault_report(&mut self) -> Option<Fault> {
        if std::mem::replace(&mut self.fault_reported, self.fault.is_some()) { None } else { self.fault }
    }

    /// Without a lane, what belongs to a ring that is to stop can wait for nothing.
    pub(crate) fn fail_what_cannot_wait(&mut self, map: &MemoryMap) {
        if let Some(desk) = self.desks.current
            && let Some(lead) = self.desks.get_mut(desk).map(|desk| desk.lead)
            && let Some(ring) = self.slots.request_mut(lead).map(|request| request.ring)
            && self.is_stopping(ring)
            && let Some(request) = self.slots.request_mut(lead)
        {
            // `advance` goes no further with a request that has failed.
            request.outcome = Outcome::Failed;
        }
        self.fail_waiting_flushes(map, Self::is_stopping);
    }

    fn is_stopping(&self, ring: u16) -> bool {
        self.ring(ring).is_none_or(|served| served.stopping)
    }

    fn ring(&self, index: u16) -> Option<&ServedRing> {
        self.rings.get(usize::from(index))?.as_deref()
    }

    fn ring_mut(&mut self, index: u16) -> Option<&mut ServedRing> {
        self.rings.get_mut(usize::from(index))?.as_deref_mut()
    }

    fn served(&self) -> impl Iterator<Item = &ServedRing> {
        self.rings.iter().flatten().map(Box::as_ref)
    }
}

/// Stops a ring, and calls the guest for what it may not have heard of.
fn stop(ring: SplitRing, call: Option<&Call>) -> u16 {
    let base = ring.stop();
    if let Some(call) = call {
        call.signal();
    }
    base
}
