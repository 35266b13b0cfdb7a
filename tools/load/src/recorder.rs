use hdrhistogram::Histogram;
use vfiomux_frontend::Operation;
use vfiomux_spec::virtio::blk::{SECTOR_SHIFT, STATUS_IOERR, STATUS_OK, STATUS_UNSUPP};

use crate::error::LoadError;
use crate::report::Failed;

/// Latencies are kept with this many significant digits…
const DIGITS: u8 = 3;
/// …up to an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// What a guest's requests came to. Sized at set-up.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    pub(crate) reads: Histogram<u64>,
    pub(crate) writes: Histogram<u64>,
    pub(crate) flushes: u64,
    /// All that were refused, whenever they were submitted.
    pub(crate) failed: Failed,
    /// Those of them that the measurement is about.
    refused: u64,
    /// Completions with the same latency, not entered yet: requests of one batch often have it in common.
    run: Run,
}

#[derive(Debug, Clone, Copy, Default)]
struct Run {
    is_read: bool,
    latency_ns: u64,
    count: u64,
}

impl Recorder {
    pub(crate) fn new() -> Result<Self, LoadError> {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).map_err(LoadError::Histogram);
        Ok(Self {
            reads: histogram()?,
            writes: histogram()?,
            flushes: 0,
            failed: Failed::default(),
            refused: 0,
            run: Run::default(),
        })
    }

    /// A request that the back-end says was done.
    #[inline]
    pub(crate) fn done(&mut self, operation: Operation, latency_ns: u64) {
        let is_read = match operation {
            Operation::Read { .. } => true,
            Operation::Write { .. } => false,
            Operation::Flush => {
                self.flushes += 1;
                return;
            }
        };
        if self.run.latency_ns != latency_ns || self.run.is_read != is_read {
            self.enter();
            self.run = Run { is_read, latency_ns, count: 0 };
        }
        self.run.count += 1;
    }

    /// One that it says was not; `counts` when the measurement is about it.
    #[cold]
    pub(crate) fn refused(&mut self, operation: Operation, status: u8, counts: bool) {
        self.refused += u64::from(counts);
        let (count, what) = match status {
            STATUS_IOERR => (&mut self.failed.io_error, "an I/O error (VIRTIO_BLK_S_IOERR)".to_owned()),
            STATUS_UNSUPP => (&mut self.failed.unsupported, "not supported (VIRTIO_BLK_S_UNSUPP)".to_owned()),
            other => {
                (&mut self.failed.other, format!("status {other:#04x}, which the standard does not have"))
            }
        };
        *count += 1;
        debug_assert_ne!(status, STATUS_OK);
        if self.failed.first.is_none() {
            self.failed.first = Some(format!("{}: {what}", describe(operation)));
        }
    }

    /// Enters what is not entered yet, for somebody who reads the histograms.
    pub(crate) fn enter(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.count != 0 {
            let histogram = if run.is_read { &mut self.reads } else { &mut self.writes };
            histogram.saturating_record_n(run.latency_ns, run.count);
        }
    }

    /// Requests that were answered.
    pub(crate) fn requests(&self) -> u64 {
        self.reads.len() + self.writes.len() + self.flushes + self.refused
    }

    /// Adds what another one recorded.
    pub(crate) fn add(&mut self, other: &Self) -> Result<(), LoadError> {
        self.reads.add(&other.reads).map_err(LoadError::Merge)?;
        self.writes.add(&other.writes).map_err(LoadError::Merge)?;
        self.flushes += other.flushes;
        self.refused += other.refused;
        self.failed.io_error += other.failed.io_error;
        self.failed.unsupported += other.failed.unsupported;
        self.failed.other += other.failed.other;
        self.failed.first = self.failed.first.take().or_else(|| other.failed.first.clone());
        Ok(())
    }
}

/// A request in words.
pub(crate) fn describe(operation: Operation) -> String {
    match operation {
        Operation::Read { sector, len } => format!("reading {len} bytes at {}", sector << SECTOR_SHIFT),
        Operation::Write { sector, len } => format!("writing {len} bytes at {}", sector << SECTOR_SHIFT),
        Operation::Flush => "flushing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Operation = Operation::Read { sector: 8, len: 4096 };
    const WRITE: Operation = Operation::Write { sector: 8, len: 4096 };

    #[test]
    fn runs_of_one_latency_are_counted_whole_and_apart_by_direction() {
        let mut recorder = Recorder::new().unwrap();
        for (operation, latency) in [(READ, 5), (READ, 5), (WRITE, 5), (READ, 7), (Operation::Flush, 9)] {
            recorder.done(operation, latency);
        }
        recorder.enter();
        assert_eq!([recorder.reads.len(), recorder.writes.len(), recorder.flushes], [3, 1, 1]);
        assert_eq!(recorder.reads.count_at(5), 2);
        assert_eq!(recorder.requests(), 5);
    }

    #[test]
    fn failures_are_counted_by_status_and_the_first_is_told() {
        let mut recorder = Recorder::new().unwrap();
        recorder.refused(READ, STATUS_UNSUPP, false);
        recorder.refused(WRITE, STATUS_IOERR, true);
        recorder.refused(WRITE, 0xff, true);
        assert_eq!((recorder.failed.count(), recorder.requests()), (3, 2));
        assert_eq!(recorder.failed.unsupported, 1);
        assert!(recorder.failed.first.unwrap().starts_with("reading 4096 bytes at 4096: not supported"));
    }
}
