//! Events: recorded state changes, numbered without a gap.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use vfiomux_rpc::{Event, EventCounts, EventKind, EventList, Gap, Object, ObjectKind, Subscription, View};

/// How many events are kept. Whoever asks for older ones is told that they are gone.
pub const EVENTS_KEPT: usize = 8192;

/// The last events, and the number that the next one gets.
#[derive(Debug)]
pub struct EventLog {
    kept: VecDeque<Event>,
    next_seq: u64,
    dropped: u64,
}

/// The time, since 1970.
#[must_use]
pub fn time_unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// An event before it has a number.
#[must_use]
pub fn event(kind: EventKind, object: ObjectKind, name: impl Into<String>) -> Event {
    Event {
        seq: 0,
        time_unix_ns: time_unix_ns(),
        kind,
        object: Object { kind: object, name: name.into() },
        tenant: None,
        from: None,
        to: None,
        reason: None,
        uid: None,
        generation: None,
    }
}

impl EventLog {
    /// An empty log whose first event gets the number `next_seq`.
    #[must_use]
    pub fn new(next_seq: u64) -> Self {
        Self { kept: VecDeque::with_capacity(EVENTS_KEPT), next_seq: next_seq.max(1), dropped: 0 }
    }

    /// Numbers an event and keeps it; gives it back as recorded.
    pub fn record(&mut self, mut event: Event) -> Event {
        event.seq = self.next_seq;
        self.next_seq += 1;
        if self.kept.len() == EVENTS_KEPT {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back(event.clone());
        event
    }

    /// The number that the next event gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// How much there is and was.
    #[must_use]
    pub fn counts(&self) -> EventCounts {
        EventCounts { oldest_seq: self.oldest_seq(), next_seq: self.next_seq, dropped: self.dropped }
    }

    /// At most `limit` events after `since` that may be told in this view, oldest first, and what of them is no longer kept.
    ///
    /// Numbers are the log's, so that a reader goes on with them in any view. The gap is of numbers too: what is no longer kept
    /// may have been the reader's or not.
    #[must_use]
    pub fn list(&self, since: Option<u64>, limit: usize, view: &View) -> EventList {
        let shown = self.since(since.unwrap_or(0)).filter(|event| view.shows_event(event));
        let events: Vec<Event> = shown.take(limit).cloned().collect();
        let last_seq =
            events.last().map_or_else(|| since.unwrap_or(0).max(self.next_seq - 1), |event| event.seq);
        EventList { events, gap: since.and_then(|since| self.gap(since)), last_seq }
    }

    /// What a subscriber that has seen all up to `since` is told first, and the kept events after that.
    pub fn subscribe(&self, since: Option<u64>) -> (Subscription, impl Iterator<Item = &Event>) {
        let from = since.unwrap_or(self.next_seq - 1);
        (Subscription { gap: self.gap(from), last_seq: self.next_seq - 1 }, self.since(from))
    }

    fn oldest_seq(&self) -> u64 {
        self.kept.front().map_or(self.next_seq, |event| event.seq)
    }

    /// Events after `since` that are no longer kept.
    fn gap(&self, since: u64) -> Option<Gap> {
        let (first_seq, oldest) = (since.saturating_add(1), self.oldest_seq());
        (first_seq < oldest).then(|| Gap { first_seq, last_seq: oldest - 1 })
    }

    fn since(&self, since: u64) -> impl Iterator<Item = &Event> {
        self.kept.iter().skip(self.kept.partition_point(|event| event.seq <= since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> View {
        View::of_host(vfiomux_rpc::Role::Read)
    }

    fn log(events: usize) -> EventLog {
        let mut log = EventLog::new(1);
        for _ in 0..events {
            log.record(event(EventKind::Daemon, ObjectKind::Daemon, "vfiomuxd"));
        }
        log
    }

    #[test]
    fn numbers_have_no_gap_and_reading_goes_on_where_it_stopped() {
        let log = log(10);
        let first = log.list(Some(0), 4, &all());
        assert_eq!((first.events.len(), first.last_seq, first.gap), (4, 4, None));
        let second = log.list(Some(first.last_seq), 100, &all());
        assert_eq!(second.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [5, 6, 7, 8, 9, 10]);
        assert_eq!(log.list(Some(10), 5, &all()).last_seq, 10);
    }

    #[test]
    fn events_no_longer_kept_are_announced() {
        let log = log(EVENTS_KEPT + 5);
        assert_eq!(log.list(Some(2), 1, &all()).gap, Some(Gap { first_seq: 3, last_seq: 5 }));
        assert_eq!(log.subscribe(Some(5)).0.gap, None);
        assert_eq!(log.counts().dropped, 5);
    }

    #[test]
    fn a_subscriber_without_a_since_starts_from_now() {
        let log = log(3);
        let (subscription, events) = log.subscribe(None);
        assert_eq!((subscription.last_seq, subscription.gap, events.count()), (3, None, 0));
    }
}
