//! What the measurements come to.

use serde::Serialize;

use crate::arguments::Arguments;
use crate::measurement::{Figures, Measurement};
use crate::regime::Regime;

/// How much longer than alone the victim may wait at the 99th percentile, with guarantees.
const LATENCY_GOAL: f64 = 1.5;
/// How much of what the device does without guarantees it has to do with them.
const THROUGHPUT_GOAL: f64 = 0.95;

/// Everything that was measured, and what follows from it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Commands that the device does in a second at most.
    pub(crate) device_iops: u64,
    pub(crate) service_us: u32,
    pub(crate) parallel: u32,
    /// Requests that a bully keeps in flight.
    pub(crate) depth: u16,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) goals: Vec<Goal>,
    pub(crate) measurements: Vec<Measurement>,
}

/// The medians over all rounds of one situation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) bullies: u32,
    pub(crate) regime: Regime,
    pub(crate) victim_iops: f64,
    pub(crate) victim_p50_us: f64,
    pub(crate) victim_p99_us: f64,
    pub(crate) victim_p99_9_us: f64,
    /// The victim's 99th percentile as a multiple of what it has alone, in the same round.
    pub(crate) p99_to_alone: Spread,
    /// Victim and bullies together.
    pub(crate) total_iops: f64,
    /// The work of all, to that of the same clients without guarantees in the same round. `None` for the victim alone.
    pub(crate) total_to_unlimited: Option<Spread>,
}

/// A median, with the least and the most of all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// What is aimed at, and whether it was reached.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) aim: String,
    pub(crate) measured: f64,
    pub(crate) reached: bool,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments, measurements: Vec<Measurement>) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for measurement in &measurements {
            let (bullies, regime) = (measurement.bullies, measurement.regime);
            if !rows.iter().any(|row| (row.bullies, row.regime) == (bullies, regime)) {
                rows.push(Row::new(&measurements, bullies, regime));
            }
        }
        rows.sort_by_key(|row| (row.bullies, Regime::ALL.iter().position(|regime| *regime == row.regime)));
        let goals = rows.iter().filter(|row| row.regime == Regime::Guaranteed).flat_map(goals).collect();
        Self {
            device_iops: arguments.device_iops(),
            service_us: arguments.service_us,
            parallel: arguments.parallel,
            depth: arguments.depth,
            rounds: arguments.rounds(),
            seconds: arguments.duration().as_secs_f64(),
            rows,
            goals,
            measurements,
        }
    }

    /// The run of a situation whose 99th percentile is the median one.
    pub(crate) fn middle(&self, bullies: u32, regime: Regime) -> Option<&Figures> {
        let mut runs: Vec<&Figures> =
            of(&self.measurements, bullies, regime).map(|run| &run.figures).collect();
        runs.sort_by(|one, other| one.victim_p99_ns.total_cmp(&other.victim_p99_ns));
        runs.get(runs.len() / 2).copied()
    }
}

fn of(all: &[Measurement], bullies: u32, regime: Regime) -> impl Iterator<Item = &Measurement> {
    all.iter().filter(move |run| (run.bullies, run.regime) == (bullies, regime))
}

impl Row {
    fn new(all: &[Measurement], bullies: u32, regime: Regime) -> Self {
        let median = |figure: fn(&Figures) -> f64| {
            Spread::of(of(all, bullies, regime).map(|run| figure(&run.figures))).median
        };
        // Only what was measured in the same round is compared: a machine that slows down for a minute changes both sides.
        let ratio = |figure: fn(&Figures) -> f64, bullies_of_other: u32| {
            Spread::of(of(all, bullies, regime).filter_map(|run| {
                let other =
                    of(all, bullies_of_other, Regime::Unlimited).find(|other| other.round == run.round)?;
                Some(figure(&run.figures) / figure(&other.figures))
            }))
        };
        Self {
            name: regime.name(bullies),
            bullies,
            regime,
            victim_iops: median(|figures| figures.victim_iops),
            victim_p50_us: median(|figures| figures.victim_p50_ns) / 1e3,
            victim_p99_us: median(|figures| figures.victim_p99_ns) / 1e3,
            victim_p99_9_us: median(|figures| figures.victim_p99_9_ns) / 1e3,
            p99_to_alone: ratio(|figures| figures.victim_p99_ns, 0),
            total_iops: median(Figures::total_iops),
            total_to_unlimited: (bullies > 0).then(|| ratio(Figures::total_iops, bullies)),
        }
    }

