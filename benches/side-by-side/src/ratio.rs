//! Medians, quartiles, and ratios of runs that were made next to each other.

use serde::Serialize;

use crate::measurement::{Figures, Measurement};

/// A median with its spread: between the quartiles lies the middle half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lower_quartile: f64,
    pub(crate) upper_quartile: f64,
    /// Values that it was made of.
    pub(crate) count: usize,
}

impl Spread {
    /// Of finite values. `None` when there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            lower_quartile: quantile(&sorted, 0.25)?,
            upper_quartile: quantile(&sorted, 0.75)?,
            count: sorted.len(),
        })
    }
}

/// Fewer calm runs, or fair pairs, than this do not stand for all.
const CALM_MIN: usize = 3;

/// Of values with whether they were measured in calm: those that were, if they are enough, else all.
pub(crate) fn calm(values: impl IntoIterator<Item = (bool, f64)>) -> Vec<f64> {
    let values: Vec<(bool, f64)> = values.into_iter().collect();
    let enough = values.iter().filter(|(calm, _)| *calm).count() >= CALM_MIN;
    values.into_iter().filter(|(calm, _)| *calm || !enough).map(|(_, value)| value).collect()
}

/// The value below which this share lies, between two values in proportion.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// I/O divided by the server's CPU seconds.
    IoPerCore,
    /// I/O divided by seconds.
    Iops,
    /// Median latency.
    MedianLatency,
}

impl Metric {
    pub(crate) fn of(self, figures: &Figures) -> f64 {
        match self {
            Self::IoPerCore => figures.io_per_core_s,
            Self::Iops => figures.iops,
            Self::MedianLatency => figures.p50_ns,
        }
    }
}

/// One side of a comparison: a contender under a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Side<'a> {
    pub(crate) group: &'a str,
    pub(crate) workload: &'a str,
    pub(crate) contender: &'a str,
}

impl<'a> Side<'a> {
    /// The runs of this side.
    pub(crate) fn of(self, all: &'a [Measurement]) -> impl Iterator<Item = &'a Measurement> {
        all.iter().filter(move |run| {
            run.group == self.group && run.workload == self.workload && run.contender == self.contender
        })
    }
}

/// Whether the cores were as far apart for the one as for the other. Virtual cores move, and most of what a request costs
/// is the time that cache lines take from core to core: a pair across such a move compares places, not servers.
fn equally_apart(run: &Measurement, partner: &Measurement) -> bool {
    const ALIKE: f64 = 1.5;
    let distances = run.core_to_core_ns.zip(partner.core_to_core_ns);
    distances.is_none_or(|(one, other)| one.max(other) <= ALIKE * one.min(other))
}

/// The ratios of one side to the other in the rounds that have both; of fair pairs only, if they are enough:
/// both runs calm, and the cores equally far apart.
pub(crate) fn paired(
    all: &[Measurement],
    metric: Metric,
    ours: Side<'_>,
    theirs: Side<'_>,
) -> Option<Spread> {
    let ratios = ours.of(all).filter_map(|run| {
        let partner = theirs.of(all).find(|other| other.round == run.round)?;
        let fair = run.figures.is_calm() && partner.figures.is_calm() && equally_apart(run, partner);
        Some((fair, metric.of(&run.figures) / metric.of(&partner.figures)))
    });
    Spread::of(calm(ratios))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run with these figures and nothing else to say.
    pub(crate) fn run(workload: &str, contender: &str, round: u32, iops: f64, p50_ns: f64) -> Measurement {
        let server_cores = 0.5;
        Measurement {
            group: "guest",
            workload: workload.to_owned(),
            contender: contender.to_owned(),
            round,
            core_to_core_ns: Some(50.0),
            figures: Figures {
                iops,
                mb_per_s: iops * 4096.0 / 1e6,
                mean_ns: p50_ns,
                p50_ns,
                p99_ns: 2.0 * p50_ns,
                p99_9_ns: 3.0 * p50_ns,
                server_cores,
                server_ns_per_io: server_cores / iops * 1e9,
                io_per_core_s: iops / server_cores,
                instructions_per_io: None,
                kicks_per_io: 0.1,
                calls_per_io: 0.2,
                failed: 0,
                client_preemptions: 0,
                disturbed: 0.0,
                percentiles: vec![(0.0, 1.0), (50.0, p50_ns / 1000.0)],
            },
        }
    }

    pub(crate) fn side<'a>(workload: &'a str, contender: &'a str) -> Side<'a> {
        Side { group: "guest", workload, contender }
    }

    #[test]
    fn quartiles_lie_between_values() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.lower_quartile, spread.median, spread.upper_quartile), (1.75, 2.5, 3.25));
        assert_eq!(Spread::of([7.0]).unwrap().median, 7.0);
    }

    #[test]
    fn what_is_not_a_number_does_not_count() {
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
        assert_eq!(Spread::of([f64::NAN, 2.0]).unwrap().count, 1);
    }

    #[test]
    fn a_run_is_compared_with_the_one_of_its_own_round() {
        // The machine was half as fast in the second round. That changes both and not their ratio.
        let all = [
            run("w", "ours", 0, 200.0, 1.0),
            run("w", "peer", 0, 100.0, 2.0),
            run("w", "peer", 1, 50.0, 4.0),
            run("w", "ours", 1, 100.0, 2.0),
        ];
        let ratio = |metric| paired(&all, metric, side("w", "ours"), side("w", "peer")).unwrap();
        assert_eq!((ratio(Metric::IoPerCore).median, ratio(Metric::IoPerCore).upper_quartile), (2.0, 2.0));
        assert_eq!(ratio(Metric::MedianLatency).median, 0.5);
        assert_eq!(ratio(Metric::Iops).count, 2);
    }

    #[test]
    fn disturbed_runs_do_not_count_when_there_are_enough_others() {
        let few = [(true, 1.0), (true, 2.0), (false, 9.0)];
        assert_eq!(calm(few), [1.0, 2.0, 9.0]);
        assert_eq!(calm(few.into_iter().chain([(true, 3.0)])), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_pair_whose_cores_moved_apart_between_its_runs_is_not_fair() {
        let (near, mut far) = (run("w", "ours", 0, 1.0, 1.0), run("w", "peer", 0, 1.0, 1.0));
        assert!(equally_apart(&near, &far));
        far.core_to_core_ns = Some(150.0);
        assert!(!equally_apart(&near, &far));
        far.core_to_core_ns = None;
        assert!(equally_apart(&near, &far));
    }

    #[test]
    fn a_run_without_partner_is_left_out() {
        let all = [run("w", "ours", 0, 200.0, 1.0), run("w", "peer", 1, 100.0, 1.0)];
        assert_eq!(paired(&all, Metric::Iops, side("w", "ours"), side("w", "peer")), None);
    }
}
