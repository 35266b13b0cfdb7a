//! The report as text.

use std::fmt::Write as _;

use crate::report::{Report, Row};

pub(crate) fn text(report: &Report) -> String {
    let mut text = format!(
        "Device: {} commands at once, {} µs each, so {} a second. Victim: depth 1. Bullies: depth {} each.\n\
         Medians of {} rounds of {} s; in parentheses the least and the most.\n\n",
        report.parallel, report.service_us, report.device_iops, report.depth, report.rounds, report.seconds,
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:<28} {:>8} {:>8} {:>8}  {:<22} {:>8} {:>8}  {:>7}",
        "", "p50 µs", "p99 µs", "p99.9 µs", "p99 to alone", "victim/s", "all/s", "unused"
    );
    for row in &report.rows {
        let _ = writeln!(text, "{}", line(row));
    }
    if !report.goals.is_empty() {
        text.push_str("\nGoals\n");
    }
    for goal in &report.goals {
        let verdict = if goal.reached { "reached" } else { "missed" };
        let _ = writeln!(text, "  {:<38} {:<14} {:>7.2}  {verdict}", goal.what, goal.aim, goal.measured);
    }
    text
}

fn line(row: &Row) -> String {
    let ratio = row.p99_to_alone;
    let unused = row.unused().map_or(String::new(), |unused| format!("{:.1} %", unused * 100.0));
    format!(
        "{:<28} {:>8.0} {:>8.0} {:>8.0}  {:<22} {:>8.0} {:>8.0}  {:>7}",
        row.name,
        row.victim_p50_us,
        row.victim_p99_us,
        row.victim_p99_9_us,
        format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.least, ratio.most),
        row.victim_iops,
        row.total_iops,
        unused,
    )
}
