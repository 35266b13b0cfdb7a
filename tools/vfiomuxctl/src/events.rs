//! Events: those that are kept, and those to come.

use serde_json::json;
use vfiomux_rpc::{ClientError, Event, EventList, Gap, Notice, call};

use crate::arguments::EventsWanted;
use crate::failure::Failure;
use crate::session::{Session, print};
use crate::table::{Paint, printable, word};
use crate::units;

pub(crate) fn run(mut session: Session, wanted: &EventsWanted) -> Result<(), Failure> {
    if wanted.follow {
        follow(session, wanted.since)
    } else {
        session.show(&call::EventsList { since: wanted.since, limit: wanted.limit }, list)
    }
}

fn list(events: &EventList, _: Paint) -> String {
    events.gap.iter().map(gap_line).chain(events.events.iter().map(event_line)).collect()
}

/// Prints events as they come; in JSON one object a line, `{"gap": …}` for those that are missing.
fn follow(session: Session, since: Option<u64>) -> Result<(), Failure> {
    let json = session.json();
    let print_gap =
        |gap: &Gap| print(&if json { format!("{}\n", json!({ "gap": gap })) } else { gap_line(gap) });
    let stream = session.into_client().subscribe(since)?;
    if let Some(gap) = &stream.subscription().gap {
        print_gap(gap)?;
    }
    for notice in stream {
        match notice? {
            Notice::Event(event) if json => print(&format!("{}\n", json!(event)))?,
            Notice::Event(event) => print(&event_line(&event))?,
            Notice::Gap(gap) => print_gap(&gap)?,
        }
    }
    Err(ClientError::Closed.into())
}

fn gap_line(gap: &Gap) -> String {
    format!("{:>6}  events {} to {} are missing\n", "-", gap.first_seq, gap.last_seq)
}

fn event_line(event: &Event) -> String {
    let mut line = format!(
        "{:>6}  {}  {} {}: {}",
        event.seq,
        units::moment(event.time_unix_ns),
        word(event.object.kind),
        event.object.name,
        word(event.kind)
    );
    match (&event.from, &event.to) {
        (Some(from), Some(to)) => line.push_str(&format!(" {from} -> {to}")),
        (None, Some(to)) => line.push_str(&format!(" {to}")),
        (Some(from), None) => line.push_str(&format!(" no longer {from}")),
        (None, None) => {}
    }
    if let Some(reason) = &event.reason {
        line.push_str(&format!(" ({reason})"));
    }
    if let Some(uid) = event.uid {
        line.push_str(&format!(" by user {uid}"));
    }
    format!("{}\n", printable(&line))
}
