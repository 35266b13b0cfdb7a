use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A policy plugin: which it is, and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PluginInfo {
    /// What requests call it.
    pub name: String,
    /// The shared library.
    pub library: PathBuf,
    /// The file that it is given to read when it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Where it stands in the chain: those of a lower order are asked before it.
    pub order: i32,
    /// How long it may take to give a verdict.
    #[serde(default)]
    pub deadline_ms: u64,
    /// Who had it loaded.
    pub origin: PluginOrigin,
    /// How it is.
    pub status: PluginStatus,
    /// Until it is started again, while it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_in_ms: Option<u64>,
    /// Process that runs it; none while it is down.
    pub pid: Option<u32>,
    /// What its author calls it; empty before it has once begun, as for the next four.
    #[serde(default)]
    pub plugin: String,
    /// Its author's version of it.
    #[serde(default)]
    pub version: String,
    /// Version of the ABI that it was built against.
    #[serde(default)]
    pub abi: String,
    /// What it is asked.
    #[serde(default)]
    pub hooks: Vec<String>,
    /// The layers of the sandbox that hold it.
    #[serde(default)]
    pub sandbox: Vec<String>,
    /// How often it was started again.
    pub restarts: u64,
    /// What it last did that it must not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fault: Option<String>,
    /// What it answered, counted.
    #[serde(default)]
    pub verdicts: PluginVerdicts,
    /// Lines of its log that were too many.
    #[serde(default)]
    pub log_dropped: u64,
}

/// Who had a plugin loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginOrigin {
    /// The configuration file: it is loaded at every start.
    Configuration,
    /// An operator: it is loaded at every start until it is unloaded.
    Operator,
}

/// How a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PluginStatus {
    /// It answers.
    Running,
    /// It does not answer, and is about to be started again. New channels are denied, what exists goes on.
    Down,
    /// It does not answer, and will not be started again: its library or configuration is of no use. The same holds.
    Refused,
}

/// What a plugin answered, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PluginVerdicts {
    /// Allowed as asked.
    pub allowed: u64,
    /// Denied.
    pub denied: u64,
    /// Allowed with amendments.
    pub amended: u64,
    /// Not answered, or not sensibly.
    pub unanswered: u64,
    /// Changes of guarantees that it wanted without being asked.
    pub retunes: u64,
}

/// What came, or would come, of replacing a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PluginReplacement {
    /// The plugin that has the name now.
    pub plugin: PluginInfo,
    /// So many channels the new one was asked about.
    pub channels: u32,
    /// The channels about which the two differ.
    pub differences: Vec<PluginDifference>,
    /// What became of the state that the old one offered.
    pub state: String,
}

/// A channel about which a plugin and its successor differ: what each says to its coming to be as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PluginDifference {
    /// Name of the channel.
    pub channel: String,
    /// What the old one says.
    pub before: String,
    /// What the new one says.
    pub after: String,
}

/// Some of what a plugin was asked and answered. It is noted only for half a minute after it was last asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PluginRecording {
    /// Lines of a recording, as the SDK's harness reads it: a question in JSON, or what was answered behind a `#`.
    pub lines: Vec<String>,
    /// So many lines that the request covers were not noted, or are no longer kept.
    pub missed: u64,
    /// `since` for the request that goes on from here.
    pub last_line: u64,
}

impl PluginStatus {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Down => "down",
            Self::Refused => "refused",
        }
    }
}
