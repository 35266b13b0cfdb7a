//! A channel's life, as one table.
//!
//! The code runs by [`TABLE`]: a step that is not in it is refused, whoever asks (L1). Three axes describe a channel and
//! are never mixed: what is wanted ([`Admin`]), what is ([`Oper`]), and how well it is ([`Health`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};
pub use vfiomux_rpc::{Admin, Health, Oper};

/// What makes a channel go from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Blocks, label and lane are there.
    Realised,
    /// They could not be had.
    RealiseFailed,
    /// An endpoint was given.
    Attach,
    /// A front-end started a ring.
    Start,
    /// The front-end went away, or stopped its last ring.
    SessionLost,
    /// The endpoint was taken away, drained.
    Detach,
    /// An operator or policy wants it to stand still.
    Suspend,
    /// Nothing is in flight any more.
    Drained,
    /// It should serve again, and its front-end's rings are there.
    Resume,
    /// It should serve again, and waits for a front-end.
    ResumeListening,
    /// It should serve again, and has no endpoint.
    ResumeDetached,
    /// The guest, the front-end or the device did what must not be.
    Fault,
    /// It should go away.
    Destroy,
    /// Its blocks read as zeroes.
    Scrubbed,
    /// The deadline of a transient state passed.
    Overdue,
}

/// One arc: from, by, to.
pub type Arc = (Oper, Step, Oper);

/// All that can happen to a channel.
pub const TABLE: &[Arc] = &[
    (Oper::Defined, Step::Realised, Oper::Provisioned),
    (Oper::Defined, Step::RealiseFailed, Oper::Failed),
    (Oper::Defined, Step::Overdue, Oper::Failed),
    (Oper::Provisioned, Step::Attach, Oper::Listening),
    (Oper::Listening, Step::Detach, Oper::Provisioned),
    (Oper::Listening, Step::Start, Oper::Active),
    (Oper::Active, Step::SessionLost, Oper::Listening),
    (Oper::Active, Step::Detach, Oper::Provisioned),
    (Oper::Provisioned, Step::Suspend, Oper::Quiescing),
    (Oper::Listening, Step::Suspend, Oper::Quiescing),
    (Oper::Active, Step::Suspend, Oper::Quiescing),
    (Oper::Quiescing, Step::Drained, Oper::Suspended),
    (Oper::Quiescing, Step::Overdue, Oper::Quarantined),
    (Oper::Suspended, Step::Resume, Oper::Active),
    (Oper::Suspended, Step::ResumeListening, Oper::Listening),
    (Oper::Suspended, Step::ResumeDetached, Oper::Provisioned),
    (Oper::Provisioned, Step::Fault, Oper::Quarantined),
    (Oper::Listening, Step::Fault, Oper::Quarantined),
    (Oper::Active, Step::Fault, Oper::Quarantined),
    (Oper::Quiescing, Step::Fault, Oper::Quarantined),
    (Oper::Suspended, Step::Fault, Oper::Quarantined),
    (Oper::Quarantined, Step::ResumeListening, Oper::Listening),
    (Oper::Quarantined, Step::ResumeDetached, Oper::Provisioned),
    (Oper::Provisioned, Step::Destroy, Oper::Draining),
    (Oper::Listening, Step::Destroy, Oper::Draining),
    (Oper::Active, Step::Destroy, Oper::Draining),
    (Oper::Suspended, Step::Destroy, Oper::Draining),
    (Oper::Quarantined, Step::Destroy, Oper::Draining),
    (Oper::Failed, Step::Destroy, Oper::Draining),
    (Oper::Draining, Step::Drained, Oper::Scrubbing),
    (Oper::Draining, Step::Overdue, Oper::Scrubbing),
    (Oper::Scrubbing, Step::Scrubbed, Oper::Destroyed),
    (Oper::Scrubbing, Step::Overdue, Oper::Destroyed),
];

/// What the table says of a state.
pub trait Life: Sized {
    /// Where `step` leads from here; `None` when it is not allowed.
    #[must_use]
    fn after(self, step: Step) -> Option<Self>;

    /// How long a channel may stay in a transient state before [`Step::Overdue`]; `None` for a stable one.
    ///
    /// What is overdue is not left hanging: the successor in [`TABLE`] ends it by harder means (abort, then deleting the
    /// submission queue, then resetting the controller), or keeps back what it could not scrub.
    #[must_use]
    fn deadline(self) -> Option<Duration>;

    /// Whether it is neither on its way to another state nor out of service: what may be changed now, or moved.
    #[must_use]
    fn steady(self) -> bool;

    /// Whether what it is promised may be changed now.
    #[must_use]
    fn may_be_tuned(self) -> bool;

    /// The name, as operators read it.
    #[must_use]
    fn name(self) -> &'static str;

    /// What may be done from here, for an error that says what to do next.
    #[must_use]
    fn advice(self) -> &'static str;
}

