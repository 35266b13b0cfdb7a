//! What all measurements come to.

use serde::Serialize;

use crate::arguments::Arguments;
use crate::breaths::{Breaths, Figures};
use crate::conduct::Conduct;
use crate::measurement::Measurement;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) depth: u16,
    pub(crate) seconds: f64,
    pub(crate) rounds: u32,
    /// One a conduct, quiet first.
    pub(crate) rows: Vec<Row>,
    pub(crate) measurements: Vec<Measurement>,
}

/// All measurements of one conduct.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) conduct: Conduct,
    /// Of all its breaths together.
    pub(crate) breaths: Figures,
    /// Medians over rounds of the conduct's figure divided by that of the quiet just before; none for quiet itself.
    pub(crate) to_quiet: Option<Ratios>,
    pub(crate) iops: f64,
    pub(crate) provocations: u64,
    pub(crate) unanswered: u64,
    pub(crate) restarts: u64,
    #[serde(skip)]
    pub(crate) distribution: Breaths,
}

/// A conduct's figures as multiples of quiet's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratios {
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) longest: f64,
    pub(crate) iops: f64,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments, measurements: Vec<Measurement>) -> Self {
        let conducts = std::iter::once(Conduct::Quiet).chain(Conduct::WRONG);
        let rows = conducts.filter_map(|conduct| row(conduct, &measurements)).collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            depth: arguments.depth,
            seconds: arguments.duration().as_secs_f64(),
            rounds: arguments.rounds(),
            rows,
            measurements,
        }
    }
}

fn row(conduct: Conduct, all: &[Measurement]) -> Option<Row> {
    let of: Vec<&Measurement> = all.iter().filter(|measured| measured.conduct == conduct).collect();
    if of.is_empty() {
        return None;
    }
    let distribution = of.iter().fold(Breaths::default(), |sum, measured| sum.plus(&measured.distribution));
    // Each conduct was measured just after a quiet.
    let pairs: Vec<(&Measurement, &Measurement)> =
        all.windows(2).map(|pair| (&pair[0], &pair[1])).filter(|(_, with)| with.conduct == conduct).collect();
    let ratio = |figure: fn(&Measurement) -> f64| {
        median(pairs.iter().map(|(quiet, with)| figure(with) / figure(quiet)).collect())
    };
    let to_quiet = (conduct != Conduct::Quiet && !pairs.is_empty()).then(|| Ratios {
        p99: ratio(|measured| measured.breaths.p99_ns as f64),
        p99_9: ratio(|measured| measured.breaths.p99_9_ns as f64),
        longest: ratio(|measured| measured.breaths.longest_ns as f64),
        iops: ratio(|measured| measured.iops),
    });
    Some(Row {
        conduct,
        breaths: distribution.figures(),
        to_quiet,
        iops: median(of.iter().map(|measured| measured.iops).collect()),
        provocations: of.iter().map(|measured| measured.provocations).sum(),
        unanswered: of.iter().map(|measured| measured.unanswered).sum(),
        restarts: of.iter().map(|measured| measured.restarts).sum(),
        distribution,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
