//! The report as pictures.

use std::path::Path;

use vfiomux_plot::{Axis, BarChart, LineChart, PlotError};

use crate::plan::{DEPTHS, GUESTS};
use crate::ratio::{Metric, Side, Spread, paired};
use crate::report::{Report, Row};

/// Writes all pictures for which there are measurements, and returns how many.
pub(crate) fn write(report: &Report, directory: &Path) -> Result<usize, PlotError> {
    let mut pictures = 0;
    let mut keep = |name: &str, chart: Option<Result<String, PlotError>>| -> Result<(), PlotError> {
        if let Some(svg) = chart {
            let path = directory.join(format!("{name}.svg"));
            let svg = svg?;
            std::fs::write(&path, svg).map_err(|source| PlotError::Write { path, source })?;
            pictures += 1;
        }
        Ok(())
    };
    for (pattern, words) in [("randread-4k", "4 KiB random reads"), ("randwrite-4k", "4 KiB random writes")] {
        let per_core =
            by_depth(report, pattern, words, "thousand I/O per core and second", |row| row.io_per_core_s);
        keep(&format!("{pattern}-io-per-core"), per_core.map(|chart| chart.to_svg()))?;
        let iops = by_depth(report, pattern, words, "kIOPS", |row| row.iops);
        keep(&format!("{pattern}-iops"), iops.map(|chart| chart.to_svg()))?;
    }
    for depth in DEPTHS {
        let chart = latencies(
            report,
            &format!("randread-4k-qd{depth}"),
            &format!("4 KiB random reads, depth {depth}"),
        );
        keep(&format!("randread-4k-qd{depth}-latency"), chart.map(|chart| chart.to_svg()))?;
    }
    keep("wake-latency", latencies(report, "rate-500", "500 reads a second").map(|chart| chart.to_svg()))?;
    keep("guests", guests(report).map(|chart| chart.to_svg()))?;
    keep("ratios", ratios(report).map(|chart| chart.to_svg()))?;
    keep("idle", idle(report).map(|chart| chart.to_svg()))?;
    Ok(pictures)
}

/// Names in the order in which they first appear among these rows.
fn contenders<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for row in rows {
        if !names.contains(&row.contender.as_str()) {
            names.push(row.contender.as_str());
        }
    }
    names
}

/// Something in thousands over depth, a line a contender.
fn by_depth(
    report: &Report,
    pattern: &str,
    title: &str,
    label: &str,
    of: impl Fn(&Row) -> Spread,
) -> Option<LineChart> {
    let rows =
        || report.summary.iter().filter(|row| row.group == "guest" && row.workload.starts_with(pattern));
    rows().next()?;
    let measured = |depth: &u16| rows().any(|row| row.workload == format!("{pattern}-qd{depth}"));
    let ticks: Vec<f64> = DEPTHS.into_iter().filter(measured).map(f64::from).collect();
    let mut chart = LineChart::new(title, Axis::logarithmic("depth").ticks(ticks), Axis::logarithmic(label));
    for name in contenders(rows()) {
        let points = DEPTHS.iter().filter_map(|depth| {
            let workload = format!("{pattern}-qd{depth}");
            let row = rows().find(|row| row.contender == name && row.workload == workload)?;
            let Spread { median, lower_quartile, upper_quartile, .. } = of(row);
            Some((f64::from(*depth), median / 1e3, lower_quartile / 1e3, upper_quartile / 1e3))
        });
        chart = chart.series_with_spread(name, points);
    }
    Some(chart)
}

/// How latency is distributed: of each contender, the run whose median is the median one.
fn latencies(report: &Report, workload: &str, title: &str) -> Option<LineChart> {
    let rows = || report.summary.iter().filter(|row| row.workload == workload);
    rows().next()?;
    let mut chart = LineChart::percentiles(title, "latency, µs");
    for row in rows() {
        let side = Side { group: row.group, workload, contender: &row.contender };
        let mut runs: Vec<_> = side.of(&report.results.measurements).collect();
        runs.sort_by(|one, other| one.figures.p50_ns.total_cmp(&other.figures.p50_ns));
        let middle = runs.get(runs.len() / 2)?;
        chart = chart.series(row.contender.as_str(), middle.figures.percentiles.iter().copied());
    }
    Some(chart)
}

