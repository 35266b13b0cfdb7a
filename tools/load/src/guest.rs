//! One guest: its queues, what it asks for, and what came of it.
//!
//! ```text
//!   Workload ─┐                             ┌─► Recorder   latencies, refusals
//!   Due ──────┼─► turn ─► Queue ─► back-end ┤
//!   Oracle ───┘     ▲                       └─► Oracle     what was read
//!                   └──────── a slot that is back takes the next request at once
//! ```
//!
//! The clock is read once for all completions that one look at a ring finds, right after that look; what is submitted in their
//! place counts from the same moment. No latency is too short by this, and each is too long by at most the time of handling one
//! batch, which a sample of the batches measures.

use vfiomux_frontend::{Completion, FrontendError, Operation, Queue, Slot};

use crate::arrivals::{self, Due};
use crate::clock::Clock;
use crate::error::LoadError;
use crate::link::Link;
use crate::oracle::Oracle;
use crate::recorder::Recorder;
use crate::workload::{Region, Workload};

/// Completions that are taken at one look. More wait for the next, so that what was submitted is published soon.
const BATCH_MAX: u16 = 32;
/// Of so many batches the time of one is measured.
const SAMPLE_EVERY: u32 = 64;

/// What a guest is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Writes each block of the region once.
    Fill {
        /// The next one.
        next: u64,
    },
    /// Does what was asked for, with this many requests left to submit.
    Drive {
        /// Requests left.
        left: u64,
    },
    /// Reads each block back that was written.
    Sweep {
        /// The next one.
        next: u64,
    },
    /// Submits nothing more.
    Rest,
}

/// A request that a slot was taken for.
#[derive(Debug, Clone, Copy)]
struct Issued {
    operation: Operation,
    /// From when its latency counts.
    from_ns: u64,
    /// What [`Oracle::read`] gave.
    floor: u32,
    /// It was submitted while the measurement went on.
    counts: bool,
}

const NOTHING: Issued = Issued { operation: Operation::Flush, from_ns: 0, floor: 0, counts: false };

/// What the client's own work is known of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    /// Looks that found something.
    pub(crate) batches: u64,
    /// Completions that they found.
    pub(crate) completions: u64,
    /// Completions of the batches that were timed.
    pub(crate) timed_completions: u64,
    /// How long these batches took.
    pub(crate) timed_ns: u64,
    /// How much too early the requests that followed them count from, added up.
    pub(crate) late_ns: u64,
}

/// One guest.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) link: Link,
    region: Region,
    workload: Workload,
    phase: Phase,
    due: Option<Due>,
    oracle: Option<Oracle>,
    /// Of each queue, of each slot.
    issued: Vec<Box<[Issued]>>,
    pub(crate) recorder: Recorder,
    /// Requests that are submitted now are to be recorded.
    measuring: bool,
    /// When the last completion was seen.
    last_ns: u64,
    work: Work,
    until_sample: u32,
    kicks_before: u64,
}

impl Guest {
    /// A guest that rests.
    pub(crate) fn new(
        mut link: Link,
        region: Region,
        workload: Workload,
        due: Option<Due>,
        oracle: Option<Oracle>,
        depth: u16,
    ) -> Result<Self, LoadError> {
        let issued = link.queues().iter().map(|_| vec![NOTHING; depth.into()].into()).collect();
        let mut guest = Self {
            link,
            region,
            workload,
            phase: Phase::Rest,
            due,
            oracle,
            issued,
            recorder: Recorder::new()?,
            measuring: false,
            last_ns: 0,
            work: Work::default(),
            until_sample: SAMPLE_EVERY,
            kicks_before: 0,
        };
        guest.touch_data(depth)?;
        Ok(guest)
    }

