use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RateLimit;

/// A tenant: what all its channels together are held to, and what they have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantInfo {
    /// What requests call it.
    pub name: String,
    /// What its channels together are held to.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// Counts the changes of its limits, for `expected_generation`; 0 for a tenant that was never tuned.
    pub generation: u64,
    /// Names of its channels.
    #[serde(default)]
    pub channels: Vec<String>,
    /// Size of all its channels.
    pub size_bytes: u64,
    /// What its channels have reserved, in reads of 4 KiB a second, or what costs as much.
    pub reserved_ops: u64,
    /// What its present channels have done.
    #[serde(default)]
    pub counters: TenantCounters,
}

/// Hard maxima. What is left out is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
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
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What a tenant's present channels have done together. Each only grows while no channel goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TenantCounters {
    /// Read requests completed.
    pub read_ops: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Write requests completed.
    pub write_ops: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Requests answered with an error.
    pub error_ops: u64,
    /// Time that requests of its channels waited for the channel's own limit, in nanoseconds, added up.
    pub limited_ns: u64,
    /// Time that requests of its channels waited for a limit of the tenant, in nanoseconds, added up.
    pub tenant_limited_ns: u64,
}
