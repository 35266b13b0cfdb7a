//! The report as pictures.

use std::path::Path;

use vfiomux_plot::{Axis, BarChart, LineChart, PlotError};

use crate::regime::Regime;
use crate::report::{Report, Row, Spread};

/// Writes all pictures, and returns how many.
pub(crate) fn write(report: &Report, directory: &Path) -> Result<usize, PlotError> {
    let mut numbers: Vec<u32> =
        report.rows.iter().map(|row| row.bullies).filter(|&bullies| bullies > 0).collect();
    numbers.dedup();
    let mut pictures = vec![
        (
            "victim-p99".to_owned(),
            bars(
                report,
                &numbers,
                "Victim's 99th percentile",
                Axis::logarithmic("times that of alone"),
                |row| Some(row.p99_to_alone),
            )
            .reference("alone", 1.0)
            .to_svg()?,
        ),
        (
            "work".to_owned(),
            bars(report, &numbers, "Work done", Axis::linear("of what is done without guarantees"), |row| {
                row.total_to_unlimited
            })
            .reference("without guarantees", 1.0)
            .to_svg()?,
        ),
    ];
    for &bullies in &numbers {
        pictures.push((format!("victim-beside-{bullies}"), latencies(report, bullies).to_svg()?));
    }
    for (name, svg) in &pictures {
        let path = directory.join(format!("{name}.svg"));
        std::fs::write(&path, svg).map_err(|source| PlotError::Write { path, source })?;
    }
    Ok(pictures.len())
}

/// A group of bars for each number of bullies, in it one for each regime.
fn bars(
    report: &Report,
    numbers: &[u32],
    title: &str,
    axis: Axis,
    of: impl Fn(&Row) -> Option<Spread>,
) -> BarChart {
    let groups = numbers.iter().map(|bullies| match bullies {
        1 => "1 bully".to_owned(),
        bullies => format!("{bullies} bullies"),
    });
    let mut chart = BarChart::new(title, axis, groups);
    for regime in Regime::ALL {
        let bars = numbers.iter().map(|&bullies| {
            let row = report.rows.iter().find(|row| (row.bullies, row.regime) == (bullies, regime));
            row.and_then(&of)
                .map_or((f64::NAN, f64::NAN, f64::NAN), |spread| (spread.median, spread.least, spread.most))
        });
        chart = chart.series_with_spread(regime.word(), bars);
    }
    chart
}

/// How the victim's latencies are distributed, alone and beside so many bullies.
fn latencies(report: &Report, bullies: u32) -> LineChart {
    let title = format!("Victim beside {bullies}, depth {} each", report.depth);
    let mut chart = LineChart::percentiles(title, "latency, µs");
    if let Some(alone) = report.middle(0, Regime::Unlimited) {
        chart = chart.series("alone", alone.percentiles.iter().copied());
    }
    for regime in Regime::ALL {
        if let Some(figures) = report.middle(bullies, regime) {
            chart = chart.series(regime.word(), figures.percentiles.iter().copied());
        }
    }
    chart
}
