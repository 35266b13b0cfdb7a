//! What was planned and what became of it, for people and for scripts.

use serde_json::{Value, json};

use vfiomux_rpc::ClientError;

use super::plan::Plan;
use super::step::Step;
use crate::failure::Failure;
use crate::session::print;
use crate::table::printable;

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing yet.
    NotBegun,
    /// It is done.
    Done,
    /// The daemon would do it.
    Allowed,
    /// It was refused, or there was no answer.
    Failed {
        /// In words.
        why: String,
        /// As the daemon gave it, or the same words.
        error: Value,
    },
}

impl Outcome {
    pub(super) fn of(failure: &Failure) -> Self {
        let why = failure.to_string();
        let error = match failure {
            Failure::Client(ClientError::Refused(error)) => json!(error),
            _ => json!({ "message": why }),
        };
        Self::Failed { why, error }
    }
}

pub(super) struct Report<'a> {
    plan: &'a Plan,
    outcomes: Vec<Outcome>,
    remaining: Vec<String>,
    dry_run: bool,
    json: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(plan: &'a Plan, dry_run: bool, json: bool) -> Self {
        let outcomes = vec![Outcome::NotBegun; plan.steps.len()];
        Self { plan, outcomes, remaining: Vec::new(), dry_run, json }
    }

    pub(super) const fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// What became of the next step, told at once: steps can take long. That nobody reads any more is no reason to stop half
    /// way, and comes out at the end.
    pub(super) fn settle(&mut self, at: usize, outcome: Outcome) {
        if !self.json
            && let Some(step) = self.plan.steps.get(at)
        {
            let _ = print(&self.line(step, &outcome));
        }
        if let Some(place) = self.outcomes.get_mut(at) {
            *place = outcome;
        }
    }

    /// What is still not as it was wanted after everything was done.
    pub(super) fn remaining(&mut self, rest: &Plan) {
        self.remaining = rest.steps.iter().map(ToString::to_string).collect();
    }

    /// Tells the rest.
    pub(super) fn end(&self) -> Result<(), Failure> {
        print(&if self.json { format!("{:#}\n", self.to_json()) } else { self.rest() })
    }

    fn line(&self, step: &Step, outcome: &Outcome) -> String {
        let line = columns(self.name(outcome), &step.to_string());
        match outcome {
            Outcome::Failed { why, .. } => line + &columns("", &format!("  {}", printable(why))),
            _ => line,
        }
    }

    fn rest(&self) -> String {
        let mut text = String::new();
        for name in &self.plan.left_alone {
            text += &columns("left alone", &format!("{}: the file does not name it", printable(name)));
        }
        for rest in &self.remaining {
            text += &columns("remains", rest);
        }
        text += match (self.plan.steps.is_empty(), self.dry_run) {
            (true, _) => "nothing to do: all is as the file says\n",
            (false, true) => "dry run, nothing changed\n",
            (false, false) if !self.remaining.is_empty() => {
                "a policy, or somebody else, wants what remains otherwise\n"
            }
            (false, false) => "",
        };
        text
    }

    fn to_json(&self) -> Value {
        let steps = self.plan.steps.iter().zip(&self.outcomes).map(|(step, outcome)| {
            let (method, params) = step.wire();
            let error = match outcome {
                Outcome::Failed { error, .. } => Some(error),
                _ => None,
            };
            json!({
                "step": step.to_string(),
                "method": method,
                "params": params,
                "outcome": self.name(outcome).replace(' ', "_"),
                "error": error,
            })
        });
        json!({
            "dry_run": self.dry_run,
            "steps": steps.collect::<Vec<_>>(),
            "left_alone": self.plan.left_alone,
            "remaining": self.remaining,
        })
    }

    const fn name(&self, outcome: &Outcome) -> &'static str {
        match (outcome, self.dry_run) {
            (Outcome::NotBegun, false) => "not begun",
            // What stands on another step cannot be asked about before that is done.
            (Outcome::NotBegun, true) => "would ask",
            (Outcome::Done, _) => "done",
            (Outcome::Allowed, _) => "allowed",
            (Outcome::Failed { .. }, false) => "failed",
            (Outcome::Failed { .. }, true) => "refused",
        }
    }
}

fn columns(what: &str, of: &str) -> String {
    format!("{what:<11}{of}\n")
}
