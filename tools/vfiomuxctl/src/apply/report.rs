//! What was planned and what became of it, for people and for scripts.

use std::fmt::Write;

use serde_json::{Value, json};

use super::plan::Plan;
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
    Failed(String),
}

pub(super) struct Report<'a> {
    plan: &'a Plan,
    outcomes: Vec<Outcome>,
    remaining: Vec<String>,
    dry_run: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(plan: &'a Plan, dry_run: bool) -> Self {
        let outcomes = vec![Outcome::NotBegun; plan.steps.len()];
        Self { plan, outcomes, remaining: Vec::new(), dry_run }
    }

    pub(super) const fn dry_run(&self) -> bool {
        self.dry_run
    }

    pub(super) fn set(&mut self, step: usize, outcome: Outcome) {
        if let Some(place) = self.outcomes.get_mut(step) {
            *place = outcome;
        }
    }

    /// What is still not as it was wanted after everything was done.
    pub(super) fn remaining(&mut self, rest: &Plan) {
        self.remaining = rest.steps.iter().map(ToString::to_string).collect();
    }

    /// A line a step.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, of: &str| {
            // Nothing that is written to can fail.
            let _ = writeln!(text, "{what:<11}{of}");
        };
        for (step, outcome) in self.plan.steps.iter().zip(&self.outcomes) {
            line(self.name(outcome), &step.to_string());
            if let Outcome::Failed(why) = outcome {
                line("", &format!("  {}", printable(why)));
            }
        }
        for name in &self.plan.left_alone {
            line("left alone", &format!("  {}: the file does not name it", printable(name)));
        }
        for rest in &self.remaining {
            line("remains", rest);
        }
        if !self.remaining.is_empty() {
            text.push_str("a policy, or somebody else, wants what remains otherwise\n");
        }
        match (self.plan.steps.is_empty(), self.dry_run) {
            (true, _) => text.push_str("nothing to do: all is as the file says\n"),
            (false, true) => text.push_str("dry run, nothing changed\n"),
            (false, false) => {}
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let steps = self.plan.steps.iter().zip(&self.outcomes).map(|(step, outcome)| {
            let (method, params) = step.wire();
            let error = match outcome {
                Outcome::Failed(why) => Some(why),
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
            (Outcome::Failed(_), false) => "failed",
            (Outcome::Failed(_), true) => "refused",
        }
    }
}
