use vfiomux_channel::{Counter, Histogram};

/// What a sidecore has done: written by its thread, read by anybody.
#[derive(Debug, Default)]
pub struct SidecoreCounters {
    /// Rounds of everything.
    pub breaths: Counter,
    /// Rounds that found something to do.
    pub busy_breaths: Counter,
    /// Time spent in busy rounds, in nanoseconds: from a busy breath's start to the next breath's.
    pub busy_ns: Counter,
    /// How long each breath took, busy or not: from its start to the next one's, or to the decision to sleep.
    pub breath_time: Histogram,
    /// Time spent looking in vain, in nanoseconds.
    pub spun_ns: Counter,
    /// Times it went to sleep.
    pub naps: Counter,
    /// Of those, times when what it slept for came so soon that spinning would have cost less.
    pub short_naps: Counter,
    /// Time slept, in nanoseconds.
    pub asleep_ns: Counter,
    /// Wake-ups that a guest's kick had a part in.
    pub woken_by_kicks: Counter,
    /// Wake-ups that a device's interrupt had a part in.
    pub woken_by_devices: Counter,
    /// Wake-ups that control had a part in.
    pub woken_by_orders: Counter,
    /// From the end of a sleep to the end of the breath that submitted its first command.
    pub wake_to_submit: Histogram,
    /// What a sleep and the wake-up after it cost, measured at the start, in nanoseconds; 0 before.
    pub sleep_cost_ns: Counter,
    /// Orders carried out or refused.
    pub orders: Counter,
    /// Completions that named no channel here, or one that is gone, and were dropped (I1).
    pub strays: Counter,
    /// Device flushes submitted.
    pub device_flushes: Counter,
}
