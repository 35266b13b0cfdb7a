//! Taking requests from the rings.

use vfiomux_block::BlockQueue;
use vfiomux_block::split::Cursor;
use vfiomux_guest::{MemoryMap, RingFault};
use vfiomux_qos::{Io, NotBefore};
use vfiomux_spec::virtio::blk::{RequestHeader, RequestType};

use crate::desk::{Desk, DeskId, Work};
use crate::slot::{Kind, Outcome, Request, SlotId};
use crate::submit::whole_command;
use crate::{BlockChannel, CommandTag, Fault};

/// A channel's turn in a breath.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The breath's time.
    pub now_ns: u64,
    /// The last time that the channel's rings were looked at, by whomever: nothing that a ring is found to have now waited then.
    /// The end of time when there was no look since a sleep, during which nothing waited.
    pub looked_ns: u64,
    /// How much of what waits is taken.
    pub portion: Portion,
}

/// How much a channel takes in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// Requests at most.
    pub budget: u32,
    /// No more than this of what waits, when all of it is within the budget: the rest has its turn in the same breath.
    pub part: u32,
    /// The request that makes what is taken cost so much is the last, in cost units. For a channel with a program.
    pub cost: u64,
}

impl Portion {
    /// All that waits, up to a budget.
    #[must_use]
    pub const fn whole(budget: u32) -> Self {
        Self { budget, part: u32::MAX, cost: u64::MAX }
    }
}

/// What a channel did in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Requests taken from the rings.
    pub requests: u32,
    /// Its budget was used up, and it left requests on a ring.
    pub more: bool,
    /// It has left something undone that only another turn can do. When not, it needs none before one of its rings moves, one of
    /// its commands ends, or control changes something about it.
    pub again: bool,
    /// What was taken costs the device, in cost units; 0 for a channel without a program.
    pub cost: u64,
    /// Its limits do not afford what waits before then. Not `again`: it needs a turn at that time.
    pub not_before: Option<NotBefore>,
}

/// Why a ring was left.
enum Stop {
    /// Nothing waits on it.
    Empty,
    /// The lane, or a pool of ours, is full.
    Starved,
    /// The channel's limits do not afford the next request.
    Limited,
    /// The turn has cost what it may.
    Spent,
    /// Its guest broke the rules.
    Fault(RingFault),
}

/// A request that is about to be taken.
struct Waiting {
    /// Its ring.
    index: usize,
    /// It was popped before, and put back.
    again: bool,
    /// Nothing can be done with it any more.
    fails: bool,
    /// No limit holds it back.
    in_any_case: bool,
}

impl BlockChannel {
    /// The channel's turn in a breath: takes requests from its rings, as far as its budget goes, and submits their commands.
    ///
    /// What the lane, the slots or the bounce buffers have no room for stays on the ring, or on its desk.
    pub fn serve<Q: BlockQueue>(&mut self, turn: Turn, queue: &mut Q) -> Served {
        // The map is taken out of the channel for the turn, so that it can be read while the rest is changed.
        let Some(map) = self.map.take() else { return Served::default() };
        let served = self.serve_from(&map, turn, queue);
        self.map = Some(map);
        served
    }

