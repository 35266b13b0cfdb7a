//! Jobs for people, and waiting for one.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use vfiomux_rpc::{ClientError, JobInfo, JobState, call};

use crate::failure::Failure;
use crate::session::Session;
use crate::table::{Cell, Facts, Paint, Table, Tone, printable, word};
use crate::units;

/// How often one who waits looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn list(jobs: &Vec<JobInfo>, paint: Paint) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let mut table = Table::new(&["JOB", "WHAT", "OF", "STATE", "DONE", "NOW"], &[0, 4]);
    for job in jobs {
        table.row([
            Cell::from(job.id.to_string()),
            Cell::from(&job.method),
            Cell::from(&job.object.name),
            state(job.state),
            Cell::from(percent(job)),
            Cell::from(&job.doing),
        ]);
        if let Some(error) = &job.error {
            table.note(&error.message);
        }
    }
    table.text(paint)
}

pub(crate) fn details(job: &JobInfo, paint: Paint) -> String {
    let mut facts = Facts::default();
    facts.add("job", job.id.to_string());
    facts.add("what", &job.method);
    facts.add("of", format!("{} {}", word(job.object.kind), job.object.name));
    facts.add("state", state(job.state));
    facts.add("done", percent(job));
    facts.add_some("now", (!job.doing.is_empty()).then_some(&job.doing));
    facts.add("asked for", format!("by user {}, {}", job.uid, units::moment(job.began_unix_ns)));
    facts.add_some("ended", job.ended_unix_ns.map(units::moment));
    if let Some(error) = &job.error {
        facts.add("because", &error.message);
        facts.add_some("next", (!error.data.next.is_empty()).then_some(&error.data.next));
    }
    if job.cancellable {
        facts.add("can end early", format!("vfiomuxctl job cancel {}", job.id));
    }
    facts.text(paint)
}

pub(crate) fn begun(job: &JobInfo) -> String {
    let next = format!("vfiomuxctl job wait {}", job.id);
    format!("job {}: {} of {}\n  next: {next}", job.id, job.method, printable(&job.object.name))
}

pub(crate) fn cancelled(job: &JobInfo) -> String {
    format!("job {}: {} of {}, {}", job.id, job.method, printable(&job.object.name), job.state.name())
}

/// Looks at a job until it has ended; on a terminal, shows meanwhile how far it is. Ends as it ended.
pub(crate) fn wait(mut session: Session, id: u64) -> Result<(), Failure> {
    let shows = !session.json() && io::stderr().is_terminal();
    loop {
        let job = session.call(&call::JobShow { job: id })?;
        if shows {
            let end = if job.state.is_over() { "\n" } else { "" };
            let line = format!("\r\x1b[K{} {} {}{end}", job.method, percent(&job), printable(&job.doing));
            let _ = io::stderr().write_all(line.as_bytes());
        }
        if job.state.is_over() {
            return match job.error {
                Some(error) => Err(ClientError::Refused(error).into()),
                None => session.show(&call::JobShow { job: id }, |job, _| format!("{}\n", cancelled(job))),
            };
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn percent(job: &JobInfo) -> String {
    format!("{}.{}%", job.progress_permille / 10, job.progress_permille % 10)
}

fn state(state: JobState) -> Cell {
    let tone = match state {
        JobState::Done => Tone::Good,
        JobState::Failed => Tone::Bad,
        JobState::Cancelling | JobState::Cancelled | JobState::Interrupted => Tone::Warning,
        JobState::Running => Tone::Plain,
    };
    Cell::new(state.name(), tone)
}
