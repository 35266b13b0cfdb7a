use std::time::Instant;

/// Time, in nanoseconds from a start that all threads of a run have in common.
pub(crate) trait Clock {
    /// Looks at it.
    fn now_ns(&mut self) -> u64;
}

/// What a look at a clock costs: the least of many, since something may come in between.
pub(crate) fn look_ns(clock: &mut impl Clock) -> u64 {
    let mut before_ns = clock.now_ns();
    let mut least_ns = u64::MAX;
    for _ in 0..LOOKS {
        let now_ns = clock.now_ns();
        least_ns = least_ns.min(now_ns - before_ns);
        before_ns = now_ns;
    }
    least_ns
}

const LOOKS: u32 = 1000;

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monotonic(pub(crate) Instant);

impl Clock for Monotonic {
    #[inline]
    fn now_ns(&mut self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
