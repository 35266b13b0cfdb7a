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

/// Fewer calm runs than this do not stand for all.
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

    fn ratio(self, run: &Measurement, partner: &Measurement) -> f64 {
        self.of(&run.figures) / self.of(&partner.figures)
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

/// Distances are alike up to this factor.
const ALIKE: f64 = 1.5;

/// Whether all of these distances are alike. What is not known is not held against anybody.
fn alike(distances_ns: impl IntoIterator<Item = Option<f64>>) -> bool {
    let (least, most) = distances_ns
        .into_iter()
        .flatten()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), ns| (least.min(ns), most.max(ns)));
    most <= ALIKE * least
}

/// Whether a pair compares servers: both runs were calm, and the cores as far apart before and after the one as before and
/// after the other. Virtual cores move, and most of what a request costs is the time that cache lines take from core to
/// core: a pair across such a move compares places.
fn is_fair(run: &Measurement, partner: &Measurement) -> bool {
    let distances = [run, partner].map(|run| [run.core_to_core_ns, run.core_to_core_after_ns]);
    run.figures.is_calm() && partner.figures.is_calm() && alike(distances.into_iter().flatten())
}

/// Runs of both sides in the same round that may be compared.
pub(crate) fn fair_pairs<'a>(
    all: &'a [Measurement],
    ours: Side<'a>,
    theirs: Side<'a>,
) -> impl Iterator<Item = (&'a Measurement, &'a Measurement)> {
    ours.of(all).filter_map(move |run| {
        let partner = theirs.of(all).find(|other| other.round == run.round)?;
        is_fair(run, partner).then_some((run, partner))
    })
}

/// The ratios of one side to the other, of fair pairs.
pub(crate) fn paired(
    all: &[Measurement],
    metric: Metric,
    ours: Side<'_>,
    theirs: Side<'_>,
) -> Option<Spread> {
    Spread::of(fair_pairs(all, ours, theirs).map(|(run, partner)| metric.ratio(run, partner)))
}

/// The ratios of pairs whose cores were this far apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct AtDistance {
    /// The least of these distances.
    pub(crate) core_to_core_ns: f64,
    #[serde(flatten)]
    pub(crate) ratio: Spread,
}

/// The same, apart for each distance that the cores had.
pub(crate) fn by_distance(
    all: &[Measurement],
    metric: Metric,
    ours: Side<'_>,
    theirs: Side<'_>,
) -> Vec<AtDistance> {
    let mut pairs: Vec<(f64, f64)> = fair_pairs(all, ours, theirs)
        .filter_map(|(run, partner)| Some((run.core_to_core_ns?, metric.ratio(run, partner))))
        .collect();
    pairs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let mut rest = pairs.as_slice();
    let mut parts = Vec::new();
    while let Some((core_to_core_ns, _)) = rest.first().copied() {
        let (part, farther) = rest.split_at(rest.partition_point(|(ns, _)| *ns <= ALIKE * core_to_core_ns));
        let ratio = Spread::of(part.iter().map(|(_, ratio)| *ratio));
        parts.extend(ratio.map(|ratio| AtDistance { core_to_core_ns, ratio }));
        rest = farther;
    }
    parts
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
            core_to_core_after_ns: Some(50.0),
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
    fn a_pair_whose_cores_moved_apart_is_not_fair() {
        let (near, mut far) = (run("w", "ours", 0, 1.0, 1.0), run("w", "peer", 0, 1.0, 1.0));
        assert!(is_fair(&near, &far));
        far.core_to_core_ns = Some(150.0);
        far.core_to_core_after_ns = Some(150.0);
        assert!(!is_fair(&near, &far), "between its runs");
        far.core_to_core_ns = Some(50.0);
        assert!(!is_fair(&near, &far), "within a run");
        far.core_to_core_after_ns = None;
        assert!(is_fair(&near, &far));
    }

    #[test]
    fn a_disturbed_run_is_no_partner() {
        let mut all = [run("w", "ours", 0, 200.0, 1.0), run("w", "peer", 0, 100.0, 1.0)];
        let ratio = |all: &[Measurement]| paired(all, Metric::Iops, side("w", "ours"), side("w", "peer"));
        assert_eq!(ratio(&all).map(|ratio| ratio.median), Some(2.0));
        all[1].figures.disturbed = 0.5;
        assert_eq!(ratio(&all), None);
    }

    #[test]
    fn ratios_are_told_apart_by_distance() {
        let mut all = Vec::new();
        for (round, (ns, ours)) in [(33.0, 110.0), (150.0, 140.0), (34.0, 120.0)].into_iter().enumerate() {
            for (contender, iops) in [("ours", ours), ("peer", 100.0)] {
                let mut run = run("w", contender, u32::try_from(round).unwrap(), iops, 1.0);
                (run.core_to_core_ns, run.core_to_core_after_ns) = (Some(ns), Some(ns));
                all.push(run);
            }
        }
        let parts = by_distance(&all, Metric::Iops, side("w", "ours"), side("w", "peer"));
        let parts: Vec<_> =
            parts.iter().map(|part| (part.core_to_core_ns, part.ratio.count, part.ratio.median)).collect();
        assert_eq!(parts, [(33.0, 2, 1.15), (150.0, 1, 1.4)]);
    }

    #[test]
    fn a_run_without_partner_is_left_out() {
        let all = [run("w", "ours", 0, 200.0, 1.0), run("w", "peer", 1, 100.0, 1.0)];
        assert_eq!(paired(&all, Metric::Iops, side("w", "ours"), side("w", "peer")), None);
    }
}
