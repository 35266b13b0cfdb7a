//! The report as a person reads it.

use std::fmt::Write as _;

use crate::ratio::{AtDistance, Spread};
use crate::report::{Ratio, Report, Row};
use crate::target::{Goal, Target};

/// The whole text.
pub(crate) fn text(report: &Report) -> String {
    let mut text = head(report);
    let mut title = ("", "");
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in sorted(report) {
        if title != (row.group, &row.workload) {
            flush(&mut text, title, &mut rows);
            title = (row.group, &row.workload);
        }
        rows.push(cells(row));
    }
    flush(&mut text, title, &mut rows);

    section(&mut text, "Ours to peer, medians of ratios within a round (quartiles)", &RATIO_HEAD, || {
        report.ratios.iter().map(ratio_cells).collect()
    });
    section(&mut text, "Idle sessions: cores used", &["server", "sessions", "cores", "quartiles"], || {
        let line = |idle: &crate::idle::Idle| {
            let used = Spread::of(idle.server_cores.iter().copied())?;
            let quartiles = format!("{:.4} to {:.4}", used.lower_quartile, used.upper_quartile);
            Some(vec![
                idle.contender.clone(),
                idle.sessions.to_string(),
                format!("{:.4}", used.median),
                quartiles,
            ])
        };
        report.results.idle.iter().filter_map(line).collect()
    });
    section(
        &mut text,
        "From waking up to the first command, the daemon's own median",
        &["server", "µs"],
        || {
            let line = |(name, ns): &(String, u64)| vec![name.clone(), micros(*ns as f64)];
            report.results.wake_to_submit_ns.iter().map(line).collect()
        },
    );
    section(
        &mut text,
        "Targets",
        &["target", "goal", "measured (quartiles)", "", "by core-to-core distance (pairs)"],
        || report.targets.iter().map(target_cells).collect(),
    );
    text
}

fn head(report: &Report) -> String {
    let results = &report.results;
    let cores = &results.cores;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}, Linux {}; server on core {}, client on core {}, of {}",
        report.machine.processor, report.machine.kernel, cores.server, cores.client, cores.available
    );
    let _ = writeln!(
        text,
        "{} rounds of {} s, and up to as many again of what lacked fair pairs",
        results.rounds,
        results.run.as_secs_f64()
    );
    if let Some(apart) = report.core_to_core_ns() {
        let _ = writeln!(
            text,
            "core to core {:.0} ns (quartiles {:.0} to {:.0})",
            apart.median, apart.lower_quartile, apart.upper_quartile
        );
    }
    let disturbed = results.measurements.iter().filter(|run| !run.figures.is_calm()).count();
    if disturbed > 0 {
        let all = results.measurements.len();
        let _ = writeln!(
            text,
            "{disturbed} of {all} runs were disturbed: something else took more than a tenth of a core; they are compared with \
             none, and count in a server's own row only where fewer than three rounds were calm"
        );
    }
    if !results.counts_instructions {
        text.push_str("instructions are not counted: `perf stat -e instructions` does not work here\n");
    }
    if !cores.has_second() {
        text.push_str(
            "two sidecores share the client's core, for want of a third: their scaling shows nothing here\n",
        );
    }
    if results.interrupted {
        text.push_str("interrupted: what follows is what there was\n");
    }
    for server in &results.servers {
        let _ = writeln!(text, "  {}: {}", server.contender, server.about);
    }
    for failure in &results.failures {
        let _ = writeln!(text, "  {} failed ({}): {}", failure.contender, failure.group, failure.why);
    }
    text
}

/// By group and workload, in the order in which they were first measured.
fn sorted(report: &Report) -> Vec<&Row> {
    let mut rows: Vec<&Row> = report.summary.iter().collect();
    let place = |row: &Row| {
        report.summary.iter().position(|first| (first.group, &first.workload) == (row.group, &row.workload))
    };
    rows.sort_by_key(|row| place(row));
    rows
}

const HEAD: [&str; 12] = [
    "server", "kIOPS", "MB/s", "mean µs", "p50", "p99", "p99.9", "cores", "ns/IO", "kIO/core", "kicks/IO",
    "calls/IO",
];
const RATIO_HEAD: [&str; 5] = ["workload", "ours / peer", "I/O per core", "IOPS", "p50"];

fn flush(text: &mut String, (group, workload): (&str, &str), rows: &mut Vec<Vec<String>>) {
    if !rows.is_empty() {
        let counted = rows.iter().any(|row| row.len() > HEAD.len());
        let mut head = HEAD.to_vec();
        if counted {
            head.push("instr/IO");
        }
        let _ = write!(text, "\n{group}: {workload}\n{}", grid(&head, &std::mem::take(rows)));
    }
}

