use vfiomux_channel::Counter;

/// What a sidecore has done: written by its thread, read by anybody.
#[derive(Debug, Default)]
pub struct SidecoreCounters {
    /// Rounds of everything.
    pub breaths: Counter,
    /// Rounds that found something to do.
    pub busy_breaths: Counter,
    /// Time spent in busy rounds, in nanoseconds: from a busy breath's start to the next breath's.
    pub busy_ns: Counter,
    /// Times it went to sleep.
    pub naps: Counter,
    /// Time slept, in nanoseconds.
    pub asleep_ns: Counter,
    /// Orders carried out or refused.
    pub orders: Counter,
    /// Completions that named no channel here, or one that is gone, and were dropped (I1).
    pub strays: Counter,
    /// Device flushes submitted.
    pub device_flushes: Counter,
}
