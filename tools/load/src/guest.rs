//! One guest: its queues, and the job that is done on them.
//!
//! ```text
//!   Job:  Workload ─┐                             ┌─► Recorder   latencies, refusals
//!         Due ──────┼─► turn ─► Queue ─► back-end ┤
//!         Oracle ───┘     ▲                       └─► Oracle     what was read
//!                         └──────── a slot that is back takes the next request at once
//! ```
//!
//! The clock is read once for all completions that one look at a ring finds, right after that look; what is submitted in their
//! place counts from the same moment. No latency is too short by this, and each is too long by at most the time of handling one
//! batch, which a sample of the batches measures.

use vfiomux_frontend::{FrontendError, Queue, Slot};

use crate::arrivals::{self, Due};
use crate::clock::Clock;
use crate::error::LoadError;
use crate::job::{Job, Lane, Phase};
use crate::link::Link;
use crate::oracle::Oracle;
use crate::random::Random;
use crate::recorder::Recorder;

/// Completions that are taken at one look. More wait for the next, so that what was submitted is published soon.
const BATCH_MAX: u16 = 32;
/// Of so many batches the time of one is measured.
const SAMPLE_EVERY: u32 = 64;

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
    job: Job,
    /// One a queue.
    lanes: Vec<Lane>,
    /// When the last completion was seen.
    last_ns: u64,
    work: Work,
    until_sample: u32,
    kicks_before: u64,
    /// What a look at the clock costs, which a batch that is timed has one more of than others.
    look_ns: u64,
}

impl Guest {
    /// A guest that rests.
    pub(crate) fn new(mut link: Link, job: Job, depth: u16) -> Result<Self, LoadError> {
        let lanes = link.queues().iter().map(|_| Job::lane(depth)).collect();
        let mut guest = Self {
            link,
            job,
            lanes,
            last_ns: 0,
            work: Work::default(),
            until_sample: SAMPLE_EVERY,
            kicks_before: 0,
            look_ns: 0,
        };
        guest.touch_data(depth)?;
        Ok(guest)
    }

    /// Puts something into the memory of every slot, so that none of it is touched for the first time while time counts.
    fn touch_data(&mut self, depth: u16) -> Result<(), LoadError> {
        let mut random = Random::new(self.job.region().offset_bytes);
        let data: Vec<u8> =
            (0..self.job.region().block_bytes / 8).flat_map(|_| random.bits().to_le_bytes()).collect();
        // All slots are taken at once, so that each has its turn.
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
        self.job.phase = phase;
        self.last_ns = now_ns;
        if let (Phase::Drive { .. }, Some(due)) = (phase, &mut self.job.due) {
            due.start(now_ns);
        }
    }

    /// Submits so many requests more, and then rests.
    pub(crate) fn limit(&mut self, requests: u64) {
        if let Phase::Drive { left } = &mut self.job.phase {
            *left = requests;
        }
    }

    /// Stops submitting.
    pub(crate) fn rest(&mut self) {
        self.job.phase = Phase::Rest;
    }

    /// From now on what is submitted is recorded. A look at the clock costs `look_ns`.
    pub(crate) fn measure(&mut self, look_ns: u64) -> Result<(), LoadError> {
        self.job.measuring = true;
        self.look_ns = look_ns;
        self.work = Work::default();
        self.kicks_before = self.link.queues().iter().map(Queue::kicks).sum();
        self.take_calls()?;
        if let Some(due) = &mut self.job.due {
            due.reset();
        }
        Ok(())
    }

    /// Records nothing more.
    pub(crate) fn stop_measuring(&mut self) {
        self.job.measuring = false;
        self.job.recorder.enter();
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
        !self.job.submits() && self.in_flight() == 0
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

    /// What its requests came to.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.job.recorder
    }

    /// What was verified.
    pub(crate) fn oracle(&self) -> Option<&Oracle> {
        self.job.oracle.as_ref()
    }

    /// What became of the arrivals: counts, and what waits.
    pub(crate) fn arrivals(&self) -> Option<(arrivals::Tally, u64)> {
        self.job.due.as_ref().map(|due| (due.tally(), due.backlog()))
    }

    /// When it has to submit something next, unless something is answered before.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.job.due.as_ref().filter(|_| matches!(self.job.phase, Phase::Drive { .. })).map(Due::next_ns)
    }

    /// Fills the queues: what a guest in a closed loop does when it begins.
    pub(crate) fn fill(&mut self, clock: &mut impl Clock) -> Result<(), LoadError> {
        if self.job.is_open() {
            return Ok(());
        }
        self.submit_all(Some(clock.now_ns()))
    }

    /// Submits what became due by `now_ns`.
    #[inline(never)]
    pub(crate) fn arrive(&mut self, now_ns: u64) -> Result<(), LoadError> {
        let (Phase::Drive { left }, Some(due)) = (self.job.phase, &mut self.job.due) else {
            return Ok(());
        };
        due.arrive(now_ns, left);
        self.submit_all(None)?;
        if let Some(due) = &mut self.job.due {
            due.wait();
        }
        Ok(())
    }

    fn submit_all(&mut self, from_ns: Option<u64>) -> Result<(), LoadError> {
        let pairs = self.link.queues().iter_mut().zip(&mut self.lanes);
        let mut filled = Ok(());
        for (queue, lane) in pairs {
            filled = filled.and_then(|()| self.job.fill(queue, lane, from_ns));
        }
        filled.map_err(|source| self.failed(source))
    }

    /// Takes what was answered and submits what comes next. Returns how many were answered.
    #[inline(never)]
    pub(crate) fn turn(&mut self, clock: &mut impl Clock) -> Result<u32, LoadError> {
        let mut completed = 0;
        for index in 0..self.lanes.len() {
            let taken = self.turn_queue(index, clock).map_err(|source| self.failed(source))?;
            completed += u32::from(taken);
        }
        Ok(completed)
    }

    #[inline]
    fn turn_queue(&mut self, index: usize, clock: &mut impl Clock) -> Result<u16, FrontendError> {
        let (Some(queue), Some(lane)) = (self.link.queue(index), self.lanes.get_mut(index)) else {
            return Ok(0);
        };
        let found = queue.look()?.min(BATCH_MAX);
        if found == 0 {
            return Ok(0);
        }
        let now_ns = clock.now_ns();
        self.last_ns = now_ns;
        self.job.serve(queue, lane, found, now_ns)?;
        self.work.batches += 1;
        self.work.completions += u64::from(found);
        self.until_sample -= 1;
        if self.until_sample != 0 {
            queue.publish()?;
            return Ok(found);
        }
        // What is submitted counts from the beginning of the batch; a kick, which comes after this, is rightly part of its latency.
        let late_ns = (clock.now_ns() - now_ns).saturating_sub(self.look_ns);
        queue.publish()?;
        self.until_sample = SAMPLE_EVERY;
        self.work.timed_completions += u64::from(found);
        self.work.timed_ns += (clock.now_ns() - now_ns).saturating_sub(self.look_ns);
        self.work.late_ns += late_ns * u64::from(found);
        Ok(found)
    }

    #[cold]
    fn failed(&self, source: FrontendError) -> LoadError {
        LoadError::Session { socket: self.link.name().to_owned(), source }
    }
}

#[cfg(test)]
mod tests;
