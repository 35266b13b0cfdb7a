use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Object, RpcError};

/// A long operation: under way, or one of the last that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobInfo {
    /// Its number: never used again, also across restarts.
    pub id: u64,
    /// The method that it carries out.
    pub method: String,
    /// What it is carried out on.
    pub object: Object,
    /// Whose that is; none of what is the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// User who asked for it.
    pub uid: u32,
    /// Where it stands.
    pub state: JobState,
    /// How much of it is done, in thousandths.
    pub progress_permille: u16,
    /// What it does now, or did last, as a phrase.
    pub doing: String,
    /// `job.cancel` ends it early.
    pub cancellable: bool,
    /// When it began, since 1970.
    pub began_unix_ns: u64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_unix_ns: Option<u64>,
    /// What its method gave, once it is done: as it is given to whoever waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub error: Option<RpcError>,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It is under way.
    Running,
    /// It is under way, and ends at the next step where it can.
    Cancelling,
    /// It has ended, and did what was asked for.
    Done,
    /// It has ended without having done what was asked for.
    Failed,
    /// It has ended early, because somebody wanted that.
    Cancelled,
    /// The daemon ended while it was under way. What must be brought to an end was taken up again at the start.
    Interrupted,
}

impl JobState {
    /// Whether nothing follows any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Running | Self::Cancelling)
    }

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}