    fn serve_from<Q: BlockQueue>(&mut self, map: &MemoryMap, turn: Turn, queue: &mut Q) -> Served {
        let Turn { now_ns, portion: Portion { mut budget, part, cost }, .. } = turn;
        let mut served = Served::default();
        self.starved = false;
        if self.fault.is_some() {
            return served;
        }
        if map.poisoned() {
            self.quarantine(Fault::MemoryLost);
            return served;
        }
        for ring in self.rings.iter_mut().flatten() {
            served.again |= !ring.look(turn);
        }
        if self.lane.is_none() {
            self.fail_what_cannot_wait(map);
        }
        if let Some(desk) = self.desks.current
            && !self.advance(desk, map, now_ns, queue)
        {
            self.counters.starved.add(1);
            self.starved = true;
            served.again = true;
            return served;
        }
        let mut open = self.gate.as_mut().is_none_or(|gate| gate.begin(cost, now_ns, &self.counters));
        let (first_ring, rings) = (self.first_ring, self.rings.len());
        let mut rest_follows = false;
        if part < budget {
            let waiting: u32 = self.rings.iter().flatten().map(|ring| u32::from(ring.waiting)).sum();
            rest_follows = part < waiting && waiting <= budget;
            if rest_follows {
                budget = part;
            }
        }
        let (mut left, mut spent) = (budget, false);
        for step in 0..rings {
            let index = first_ring + step;
            let index = if index < rings { index } else { index - rings };
            match self.serve_ring(index, open, map, now_ns, &mut left, queue) {
                Ok(()) | Err(Stop::Empty) => {}
                // The others wait for it: what they would be given, it would never have.
                Err(Stop::Limited) => {
                    if std::mem::take(&mut open) {
                        if let Some(gate) = &self.gate {
                            gate.count_closed(&self.counters);
                        }
                        self.first_ring = index;
                    }
                }
                Err(Stop::Starved) => {
                    self.counters.starved.add(1);
                    self.starved = true;
                    break;
                }
                Err(Stop::Spent) => {
                    spent = true;
                    self.first_ring = if index + 1 < rings { index + 1 } else { 0 };
                    break;
                }
                Err(Stop::Fault(fault)) => {
                    self.quarantine(Fault::Ring { index: index as u16, fault });
                    break;
                }
            }
            if left == 0 {
                self.first_ring = if index + 1 < rings { index + 1 } else { 0 };
                break;
            }
        }
        served.requests = budget - left;
        if (left == 0 || spent) && self.rings.iter().flatten().any(|ring| ring.waiting > 0) {
            self.counters.throttled.add(u64::from(!rest_follows));
            served.more = true;
        }
        served.again |= self.starved || served.more;
        if let Some(gate) = &mut self.gate {
            (served.cost, served.not_before) = gate.end();
            served.again &= served.not_before.is_none() || self.starved;
            if served.cost > 0 {
                self.counters.cost.add(served.cost);
            }
        }
        served
    }

    /// Takes what a ring has, at most `left` requests.
    fn serve_ring<Q: BlockQueue>(
        &mut self,
        index: usize,
        open: bool,
        map: &MemoryMap,
        now_ns: u64,
        left: &mut u32,
        queue: &mut Q,
    ) -> Result<(), Stop> {
        let held = self.holds > 0 || self.suspended;
        let Some(served) = self.rings.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        // What was put back is still ours, and is brought to an end whatever else is asked for.
        let takes = if held || served.stopping { served.ring.resubmits() } else { served.waiting };
        if takes == 0 {
            return Ok(());
        }
        if !open && !held && !served.stopping {
            return Err(Stop::Limited);
        }
        // Without a lane, what belongs to a ring that is to stop can wait for nothing, and fails.
        let fails = self.lane.is_none() && served.stopping;
        let waited_ns = now_ns.saturating_sub(served.since_ns);
        let room = if fails { usize::MAX } else { self.lane.map_or(0, |lane| queue.room(lane)) };
        let wanted = u32::from(takes).min(*left);
        // A request is popped only when there is room for it, so that it need not be put back; one that takes up more than a
        // command's room is cut, and the rest of it waits on its desk.
        let takes = wanted.min(u32::try_from(room).unwrap_or(u32::MAX));
        let in_any_case = held || served.stopping;
        // Those that were put back are popped first.
        let (again, sliced) = match &self.gate {
            Some(gate) => (u32::from(served.ring.resubmits()), gate.is_sliced()),
            None => (0, false),
        };
        let mut taken = 0;
        let mut stop = if takes < wanted { Err(Stop::Starved) } else { Ok(()) };
        while taken < takes {
            let request = Waiting { index, again: taken < again, fails, in_any_case };
            if let Err(why) = self.take_request(request, map, now_ns, queue) {
                stop = Err(why);
                break;
            }
            taken += 1;
            // A request that is not wholly submitted holds up those behind it.
            if self.desks.current.is_some() {
                stop = Err(Stop::Starved);
                break;
            }
            if sliced && self.gate.as_ref().is_some_and(|gate| gate.is_spent()) {
                stop = Err(Stop::Spent);
                break;
            }
        }
        *left -= taken;
        self.counters.ring_wait.record_many(waited_ns, u64::from(taken));
        stop
    }

