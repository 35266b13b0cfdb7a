use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Distribution, Lane};

/// A polling thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SidecoreInfo {
    /// Its number.
    pub index: u32,
    /// The processor it is pinned to; none when it floats.
    pub cpu: Option<u32>,
    /// What it does when there is nothing to do.
    pub mode: SidecoreMode,
    /// Thousandths of its time spent serving, of late.
    pub busy_permille: u32,
    /// Channels it serves.
    pub channels: u32,
    /// How long its rounds of everything took since its start, busy or not, shortest first: what disturbs it shows in the
    /// difference of two. Not told in `status`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breath_time: Vec<Bucket>,
    /// How it rests.
    #[serde(default)]
    pub rest: SidecoreRest,
    /// The channels it serves, by name. Not told in `status`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serves: Vec<SidecoreChannel>,
}

/// How many of what was measured lie between the bucket before and this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// The longest that it holds.
    pub up_to_ns: u64,
    /// How many.
    pub count: u64,
}

/// A channel, as a part of its sidecore's load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SidecoreChannel {
    /// Name of the channel.
    pub name: String,
    /// Whose it is.
    #[serde(default)]
    pub tenant: String,
    /// Thousandths of the sidecore's time that it took in the last interval, by what it was served.
    pub load_permille: u32,
    /// Whether the submission queue that it uses there is its own.
    pub lane: Lane,
}

/// How a sidecore spends the time in which there is nothing to do, since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SidecoreRest {
    /// It sleeps now.
    pub asleep: bool,
    /// The longest that it spins before it sleeps; means something in the mode `adaptive`.
    pub spin_max_us: u32,
    /// What a sleep and the wake-up after it cost, as measured at its start: `adaptive` weighs spinning against this.
    pub sleep_cost_ns: u64,
    /// Time that it served.
    pub busy_ns: u64,
    /// Time that it looked in vain.
    pub spun_ns: u64,
    /// Time that it slept.
    pub asleep_ns: u64,
    /// Times it went to sleep.
    pub naps: u64,
    /// Of those, times when the next work came so soon that spinning would have cost less.
    pub short_naps: u64,
    /// Wake-ups by a guest's kick.
    pub woken_by_kicks: u64,
    /// Wake-ups by a device's interrupt.
    pub woken_by_devices: u64,
    /// Wake-ups by the control thread.
    pub woken_by_orders: u64,
    /// From the end of a sleep to the end of the breath that submitted its first command.
    pub wake_to_submit: Distribution,
}

/// What a sidecore does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SidecoreMode {
    /// Polls on.
    Poll,
    /// Spins while that is likely to cost less than a sleep, else sleeps until a kick or a completion interrupt.
    Adaptive,
    /// Sleeps as soon as there is nothing to do.
    Event,
}

impl SidecoreMode {
    /// Its name in the configuration, on the command line and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Adaptive => "adaptive",
            Self::Event => "event",
        }
    }
}
