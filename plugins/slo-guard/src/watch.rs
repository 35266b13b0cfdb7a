use serde::{Deserialize, Serialize};
use vfiomux_plugin::{ChannelTelemetry, Objective};

use crate::Settings;

/// What a period says about a channel and its objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Too few requests to say.
    Silent,
    /// Above it.
    Missed,
    /// Above it, and its own limit is to blame.
    Limited,
    /// Below it, and not by much.
    Met,
    /// Well below it.
    Comfortable,
}

impl Finding {
    pub(crate) fn of(did: &ChannelTelemetry, objective: Objective, settings: &Settings) -> Self {
        let latency_ns = did.latency_ns_at(objective.permille);
        let comfort_ns = u128::from(objective.latency_ns) * u128::from(settings.comfort_permille) / 1000;
        if did.ops < settings.requests_min {
            Self::Silent
        } else if latency_ns > objective.latency_ns {
            // Held back for as long as the objective is late, in one of the requests at the least.
            if did.throttle_ns > objective.latency_ns { Self::Limited } else { Self::Missed }
        } else if u128::from(latency_ns) < comfort_ns {
            Self::Comfortable
        } else {
            Self::Met
        }
    }
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Nothing,
    /// It must have this share.
    Share(u32),
    /// It misses its objective, and no share would help.
    Helpless,
}

/// What is known of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// The share that it comes back to.
    base: u32,
    /// The share that it had at the last tick.
    seen: u32,
    /// The share that was asked for last. It may be in force, or on its way, or have been refused.
    asked: u32,
    /// Periods in a row in which it missed.
    missed: u32,
    /// Periods in a row in which it was comfortable.
    comfortable: u32,
    /// Nobody has been told yet that it cannot be helped.
    silent: bool,
}

impl Watch {
    pub(crate) const fn new(share: u32) -> Self {
        Self { base: share, seen: share, asked: share, missed: 0, comfortable: 0, silent: true }
    }

    /// A share that is neither the one before nor the one that was asked for is somebody else's, and the one to come back to.
    pub(crate) fn notice(&mut self, present: u32) {
        if present != self.seen && present != self.asked {
            *self = Self { silent: self.silent, ..Self::new(present) };
        }
        self.seen = present;
    }

    /// Whether to say that it cannot be helped: once, until it is well again.
    pub(crate) fn complains(&mut self) -> bool {
        std::mem::take(&mut self.silent)
    }

    pub(crate) fn decide(&mut self, finding: Finding, settings: &Settings) -> Decision {
        let (missed, comfortable) = match finding {
            Finding::Silent => return Decision::Nothing,
            Finding::Missed | Finding::Limited => (self.missed.saturating_add(1), 0),
            Finding::Met => (0, 0),
            Finding::Comfortable => (0, self.comfortable.saturating_add(1)),
        };
        (self.missed, self.comfortable) = (missed, comfortable);
        self.silent |= missed == 0;
        if missed >= settings.raise_after {
            let step = scaled(self.seen, settings.step_permille, 1000).max(self.seen.saturating_add(1));
            let raised = step.min(settings.share_max);
            if finding == Finding::Limited || raised <= self.seen {
                return Decision::Helpless;
            }
            self.change(raised)
        } else if comfortable >= settings.lower_after && self.seen > self.base {
            let lowered = scaled(self.seen, 1000, settings.step_permille).max(self.base);
            self.change(lowered)
        } else {
            Decision::Nothing
        }
    }

    /// What follows is counted anew: the change must first show.
    fn change(&mut self, share: u32) -> Decision {
        (self.asked, self.missed, self.comfortable) = (share, 0, 0);
        Decision::Share(share)
    }
}

/// A share times a fraction; shares are at most 10000, so that only a wild step is cut.
fn scaled(share: u32, times: u32, of: u32) -> u32 {
    u32::try_from(u64::from(share) * u64::from(times) / u64::from(of.max(1))).unwrap_or(u32::MAX)
}
