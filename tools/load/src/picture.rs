//! The distribution of latencies, as a picture in a terminal.

use anstyle::{AnsiColor, Style};

use crate::paint::Paint;
use crate::report::Latency;
use crate::units::duration;

const COLUMNS: f64 = 60.0;
/// The points shown, with the colour that says how far from ordinary they are.
const SHOWN: [(f64, &str, AnsiColor); 9] = [
    (0.0, "min", AnsiColor::Green),
    (25.0, "p25", AnsiColor::Green),
    (50.0, "p50", AnsiColor::Green),
    (75.0, "p75", AnsiColor::Green),
    (90.0, "p90", AnsiColor::Yellow),
    (99.0, "p99", AnsiColor::Yellow),
    (99.9, "p99.9", AnsiColor::Red),
    (99.99, "p99.99", AnsiColor::Red),
    (100.0, "max", AnsiColor::Red),
];
/// Eighths of a column.
const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A bar for each of some percentiles, on a logarithmic scale; nothing when there is nothing to show.
pub(crate) fn percentiles(latency: &Latency, paint: Paint) -> String {
    if latency.count == 0 {
        return String::new();
    }
    // The axis begins at a power of ten, so that bars of different runs can be compared by eye.
    let from = (latency.min_ns.max(1) as f64).log10().floor();
    let decades = ((latency.max_ns.max(2) as f64).log10() - from).max(f64::EPSILON);
    let column = |ns: f64| ((ns.max(1.0).log10() - from) / decades * COLUMNS).clamp(0.0, COLUMNS);
    let mut text = format!("\n{:<8}{:>9}  {}\n", "LATENCY", "", scale(from, column));
    for (percent, name, colour) in SHOWN {
        let Some(point) = latency.percentiles.iter().find(|point| point.percent == percent) else { continue };
        let bar =
            paint.paint(Style::new().fg_color(Some(colour.into())), &bar(column(point.latency_ns as f64)));
        text.push_str(&format!("{name:<8}{:>9}  {bar}\n", duration(point.latency_ns)));
    }
    text.push('\n');
    text
}

/// Where the powers of ten are.
fn scale(from: f64, column: impl Fn(f64) -> f64) -> String {
    let mut text = String::new();
    let mut exponent = from;
    while column(10f64.powf(exponent)) < COLUMNS {
        let at = column(10f64.powf(exponent)) as usize;
        let name = duration(10f64.powf(exponent) as u64);
        if text.chars().count() <= at {
            text = format!("{text:<at$}|{name} ");
        }
        exponent += 1.0;
    }
    text
}

fn bar(columns: f64) -> String {
    let whole = columns as usize;
    let part = ((columns - whole as f64) * 8.0) as usize;
    // A bar is never so short that it cannot be seen.
    let part = if whole == 0 { part.max(1) } else { part };
    "█".repeat(whole) + PARTS.get(part).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Percentile;

    #[test]
    fn bars_grow_with_the_logarithm_and_fill_the_width() {
        let percentiles = [(0.0, 1_000), (50.0, 10_000), (100.0, 100_000)]
            .map(|(percent, latency_ns)| Percentile { percent, latency_ns });
        let latency = Latency {
            count: 3,
            min_ns: 1_000,
            max_ns: 100_000,
            percentiles: percentiles.to_vec(),
            ..Latency::default()
        };
        let text = super::percentiles(&latency, Paint::plain());
        let widths: Vec<usize> =
            text.lines().map(|line| line.matches('█').count()).filter(|&w| w > 0).collect();
        assert_eq!(widths, [30, 60]);
        assert!(text.contains("|1.0us"), "{text}");
    }

    #[test]
    fn nothing_measured_is_no_picture() {
        assert_eq!(percentiles(&Latency::default(), Paint::plain()), "");
    }

    #[test]
    fn requests_that_all_took_the_same_time_are_a_picture_too() {
        let percentiles = vec![Percentile { percent: 50.0, latency_ns: 1000 }];
        let latency = Latency { count: 1, min_ns: 1000, max_ns: 1000, percentiles, ..Latency::default() };
        assert!(super::percentiles(&latency, Paint::plain()).contains("p50"));
    }
}