    /// Puts something into the memory of every slot, so that none of it is touched for the first time while time counts.
    fn touch_data(&mut self, depth: u16) -> Result<(), LoadError> {
        let mut random = crate::random::Random::new(self.region.offset_bytes);
        let data: Vec<u8> =
            (0..self.region.block_bytes / 8).flat_map(|_| random.bits().to_le_bytes()).collect();
        let touched = self.link.queues().iter_mut().try_for_each(|queue| {
            let slots: Vec<Slot> = (0..depth).filter_map(|_| queue.take()).collect();
            slots.into_iter().try_for_each(|slot| {
                queue.write_data(&slot, &data)?;
                queue.give_back(slot);
                Ok(())
            })
        });
        touched.map_err(|source| self.failed(source))
    }

    /// Begins to do something else. The guest has nothing in flight.
    pub(crate) fn begin(&mut self, phase: Phase, now_ns: u64) {
        self.phase = phase;
        self.last_ns = now_ns;
        if let (Phase::Drive { .. }, Some(due)) = (phase, &mut self.due) {
            due.start(now_ns);
        }
    }

    /// Submits so many requests more, and then rests.
    pub(crate) fn limit(&mut self, requests: u64) {
        if let Phase::Drive { left } = &mut self.phase {
            *left = requests;
        }
    }

    /// Stops submitting.
    pub(crate) fn rest(&mut self) {
        self.phase = Phase::Rest;
    }

    /// From now on what is submitted is recorded.
    pub(crate) fn measure(&mut self) -> Result<(), LoadError> {
        self.measuring = true;
        self.work = Work::default();
        self.kicks_before = self.link.queues().iter().map(Queue::kicks).sum();
        self.take_calls()?;
        if let Some(due) = &mut self.due {
            due.reset();
        }
        Ok(())
    }

    /// Records nothing more.
    pub(crate) fn stop_measuring(&mut self) {
        self.measuring = false;
        self.recorder.enter();
    }

    /// Kicks since the measurement began.
    pub(crate) fn kicks(&mut self) -> u64 {
        self.link.queues().iter().map(Queue::kicks).sum::<u64>() - self.kicks_before
    }

    /// Calls since this was last asked.
    pub(crate) fn take_calls(&mut self) -> Result<u64, LoadError> {
        let calls = self.link.queues().iter().map(Queue::take_calls).sum::<Result<u64, _>>();
        calls.map_err(|source| self.failed(source))
    }

    /// Whether it submits nothing more and nothing is in flight.
    pub(crate) fn is_idle(&mut self) -> bool {
        let submits = match self.phase {
            Phase::Fill { next } | Phase::Sweep { next } => next < self.region.blocks,
            Phase::Drive { left } => left > 0,
            Phase::Rest => false,
        };
        !submits && self.in_flight() == 0
    }

    /// Requests with the back-end.
    pub(crate) fn in_flight(&mut self) -> usize {
        self.link.queues().iter().map(Queue::in_flight).sum()
    }

    /// When the last completion was seen, or the phase began.
    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// What its own work is known of.
    pub(crate) fn work(&self) -> Work {
        self.work
    }

    /// What was verified.
    pub(crate) fn oracle(&self) -> Option<&Oracle> {
        self.oracle.as_ref()
    }

    /// What became of the arrivals: counts, and what waits.
    pub(crate) fn arrivals(&self) -> Option<(arrivals::Tally, u64)> {
        self.due.as_ref().map(|due| (due.tally(), due.backlog()))
    }

