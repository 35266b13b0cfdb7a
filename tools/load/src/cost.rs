use std::io;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::error::LoadError;

/// What a thread has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) user_ns: u64,
    pub(crate) system_ns: u64,
    pub(crate) preemptions: u64,
}

impl Cost {
    /// The calling thread, since it began.
    pub(crate) fn now() -> Result<Self, LoadError> {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).map_err(|errno| LoadError::System {
            step: "ask for the CPU time",
            source: io::Error::from(errno),
        })?;
        let ns = |seconds: i64, micros: i64| {
            let whole =
                Duration::from_secs(seconds.unsigned_abs()) + Duration::from_micros(micros.unsigned_abs());
            u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX)
        };
        Ok(Self {
            user_ns: ns(usage.user_time().tv_sec(), usage.user_time().tv_usec()),
            system_ns: ns(usage.system_time().tv_sec(), usage.system_time().tv_usec()),
            preemptions: usage.involuntary_context_switches().unsigned_abs(),
        })
    }

    /// What was used between the two.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
            preemptions: self.preemptions.saturating_sub(before.preemptions),
        }
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            user_ns: self.user_ns + other.user_ns,
            system_ns: self.system_ns + other.system_ns,
            preemptions: self.preemptions + other.preemptions,
        }
    }
}