    /// What part of the work that can be done was not done.
    pub(crate) fn unused(&self) -> Option<f64> {
        self.total_to_unlimited.map(|ratio| 1.0 - ratio.median)
    }
}

impl Spread {
    /// Of finite values; all `NAN` when there are none.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (at(middle.saturating_sub(1)) + at(middle)) / 2.0
        } else {
            at(middle)
        };
        Self { median, least: at(0), most: at(sorted.len().saturating_sub(1)) }
    }
}

fn goals(row: &Row) -> Vec<Goal> {
    let p99 = row.p99_to_alone.median;
    let total = row.total_to_unlimited.map_or(f64::NAN, |ratio| ratio.median);
    vec![
        Goal {
            what: format!("victim's p99 beside {}, to alone", row.bullies),
            aim: format!("at most {LATENCY_GOAL}"),
            measured: p99,
            reached: p99 <= LATENCY_GOAL,
        },
        Goal {
            what: format!("work of all beside {}, to unlimited", row.bullies),
            aim: format!("at least {THROUGHPUT_GOAL}"),
            measured: total,
            reached: total >= THROUGHPUT_GOAL,
        },
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn run(round: u32, bullies: u32, regime: Regime, p99_us: f64, total_iops: f64) -> Measurement {
        let figures = Figures {
            victim_p99_ns: p99_us * 1e3,
            victim_iops: 100.0,
            bullies_iops: total_iops - 100.0,
            ..Figures::default()
        };
        Measurement { round, regime, bullies, figures }
    }

    fn report(measurements: Vec<Measurement>) -> Report {
        Report::new(&Arguments::parse_from(["isolation"]), measurements)
    }

    #[test]
    fn only_what_was_measured_in_the_same_round_is_compared() {
        let report = report(vec![
            run(0, 0, Regime::Unlimited, 1000.0, 900.0),
            run(0, 4, Regime::Guaranteed, 1200.0, 15_000.0),
            run(0, 4, Regime::Unlimited, 9000.0, 16_000.0),
            // The machine was half as fast.
            run(1, 0, Regime::Unlimited, 2000.0, 450.0),
            run(1, 4, Regime::Guaranteed, 2400.0, 7_500.0),
            run(1, 4, Regime::Unlimited, 18_000.0, 8_000.0),
        ]);
        let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["alone", "4 bullies, no guarantees", "4 bullies, guarantees"]);
        let row = &report.rows[2];
        assert_eq!((row.p99_to_alone.least, row.p99_to_alone.most), (1.2, 1.2));
        assert!((row.unused().unwrap() - 0.0625).abs() < 1e-9);
        assert_eq!(report.rows[0].unused(), None);
    }

    #[test]
    fn a_goal_is_reached_or_not() {
        let judged = |p99_us, total_iops| {
            let report = report(vec![
                run(0, 0, Regime::Unlimited, 1000.0, 900.0),
                run(0, 1, Regime::Unlimited, 5000.0, 16_000.0),
                run(0, 1, Regime::Guaranteed, p99_us, total_iops),
            ]);
            report.goals.iter().map(|goal| goal.reached).collect::<Vec<_>>()
        };
        assert_eq!(judged(1499.0, 15_900.0), [true, true]);
        assert_eq!(judged(1501.0, 15_100.0), [false, false]);
    }

    #[test]
    fn what_was_not_measured_reaches_no_goal() {
        let report = report(vec![run(0, 1, Regime::Guaranteed, 1000.0, 16_000.0)]);
        assert!(report.goals.iter().all(|goal| !goal.reached));
    }
}
