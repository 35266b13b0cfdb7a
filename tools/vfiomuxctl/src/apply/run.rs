//! Doing what was planned, a step at a time.

use std::collections::BTreeMap;

use serde_json::Value;
use vfiomux_rpc::Change;

use super::not_understood;
use super::plan::Plan;
use super::report::{Outcome, Report};
use super::step::{Step, Subject};
use crate::failure::Failure;
use crate::session::Session;

/// Does the steps of a plan, or asks whether they would be done. Gives what went wrong first; after that, nothing is begun.
pub(super) fn run(session: &mut Session, plan: &Plan, report: &mut Report) -> Option<Failure> {
    if report.dry_run() { ask_all(session, plan, report) } else { do_all(session, plan, report) }
}

fn do_all(session: &mut Session, plan: &Plan, report: &mut Report) -> Option<Failure> {
    // What the last answer said, which is what the next step expects.
    let mut generations = BTreeMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        let subject = step.subject();
        let expected_generation = generations.get(&subject).copied().or(step.planned_generation);
        let change = Change { expected_generation, ..Change::default() };
        match step.ask(session, &change).map_err(Failure::from).and_then(|answer| generation(&answer)) {
            Ok(generation) => {
                generations.insert(subject, generation);
                report.settle(at, Outcome::Done);
            }
            Err(failure) => {
                report.settle(at, Outcome::of(&failure));
                for later in at + 1..plan.steps.len() {
                    report.settle(later, Outcome::NotBegun);
                }
                return Some(failure);
            }
        }
    }
    None
}

/// Asks the daemon about each step that stands by itself: the first of its object, unless what it needs would only be given back by
/// an earlier one.
fn ask_all(session: &mut Session, plan: &Plan, report: &mut Report) -> Option<Failure> {
    let mut begun: Vec<Subject> = Vec::new();
    let mut room_to_come = false;
    let mut first = None;
    for (at, step) in plan.steps.iter().enumerate() {
        let subject = step.subject();
        let depends = begun.contains(&subject) || room_to_come && step.needs_room();
        room_to_come |= step.gives_room;
        begun.push(subject);
        if depends {
            report.settle(at, Outcome::NotBegun);
            continue;
        }
        match ask(session, step) {
            Ok(_) => report.settle(at, Outcome::Allowed),
            Err(failure) => {
                report.settle(at, Outcome::of(&failure));
                first.get_or_insert(failure);
            }
        }
    }
    first
}

fn ask(session: &mut Session, step: &Step) -> Result<Value, Failure> {
    let change = Change { dry_run: true, expected_generation: step.planned_generation, ..Change::default() };
    Ok(step.ask(session, &change)?)
}

/// The generation of the object that an answer shows.
fn generation(answer: &Value) -> Result<u64, Failure> {
    answer["generation"].as_u64().ok_or_else(|| not_understood("an answer without a generation"))
}