    /// When it has to submit something next, unless something is answered before.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.due.as_ref().filter(|_| matches!(self.phase, Phase::Drive { .. })).map(Due::next_ns)
    }

    /// Fills the queues: what a guest in a closed loop does when it begins.
    pub(crate) fn fill(&mut self, clock: &mut impl Clock) -> Result<(), LoadError> {
        if self.is_open() {
            return Ok(());
        }
        let now_ns = clock.now_ns();
        for index in 0..self.issued.len() {
            self.submit_while(index, |_| Some(now_ns))?;
        }
        Ok(())
    }

    /// Takes what was answered and submits what comes next. Returns how many were answered.
    #[inline(never)]
    pub(crate) fn turn(&mut self, clock: &mut impl Clock) -> Result<u32, LoadError> {
        let mut completed = 0;
        for index in 0..self.issued.len() {
            completed += u32::from(self.turn_queue(index, clock)?);
        }
        Ok(completed)
    }

    /// Submits what became due by `now_ns`.
    #[inline(never)]
    pub(crate) fn arrive(&mut self, now_ns: u64) -> Result<(), LoadError> {
        if !self.is_open() || !self.submits() {
            return Ok(());
        }
        let Some(due) = &mut self.due else { return Ok(()) };
        due.arrive(now_ns);
        for index in 0..self.issued.len() {
            self.submit_while(index, |due| due.as_mut().and_then(Due::take))?;
        }
        if let Some(due) = &mut self.due {
            due.wait();
        }
        Ok(())
    }

    /// Whether requests are submitted when they are due, and not when earlier ones are answered.
    fn is_open(&self) -> bool {
        self.due.is_some() && matches!(self.phase, Phase::Drive { .. })
    }

    #[inline]
    fn turn_queue(&mut self, index: usize, clock: &mut impl Clock) -> Result<u16, LoadError> {
        let Some(queue) = self.link.queue(index) else { return Ok(0) };
        let found = match queue.look() {
            Ok(0) => return Ok(0),
            Ok(found) => found.min(BATCH_MAX),
            Err(source) => return Err(self.failed(source)),
        };
        let now_ns = clock.now_ns();
        self.last_ns = now_ns;
        let closed = !self.is_open();
        for _ in 0..found {
            let Some(queue) = self.link.queue(index) else { break };
            let completion = match queue.next_completion() {
                Ok(Some(completion)) => completion,
                Ok(None) => break,
                Err(source) => return Err(self.failed(source)),
            };
            let slot = self.finish(index, completion, now_ns)?;
            match if closed { self.next() } else { None } {
                Some(operation) => self.submit(index, slot, operation, now_ns)?,
                None => self.give_back(index, slot),
            }
        }
        self.work.batches += 1;
        self.work.completions += u64::from(found);
        self.until_sample -= 1;
        if self.until_sample == 0 {
            self.publish_timed(index, found, clock, now_ns)?;
        } else {
            self.publish(index)?;
        }
        Ok(found)
    }

    /// Publishes, and measures how long a batch of `found` took that began at `from_ns`.
    #[cold]
    fn publish_timed(
        &mut self,
        index: usize,
        found: u16,
        clock: &mut impl Clock,
        from_ns: u64,
    ) -> Result<(), LoadError> {
        // What is submitted counts from the beginning of the batch; a kick, which comes after this, is rightly part of its latency.
        let late_ns = clock.now_ns() - from_ns;
        self.publish(index)?;
        self.until_sample = SAMPLE_EVERY;
        self.work.timed_completions += u64::from(found);
        self.work.timed_ns += clock.now_ns() - from_ns;
        self.work.late_ns += late_ns * u64::from(found);
        Ok(())
    }

    /// What to submit next, if anything.
    #[inline]
    fn next(&mut self) -> Option<Operation> {
        match &mut self.phase {
            Phase::Drive { left } => {
                *left = left.checked_sub(1)?;
                Some(self.workload.next())
            }
            Phase::Rest => None,
            Phase::Fill { .. } | Phase::Sweep { .. } => self.next_in_order(),
        }
    }

    #[cold]
    fn next_in_order(&mut self) -> Option<Operation> {
        let len = self.region.block_bytes;
        let blocks = self.region.blocks;
        match &mut self.phase {
            Phase::Fill { next } => {
                let block = (*next < blocks).then_some(*next)?;
                *next += 1;
                Some(Operation::Write { sector: self.region.sector(block), len })
            }
            Phase::Sweep { next } => {
                let written =
                    |block: &u64| self.oracle.as_ref().is_some_and(|oracle| oracle.was_written(*block));
                let block = (*next..blocks).find(written);
                *next = block.map_or(blocks, |block| block + 1);
                Some(Operation::Read { sector: self.region.sector(block?), len })
            }
            Phase::Drive { .. } | Phase::Rest => None,
        }
    }

    /// Submits as long as the queue has a free slot, and `when` says from when the next counts.
    fn submit_while(
        &mut self,
        index: usize,
        mut when: impl FnMut(&mut Option<Due>) -> Option<u64>,
    ) -> Result<(), LoadError> {
        while let Some(slot) = self.link.queue(index).and_then(Queue::take) {
            // The slot first: what is due waits, and does not get lost, where there is none.
            let from_ns = if self.submits() { when(&mut self.due) } else { None };
            let Some((from_ns, operation)) = from_ns.and_then(|from_ns| Some((from_ns, self.next()?))) else {
                self.give_back(index, slot);
                break;
            };
            self.submit(index, slot, operation, from_ns)?;
        }
        self.publish(index)
    }

    fn submits(&self) -> bool {
        !matches!(self.phase, Phase::Rest | Phase::Drive { left: 0 })
    }

    #[inline]
    fn submit(
        &mut self,
        index: usize,
        slot: Slot,
        operation: Operation,
        from_ns: u64,
    ) -> Result<(), LoadError> {
        let floor = if self.oracle.is_some() { self.stamp(index, &slot, operation)? } else { 0 };
        if let Some(issued) = self.issued.get_mut(index).and_then(|slots| slots.get_mut(slot.index())) {
            *issued = Issued { operation, from_ns, floor, counts: self.measuring };
        }
        let Some(queue) = self.link.queue(index) else { return Ok(()) };
        queue.submit(slot, operation).map_err(|source| self.failed(source))
    }

    /// Puts what is to be verified into a write. Returns what is to be kept with a read.
    #[cold]
    fn stamp(&mut self, index: usize, slot: &Slot, operation: Operation) -> Result<u32, LoadError> {
        let (Some(oracle), Some(queue)) = (&mut self.oracle, self.link.queue(index)) else { return Ok(0) };
        match operation {
            Operation::Read { sector, .. } => Ok(oracle.read(sector)),
            Operation::Write { sector, .. } => {
                let stamped = queue.write_data(slot, oracle.write(sector));
                stamped.map(|()| 0).map_err(|source| self.failed(source))
            }
            Operation::Flush => Ok(0),
        }
    }

    /// Records an answer. Returns the slot.
    #[inline]
    fn finish(&mut self, index: usize, completion: Completion, now_ns: u64) -> Result<Slot, LoadError> {
        let slots = self.issued.get(index);
        let issued = slots.and_then(|slots| slots.get(completion.slot.index())).copied().unwrap_or(NOTHING);
        if self.oracle.is_some() {
            self.verify(index, &completion, issued)?;
        }
        if !completion.is_ok() {
            self.recorder.refused(issued.operation, completion.status);
        } else if issued.counts {
            self.recorder.done(issued.operation, now_ns - issued.from_ns);
        }
        Ok(completion.slot)
    }

    #[cold]
    fn verify(&mut self, index: usize, completion: &Completion, issued: Issued) -> Result<(), LoadError> {
        let (Some(oracle), Some(queue)) = (&mut self.oracle, self.link.queue(index)) else { return Ok(()) };
        match issued.operation {
            Operation::Read { sector, .. } if completion.is_ok() => {
                let read = queue.read_data(&completion.slot, oracle.scratch());
                read.map(|()| oracle.judge(sector, issued.floor)).map_err(|source| self.failed(source))
            }
            Operation::Write { sector, .. } => {
                oracle.written(sector, completion.is_ok());
                Ok(())
            }
            Operation::Read { .. } | Operation::Flush => Ok(()),
        }
    }

    #[inline]
    fn publish(&mut self, index: usize) -> Result<(), LoadError> {
        let Some(queue) = self.link.queue(index) else { return Ok(()) };
        queue.publish().map_err(|source| self.failed(source))
    }

    #[inline]
    fn give_back(&mut self, index: usize, slot: Slot) {
        if let Some(queue) = self.link.queue(index) {
            queue.give_back(slot);
        }
    }

    #[cold]
    fn failed(&self, source: FrontendError) -> LoadError {
        LoadError::Session { socket: self.link.name().to_owned(), source }
    }
}

#[cfg(test)]
mod tests;
