//! A tenant: a session with its channel, and all that it must remember to check what comes back.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use vfiomux_frontend::{Completion, FrontendError, Operation, Session};
use vfiomux_spec::virtio::blk::SECTOR_SIZE_BYTES;

use crate::error::DemoError;
use crate::pattern::{BLOCK_BYTES, Pattern, Stamp};
use crate::random::Random;
use crate::workload::{Order, READ_BACK_BLOCKS, Workload};

const SECTORS_A_BLOCK: u64 = BLOCK_BYTES as u64 / SECTOR_SIZE_BYTES;
/// How often a free run of blocks is looked for before the queue is left as full as it is.
const CHOICES_MAX: usize = 8;
/// Longer than any latency of a disk that works; what takes longer counts as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// What a tenant does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// What its workload says.
    Drive,
    /// Nothing new.
    Drain,
    /// Reads every block, from the first to the last.
    ReadBack,
}

/// A request in flight.
#[derive(Debug, Clone, Copy)]
struct Job {
    write: bool,
    first_block: usize,
    blocks: usize,
    started: Instant,
}

/// What a tenant did.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// Blocks that were read and held what they should.
    pub(crate) verified_blocks: u64,
    /// From submission to completion as the front-end sees them, ns.
    pub(crate) latency: Histogram<u64>,
}

impl Tally {
    /// Adds what was done at another time.
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.verified_blocks += other.verified_blocks;
        // Both have the same bounds, which is all that adding asks for.
        let _ = self.latency.add(&other.latency);
    }

    /// Nothing done yet.
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 2)
            .expect("constant bounds that a histogram can have");
        Self { requests: 0, bytes: 0, verified_blocks: 0, latency }
    }
}

/// A tenant at work.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) workload: &'static Workload,
    session: Session,
    pattern: Pattern,
    random: Random,
    /// How often each block was written.
    generations: Box<[u32]>,
    /// Blocks that a request in flight names. No two requests name the same, so that what a read must bring is certain.
    busy: Box<[bool]>,
    /// The next block of what goes in sequence.
    cursor: usize,
    /// Of each queue and slot: its request.
    jobs: Vec<Vec<Option<Job>>>,
    buffer: Box<[u8]>,
    /// When it last got an answer, or began to wait for one.
    last_progress: Instant,
    tally: Tally,
}

