use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SidecoreInfo;

/// The daemon, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// How long it has run.
    pub uptime_ms: u64,
    /// Its sidecores.
    pub sidecores: Vec<SidecoreInfo>,
    /// Functions that it owns.
    pub devices: u32,
    /// Channels that it keeps.
    pub channels: u32,
    /// Front-ends connected.
    pub sessions: u32,
    /// Its event log.
    pub events: EventCounts,
}

/// The state of the event log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventCounts {
    /// Sequence number of the oldest event kept.
    pub oldest_seq: u64,
    /// Sequence number that the next event will have.
    pub next_seq: u64,
    /// Events no longer kept.
    pub dropped: u64,
}
