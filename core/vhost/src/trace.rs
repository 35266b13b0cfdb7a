//! The last messages of a session, for whoever has to find out why a guest's disk does not come up.

use std::collections::VecDeque;
use std::fmt;

/// Records kept for each session.
const RECORDS_MAX: usize = 64;

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A request from the front-end.
    Received,
    /// A reply to the front-end.
    Replied,
    /// An action for the owner.
    Asked,
    /// The owner's answer.
    Answered,
}

/// One thing that happened in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRecord {
    /// Counts every record of the session from 0, so that a gap tells what was forgotten.
    pub sequence: u64,
    /// Which way it went.
    pub direction: Direction,
    /// The request, or the action.
    pub name: &'static str,
    /// What goes with it: a ring and a number, sizes, the reason of a failure.
    pub detail: String,
}

impl fmt::Display for TraceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.direction {
            Direction::Received => "<-",
            Direction::Replied => "->",
            Direction::Asked => "do",
            Direction::Answered => "ok",
        };
        write!(f, "{:>5} {arrow} {}", self.sequence, self.name)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        Ok(())
    }
}

/// The last [`RECORDS_MAX`] records.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    records: VecDeque<TraceRecord>,
    next_sequence: u64,
}

impl Trace {
    pub(crate) fn push(&mut self, direction: Direction, name: &'static str, detail: String) {
        if self.records.len() == RECORDS_MAX {
            self.records.pop_front();
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        tracing::trace!(sequence, ?direction, name, detail, "vhost-user");
        self.records.push_back(TraceRecord { sequence, direction, name, detail });
    }

    pub(crate) fn records(&self) -> impl ExactSizeIterator<Item = &TraceRecord> {
        self.records.iter()
    }
}
