use serde::{Deserialize, Serialize};

use crate::Amendment;

/// What a policy answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As asked.
    Allow,
    /// Not at all.
    Deny {
        /// Why, as a phrase that the caller reads.
        reason: String,
    },
    /// With these changes, applied in order.
    Amend(Vec<Amendment>),
    /// The policy did not answer, or not sensibly: what holds is the question's [`Fallback`](crate::Fallback).
    Unanswered {
        /// What went wrong, as a phrase.
        why: String,
    },
}

impl Verdict {
    /// A denial.
    #[must_use]
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny { reason: reason.into() }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny { .. } => "deny",
            Self::Amend(_) => "amend",
            Self::Unanswered { .. } => "unanswered",
        }
    }
}
