use rustix::time::{ClockId, clock_gettime};

/// The time by which every sidecore goes, in nanoseconds: the kernel's, since the machine started.
///
/// One clock for all of them, and for control: what a channel's limits have earned goes along with it to another sidecore, a
/// tenant's [`vfiomux_qos::Group`] is leased from by all at once, and a daemon that takes over from another goes on by the same
/// time. No lock and, on the machines that matter, no system call.
#[inline]
#[must_use]
pub fn clock_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
