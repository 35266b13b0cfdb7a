use std::time::{Duration, Instant};

/// When a host that failed may be started again: after pauses that double.
///
/// It keeps no clock; whoever asks says what time it is.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    /// Failures in a row.
    failures: u32,
    due: Option<Instant>,
    well_since: Option<Instant>,
}

/// The pause after the first failure.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Who has been well for so long has not failed before.
const WELL_AFTER: Duration = Duration::from_secs(120);

impl Backoff {
    pub(super) fn new() -> Self {
        Self { failures: 0, due: None, well_since: None }
    }

    /// It failed. How long it stays down.
    pub(super) fn failed(&mut self, now: Instant) -> Duration {
        if self.well_since.is_some_and(|since| now.duration_since(since) >= WELL_AFTER) {
            self.failures = 0;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        (self.due, self.well_since) = (Some(now + pause), None);
        pause
    }

    /// It runs.
    pub(super) fn started(&mut self, now: Instant) {
        (self.due, self.well_since) = (None, Some(now));
    }

    /// When it may be started; none while it runs.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut backoff = Backoff::new();
        let mut now = Instant::now();
        let pauses: Vec<_> = (0..12)
            .map(|_| {
                let pause = backoff.failed(now);
                assert_eq!(backoff.due(), Some(now + pause));
                now += pause;
                backoff.started(now);
                assert_eq!(backoff.due(), None);
                pause.as_millis()
            })
            .collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
    }

    #[test]
    fn who_has_been_well_for_long_has_not_failed_before() {
        let mut backoff = Backoff::new();
        let start = Instant::now();
        for _ in 0..5 {
            backoff.failed(start);
        }
        backoff.started(start);
        let mut early = backoff.clone();
        assert!(early.failed(start + WELL_AFTER - Duration::from_secs(1)) > PAUSE_MIN);
        assert_eq!(backoff.failed(start + WELL_AFTER), PAUSE_MIN);
    }

    #[test]
    fn a_thousand_failures_overflow_nothing() {
        let mut backoff = Backoff::new();
        let now = Instant::now();
        assert_eq!((0..1000).map(|_| backoff.failed(now)).max(), Some(PAUSE_MAX));
    }
}
