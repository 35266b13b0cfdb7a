use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The order of requests, in fio's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Pattern {
    /// Reads at random places.
    RandRead,
    /// Writes at random places.
    RandWrite,
    /// Reads and writes at random places.
    RandRw,
    /// Reads in order.
    Read,
    /// Writes in order.
    Write,
    /// Reads and writes in order.
    Rw,
}

impl Pattern {
    /// Whether places are random.
    #[must_use]
    pub const fn is_random(self) -> bool {
        matches!(self, Self::RandRead | Self::RandWrite | Self::RandRw)
    }

    /// Reads among a hundred requests, when mixed ones have `mixed`.
    #[must_use]
    pub const fn read_percent(self, mixed: u8) -> u8 {
        match self {
            Self::RandRead | Self::Read => 100,
            Self::RandWrite | Self::Write => 0,
            Self::RandRw | Self::Rw => mixed,
        }
    }
}

/// How the arrivals of an open loop are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// One after each interval.
    Constant,
    /// At random, as those of many independent users are: intervals are exponentially distributed.
    Poisson,
}

/// How completions are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Look at the used rings without rest, calls suppressed: takes a core, measures the back-end.
    Poll,
    /// Sleep until called, as a guest without a core to burn does.
    Sleep,
}
