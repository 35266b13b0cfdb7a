//! What a guest asks for, and what is made of the answers.

use vfiomux_frontend::{Completion, FrontendError, Operation, Queue, Slot};

use crate::arrivals::Due;
use crate::error::LoadError;
use crate::oracle::Oracle;
use crate::recorder::Recorder;
use crate::workload::{Region, Workload};

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
pub(crate) struct Issued {
    operation: Operation,
    /// From when its latency counts.
    from_ns: u64,
    /// What [`Oracle::read`] gave.
    floor: u32,
    /// It was submitted while the measurement went on.
    counts: bool,
}

const NOTHING: Issued = Issued { operation: Operation::Flush, from_ns: 0, floor: 0, counts: false };

/// Of each slot of a queue, what it was last taken for.
pub(crate) type Lane = Box<[Issued]>;

/// What a guest asks for, and what came of it.
#[derive(Debug)]
pub(crate) struct Job {
    region: Region,
    workload: Workload,
    pub(crate) phase: Phase,
    pub(crate) due: Option<Due>,
    pub(crate) oracle: Option<Oracle>,
    pub(crate) recorder: Recorder,
    /// Requests that are submitted now are to be recorded.
    pub(crate) measuring: bool,
}

impl Job {
    /// One that rests.
    pub(crate) fn new(
        region: Region,
        workload: Workload,
        due: Option<Due>,
        oracle: Option<Oracle>,
    ) -> Result<Self, LoadError> {
        let recorder = Recorder::new()?;
        Ok(Self { region, workload, phase: Phase::Rest, due, oracle, recorder, measuring: false })
    }

    /// Where on the disk it is done.
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// Room to remember what `depth` slots were taken for.
    pub(crate) fn lane(depth: u16) -> Lane {
        vec![NOTHING; depth.into()].into()
    }

    /// Whether requests are submitted when they are due, and not when earlier ones are answered.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.due.is_some() && matches!(self.phase, Phase::Drive { .. })
    }

    /// Whether there is more to submit.
    pub(crate) fn submits(&self) -> bool {
        match self.phase {
            Phase::Fill { next } | Phase::Sweep { next } => next < self.region.blocks,
            Phase::Drive { left } => left > 0,
            Phase::Rest => false,
        }
    }

    /// Takes `count` answers, and in a closed loop puts the next request in the place of each.
    #[inline]
    pub(crate) fn serve(
        &mut self,
        queue: &mut Queue,
        lane: &mut [Issued],
        count: u16,
        now_ns: u64,
    ) -> Result<(), FrontendError> {
        let closed = !self.is_open();
        for _ in 0..count {
            let Some(completion) = queue.next_completion()? else { break };
            let slot = self.finish(queue, lane, completion, now_ns)?;
            match if closed { self.next() } else { None } {
                Some(operation) => self.submit(queue, lane, slot, operation, now_ns)?,
                None => queue.give_back(slot),
            }
        }
        Ok(())
    }

    /// Submits as long as the queue has a free slot and there is something to submit: what is due, or, with a time, anything at all.
    pub(crate) fn fill(
        &mut self,
        queue: &mut Queue,
        lane: &mut [Issued],
        from_ns: Option<u64>,
    ) -> Result<(), FrontendError> {
        while self.submits() {
            // The slot first: what is due waits, and does not get lost, where there is none.
            let Some(slot) = queue.take() else { break };
            let from_ns = from_ns.or_else(|| self.due.as_mut().and_then(Due::take));
            let Some((from_ns, operation)) = from_ns.and_then(|from_ns| Some((from_ns, self.next()?))) else {
                queue.give_back(slot);
                break;
            };
            self.submit(queue, lane, slot, operation, from_ns)?;
        }
        queue.publish()
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

    #[inline]
    fn submit(
        &mut self,
        queue: &mut Queue,
        lane: &mut [Issued],
        slot: Slot,
        operation: Operation,
        from_ns: u64,
    ) -> Result<(), FrontendError> {
        let floor = if self.oracle.is_some() { self.stamp(queue, &slot, operation)? } else { 0 };
        if let Some(issued) = lane.get_mut(slot.index()) {
            *issued = Issued { operation, from_ns, floor, counts: self.measuring };
        }
        queue.submit(slot, operation)
    }

    /// Puts what is to be verified into a write. Returns what is to be kept with a read.
    #[cold]
    fn stamp(&mut self, queue: &Queue, slot: &Slot, operation: Operation) -> Result<u32, FrontendError> {
        let Some(oracle) = &mut self.oracle else { return Ok(0) };
        match operation {
            Operation::Read { sector, .. } => return Ok(oracle.read(sector)),
            Operation::Write { sector, .. } => queue.write_data(slot, oracle.write(sector))?,
            Operation::Flush => {}
        }
        Ok(0)
    }

    /// Records an answer. Returns the slot.
    #[inline]
    fn finish(
        &mut self,
        queue: &Queue,
        lane: &[Issued],
        completion: Completion,
        now_ns: u64,
    ) -> Result<Slot, FrontendError> {
        let issued = lane.get(completion.slot.index()).unwrap_or(&NOTHING);
        if self.oracle.is_some() {
            self.verify(queue, &completion, *issued)?;
        }
        if !completion.is_ok() {
            self.recorder.refused(issued.operation, completion.status, issued.counts);
        } else if issued.counts {
            self.recorder.done(issued.operation, now_ns - issued.from_ns);
        }
        Ok(completion.slot)
    }

    #[cold]
    fn verify(
        &mut self,
        queue: &Queue,
        completion: &Completion,
        issued: Issued,
    ) -> Result<(), FrontendError> {
        let Some(oracle) = &mut self.oracle else { return Ok(()) };
        match issued.operation {
            Operation::Read { sector, .. } if completion.is_ok() => {
                queue.read_data(&completion.slot, oracle.scratch())?;
                oracle.judge(sector, issued.floor);
            }
            Operation::Write { sector, .. } => oracle.written(sector, completion.is_ok()),
            Operation::Read { .. } | Operation::Flush => {}
        }
        Ok(())
    }
}