impl Life for Oper {
    fn after(self, step: Step) -> Option<Self> {
        TABLE.iter().find(|(from, by, _)| (*from, *by) == (self, step)).map(|(_, _, to)| *to)
    }

    fn deadline(self) -> Option<Duration> {
        match self {
            Self::Defined => Some(Duration::from_secs(60)),
            Self::Quiescing | Self::Draining => Some(Duration::from_secs(30)),
            Self::Scrubbing => Some(Duration::from_secs(24 * 3600)),
            _ => None,
        }
    }

    fn steady(self) -> bool {
        matches!(self, Self::Provisioned | Self::Listening | Self::Active | Self::Suspended)
    }

    fn may_be_tuned(self) -> bool {
        self.steady() || self == Self::Quarantined
    }

    fn name(self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Provisioned => "provisioned",
            Self::Listening => "listening",
            Self::Active => "active",
            Self::Quiescing => "quiescing",
            Self::Suspended => "suspended",
            Self::Quarantined => "quarantined",
            Self::Draining => "draining",
            Self::Scrubbing => "scrubbing",
            Self::Destroyed => "destroyed",
            Self::Failed => "failed",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Defined | Self::Quiescing | Self::Draining | Self::Scrubbing => {
                "it is on its way; try again in a moment"
            }
            Self::Provisioned => "attach it with vfiomuxctl channel attach, or destroy it",
            Self::Listening | Self::Active => "detach, suspend or destroy it",
            Self::Suspended => "resume it with vfiomuxctl channel resume, or destroy it",
            Self::Quarantined => "look at vfiomuxctl channel show for the reason, then resume or destroy it",
            Self::Failed => "destroy it with vfiomuxctl channel destroy and create it again",
            Self::Destroyed => "create a new one",
        }
    }
}

/// A step that the table does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a channel that is {} cannot {}; {}", .from.name(), .step.verb(), .from.advice())]
pub struct NotAllowed {
    /// The state that it is in.
    pub from: Oper,
    /// What was asked for.
    pub step: Step,
}

impl Step {
    const fn verb(self) -> &'static str {
        match self {
            Self::Realised | Self::RealiseFailed => "be realised",
            Self::Attach => "be attached",
            Self::Start => "start a ring",
            Self::SessionLost => "lose a session",
            Self::Detach => "be detached",
            Self::Suspend => "be suspended",
            Self::Drained => "be drained",
            Self::Resume | Self::ResumeListening | Self::ResumeDetached => "be resumed",
            Self::Fault => "fail",
            Self::Destroy => "be destroyed",
            Self::Scrubbed => "be scrubbed",
            Self::Overdue => "be overdue",
        }
    }
}

/// Takes one step by the table.
pub fn advance(from: Oper, step: Step) -> Result<Oper, NotAllowed> {
    from.after(step).ok_or(NotAllowed { from, step })
}

/// What a channel is after a start, when its device's label names it: `was` is what the journal has of it, if anything.
///
/// This is no step of the table, since nobody was there to take it: nothing that was served is served any more, and what had
/// begun to end goes on ending (T3).
#[must_use]
pub fn after_restart(was: Option<Oper>) -> Oper {
    match was {
        Some(Oper::Draining | Oper::Scrubbing | Oper::Destroyed) => Oper::Scrubbing,
        // Neither comes back by itself.
        Some(was @ (Oper::Quarantined | Oper::Failed)) => was,
        _ => Oper::Provisioned,
    }
}

/// Whether a verdict that was asked for about generation `asked` still applies to a channel that has generation `now`, or is gone
/// (P1).
#[must_use]
pub fn verdict_holds(asked: u64, now: Option<u64>) -> bool {
    now == Some(asked)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// L1: the table is a function, so what happens never depends on the order of its rows.
    #[test]
    fn no_state_has_two_successors_for_one_step() {
        let mut seen = HashSet::new();
        for &(from, by, _) in TABLE {
            assert!(seen.insert((from, format!("{by:?}"))), "{from:?} has two arcs for {by:?}");
        }
    }

    /// V1: every transient state is left by its deadline, to a named successor.
    #[test]
    fn every_state_with_a_deadline_has_a_successor_and_no_other_is_overdue() {
        for &(from, ..) in TABLE {
            assert_eq!(from.deadline().is_some(), from.after(Step::Overdue).is_some(), "{from:?}");
        }
    }

    #[test]
    fn every_state_can_end_and_the_end_is_final() {
        let mut ends = HashSet::from([Oper::Destroyed]);
        while let Some((from, ..)) =
            TABLE.iter().find(|(from, _, to)| ends.contains(to) && !ends.contains(from))
        {
            ends.insert(*from);
        }
        assert!(TABLE.iter().all(|(from, ..)| ends.contains(from)));
        assert!(TABLE.iter().all(|(from, ..)| *from != Oper::Destroyed));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let error = advance(Oper::Quarantined, Step::Attach).unwrap_err();
        assert!(error.to_string().contains("resume or destroy"));
    }
}