    /// Pops one request and does what it asks for.
    #[inline]
    fn take_request<Q: BlockQueue>(
        &mut self,
        request: Waiting,
        map: &MemoryMap,
        now_ns: u64,
        queue: &mut Q,
    ) -> Result<(), Stop> {
        let Waiting { index, again, fails, in_any_case } = request;
        let Self { rings, slots, desks, settings, memory, lane, gate, tracking, .. } = self;
        let Some(served) = rings.get_mut(index).and_then(Option::as_mut) else { return Err(Stop::Empty) };
        let (Some(lead), Some(desk_id)) = (slots.next(), desks.next()) else { return Err(Stop::Starved) };
        let Some(desk) = desks.get_mut(desk_id) else { return Err(Stop::Starved) };
        let chain = &mut desk.chain;
        let head = match served.ring.pop(map, chain) {
            Ok(Some(head)) => head,
            nothing => {
                served.waiting = 0;
                return Err(nothing.err().map_or(Stop::Empty, Stop::Fault));
            }
        };
        served.waiting = served.waiting.saturating_sub(1);
        if let Some(memory) = memory {
            memory.begin();
        }
        slots.take();
        desk.lead = lead;
        // A chain without a byte for the status is returned without one: the guest has left us no way to say more.
        let status = chain.take_last_byte().ok();
        let header = chain.take_header(map).ok().filter(|_| status.is_some() && !fails);
        let header =
            header.map(|[low, high]| RequestHeader::from_words(u64::from_le(low), u64::from_le(high)));
        let request_type = header.and_then(|header| RequestType::from_raw(header.request_type.get()));
        let transfer = match request_type {
            Some(RequestType::In) => Some((Work::Read, Kind::Read, chain.writable_bytes())),
            Some(RequestType::Out) => Some((Work::Write, Kind::Write, chain.readable_bytes())),
            _ => None,
        };
        if let Some(gate) = gate {
            let io = match transfer {
                Some((Work::Read, _, bytes)) => Io::read(bytes),
                Some((_, _, bytes)) => Io::write(bytes),
                None => Io::write(0),
            };
            if !gate.admit(io, in_any_case, now_ns) {
                slots.give_back(lead);
                if let Some(memory) = memory {
                    memory.end();
                }
                served.leave(head, again);
                return Err(Stop::Limited);
            }
        }
        let mut request = Request::new(head, index as u16, status, now_ns);
        let (Some(header), Some((work, kind, data_bytes))) = (header, transfer) else {
            slots.keep(lead, request);
            self.desks.take();
            if header.is_some() {
                self.begin_other(request_type, desk_id, lead, map, now_ns, queue);
            } else {
                self.refuse(desk_id, lead, Outcome::Failed, map, now_ns);
            }
            return Ok(());
        };
        (request.kind, request.data_bytes) = (kind, data_bytes);
        let range = match settings.data_range(kind, header.sector.get(), data_bytes) {
            Ok(range) => range,
            Err(outcome) => {
                slots.keep(lead, request);
                self.desks.take();
                self.refuse(desk_id, lead, outcome, map, now_ns);
                return Ok(());
            }
        };
        if let Some(lane) = *lane
            && let Some((command, data)) = whole_command(settings, work, range, chain)
        {
            if let Some(tracking) = tracking {
                tracking.launched(lead, kind == Kind::Write, range.block, range.blocks);
            }
            let stamp = slots.launch_whole(lead, request);
            let tag = CommandTag { owner: settings.id.index, slot: lead.0, stamp };
            if queue.submit(lane, tag.into(), &command, data).is_ok() {
                return Ok(());
            }
            slots.recall_whole(lead);
        } else {
            slots.keep(lead, request);
        }
        desk.lay_out(work, range);
        self.desks.take();
        self.desks.current = Some(desk_id);
        self.advance(desk_id, map, now_ns, queue);
        Ok(())
    }

