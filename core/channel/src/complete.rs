//! Ending commands and returning requests.

use vfiomux_block::Status;
use vfiomux_guest::MemoryMap;
use vfiomux_spec::virtio::blk::{STATUS_IOERR, STATUS_OK, STATUS_UNSUPP};

use crate::own_memory::BounceId;
use crate::seeded::{self, Bug};
use crate::slot::{Kind, Landed, Outcome, Request, SlotId};
use crate::{BlockChannel, ChannelCounters, CommandTag};

/// How a command came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The device completed it.
    Completed(Status),
    /// A barrier ended it: its submission queue was deleted, or the controller reset. Nobody knows whether it was carried out.
    Barrier,
}

impl BlockChannel {
    /// A command of the channel has ended for certain. False: there is none with that slot and stamp in flight (I1).
    #[inline(always)]
    pub fn complete(&mut self, tag: CommandTag, ending: Ending, now_ns: u64) -> bool {
        let id = SlotId(tag.slot);
        let Some(landed) = self.slots.land(id, tag.stamp) else {
            self.counters.strays.add(1);
            return false;
        };
        if let Some(tracking) = &mut self.tracking {
            tracking.landed(id);
        }
        // A request is counted by the epoch from the time it is popped, so there is memory while one has a command.
        let Some(map) = self.map.take() else { return true };
        if ending == Ending::Completed(Status::Success)
            && let Some(request) = self.slots.take_whole(&landed, id)
        {
            if let Some(memory) = &mut self.memory {
                memory.end();
            }
            self.answer(request, Outcome::Done, &map, now_ns);
        } else {
            self.end_command(id, landed, ending, &map, now_ns);
        }
        self.map = Some(map);
        true
    }

    /// A command has ended that was not all of its request, or not well.
    #[inline(never)]
    fn end_command(&mut self, id: SlotId, landed: Landed, ending: Ending, map: &MemoryMap, now_ns: u64) {
        if let Some(bounce) = landed.bounce {
            self.empty(bounce, ending, map);
        }
        if id != landed.lead {
            self.slots.give_back(id);
        }
        self.end_piece(landed.lead, ending, map, now_ns);
    }

    /// One piece of a request has ended.
    pub(crate) fn end_piece(&mut self, lead: SlotId, ending: Ending, map: &MemoryMap, now_ns: u64) {
        let Some(request) = self.slots.request_mut(lead) else { return };
        match ending {
            Ending::Completed(Status::Success) => {}
            Ending::Completed(Status::Unsupported) => request.outcome = Outcome::Unsupported,
            Ending::Completed(_) => request.outcome = Outcome::Failed,
            Ending::Barrier => request.again = true,
        }
        request.pieces -= 1;
        if request.pieces == 0 && !request.open {
            self.finish(lead, map, now_ns);
        }
    }

    /// Takes a bounce buffer back, and copies what was read where it belongs.
    #[cold]
    fn empty(&mut self, id: BounceId, ending: Ending, map: &MemoryMap) {
        let Some(own) = &mut self.own else { return };
        if let Some(to) = own.take_destination(id)
            && let Some(desk) = self.desks.get_mut(to.desk)
        {
            let good = ending == Ending::Completed(Status::Success) || seeded::is(Bug::UnclearedBounce);
            if good && self.fault.is_none() {
                desk.block_at(to.from, self.settings.limits.block_bytes, &mut self.parts);
                own.spill(id, &self.parts, map, &mut self.hint);
            }
            desk.bounced -= 1;
            // While the request is still being cut its desk stays with it.
            if desk.bounced == 0 && self.desks.current != Some(to.desk) {
                self.desks.give_back(to.desk);
            }
        }
        own.give_back(id);
    }

    /// Takes a request out of its slot. It names memory no more.
    pub(crate) fn retire(&mut self, lead: SlotId) -> Option<Request> {
        let request = self.slots.get_mut(lead)?.request.take()?;
        self.slots.give_back(lead);
        if let Some(memory) = &mut self.memory {
            memory.end();
        }
        Some(request)
    }

    /// Ends a request of which nothing is in flight: it is returned, or is to be done again.
    pub(crate) fn finish(&mut self, lead: SlotId, map: &MemoryMap, now_ns: u64) {
        let Some(request) = self.retire(lead) else { return };
        let mut outcome = request.outcome;
        if request.again
            && outcome == Outcome::Done
            && self.fault.is_none()
            && let Some(served) = self.rings.get_mut(usize::from(request.ring)).and_then(Option::as_mut)
        {
            if self.lane.is_some() || !served.stopping {
                served.ring.put_back(request.head);
                served.waiting = served.waiting.saturating_add(1);
                self.counters.retries.add(1);
                return;
            }
            // It is to end, and there is nowhere to do it again.
            outcome = Outcome::Failed;
        }
        self.answer(request, outcome, map, now_ns);
    }

    /// Returns a request to its guest: status, used element, counters.
    #[inline(always)]
    fn answer(&mut self, request: Request, outcome: Outcome, map: &MemoryMap, now_ns: u64) {
        // A quarantined channel's memory is touched no more; its requests end without an answer.
        if self.fault.is_some() {
            return;
        }
        let Some(served) = self.rings.get_mut(usize::from(request.ring)).and_then(Option::as_mut) else {
            return;
        };
        let (code, data_bytes) = match outcome {
            Outcome::Done => (STATUS_OK, request.data_bytes),
            Outcome::Failed => (STATUS_IOERR, 0),
            Outcome::Unsupported => (STATUS_UNSUPP, 0),
        };
        // The used length counts from the chain's first writable byte (virtio 1.3 2.7.8.2): a failed read, whose data may
        // not be there, has none, whatever follows it.
        let used = match (request.kind, outcome, &request.status) {
            (_, _, None) => 0,
            (Kind::Read, Outcome::Failed | Outcome::Unsupported, _) if request.data_bytes > 0 => 0,
            (Kind::Read | Kind::Other, ..) => data_bytes + 1,
            _ => 1,
        };
        if let Some(status) = &request.status {
            // It was translated by this map, or one that this is a superset of.
            let _ = map.set_byte(status, code, &mut self.hint);
        }
        count(&self.counters, &request, outcome, now_ns);
        served.ring.push_used(request.head, used);
        served.dirty = true;
        self.dirty = true;
    }
}

#[inline]
fn count(counters: &ChannelCounters, request: &Request, outcome: Outcome, now_ns: u64) {
    if matches!(request.kind, Kind::Read | Kind::Write) {
        // Which of the two is as good as random in a mixed load: chosen, not jumped to.
        let read = request.kind == Kind::Read;
        let (requests, bytes) = if read {
            (&counters.reads, &counters.read_bytes)
        } else {
            (&counters.writes, &counters.write_bytes)
        };
        requests.add(1);
        bytes.add(u64::from(request.data_bytes));
    } else {
        count_other(counters, request.kind);
    }
    match outcome {
        Outcome::Done => {}
        Outcome::Failed => counters.errors.add(1),
        Outcome::Unsupported => counters.unsupported.add(1),
    }
    if request.kind != Kind::Other {
        counters.device_time.record(now_ns.saturating_sub(request.submitted_ns));
    }
}

/// Counts a request that neither reads nor writes.
fn count_other(counters: &ChannelCounters, kind: Kind) {
    match kind {
        Kind::Flush => counters.flushes.add(1),
        Kind::Discard => counters.discards.add(1),
        Kind::WriteZeroes => counters.write_zeroes.add(1),
        Kind::Read | Kind::Write | Kind::Other => counters.others.add(1),
    }
}
