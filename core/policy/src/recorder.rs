//! What a plugin is asked, for as long as somebody listens.
//!
//! ```text
//!   question ─► line ─► the last lines ◄─ excerpt(since) ◄─ excerpt(since) … and nobody for a while: all is forgotten
//!   answer ───► line that begins with # ─┘
//! ```
//!
//! The lines are those of a recording, which the SDK's harness asks again (`plugins/sdk`). They are kept in memory and for a while
//! only: who wants a file writes one, with the rights that it has. Nothing has to be switched off, so nothing is left on by somebody
//! who went away.

mod line;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub(crate) use self::line::{answered, asked, retuned};

/// How long lines are noted after they were last asked for.
const LISTENS: Duration = Duration::from_secs(30);
/// Most bytes of lines that are kept.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Most bytes of lines that are given at once, but for a single line that is longer.
const EXCERPT_BYTES_MAX: usize = 1 << 20;

/// The last lines of what a plugin was asked and answered.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Somebody listens, until then; none while nobody does.
    until: Option<Instant>,
    lines: VecDeque<String>,
    bytes: usize,
    /// Number of the last line. All are counted, also those that nobody listened to.
    last: u64,
}

/// Some of the lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// In the order in which they were noted.
    pub lines: Vec<String>,
    /// So many that were asked for are no longer kept, or never were.
    pub missed: u64,
    /// Number of the last of them: what to ask for the next.
    pub last: u64,
}

impl Recorder {
    /// The lines after number `since`; without it none, but the next are noted. Somebody listens from here on, for a while.
    pub fn excerpt(&mut self, since: Option<u64>, now: Instant) -> Excerpt {
        self.forget_if_over(now);
        self.until = Some(now + LISTENS);
        let first = self.last - self.lines.len() as u64;
        let Some(since) = since.map(|since| since.min(self.last)) else {
            return Excerpt { last: self.last, ..Excerpt::default() };
        };
        let missed = first.saturating_sub(since);
        let from = since.max(first);
        let mut excerpt = Excerpt { missed, last: from, ..Excerpt::default() };
        let mut room = EXCERPT_BYTES_MAX;
        for line in self.lines.iter().skip(usize::try_from(from - first).unwrap_or(usize::MAX)) {
            if !excerpt.lines.is_empty() && line.len() > room {
                break;
            }
            room = room.saturating_sub(line.len());
            excerpt.last += 1;
            excerpt.lines.push(line.clone());
        }
        excerpt
    }

    /// Notes a line, which is made only if somebody listens.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        self.last += 1;
        // Without a look at the clock where nobody listens.
        if self.until.is_some() {
            self.forget_if_over(Instant::now());
        }
        if self.until.is_none() {
            return;
        }
        let line = line();
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    fn forget_if_over(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            // With the memory of the lines, and not only what is in it.
            *self = Self { last: self.last, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests;
