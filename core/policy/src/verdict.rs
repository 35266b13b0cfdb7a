use std::fmt;

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

/// A verdict for people.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Deny { reason } => write!(f, "deny: {reason}"),
            Self::Unanswered { why } => write!(f, "no answer: {why}"),
            Self::Amend(amendments) => {
                for (index, Amendment { setting, value }) in amendments.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    match setting.name() {
                        Some(name) => write!(f, "{space}{name}={value}")?,
                        None => write!(f, "{space}setting {}={value}", setting.0)?,
                    }
                }
                Ok(())
            }
        }
    }
}
