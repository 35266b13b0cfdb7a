use std::path::PathBuf;
use std::time::Duration;

use super::HostFault;
use crate::Hook;
use crate::wire::LogLevel;

/// A plugin as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginState {
    /// What the operator calls it.
    pub name: String,
    /// Where it stands in the chain.
    pub order: i32,
    /// The shared library.
    pub library: PathBuf,
    /// What its author calls it; empty before it has once begun, as for the next three.
    pub plugin: String,
    /// Its author's version of it.
    pub version: String,
    /// Version of the ABI that it was built against.
    pub abi: (u32, u32),
    /// The hooks that it has.
    pub hooks: Vec<Hook>,
    /// The layers of the sandbox that hold it.
    pub sandbox: Vec<String>,
    /// Process of its host; none while that is down.
    pub pid: Option<u32>,
    /// How it is.
    pub status: PluginStatus,
    /// How often it was started again.
    pub restarts: u64,
    /// What it last did that it must not.
    pub last_fault: Option<HostFault>,
    /// What it answered.
    pub verdicts: VerdictCounts,
    /// Lines of its log that were too many.
    pub log_dropped: u64,
}

/// How a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginStatus {
    /// It answers.
    Running,
    /// Its host is down, and what holds is the fallback.
    Down {
        /// Until it is started again.
        restart_in: Duration,
    },
    /// Its host is down and will not be started again: the library or the configuration is of no use.
    Refused,
}

/// What a plugin answered, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerdictCounts {
    /// Allowed.
    pub allowed: u64,
    /// Denied.
    pub denied: u64,
    /// Amended.
    pub amended: u64,
    /// Not answered, or not sensibly.
    pub unanswered: u64,
    /// Retunes that it wanted.
    pub retunes: u64,
}

/// Something that happened to a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginEvent {
    /// What the operator calls it.
    pub plugin: String,
    /// What happened.
    pub kind: PluginEventKind,
}

/// What happened to a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PluginEventKind {
    /// It began.
    Started {
        /// Process of its host.
        pid: u32,
        /// Not for the first time.
        again: bool,
    },
    /// It did what it must not, and its host was ended.
    Faulted {
        /// What it did.
        fault: HostFault,
        /// Until it is started again; none when it is not.
        restart_in: Option<Duration>,
    },
    /// It took no state over from its predecessor.
    StateRefused {
        /// Why.
        why: String,
    },
    /// It said something.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// What.
        line: String,
    },
    /// There was more to tell than is kept.
    Missed {
        /// So many.
        count: u64,
    },
}
