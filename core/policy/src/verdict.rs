use crate::Setting;

/// What a policy answers.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

impl Verdict {
    /// A denial.
    #[must_use]
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny { reason: reason.into() }
    }
}

/// A verdict as the number that crosses a C ABI. Any number may come back; only these three mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct RawVerdict(pub u32);

impl RawVerdict {
    /// [`Verdict::Allow`].
    pub const ALLOW: Self = Self(0);
    /// [`Verdict::Deny`].
    pub const DENY: Self = Self(1);
    /// [`Verdict::Amend`].
    pub const AMEND: Self = Self(2);

    /// The verdict that the number, with what came beside it, amounts to. A number that means nothing denies.
    #[must_use]
    pub fn interpret(self, reason: &str, amendments: &[Amendment]) -> Verdict {
        match self {
            Self::ALLOW => Verdict::Allow,
            Self::DENY => Verdict::deny(if reason.is_empty() { "no reason given" } else { reason }),
            Self::AMEND => Verdict::Amend(amendments.to_vec()),
            Self(number) => Verdict::deny(format!("the policy answered {number}, which is no verdict")),
        }
    }
}

/// One setting, and the value that it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Amendment {
    /// Which.
    pub setting: Setting,
    /// Its value, in its unit.
    pub value: u64,
}
