//! How long breaths took.

use serde::Serialize;
use vfiomux_rpc::Bucket;

/// Breaths of some time, by how long they took: the longest that each bucket holds, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Breaths(Vec<(u64, u64)>);

/// What is told of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) count: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p99_9_ns: u64,
    pub(crate) p99_99_ns: u64,
    /// No breath took longer.
    pub(crate) longest_ns: u64,
}

impl Breaths {
    /// Those between two looks at the same sidecore.
    pub(crate) fn between(before: &[Bucket], after: &[Bucket]) -> Self {
        let earlier = |up_to_ns| before.iter().find(|bucket| bucket.up_to_ns == up_to_ns);
        let grown = after.iter().map(|bucket| {
            let before = earlier(bucket.up_to_ns).map_or(0, |bucket| bucket.count);
            (bucket.up_to_ns, bucket.count.saturating_sub(before))
        });
        let mut grown: Vec<_> = grown.filter(|&(_, count)| count > 0).collect();
        grown.sort_unstable();
        Self(grown)
    }

    pub(crate) fn plus(mut self, other: &Self) -> Self {
        for &(up_to_ns, count) in &other.0 {
            match self.0.binary_search_by_key(&up_to_ns, |&(up_to_ns, _)| up_to_ns) {
                Ok(at) => self.0[at].1 += count,
                Err(at) => self.0.insert(at, (up_to_ns, count)),
            }
        }
        self
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            count: self.count(),
            p50_ns: self.quantile_ns(0.5),
            p99_ns: self.quantile_ns(0.99),
            p99_9_ns: self.quantile_ns(0.999),
            p99_99_ns: self.quantile_ns(0.9999),
            longest_ns: self.0.last().map_or(0, |&(up_to_ns, _)| up_to_ns),
        }
    }

    /// The course of the distribution, for a picture: percent, and microseconds.
    pub(crate) fn course(&self) -> Vec<(f64, f64)> {
        let all = self.count() as f64;
        let mut seen = 0;
        let points = self.0.iter().map(|&(up_to_ns, count)| {
            seen += count;
            (100.0 * seen as f64 / all, up_to_ns as f64 / 1e3)
        });
        // The last is at 100 %, which an axis of percentiles does not reach.
        points.filter(|&(percent, _)| percent < 100.0).collect()
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|&(_, count)| count).sum()
    }

    fn quantile_ns(&self, quantile: f64) -> u64 {
        let rank = (self.count() as f64 * quantile).ceil();
        let mut seen = 0;
        let found = self.0.iter().find(|&&(_, count)| {
            seen += count;
            seen as f64 >= rank
        });
        found.map_or(0, |&(up_to_ns, _)| up_to_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(of: &[(u64, u64)]) -> Vec<Bucket> {
        of.iter().map(|&(up_to_ns, count)| Bucket { up_to_ns, count }).collect()
    }

    #[test]
    fn what_was_breathed_between_two_looks_is_their_difference() {
        let (before, after) = (buckets(&[(100, 5), (200, 1)]), buckets(&[(100, 5), (200, 4), (400, 1)]));
        assert_eq!(Breaths::between(&before, &after), Breaths(vec![(200, 3), (400, 1)]));
    }

    #[test]
    fn figures_are_of_the_bucket_that_holds_the_rank() {
        let breaths = Breaths(vec![(100, 990), (1000, 9), (5000, 1)]);
        let figures = breaths.figures();
        assert_eq!((figures.count, figures.p50_ns, figures.p99_ns), (1000, 100, 100));
        assert_eq!((figures.p99_9_ns, figures.p99_99_ns, figures.longest_ns), (1000, 5000, 5000));
        assert_eq!(Breaths::default().figures(), Figures::default());
    }

    #[test]
    fn breaths_of_two_times_add_up() {
        let sum = Breaths(vec![(100, 1), (400, 1)]).plus(&Breaths(vec![(200, 2), (400, 3)]));
        assert_eq!(sum, Breaths(vec![(100, 1), (200, 2), (400, 4)]));
    }
}
