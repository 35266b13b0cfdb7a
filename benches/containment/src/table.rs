//! The report as text.

use std::fmt::Write as _;

use crate::report::Report;

pub(crate) fn text(report: &Report) -> String {
    let mut text = format!(
        "Breaths of a busy sidecore (depth {}, {} s each, {} rounds), in microseconds, and as multiples of the quiet just before\n\n",
        report.depth, report.seconds, report.rounds
    );
    let head = [
        "plugin",
        "breaths",
        "p50",
        "p99",
        "p99.9",
        "p99.99",
        "longest",
        "×p99",
        "×p99.9",
        "×longest",
        "×IOPS",
        "asked",
        "unanswered",
        "restarts",
    ];
    line(&mut text, &head.map(str::to_owned));
    for row in &report.rows {
        let us = |ns: u64| format!("{:.1}", ns as f64 / 1e3);
        let ratio = |of: fn(&crate::report::Ratios) -> f64| {
            row.to_quiet.as_ref().map_or_else(String::new, |ratios| format!("{:.2}", of(ratios)))
        };
        let breaths = &row.breaths;
        line(
            &mut text,
            &[
                row.conduct.name().to_owned(),
                format!("{:.1}M", breaths.count as f64 / 1e6),
                us(breaths.p50_ns),
                us(breaths.p99_ns),
                us(breaths.p99_9_ns),
                us(breaths.p99_99_ns),
                us(breaths.longest_ns),
                ratio(|ratios| ratios.p99),
                ratio(|ratios| ratios.p99_9),
                ratio(|ratios| ratios.longest),
                ratio(|ratios| ratios.iops),
                row.provocations.to_string(),
                row.unanswered.to_string(),
                row.restarts.to_string(),
            ],
        );
    }
    text
}

fn line(text: &mut String, cells: &[String; 14]) {
    let [first, rest @ ..] = cells;
    // Writing to a string cannot fail.
    let _ = write!(text, "{first:<8}");
    for cell in rest {
        let _ = write!(text, " {cell:>10}");
    }
    text.push('\n');
}
