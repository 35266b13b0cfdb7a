use serde::Serialize;

/// What the plugin does while it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Conduct {
    /// Nobody asks it anything.
    Quiet,
    /// It is asked, and answers.
    Answer,
    /// It sleeps, until it is killed.
    Hang,
    /// It computes, until it is killed.
    Spin,
    /// It writes to address 0.
    Crash,
    /// It takes memory until there is none.
    Swell,
    /// It answers with a number that is no verdict.
    Lie,
    /// It gives far more than an answer holds.
    Flood,
    /// Another takes its place, again and again.
    Replace,
}

impl Conduct {
    /// All but quiet.
    pub(crate) const WRONG: [Self; 8] = [
        Self::Answer,
        Self::Hang,
        Self::Spin,
        Self::Crash,
        Self::Swell,
        Self::Lie,
        Self::Flood,
        Self::Replace,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Answer => "answer",
            Self::Hang => "hang",
            Self::Spin => "spin",
            Self::Crash => "crash",
            Self::Swell => "swell",
            Self::Lie => "lie",
            Self::Flood => "flood",
            Self::Replace => "replace",
        }
    }

    /// The order that a channel's label gives the test plugin; none where it is not asked.
    pub(crate) const fn order(self) -> Option<&'static str> {
        match self {
            Self::Quiet | Self::Replace => None,
            Self::Answer => Some("allow"),
            Self::Hang => Some("hang"),
            Self::Spin => Some("spin"),
            Self::Crash => Some("segfault"),
            Self::Swell => Some("balloon"),
            Self::Lie => Some("lie"),
            Self::Flood => Some("flood"),
        }
    }

    /// Whether the daemon must have killed the plugin for it.
    pub(crate) const fn is_fault(self) -> bool {
        !matches!(self, Self::Quiet | Self::Answer | Self::Replace)
    }
}
