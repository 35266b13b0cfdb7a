//! What to do next: operations drawn from a seed.

use std::fmt;
use std::ops::Range;

use super::pattern::SECTOR_BYTES;
use super::random::Random;

/// The kinds of request that change or read a range of sectors, and a flush, which does neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes { unmap: bool },
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    /// In sectors; empty for a flush.
    pub(crate) range: Range<u64>,
}

impl Operation {
    pub(crate) fn changes(&self) -> bool {
        !matches!(self.kind, Kind::Read | Kind::Flush)
    }

    /// Whether the two may be in flight at once: see the essay of [`super`].
    pub(crate) fn conflicts_with(&self, other: &Operation) -> bool {
        (self.changes() || other.changes())
            && self.range.start < other.range.end
            && other.range.start < self.range.end
    }

    pub(crate) fn offset_bytes(&self) -> u64 {
        self.range.start * SECTOR_BYTES as u64
    }

    pub(crate) fn length_bytes(&self) -> usize {
        (self.range.end - self.range.start) as usize * SECTOR_BYTES
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} of sectors {:?}", self.kind, self.range)
    }
}

/// What the device allows, in sectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) capacity: u64,
    pub(crate) block: u64,
    pub(crate) transfer: u64,
    /// Zero where the device does not discard.
    pub(crate) discard: u64,
    pub(crate) discard_alignment: u64,
    /// Zero where the device does not write zeroes.
    pub(crate) write_zeroes: u64,
    pub(crate) flush: bool,
}

/// Draws operations. What is used of the disk lies at both of its ends, where mistakes in arithmetic do.
#[derive(Debug)]
pub(crate) struct Workload {
    random: Random,
    limits: Limits,
    /// Sectors used at each end.
    reach: u64,
}

impl Workload {
    pub(crate) fn new(seed: u64, limits: Limits, span_bytes: u64) -> Workload {
        let half = span_bytes / SECTOR_BYTES as u64 / 2;
        let reach = half.min(limits.capacity / 2) / limits.block * limits.block;
        Workload { random: Random::new(seed), limits, reach: reach.max(limits.block) }
    }

    /// The parts of the disk that operations touch.
    pub(crate) fn spans(&self) -> [Range<u64>; 2] {
        let end = self.limits.capacity / self.limits.block * self.limits.block;
        let upper = end.saturating_sub(self.reach).max(self.reach);
        [0..self.reach.min(end), upper..end]
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// The next operation.
    pub(crate) fn draw(&mut self) -> Operation {
        let kind = match self.random.below(100) {
            0..42 => Kind::Read,
            42..85 => Kind::Write,
            85..90 if self.limits.flush => Kind::Flush,
            90..95 if self.limits.discard > 0 => Kind::Discard,
            95..100 if self.limits.write_zeroes > 0 => Kind::WriteZeroes { unmap: self.random.below(2) == 0 },
            _ => Kind::Read,
        };
        let (longest, alignment) = match kind {
            Kind::Flush => return Operation { kind, range: 0..0 },
            Kind::Read | Kind::Write => (self.limits.transfer, self.limits.block),
            Kind::Discard => (self.limits.discard, self.limits.discard_alignment.max(self.limits.block)),
            Kind::WriteZeroes { .. } => (self.limits.write_zeroes, self.limits.block),
        };
        match self.range(longest, alignment) {
            Some(range) => Operation { kind, range },
            None => Operation { kind: Kind::Read, range: 0..self.limits.block },
        }
    }

    /// A range within one of the spans, if one has room for the alignment: most are short, some as long as can be.
    fn range(&mut self, longest: u64, alignment: u64) -> Option<Range<u64>> {
        let spans = self.spans();
        let upper = !spans[1].is_empty() && self.random.below(2) == 1;
        let span = if upper { spans[1].clone() } else { spans[0].clone() };

        // In units of the alignment, which need not divide where the upper span starts.
        let (start, end) = (span.start.div_ceil(alignment), span.end / alignment);
        let available = end.checked_sub(start).filter(|&available| available > 0)?;
        let cap = match self.random.below(10) {
            0..6 => 4096 * 2,
            6..9 => 64 << 10,
            _ => u64::MAX,
        } / SECTOR_BYTES as u64;
        let most = (longest.min(cap) / alignment).clamp(1, available);
        let length = 1 + self.random.below(most);
        let start = start + self.random.below(available - length + 1);
        Some(start * alignment..(start + length) * alignment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        capacity: 1 << 16,
        block: 8,
        transfer: 512,
        discard: 4096,
        discard_alignment: 8,
        write_zeroes: 4096,
        flush: true,
    };

    #[test]
    fn every_operation_is_aligned_to_blocks_and_lies_in_the_spans() {
        let mut workload = Workload::new(7, LIMITS, 1 << 20);
        let spans = workload.spans();
        for _ in 0..10_000 {
            let operation = workload.draw();
            if operation.kind == Kind::Flush {
                continue;
            }
            let range = &operation.range;
            assert!(
                range.start < range.end && range.start.is_multiple_of(8) && range.end.is_multiple_of(8),
                "{operation}"
            );
            assert!(
                spans.iter().any(|span| span.start <= range.start && range.end <= span.end),
                "{operation}"
            );
        }
    }

    #[test]
    fn the_last_block_of_the_disk_is_reached() {
        let mut workload = Workload::new(7, LIMITS, 1 << 20);
        assert!((0..10_000).any(|_| workload.draw().range.end == LIMITS.capacity));
    }

    #[test]
    fn readers_share_and_writers_exclude() {
        let read = Operation { kind: Kind::Read, range: 0..8 };
        let write = Operation { kind: Kind::Write, range: 7..9 };
        assert!(!read.conflicts_with(&read));
        assert!(read.conflicts_with(&write) && write.conflicts_with(&read));
        assert!(!write.conflicts_with(&Operation { kind: Kind::Write, range: 9..10 }));
    }
}
