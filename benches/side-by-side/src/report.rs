//! Everything that was measured, with what follows from it.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::error::BenchError;
use crate::ratio::{Metric, Side, Spread, calm, paired};
use crate::round::Results;
use crate::target::{self, Target};

/// What `report.json` is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Grows when a field changes its meaning; fields are only ever added.
    schema: u32,
    pub(crate) machine: Machine,
    pub(crate) summary: Vec<Row>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) targets: Vec<Target>,
    #[serde(flatten)]
    pub(crate) results: Results,
}

/// Where it was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) kernel: String,
}

/// A contender under a workload: medians over all rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) group: &'static str,
    pub(crate) workload: String,
    pub(crate) contender: String,
    pub(crate) iops: Spread,
    pub(crate) io_per_core_s: Spread,
    pub(crate) mb_per_s: f64,
    pub(crate) mean_ns: f64,
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) p99_9_ns: f64,
    pub(crate) server_cores: f64,
    pub(crate) server_ns_per_io: f64,
    pub(crate) instructions_per_io: Option<f64>,
    pub(crate) kicks_per_io: f64,
    pub(crate) calls_per_io: f64,
    /// Requests that failed, in all rounds.
    pub(crate) failed: u64,
}

/// One of ours against a peer over the same backing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ratio {
    pub(crate) group: &'static str,
    pub(crate) workload: String,
    pub(crate) ours: String,
    pub(crate) peer: String,
    pub(crate) io_per_core: Option<Spread>,
    pub(crate) iops: Option<Spread>,
    pub(crate) median_latency: Option<Spread>,
}

impl Report {
    pub(crate) fn new(results: Results) -> Self {
        let summary = summarise(&results);
        let ratios = compare(&results, &summary);
        let targets = target::all(&results);
        Self { schema: 1, machine: Machine::this(), summary, ratios, targets, results }
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<(), BenchError> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").map_err(|source| BenchError::Output { path: path.to_owned(), source })
    }

    /// How far the cores were apart, over all runs.
    pub(crate) fn core_to_core_ns(&self) -> Option<Spread> {
        Spread::of(self.results.measurements.iter().filter_map(|run| run.core_to_core_ns))
    }
}

impl Machine {
    fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            processor: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// A row for each contender and workload, in the order in which they were first measured.
fn summarise(results: &Results) -> Vec<Row> {
    let mut keys = Vec::new();
    for run in &results.measurements {
        let key = (run.group, run.workload.as_str(), run.contender.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let row = |(group, workload, contender)| {
        let side = Side { group, workload, contender };
        let runs: Vec<_> = side.of(&results.measurements).map(|run| &run.figures).collect();
        let spread = |field: fn(&crate::measurement::Figures) -> f64| {
            Spread::of(calm(runs.iter().map(|run| (run.is_calm(), field(run)))))
        };
        let median = |field| spread(field).map_or(f64::NAN, |spread: Spread| spread.median);
        Some(Row {
            group,
            workload: workload.to_owned(),
            contender: contender.to_owned(),
            iops: spread(|run| run.iops)?,
            io_per_core_s: spread(|run| run.io_per_core_s)?,
            mb_per_s: median(|run| run.mb_per_s),
            mean_ns: median(|run| run.mean_ns),
            p50_ns: median(|run| run.p50_ns),
            p99_ns: median(|run| run.p99_ns),
            p99_9_ns: median(|run| run.p99_9_ns),
            server_cores: median(|run| run.server_cores),
            server_ns_per_io: median(|run| run.server_ns_per_io),
            instructions_per_io: Spread::of(runs.iter().filter_map(|run| run.instructions_per_io))
                .map(|spread| spread.median),
            kicks_per_io: median(|run| run.kicks_per_io),
            calls_per_io: median(|run| run.calls_per_io),
            failed: runs.iter().map(|run| run.failed).sum(),
        })
    };
    keys.into_iter().filter_map(row).collect()
}

/// What answers a contender's requests, by the convention of its name: `SERVER-BACKING[-MODE]`.
fn backing(contender: &str) -> Option<&str> {
    contender.split('-').nth(1)
}

/// Each of ours with each peer that had the same workload over the same backing.
fn compare(results: &Results, summary: &[Row]) -> Vec<Ratio> {
    let is_ours = |row: &&Row| row.contender.starts_with("vfiomux");
    let mut ratios = Vec::new();
    for ours in summary.iter().filter(is_ours) {
        let peers = summary.iter().filter(|row| {
            !is_ours(row)
                && (row.group, &row.workload) == (ours.group, &ours.workload)
                && backing(&row.contender) == backing(&ours.contender)
        });
        for peer in peers {
            let side = |row: &'_ Row| -> (String, String) { (row.workload.clone(), row.contender.clone()) };
            let (mine, other) = (side(ours), side(peer));
            let ratio = |metric| {
                let ours = Side { group: ours.group, workload: &mine.0, contender: &mine.1 };
                let theirs = Side { group: peer.group, workload: &other.0, contender: &other.1 };
                paired(&results.measurements, metric, ours, theirs)
            };
            ratios.push(Ratio {
                group: ours.group,
                workload: ours.workload.clone(),
                ours: ours.contender.clone(),
                peer: peer.contender.clone(),
                io_per_core: ratio(Metric::IoPerCore),
                iops: ratio(Metric::Iops),
                median_latency: ratio(Metric::MedianLatency),
            });
        }
    }
    ratios
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cores::Cores;
    use crate::ratio::tests::run;

    /// Results without a measurement.
    pub(crate) fn results() -> Results {
        Results {
            cores: Cores { server: 1, second: 0, client: 0, available: 2 },
            rounds: 2,
            run: Duration::from_secs(1),
            counts_instructions: false,
            interrupted: false,
            servers: Vec::new(),
            failures: Vec::new(),
            measurements: Vec::new(),
            idle: Vec::new(),
            wake_to_submit_ns: Vec::new(),
        }
    }

    #[test]
    fn ours_is_compared_with_peers_over_the_same_backing_only() {
        let mut results = results();
        for contender in ["vfiomux-null", "qsd-null", "qsd-ram", "vfiomux-nvme"] {
            results.measurements.push(run("w", contender, 0, 100.0, 1000.0));
        }
        let report = Report::new(results);
        let pairs: Vec<_> = report.ratios.iter().map(|ratio| (&*ratio.ours, &*ratio.peer)).collect();
        assert_eq!(pairs, [("vfiomux-null", "qsd-null")]);
    }

    #[test]
    fn a_row_is_the_median_of_its_rounds() {
        let mut results = results();
        for (round, iops) in [100.0, 900.0, 300.0].into_iter().enumerate() {
            results.measurements.push(run("w", "qsd-null", round as u32, iops, 1000.0));
        }
        let report = Report::new(results);
        assert_eq!(report.summary.len(), 1);
        assert_eq!(report.summary[0].iops.median, 300.0);
        assert_eq!(report.summary[0].server_cores, 0.5);
    }

    #[test]
    fn the_report_is_json() {
        let mut results = results();
        results.measurements.push(run("w", "vfiomux-null", 0, 100.0, 1000.0));
        let value = serde_json::to_value(Report::new(results)).unwrap();
        assert_eq!(value["measurements"][0]["iops"], 100.0);
        assert_eq!(value["summary"][0]["contender"], "vfiomux-null");
        assert!(value["targets"].as_array().is_some_and(|targets| !targets.is_empty()));
    }
}
