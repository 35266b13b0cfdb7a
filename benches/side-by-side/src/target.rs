//! The project's targets, and whether they are met.

use serde::Serialize;

use crate::plan::{GUESTS_GROUP, IDLE_SESSIONS};
use crate::ratio::{AtDistance, Metric, Side, Spread, by_distance, paired};
use crate::round::Results;

/// What is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
}

impl Goal {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Below(bound) => value < bound,
        }
    }
}

/// A target and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Target {
    /// What is compared.
    pub(crate) name: String,
    pub(crate) goal: Goal,
    /// `None` when one side was not measured.
    pub(crate) measured: Option<Spread>,
    pub(crate) met: Option<bool>,
    /// The same, apart for each distance that the cores had.
    pub(crate) by_distance: Vec<AtDistance>,
}

impl Target {
    fn new(name: String, goal: Goal, measured: Option<Spread>) -> Self {
        let met = measured.map(|spread| goal.is_met(spread.median));
        Self { name, goal, measured, met, by_distance: Vec::new() }
    }

    /// One side to another.
    fn ratio(
        name: String,
        goal: Goal,
        results: &Results,
        metric: Metric,
        ours: Side<'_>,
        theirs: Side<'_>,
    ) -> Self {
        let all = &results.measurements;
        let by_distance = by_distance(all, metric, ours, theirs);
        Self { by_distance, ..Self::new(name, goal, paired(all, metric, ours, theirs)) }
    }
}

/// All targets. Polling contenders are compared with a peer that polls, the default mode with one that sleeps.
pub(crate) fn all(results: &Results) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut compare = |what: &str, metric, depth: u16, ours: &str, theirs: &str, goal| {
        let workload = format!("randread-4k-qd{depth}");
        let side = |contender| Side { group: "guest", workload: &workload, contender };
        let name = format!("{what}, depth {depth}: {ours} / {theirs}");
        targets.push(Target::ratio(name, goal, results, metric, side(ours), side(theirs)));
    };
    for (backing, factor) in [("null", 1.3), ("ram", 1.15)] {
        for depth in [32, 128] {
            let (ours, theirs) = (format!("vfiomux-{backing}-poll"), format!("spdk-{backing}"));
            compare("I/O per core", Metric::IoPerCore, depth, &ours, &theirs, Goal::AtLeast(factor));
        }
    }
    for backing in ["null", "ram"] {
        let (ours, theirs) = (format!("vfiomux-{backing}-poll"), format!("spdk-{backing}"));
        compare("median latency", Metric::MedianLatency, 1, &ours, &theirs, Goal::AtMost(0.8));
    }
    for backing in ["null", "ram"] {
        for depth in [32, 128] {
            let (ours, theirs) = (format!("vfiomux-{backing}"), format!("qsd-{backing}"));
            compare("I/O per core", Metric::IoPerCore, depth, &ours, &theirs, Goal::AtLeast(4.0));
        }
    }
    for contender in ["vfiomux-null-poll", "vfiomux-null"] {
        let side = |workload| Side { group: GUESTS_GROUP, workload, contender };
        let (many, one) = (side("guests-200"), side("guests-1"));
        let name = format!("throughput of 200 channels / 1: {contender}");
        targets.push(Target::ratio(name, Goal::AtLeast(0.9), results, Metric::Iops, many, one));
    }
    for contender in ["vfiomux-null", "vfiomux-null-event"] {
        let idle = results.idle.iter().find(|idle| idle.contender == contender);
        let used = idle.and_then(|idle| Spread::of(idle.server_cores.iter().copied()));
        let name = format!("cores used with {IDLE_SESSIONS} idle channels: {contender}");
        targets.push(Target::new(name, Goal::Below(0.01), used));
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::Idle;
    use crate::ratio::tests::run;
    use crate::report::tests::results;

    fn find<'a>(targets: &'a [Target], words: &[&str]) -> &'a Target {
        targets.iter().find(|target| words.iter().all(|word| target.name.contains(word))).unwrap()
    }

    #[test]
    fn a_target_is_met_by_the_median_of_paired_ratios() {
        let workload = "randread-4k-qd32";
        let mut results = results();
        results.measurements = vec![
            run(workload, "vfiomux-null-poll", 0, 140.0, 1.0),
            run(workload, "spdk-null", 0, 100.0, 1.0),
            run(workload, "vfiomux-null", 0, 390.0, 1.0),
            run(workload, "qsd-null", 0, 100.0, 1.0),
        ];
        let targets = all(&results);
        assert_eq!(find(&targets, &["depth 32", "spdk-null"]).met, Some(true));
        assert_eq!(find(&targets, &["depth 32", "qsd-null"]).met, Some(false));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        assert!(all(&results()).iter().all(|target| target.met.is_none()));
    }

    #[test]
    fn resting_sessions_have_a_bound_of_their_own() {
        let mut results = results();
        let server_cores = vec![0.004, 0.02, 0.003];
        results.idle.push(Idle { contender: "vfiomux-null".to_owned(), sessions: 100, server_cores });
        assert_eq!(find(&all(&results), &["idle", "vfiomux-null"]).met, Some(true));
    }
}
