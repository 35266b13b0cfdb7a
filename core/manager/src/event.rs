//! Events: recorded state changes, numbered without a gap.

use std::collections::VecDeque;

use vfiomux_rpc::Event;

/// How many events are kept. Whoever asks for older ones is told that they are gone.
pub const EVENTS_KEPT: usize = 8192;

/// The last events, and the number that the next one gets.
#[derive(Debug, Default)]
pub struct EventLog {
    kept: VecDeque<Event>,
    last_seq: u64,
}

impl EventLog {
    /// Numbers an event and keeps it; gives it back as recorded.
    pub fn record(&mut self, mut event: Event) -> &Event {
        self.last_seq += 1;
        event.seq = self.last_seq;
        if self.kept.len() == EVENTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
        // Just pushed, so there is a last one.
        &self.kept[self.kept.len() - 1]
    }

    /// The number of the latest event; 0 when there was none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// How many events after `since` are no longer kept.
    #[must_use]
    pub fn missed(&self, since: u64) -> u64 {
        let oldest = self.kept.front().map_or(self.last_seq + 1, |event| event.seq);
        oldest.saturating_sub(since.saturating_add(1))
    }

    /// Events after `since`, oldest first.
    pub fn since(&self, since: u64) -> impl Iterator<Item = &Event> {
        self.kept.iter().skip(self.kept.partition_point(|event| event.seq <= since))
    }
}
