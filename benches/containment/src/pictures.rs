//! The report as pictures.

use std::path::Path;

use vfiomux_plot::{LineChart, PlotError};

use crate::conduct::Conduct;
use crate::report::Report;

/// Writes all pictures, and returns how many.
pub(crate) fn write(report: &Report, directory: &Path) -> Result<usize, PlotError> {
    let mut chart =
        LineChart::percentiles("Breaths of a busy sidecore, by what the plugin does", "breath, µs");
    for row in &report.rows {
        chart = chart.series(row.conduct.name(), row.distribution.course());
    }
    let mut pictures = vec![("breaths".to_owned(), chart.to_svg()?)];
    let quiet = report.rows.iter().find(|row| row.conduct == Conduct::Quiet);
    for row in report.rows.iter().filter(|row| row.conduct != Conduct::Quiet) {
        let name = row.conduct.name();
        let mut chart =
            LineChart::percentiles(format!("Breaths while the plugin is told to {name}"), "breath, µs");
        if let Some(quiet) = quiet {
            chart = chart.series("quiet", quiet.distribution.course());
        }
        let chart = chart.series(name, row.distribution.course());
        pictures.push((format!("breaths-{name}"), chart.to_svg()?));
    }
    for (name, svg) in &pictures {
        let path = directory.join(format!("{name}.svg"));
        std::fs::write(&path, svg).map_err(|source| PlotError::Write { path, source })?;
    }
    Ok(pictures.len())
}
