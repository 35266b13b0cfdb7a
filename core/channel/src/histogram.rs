//! Latencies, counted where an operator can read them without asking the sidecore.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets in each power of two: a value is known to an eighth.
const STEPS_LOG2: u32 = 3;
const STEPS: usize = 1 << STEPS_LOG2;
/// Values from `1 << OCTAVES_MAX` ns (68 s) on share the last bucket.
const OCTAVES_MAX: u32 = 36;
/// How many buckets a histogram has.
const BUCKETS: usize = STEPS * (OCTAVES_MAX - STEPS_LOG2 + 1) as usize;

/// A log-linear histogram of durations, in nanoseconds.
///
/// One thread writes; any may read. The writer loads and stores without a locked instruction.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Histogram {
    /// Counts one duration. For the one writing thread.
    #[inline]
    pub fn record(&self, duration_ns: u64) {
        self.record_many(duration_ns, 1);
    }

    /// Counts `count` durations that are the same. For the one writing thread.
    #[inline]
    pub fn record_many(&self, duration_ns: u64, count: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(duration_ns)) {
            // Relaxed, and no read-modify-write: the sidecore is the only writer, and a count stands for itself.
            bucket.store(bucket.load(Ordering::Relaxed) + count, Ordering::Relaxed);
        }
    }

    /// What has been counted so far.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            counts: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
        }
    }
}

#[inline]
fn bucket_of(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let octave = value.ilog2();
    let step = (value >> (octave - STEPS_LOG2)) as usize & (STEPS - 1);
    ((octave - STEPS_LOG2 + 1) as usize * STEPS + step).min(BUCKETS - 1)
}

/// The largest value that falls into a bucket.
fn upper_edge(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (octave, step) = (bucket / STEPS - 1, bucket % STEPS);
    (((STEPS + step + 1) as u64) << octave) - 1
}

/// A histogram as it was at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    counts: Vec<u64>,
}

impl HistogramSnapshot {
    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The buckets that hold any, shortest first: the longest duration that each holds, and how many.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let held = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        held.map(|(bucket, &count)| (upper_edge(bucket), count))
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().chain(std::iter::repeat(&0));
        Self { counts: self.counts.iter().zip(before).map(|(now, then)| now.saturating_sub(*then)).collect() }
    }

    /// Both together: several channels as one.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let of = |snapshot: &Self, index: usize| snapshot.counts.get(index).copied().unwrap_or(0);
        let len = self.counts.len().max(other.counts.len());
        Self { counts: (0..len).map(|index| of(self, index) + of(other, index)).collect() }
    }

    /// The mean, in nanoseconds, to a sixteenth: each duration counts as the middle of its bucket. 0 when nothing was counted.
    #[must_use]
    pub fn mean_ns(&self) -> u64 {
        let middle = |bucket: usize| {
            let below = bucket.checked_sub(1).map_or(0, |before| upper_edge(before) + 1);
            u128::from(below.midpoint(upper_edge(bucket)))
        };
        let sum: u128 =
            self.counts.iter().enumerate().map(|(bucket, &count)| middle(bucket) * u128::from(count)).sum();
        u64::try_from(sum / u128::from(self.count().max(1))).unwrap_or(u64::MAX)
    }

    /// A duration, in nanoseconds, that `per_mille` thousandths of all stay within, to an eighth; `None` when nothing was
    /// counted.
    #[must_use]
    pub fn quantile_ns(&self, per_mille: u32) -> Option<u64> {
        let total = self.count();
        let rank = (u128::from(total) * u128::from(per_mille.min(1000))).div_ceil(1000).max(1);
        let mut seen = 0u128;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += u128::from(count);
            if seen >= rank {
                return Some(upper_edge(bucket));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_holds_a_value_to_an_eighth(value in 0u64..1 << OCTAVES_MAX) {
            let edge = upper_edge(bucket_of(value));
            prop_assert!(edge >= value && edge - value <= value / 8);
            prop_assert!(bucket_of(value) == 0 || upper_edge(bucket_of(value) - 1) < value);
        }
    }

    #[test]
    fn quantiles_follow_what_was_counted() {
        let histogram = Histogram::default();
        for value in 1..=1000u64 {
            histogram.record(value * 1000);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 1000);
        assert_eq!(snapshot.buckets().map(|(_, count)| count).sum::<u64>(), 1000);
        assert!(snapshot.buckets().is_sorted());
        let median = snapshot.quantile_ns(500).unwrap();
        assert!((500_000..=570_000).contains(&median), "{median}");
        assert!((470_000..=530_000).contains(&snapshot.mean_ns()), "{}", snapshot.mean_ns());
        assert!(snapshot.quantile_ns(1000).unwrap() >= 1_000_000);
        assert_eq!(snapshot.since(&snapshot).quantile_ns(500), None);
        assert_eq!(snapshot.plus(&snapshot).count(), 2000);
    }

    #[test]
    fn the_longest_duration_has_a_bucket() {
        let histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.snapshot().count(), 1);
    }
}
