//! The run itself: requests submitted, completed, and held against the oracle.
#![expect(unsafe_code, reason = "hands the addresses of shared memory to virtio-driver")]

use std::ops::Range;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use virtio_driver::{VirtioBlkTransport, iovec};

use super::oracle::Oracle;
use super::pattern::SECTOR_BYTES;
use super::random::Random;
use super::session::{Ring, connect, failed, limits, start_rings};
use super::workload::{Kind, Limits, Operation, Workload};
use super::{CheckError, Initial, Options, Outcome, Segments};
use crate::memory::SharedMemory;

/// A transfer is cut into at most so many pieces.
const MOST_PIECES: u64 = 8;
/// The most room between two of a transfer's pieces, so that they are not one range in disguise.
const GAP_BYTES: u64 = 4096;
/// How often an operation is drawn anew because it conflicts with one in flight, before something has to complete first.
const DRAWS: u32 = 20;

/// Runs the check.
pub fn run(options: &Options) -> Result<Outcome, CheckError> {
    let started = Instant::now();
    let mut run = Run::start(options)?;
    if options.initial != Initial::Unknown {
        run.execute(&mut Source::sweep(&run.workload))?;
    }
    if !options.until_error {
        run.probe_the_end()?;
    }
    run.execute(&mut Source::Random { remaining: options.abandon_after.unwrap_or(options.operations) })?;
    if options.until_error && run.outcome.failed == 0 {
        return Err(CheckError::NothingFailed);
    }
    run.forget_what_is_in_flight();
    if options.sweep && options.abandon_after.is_none() && !options.until_error {
        run.execute(&mut Source::sweep(&run.workload))?;
    }
    if let Some(path) = &options.remember {
        run.oracle.remember(path)?;
    }
    run.outcome.took = started.elapsed();
    Ok(run.outcome)
}

/// Where operations come from.
enum Source {
    Random {
        remaining: u64,
    },
    /// Reads of all that is used of the disk, in order.
    Sweep {
        ranges: Vec<Range<u64>>,
    },
}

impl Source {
    fn sweep(workload: &Workload) -> Source {
        Source::Sweep { ranges: workload.spans().into_iter().rev().collect() }
    }

    fn is_exhausted(&self) -> bool {
        match self {
            Source::Random { remaining } => *remaining == 0,
            Source::Sweep { ranges } => ranges.iter().all(Range::is_empty),
        }
    }

    /// The next operation that may be in flight beside the others; none when there is none left, or when one has to complete first.
    fn next(
        &mut self,
        workload: &mut Workload,
        limits: &Limits,
        in_flight: &[Option<InFlight>],
    ) -> Option<Operation> {
        let conflicts = |operation: &Operation| {
            in_flight.iter().flatten().any(|request| operation.conflicts_with(&request.operation))
        };
        match self {
            Source::Random { remaining: 0 } => None,
            Source::Random { remaining } => {
                let operation = std::iter::repeat_with(|| workload.draw())
                    .take(DRAWS as usize)
                    .find(|drawn| !conflicts(drawn))?;
                *remaining -= 1;
                Some(operation)
            }
            Source::Sweep { ranges } => {
                while ranges.last().is_some_and(Range::is_empty) {
                    ranges.pop();
                }
                let left = ranges.last_mut()?;
                let end = left.end.min(left.start + limits.transfer);
                let range = left.start..end;
                left.start = end;
                Some(Operation { kind: Kind::Read, range })
            }
        }
    }
}

/// A request that the back-end has.
struct InFlight {
    operation: Operation,
    ring: usize,
    descriptors: usize,
    /// Offsets into the shared memory, in the order of the data.
    pieces: Vec<Range<usize>>,
    /// Of a write.
    version: u32,
    since: Instant,
}

struct Run<'options> {
    options: &'options Options,
    limits: Limits,
    pieces_max: u64,
    oracle: Oracle,
    workload: Workload,
    outcome: Outcome,
    /// Every request has a slot, and every slot a buffer.
    slots: Vec<Option<InFlight>>,
    slot_bytes: usize,
    /// Where a transfer is put together and taken apart.
    scratch: Vec<u8>,
    last_completion: Instant,
    rings: Vec<Ring<'options>>,
    memory: SharedMemory,
    /// Last, because the rings lie in memory that it owns.
    _transport: Box<VirtioBlkTransport>,
}