impl Tenant {
    /// Connects to the channel's endpoint.
    pub(crate) fn connect(
        workload: &'static Workload,
        endpoint: &Path,
        seed: u64,
    ) -> Result<Self, DemoError> {
        let shape = workload.shape();
        let session = Session::connect(endpoint, &shape)
            .map_err(|source| DemoError::Frontend { channel: workload.channel, source })?;
        let jobs = (0..shape.queues).map(|_| vec![None; shape.requests.into()]).collect();
        Ok(Self {
            workload,
            session,
            pattern: Pattern::new(seed),
            random: Random::new(seed.wrapping_add(workload.tenant_number)),
            generations: vec![0; workload.blocks()].into(),
            busy: vec![false; workload.blocks()].into(),
            cursor: 0,
            jobs,
            buffer: vec![0; shape.request_bytes as usize].into(),
            last_progress: Instant::now(),
            tally: Tally::new(),
        })
    }

    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// What it did since it was last asked.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::replace(&mut self.tally, Tally::new())
    }

    /// Starts at the beginning, to read everything back.
    pub(crate) fn rewind(&mut self) {
        self.cursor = 0;
    }

    /// Whether nothing is left to do in this phase.
    pub(crate) fn is_done(&self, phase: Phase) -> bool {
        let all_read = self.cursor >= self.generations.len();
        self.session.in_flight() == 0 && (phase != Phase::ReadBack || all_read)
    }

    /// Takes completions and keeps the queues full. Returns how many completions there were.
    pub(crate) fn step(&mut self, phase: Phase, now: Instant) -> Result<usize, DemoError> {
        let mut completed = 0;
        for queue in 0..self.jobs.len() {
            while let Some(completion) = self.poll(queue)? {
                self.complete(queue, completion, now)?;
                completed += 1;
            }
            self.fill(queue, phase, now)?;
        }
        if completed > 0 || self.session.in_flight() == 0 {
            self.last_progress = now;
        }
        Ok(completed)
    }

    /// Fails when the channel has not answered for so long.
    pub(crate) fn check_progress(&self, now: Instant, patience: Duration) -> Result<(), DemoError> {
        if now.duration_since(self.last_progress) < patience {
            return Ok(());
        }
        Err(DemoError::Stalled {
            channel: self.workload.channel,
            in_flight: self.session.in_flight(),
            seconds: patience.as_secs(),
        })
    }

    /// Stops the queues and hangs up.
    pub(crate) fn stop(self) -> Result<(), DemoError> {
        let channel = self.workload.channel;
        self.session.stop().map_err(|source| DemoError::Frontend { channel, source })
    }

    fn failed(&self) -> impl Fn(FrontendError) -> DemoError + use<> {
        let channel = self.workload.channel;
        move |source| DemoError::Frontend { channel, source }
    }

    fn poll(&mut self, queue: usize) -> Result<Option<Completion>, DemoError> {
        let failed = self.failed();
        self.session.queues()[queue].poll().map_err(failed)
    }

    fn fill(&mut self, queue: usize, phase: Phase, now: Instant) -> Result<(), DemoError> {
        let failed = self.failed();
        while let Some(slot) = self.session.queues()[queue].take() {
            let Some(job) = self.next_job(phase, now) else {
                self.session.queues()[queue].give_back(slot);
                break;
            };
            let (first, len) = (job.first_block, job.blocks * BLOCK_BYTES);
            let (sector, len_bytes) = (first as u64 * SECTORS_A_BLOCK, len as u32);
            let operation = if job.write {
                for (index, block) in self.buffer[..len].chunks_exact_mut(BLOCK_BYTES).enumerate() {
                    self.generations[first + index] += 1;
                    let generation = self.generations[first + index];
                    self.pattern.fill(stamp(self.workload, first + index, generation), block);
                }
                self.session.queues()[queue].write_data(&slot, &self.buffer[..len]).map_err(&failed)?;
                Operation::Write { sector, len: len_bytes }
            } else {
                Operation::Read { sector, len: len_bytes }
            };
            self.busy[first..first + job.blocks].fill(true);
            self.jobs[queue][slot.index()] = Some(job);
            self.session.queues()[queue].submit(slot, operation).map_err(&failed)?;
        }
        self.session.queues()[queue].publish().map_err(failed)
    }

    /// The next request, on blocks that no other names.
    fn next_job(&mut self, phase: Phase, started: Instant) -> Option<Job> {
        let total = self.generations.len();
        if phase == Phase::ReadBack {
            let first_block = self.cursor;
            let blocks = READ_BACK_BLOCKS.min(total.checked_sub(first_block)?);
            self.cursor += blocks;
            return (blocks > 0).then_some(Job { write: false, first_block, blocks, started });
        }
        if phase == Phase::Drain {
            return None;
        }
        let blocks = self.workload.request_blocks;
        for _ in 0..CHOICES_MAX {
            let first_block = match self.workload.order {
                Order::Random => self.random.below((total / blocks) as u64) as usize * blocks,
                Order::Sequential => {
                    let next = (self.cursor + blocks) % total;
                    std::mem::replace(&mut self.cursor, next)
                }
            };
            if self.busy[first_block..first_block + blocks].iter().all(|busy| !busy) {
                let write = self.random.below(100) >= self.workload.read_percent;
                return Some(Job { write, first_block, blocks, started });
            }
        }
        None
    }

    fn complete(&mut self, queue: usize, completion: Completion, now: Instant) -> Result<(), DemoError> {
        let channel = self.workload.channel;
        let index = completion.slot.index();
        let Some(job) = self.jobs[queue][index].take() else {
            // The ring itself refuses a completion of what is not in flight.
            return Ok(());
        };
        if !completion.is_ok() {
            let what = if job.write { "write" } else { "read" };
            let (block, status) = (job.first_block as u64, completion.status);
            return Err(DemoError::Status { channel, what, block, status });
        }
        let len = job.blocks * BLOCK_BYTES;
        if !job.write {
            self.session.queues()[queue]
                .read_data(&completion.slot, &mut self.buffer[..len])
                .map_err(self.failed())?;
            self.check(&job)?;
            self.tally.verified_blocks += job.blocks as u64;
        }
        self.session.queues()[queue].give_back(completion.slot);
        self.busy[job.first_block..job.first_block + job.blocks].fill(false);
        self.tally.requests += 1;
        self.tally.bytes += len as u64;
        let latency_ns = now.saturating_duration_since(job.started).as_nanos();
        self.tally.latency.saturating_record(u64::try_from(latency_ns).unwrap_or(LATENCY_MAX_NS));
        Ok(())
    }

    /// Holds what was just read against what was last written.
    fn check(&self, job: &Job) -> Result<(), DemoError> {
        let blocks = self.buffer.chunks_exact(BLOCK_BYTES).take(job.blocks);
        for (number, block) in (job.first_block..).zip(blocks) {
            let expected = stamp(self.workload, number, self.generations[number]);
            self.pattern.check(expected, block).map_err(|mismatch| DemoError::Mismatch {
                channel: self.workload.channel,
                block: number as u64,
                mismatch: *mismatch,
            })?;
        }
        Ok(())
    }
}

fn stamp(workload: &Workload, block: usize, generation: u32) -> Stamp {
    Stamp { tenant: workload.tenant_number, block: block as u64, generation }
}
