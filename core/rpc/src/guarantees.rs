use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a channel is promised, and what it is held to. What is left out is neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guarantees {
    /// Most operations of any kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops: Option<RateLimit>,
    /// Most bytes, read and written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<RateLimit>,
    /// Most read operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ops: Option<RateLimit>,
    /// Most bytes read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<RateLimit>,
    /// Most operations that are no reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_ops: Option<RateLimit>,
    /// Most bytes written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes: Option<RateLimit>,
    /// Reads of 4 KiB a second, or what costs as much, that go before what others do beyond theirs. Refused when all
    /// reservations together would be more than the device was calibrated to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation_ops: Option<u64>,
    /// Weight over what is left, from 1 to 10000; 100 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<u32>,
    /// What its requests should take at most. The daemon promises it to nobody: it is what policies work towards, and what
    /// is compared with what is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
}

/// A latency target at a percentile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// So many of 1000 requests, from 1 to 999, take at most
    #[serde(default = "p99")]
    pub permille: u16,
    /// this long, nanoseconds.
    pub latency_ns: u64,
}

const fn p99() -> u16 {
    990
}

impl Objective {
    /// Whether it can be held against what is measured.
    #[must_use]
    pub const fn is_sane(&self) -> bool {
        self.permille >= 1 && self.permille <= 999 && self.latency_ns > 0
    }
}

impl Guarantees {
    /// Whether nothing is promised and nothing limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A hard maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// So many a second.
    pub per_second: u64,
    /// So many at once after a pause; without it, what a tenth of a second is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}