impl<'options> Run<'options> {
    fn start(options: &'options Options) -> Result<Run<'options>, CheckError> {
        let mut transport = connect(options)?;
        let (limits, segments_max) = limits(&*transport, options)?;
        let sectors = limits.capacity as usize;
        let oracle = match &options.initial {
            Initial::Unknown => Oracle::unknown(options.identity, sectors),
            Initial::Zero => Oracle::zero(options.identity, sectors),
            Initial::Remembered(path) => Oracle::remembered(path, sectors)?,
        };
        let transfer_bytes = limits.transfer as usize * SECTOR_BYTES;
        let slot_bytes = (transfer_bytes + (MOST_PIECES * GAP_BYTES) as usize).next_multiple_of(4096);
        let slots = usize::from(options.rings) * usize::from(options.depth);
        let memory =
            SharedMemory::new(slots * slot_bytes).map_err(|error| failed("making memory to share", error))?;
        let rings = start_rings(&mut *transport, &memory, options)?;
        Ok(Run {
            options,
            limits,
            pieces_max: segments_max.min(MOST_PIECES),
            oracle,
            workload: Workload::new(options.seed, limits, options.span_bytes),
            outcome: Outcome {
                capacity_bytes: limits.capacity * SECTOR_BYTES as u64,
                block_bytes: (limits.block * SECTOR_BYTES as u64) as u32,
                ..Outcome::default()
            },
            slots: std::iter::repeat_with(|| None).take(slots).collect(),
            slot_bytes,
            scratch: vec![0; transfer_bytes],
            last_completion: Instant::now(),
            rings,
            memory,
            _transport: transport,
        })
    }

    /// Keeps every ring as full as it may be until the source is exhausted and, unless the run is to be abandoned, all is completed.
    fn execute(&mut self, source: &mut Source) -> Result<(), CheckError> {
        self.last_completion = Instant::now();
        loop {
            self.submit_from(source)?;
            let abandon = self.options.abandon_after.is_some() && matches!(source, Source::Random { .. });
            if source.is_exhausted() && (abandon || self.slots.iter().all(Option::is_none)) {
                return Ok(());
            }
            let completed = self.reap()?;
            if self.outcome.failed > 0 {
                *source = Source::Random { remaining: 0 };
            }
            if !completed {
                self.wait()?;
            }
        }
    }

    fn submit_from(&mut self, source: &mut Source) -> Result<(), CheckError> {
        for index in 0..self.rings.len() {
            let mut submitted = false;
            while self.rings[index].in_flight < self.options.depth
                && self.rings[index].free_descriptors >= MOST_PIECES as usize + 2
            {
                let Some(operation) = source.next(&mut self.workload, &self.limits, &self.slots) else {
                    break;
                };
                self.submit(index, operation)?;
                submitted = true;
            }
            if submitted {
                self.notify(index)?;
            }
        }
        Ok(())
    }

    fn notify(&mut self, index: usize) -> Result<(), CheckError> {
        let ring = &mut self.rings[index];
        if ring.queue.avail_notif_needed() {
            ring.notifier.notify().map_err(|error| failed("kicking a ring", error))?;
        }
        Ok(())
    }

    fn submit(&mut self, index: usize, operation: Operation) -> Result<(), CheckError> {
        let slot =
            self.slots.iter().position(Option::is_none).expect("as many slots as requests may be in flight");
        let transfers = matches!(operation.kind, Kind::Read | Kind::Write);
        let pieces = if transfers { self.cut(slot, operation.length_bytes()) } else { Vec::new() };
        let mut version = 0;
        if operation.kind == Kind::Write {
            let data = &mut self.scratch[..operation.length_bytes()];
            version = self.oracle.compose(operation.range.clone(), data);
            let mut rest = &*data;
            for piece in &pieces {
                let (bytes, after) = rest.split_at(piece.len());
                self.memory.write(piece.start, bytes);
                rest = after;
            }
        }

        let vectors: Vec<iovec> = pieces
            .iter()
            .map(|piece| iovec {
                iov_base: (self.memory.address() + piece.start) as *mut _,
                iov_len: piece.len(),
            })
            .collect();
        let queue = &mut self.rings[index].queue;
        let (offset, length) = (operation.offset_bytes(), operation.length_bytes() as u64);
        let queued = match operation.kind {
            // SAFETY: every piece lies in the shared memory, which is mapped for as long as the run lives, and is this slot's alone.
            Kind::Read => unsafe { queue.readv(offset, vectors.as_ptr(), vectors.len(), slot) },
            // SAFETY: as above.
            Kind::Write => unsafe { queue.writev(offset, vectors.as_ptr(), vectors.len(), slot) },
            Kind::Flush => queue.flush(slot),
            Kind::Discard => queue.discard(offset, length, slot),
            Kind::WriteZeroes { unmap } => queue.write_zeroes(offset, length, unmap, slot),
        };
        queued.map_err(|error| failed(format!("queueing a {operation}"), error))?;

        let descriptors = match operation.kind {
            Kind::Read | Kind::Write => 2 + pieces.len(),
            Kind::Flush => 2,
            Kind::Discard | Kind::WriteZeroes { .. } => 3,
        };
        self.rings[index].in_flight += 1;
        self.rings[index].free_descriptors -= descriptors;
        self.slots[slot] =
            Some(InFlight { operation, ring: index, descriptors, pieces, version, since: Instant::now() });
        Ok(())
    }

    /// Cuts a slot's buffer for a transfer of this length.
    fn cut(&mut self, slot: usize, length: usize) -> Vec<Range<usize>> {
        let base = slot * self.slot_bytes;
        let pieces_max = self.pieces_max;
        cut(self.workload.random(), self.options.segments, pieces_max, length)
            .into_iter()
            .map(|piece| base + piece.start..base + piece.end)
            .collect()
    }

    /// Takes every completion that has come. Whether there was one.
    fn reap(&mut self) -> Result<bool, CheckError> {
        let mut completed = Vec::new();
        for ring in &mut self.rings {
            completed.extend(ring.queue.completions().map(|completion| (completion.context, completion.ret)));
        }
        for &(slot, errno) in &completed {
            let request =
                self.slots[slot].take().expect("virtio-driver returns only contexts that it was given");
            self.rings[request.ring].in_flight -= 1;
            self.rings[request.ring].free_descriptors += request.descriptors;
            self.complete(&request, errno)?;
        }
        if !completed.is_empty() {
            self.last_completion = Instant::now();
        }
        Ok(!completed.is_empty())
    }

    fn complete(&mut self, request: &InFlight, errno: i32) -> Result<(), CheckError> {
        let range = request.operation.range.clone();
        if errno != 0 {
            if !self.options.until_error {
                return Err(CheckError::Failed { operation: request.operation.to_string(), errno });
            }
            self.outcome.failed += 1;
            if request.operation.changes() {
                self.oracle.uncertain(range);
            }
            return Ok(());
        }
        match request.operation.kind {
            Kind::Read => {
                let data = &mut self.scratch[..request.operation.length_bytes()];
                let mut rest = &mut *data;
                for piece in &request.pieces {
                    let (bytes, after) = rest.split_at_mut(piece.len());
                    self.memory.read(piece.start, bytes);
                    rest = after;
                }
                self.oracle.verify(range.start, data)?;
                self.outcome.verified_bytes += data.len() as u64;
                self.outcome.reads += 1;
            }
            Kind::Write => {
                self.oracle.written(range, request.version);
                self.outcome.writes += 1;
            }
            Kind::Flush => self.outcome.flushes += 1,
            Kind::Discard => {
                self.oracle.uncertain(range);
                self.outcome.discards += 1;
            }
            Kind::WriteZeroes { .. } => {
                self.oracle.zeroed(range);
                self.outcome.write_zeroes += 1;
            }
        }
        Ok(())
    }

    /// Sleeps until a ring's call comes.
    fn wait(&mut self) -> Result<(), CheckError> {
        let patience = self.options.patience.saturating_sub(self.last_completion.elapsed());
        let mut fds: Vec<PollFd<'_>> =
            self.rings.iter().map(|ring| PollFd::new(&*ring.completed, PollFlags::IN)).collect();
        let ready = rustix::event::poll(&mut fds, Some(&timespec(patience)));
        let ready = ready.map_err(|error| failed("waiting for a call", error.into()))?;
        if ready == 0 {
            let oldest = self.slots.iter().flatten().min_by_key(|request| request.since);
            return Err(CheckError::Stalled {
                patience: self.options.patience,
                in_flight: self.slots.iter().flatten().count(),
                oldest: oldest.map_or_else(String::new, |request| {
                    format!("a {} on ring {}", request.operation, request.ring)
                }),
            });
        }
        let called: Vec<bool> = fds.iter().map(|fd| fd.revents().contains(PollFlags::IN)).collect();
        for (ring, called) in self.rings.iter().zip(called) {
            if called {
                ring.completed.read().map_err(|error| failed("taking a call", error))?;
            }
        }
        Ok(())
    }

    /// Requests that reach beyond the disk's end, also by numbers that wrap around, must be refused.
    fn probe_the_end(&mut self) -> Result<(), CheckError> {
        let Limits { capacity, block, discard, write_zeroes, .. } = self.limits;
        // The last sector whose byte address can be told in 64 bits.
        let last = (u64::MAX / SECTOR_BYTES as u64) / block * block;
        let ranges = [capacity..capacity + block, capacity - block..capacity + block, last - block..last];
        for range in ranges {
            let mut kinds = vec![Kind::Read, Kind::Write];
            if discard >= 2 * block {
                kinds.push(Kind::Discard);
            }
            if write_zeroes >= 2 * block {
                kinds.push(Kind::WriteZeroes { unmap: false });
            }
            for kind in kinds {
                let operation = Operation { kind, range: range.clone() };
                if operation.length_bytes() > self.scratch.len() {
                    continue;
                }
                self.submit(0, operation.clone())?;
                self.notify(0)?;
                if self.errno_of_the_only_request()? == 0 {
                    return Err(CheckError::NotRefused(operation.to_string()));
                }
            }
        }
        Ok(())
    }

    fn errno_of_the_only_request(&mut self) -> Result<i32, CheckError> {
        self.last_completion = Instant::now();
        loop {
            let completion = self.rings[0].queue.completions().next();
            if let Some(completion) = completion {
                let request = self.slots[completion.context].take().expect("the only request in flight");
                self.rings[0].in_flight -= 1;
                self.rings[0].free_descriptors += request.descriptors;
                return Ok(completion.ret);
            }
            self.wait()?;
        }
    }

    /// What is in flight when a run is abandoned may or may not be done.
    fn forget_what_is_in_flight(&mut self) {
        for request in self.slots.iter_mut().filter_map(Option::take) {
            if request.operation.changes() {
                self.oracle.uncertain(request.operation.range);
            }
        }
    }
}

/// Cuts `length` bytes into pieces of a buffer that has room for the gaps too.
fn cut(random: &mut Random, segments: Segments, pieces_max: u64, length: usize) -> Vec<Range<usize>> {
    let unit: usize = match segments {
        Segments::Whole => return std::iter::once(0..length).collect(),
        Segments::Sectors => SECTOR_BYTES,
        Segments::Odd => 1,
    };
    let units = length / unit;
    let wanted = 1 + random.below(pieces_max.min(units as u64)) as usize;
    let mut pieces = Vec::with_capacity(wanted);
    let (mut position, mut left) = (0, units);
    for remaining in (0..wanted).rev() {
        position += random.below(GAP_BYTES / unit as u64) as usize * unit;
        // Each of those that follow needs at least one unit.
        let take = if remaining == 0 { left } else { 1 + random.below((left - remaining) as u64) as usize };
        pieces.push(position..position + take * unit);
        position += take * unit;
        left -= take;
    }
    pieces
}

fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_to_the_transfer_and_never_overlap() {
        let mut random = Random::new(1);
        for segments in [Segments::Whole, Segments::Sectors, Segments::Odd] {
            for sectors in 1..64 {
                let length = sectors * SECTOR_BYTES;
                let pieces = cut(&mut random, segments, MOST_PIECES, length);
                assert_eq!(pieces.iter().map(Range::len).sum::<usize>(), length);
                assert!(pieces.len() <= MOST_PIECES as usize && pieces.iter().all(|piece| !piece.is_empty()));
                assert!(pieces.windows(2).all(|pair| pair[0].end <= pair[1].start));
                let room = length + (MOST_PIECES * GAP_BYTES) as usize;
                assert!(pieces.last().is_some_and(|piece| piece.end <= room));
            }
        }
    }
}
