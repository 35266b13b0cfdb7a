use std::path::Path;

use vfiomux_plot::LineChart;

use crate::error::LoadError;
use crate::report::{Latency, Report};

/// Writes the distribution of latencies as SVG: all of them, and reads and writes apart when there were both.
pub fn write_svg(report: &Report, path: &Path) -> Result<(), LoadError> {
    let run = &report.run;
    let title = format!("{} B, depth {}: {:.0} IOPS", run.block_bytes, run.depth, report.total.iops);
    let points = |latency: &Latency| -> Vec<(f64, f64)> {
        latency.percentiles.iter().map(|point| (point.percent, point.latency_ns as f64 / 1e3)).collect()
    };
    let mut chart = LineChart::percentiles(title, "latency, µs").series("all", points(&report.total.latency));
    if let (Some(reads), Some(writes)) = (&report.total.read_latency, &report.total.write_latency) {
        chart = chart.series("read", points(reads)).series("write", points(writes));
    }
    Ok(chart.write_svg(path)?)
}