/// Throughput of all guests together, to that of one.
fn guests(report: &Report) -> Option<LineChart> {
    let rows = || report.summary.iter().filter(|row| row.group == "guests");
    rows().next()?;
    let measured = |guests: &usize| rows().any(|row| row.workload == format!("guests-{guests}"));
    let ticks: Vec<f64> = GUESTS.into_iter().filter(measured).map(|guests| guests as f64).collect();
    let number = Axis::logarithmic("guests").ticks(ticks);
    let mut chart =
        LineChart::new("Guests on one core", number, Axis::linear("total throughput, one guest = 1"));
    for name in contenders(rows()) {
        let points = GUESTS.iter().filter_map(|guests| {
            let side = |workload| Side { group: "guests", workload, contender: name };
            let workload = format!("guests-{guests}");
            let kept = paired(&report.results.measurements, Metric::Iops, side(&workload), side("guests-1"))?;
            Some((*guests as f64, kept.median, kept.lower_quartile, kept.upper_quartile))
        });
        chart = chart.series_with_spread(name, points);
    }
    Some(chart)
}

/// I/O per core, ours to each peer, by depth.
fn ratios(report: &Report) -> Option<BarChart> {
    let measured = |depth: &u16| {
        let workload = format!("randread-4k-qd{depth}");
        report.ratios.iter().any(|ratio| ratio.workload == workload)
    };
    let depths: Vec<u16> = DEPTHS.into_iter().filter(measured).collect();
    let workloads: Vec<String> = depths.iter().map(|depth| format!("randread-4k-qd{depth}")).collect();
    let mut chart = BarChart::new(
        "I/O per core, 4 KiB random reads: ours to peer",
        Axis::logarithmic("ratio"),
        depths.iter().map(|depth| format!("depth {depth}")),
    );
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for ratio in report.ratios.iter().filter(|ratio| ratio.group == "guest") {
        if !pairs.contains(&(&ratio.ours, &ratio.peer)) {
            pairs.push((&ratio.ours, &ratio.peer));
        }
    }
    if pairs.is_empty() {
        return None;
    }
    for (ours, peer) in pairs {
        let bars = workloads.iter().map(|workload| {
            let side = |contender| Side { group: "guest", workload, contender };
            let ratio = paired(&report.results.measurements, Metric::IoPerCore, side(ours), side(peer));
            ratio.map_or((f64::NAN, f64::NAN, f64::NAN), |ratio| {
                (ratio.median, ratio.lower_quartile, ratio.upper_quartile)
            })
        });
        chart = chart.series_with_spread(format!("{ours} / {peer}"), bars.collect::<Vec<_>>());
    }
    Some(chart.around("equal", 1.0))
}

/// What servers use while nothing is asked of them.
fn idle(report: &Report) -> Option<BarChart> {
    let idle = &report.results.idle;
    let sessions = idle.first()?.sessions;
    let chart = BarChart::new(
        format!("{sessions} idle sessions"),
        Axis::logarithmic("cores used"),
        idle.iter().map(|idle| idle.contender.as_str()),
    );
    let bars = idle.iter().map(|idle| {
        let used = Spread::of(idle.server_cores.iter().copied());
        used.map_or((f64::NAN, f64::NAN, f64::NAN), |used| {
            (used.median, used.lower_quartile, used.upper_quartile)
        })
    });
    Some(chart.series_with_spread("cores", bars).reference("target: less than 0.01", 0.01))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ratio::tests::run;
    use crate::report::tests::results;

    #[test]
    fn there_is_a_picture_of_what_was_measured_and_of_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(write(&Report::new(results()), directory.path()).unwrap(), 0);

        let mut results = results();
        for contender in ["vfiomux-null", "qsd-null"] {
            results.measurements.push(run("randread-4k-qd32", contender, 0, 1e5, 1000.0));
        }
        let pictures = write(&Report::new(results), directory.path()).unwrap();
        assert_eq!(pictures, std::fs::read_dir(directory.path()).unwrap().count());
        let svg = std::fs::read_to_string(directory.path().join("randread-4k-iops.svg")).unwrap();
        assert!(svg.contains("vfiomux-null") && svg.contains("qsd-null"));
    }
}