    /// Begins a request that neither reads nor writes.
    fn begin_other<Q: BlockQueue>(
        &mut self,
        request_type: Option<RequestType>,
        desk_id: DeskId,
        lead: SlotId,
        map: &MemoryMap,
        now_ns: u64,
        queue: &mut Q,
    ) {
        let Some(desk) = self.desks.get_mut(desk_id) else { return };
        let Some(request) = self.slots.request_mut(lead) else { return };
        let outcome = match request_type {
            Some(RequestType::Flush) => {
                request.kind = Kind::Flush;
                if self.settings.limits.volatile_cache {
                    request.open = false;
                    request.pieces = 1;
                    self.flushes.wait(lead);
                    self.desks.give_back(desk_id);
                    return;
                }
                Err(Outcome::Done)
            }
            Some(request_type @ (RequestType::Discard | RequestType::WriteZeroes)) => {
                request.kind =
                    if request_type == RequestType::Discard { Kind::Discard } else { Kind::WriteZeroes };
                let list_bytes = desk.chain.readable_bytes() as usize;
                let list = self.list.get_mut(..list_bytes);
                let read = list.and_then(|list| desk.chain.take_readable(map, list).ok().map(|()| &*list));
                let work = read
                    .ok_or(Outcome::Failed)
                    .and_then(|list| self.settings.trim_ranges(request_type, list, &mut desk.ranges));
                work.and_then(|work| desk.lay_out_ranges(work.ok_or(Outcome::Done)?))
            }
            Some(RequestType::GetId) => {
                request.data_bytes = copy_serial(&self.settings.serial, desk, map, &mut self.hint);
                Err(Outcome::Done)
            }
            _ => Err(Outcome::Unsupported),
        };
        match outcome {
            Ok(()) => {
                self.desks.current = Some(desk_id);
                self.advance(desk_id, map, now_ns, queue);
            }
            Err(outcome) => self.refuse(desk_id, lead, outcome, map, now_ns),
        }
    }

    /// Returns a request that needs no command.
    #[cold]
    fn refuse(&mut self, desk_id: DeskId, lead: SlotId, outcome: Outcome, map: &MemoryMap, now_ns: u64) {
        self.desks.give_back(desk_id);
        if let Some(request) = self.slots.request_mut(lead) {
            request.outcome = outcome;
            request.open = false;
        }
        self.finish(lead, map, now_ns);
    }
}

/// Answers a request for the channel's identity. Gives how many bytes were written.
fn copy_serial(serial: &[u8], desk: &Desk, map: &MemoryMap, hint: &mut vfiomux_guest::Hint) -> u32 {
    let mut rest = serial;
    for segment in desk.chain.writable() {
        let (piece, after) = rest.split_at(rest.len().min(segment.len() as usize));
        if map.copy_to(segment, piece, hint).is_err() {
            break;
        }
        rest = after;
    }
    (serial.len() - rest.len()) as u32
}

impl Desk {
    /// Lays a read or write out to be cut.
    #[inline]
    fn lay_out(&mut self, work: Work, range: crate::desk::Range) {
        self.work = work;
        self.cursor = Cursor::default();
        self.left = range;
        self.ranges.clear();
        self.bounced = 0;
    }

    /// Lays a list of ranges out. An empty one is refused as done.
    fn lay_out_ranges(&mut self, work: Work) -> Result<(), Outcome> {
        self.work = work;
        self.left = self.ranges.pop().ok_or(Outcome::Done)?;
        self.bounced = 0;
        Ok(())
    }
}
