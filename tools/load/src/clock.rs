use std::time::Instant;

/// Time, in nanoseconds from a start that all threads of a run have in common.
pub(crate) trait Clock {
    /// Looks at it.
    fn now_ns(&mut self) -> u64;
}

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monotonic(pub(crate) Instant);

impl Clock for Monotonic {
    #[inline]
    fn now_ns(&mut self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