fn section(text: &mut String, title: &str, head: &[&str], rows: impl FnOnce() -> Vec<Vec<String>>) {
    let rows = rows();
    if !rows.is_empty() {
        let _ = write!(text, "\n{title}\n{}", grid(head, &rows));
    }
}

fn cells(row: &Row) -> Vec<String> {
    let name = if row.failed > 0 {
        format!("{} ({} failed)", row.contender, row.failed)
    } else {
        row.contender.clone()
    };
    let mut cells = vec![
        name,
        format!("{:.1}", row.iops.median / 1e3),
        format!("{:.0}", row.mb_per_s),
        micros(row.mean_ns),
        micros(row.p50_ns),
        micros(row.p99_ns),
        micros(row.p99_9_ns),
        format!("{:.2}", row.server_cores),
        format!("{:.0}", row.server_ns_per_io),
        format!("{:.1}", row.io_per_core_s.median / 1e3),
        format!("{:.3}", row.kicks_per_io),
        format!("{:.3}", row.calls_per_io),
    ];
    cells.extend(row.instructions_per_io.map(|count| format!("{count:.0}")));
    cells
}

fn ratio_cells(ratio: &Ratio) -> Vec<String> {
    vec![
        ratio.workload.clone(),
        format!("{} / {}", ratio.ours, ratio.peer),
        spread(ratio.io_per_core),
        spread(ratio.iops),
        spread(ratio.median_latency),
    ]
}

fn target_cells(target: &Target) -> Vec<String> {
    let goal = match target.goal {
        Goal::AtLeast(bound) => format!("at least {bound}"),
        Goal::AtMost(bound) => format!("at most {bound}"),
        Goal::Below(bound) => format!("below {bound}"),
    };
    let verdict = match target.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "not measured",
    };
    let digits = if matches!(target.goal, Goal::Below(_)) { 4 } else { 2 };
    let measured = target.measured.map_or_else(|| "-".to_owned(), |measured| precise(measured, digits));
    let part = |part: &AtDistance| {
        format!("{:.2} at {:.0} ns (of {})", part.ratio.median, part.core_to_core_ns, part.ratio.count)
    };
    let parts: Vec<String> = target.by_distance.iter().map(part).collect();
    vec![target.name.clone(), goal, measured, verdict.to_owned(), parts.join(", ")]
}

fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| precise(spread, 2))
}

fn precise(spread: Spread, digits: usize) -> String {
    let Spread { median, lower_quartile, upper_quartile, .. } = spread;
    format!("{median:.digits$} ({lower_quartile:.digits$}-{upper_quartile:.digits$})")
}

fn micros(ns: f64) -> String {
    let micros = ns / 1e3;
    if micros < 100.0 { format!("{micros:.2}") } else { format!("{micros:.0}") }
}

/// Columns as wide as their widest cell; the first to the left, the others to the right.
fn grid(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let named = head.get(column).map_or(0, |name| name.chars().count());
        cells.max().unwrap_or(0).max(named)
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::from("  ");
        for (column, cell) in cells.enumerate() {
            let width = width(column);
            let _ =
                if column == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ratio::tests::run;
    use crate::report::tests::results;
    use crate::round::Failure;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "12345".to_owned()], vec!["bcd".to_owned(), "µ".to_owned()]];
        assert_eq!(grid(&["x", "y"], &rows), "  x        y\n  a    12345\n  bcd      µ\n");
    }

    #[test]
    fn a_workload_is_one_table_though_its_rounds_are_apart() {
        let mut results = results();
        for round in 0..2 {
            for workload in ["w1", "w2"] {
                for contender in ["vfiomux-null", "qsd-null"] {
                    results.measurements.push(run(workload, contender, round, 1e5, 1000.0));
                }
            }
        }
        let text = text(&Report::new(results));
        assert_eq!(text.matches("guest: w1\n").count(), 1);
        assert!(text.contains("vfiomux-null / qsd-null"), "{text}");
    }

    #[test]
    fn a_server_that_failed_and_a_target_without_figures_are_shown() {
        let mut results = results();
        let why = "its last words: no huge pages".to_owned();
        results.failures.push(Failure { group: "guest", contender: "spdk-null".to_owned(), why });
        let text = text(&Report::new(results));
        assert!(text.contains("spdk-null failed (guest): its last words: no huge pages"));
        assert!(text.contains("not measured"));
    }

    #[test]
    fn short_times_have_more_digits() {
        assert_eq!([micros(1234.0), micros(123_456.0)], ["1.23", "123"]);
    }
}
