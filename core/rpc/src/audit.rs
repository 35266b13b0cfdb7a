use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Role;

/// A change that somebody asked for, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its number: one more than the last entry's, from 1, also across restarts.
    pub serial: u64,
    /// When it was asked for, since 1970.
    pub asked_unix_ns: u64,
    /// User who asked.
    pub uid: u32,
    /// That process's primary group.
    pub gid: u32,
    /// That process; 0 when it is in a namespace that the daemon does not see.
    pub pid: i32,
    /// The most that the caller might do with anything.
    pub role: Role,
    /// The plugin that wanted it unasked; then the user is the daemon's own. None for what a caller asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The tenants that the caller was confined to; none when it was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confined_to: Vec<String>,
    /// The request id, if it had one. A repeat of it is answered like the first, does nothing, and is not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What was asked for.
    pub method: String,
    /// Its parameters as they were understood, for those who see the host; none when they take more than 4096 bytes as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// On what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Whose that is, when the caller might know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Nothing was to be changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// The object's generation when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_before: Option<u64>,
    /// What each policy answered, in the order in which they were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rulings: Vec<AuditRuling>,
    /// What the caller was answered; none while it is under way, and when the daemon ended before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AuditAnswer>,
}

impl AuditEntry {
    /// Parameters that are longer as JSON, such as many labels, are not kept.
    pub const PARAMS_BYTES_MAX: usize = 4096;
}

/// What one policy answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRuling {
    /// Which.
    pub policy: String,
    /// What: allow, deny, amend, unanswered.
    pub verdict: String,
    /// Why it denied, what it amended, what went wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it took.
    pub took_ns: u64,
}

/// What a caller was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditAnswer {
    /// When, since 1970.
    pub answered_unix_ns: u64,
    /// Why it was refused or failed; none when it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The object's generation after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_after: Option<u64>,
}

/// Some of the entries kept at hand; older ones are in the files of the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditList {
    /// In the order of their numbers.
    pub entries: Vec<AuditEntry>,
    /// Number of the oldest entry at hand.
    pub oldest_serial: u64,
}
