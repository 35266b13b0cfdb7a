//! A report for people: what was done, how long it took, what went wrong, and what the client had to do with it.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::paint::Paint;
use crate::picture;
use crate::report::{Client, Latency, OpenLoop, Report, Tally, Verify};
use crate::units::{bytes, count, duration};

/// Guests that are shown one by one; of more only the slowest and the fastest.
const GUESTS_SHOWN: usize = 8;
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The report as text that ends in a newline.
#[must_use]
pub fn table(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = head(&mut text, report, paint);
    let _ = rows(&mut text, report, paint);
    text.push_str(&picture::percentiles(&report.total.latency, paint));
    let _ = details(&mut text, report, paint);
    text
}

fn head(text: &mut String, report: &Report, paint: Paint) -> std::fmt::Result {
    let run = &report.run;
    let what = if run.calibration { "null ring in this process".to_owned() } else { run.sockets.join(" ") };
    let mix = match run.read_percent {
        0 | 100 => String::new(),
        percent => format!(" {percent}/{}", 100 - percent),
    };
    let pattern = clap::ValueEnum::to_possible_value(&run.pattern);
    let pattern = pattern.as_ref().map_or("", |value| value.get_name());
    writeln!(text, "{}", paint.paint(BOLD, &what))?;
    write!(text, "{} {pattern}{mix}, depth {}", bytes(run.block_bytes.into()), run.depth)?;
    if run.queues > 1 {
        write!(text, " on each of {} queues", run.queues)?;
    }
    if run.guests > 1 {
        write!(text, ", {} guests", run.guests)?;
    }
    if let Some(rate) = run.rate_per_s {
        write!(text, ", {} requests a second due", count(rate as u64))?;
    }
    writeln!(text, ", {:.1} s\n", report.elapsed_ns as f64 / 1e9)
}

fn rows(text: &mut String, report: &Report, paint: Paint) -> std::fmt::Result {
    let head = format!(
        "{:<12}{:>12}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "", "IOPS", "MB/s", "MEAN", "P50", "P90", "P99", "P99.9", "MAX"
    );
    writeln!(text, "{}", paint.paint(DIM, &head))?;
    let total = &report.total;
    let seconds = report.elapsed_ns as f64 / 1e9;
    if let (Some(reads), Some(writes)) = (&total.read_latency, &total.write_latency) {
        for (name, latency) in [("read", reads), ("write", writes)] {
            let iops = latency.count as f64 / seconds;
            row(text, name, iops, iops * f64::from(report.run.block_bytes) / 1e6, latency)?;
        }
    }
    row(text, "all", total.iops, total.mb_per_s, &total.latency)?;
    if report.guests.len() < 2 {
        return Ok(());
    }
    writeln!(text)?;
    let mut guests: Vec<(usize, &Tally)> =
        report.guests.iter().map(|guest| &guest.tally).enumerate().collect();
    if guests.len() > GUESTS_SHOWN {
        guests.sort_by(|a, b| a.1.iops.total_cmp(&b.1.iops));
        guests = [guests.first(), guests.last()].into_iter().flatten().copied().collect();
    }
    for (number, tally) in guests {
        row(text, &format!("guest {number}"), tally.iops, tally.mb_per_s, &tally.latency)?;
    }
    match &report.fairness {
        Some(fairness) => writeln!(
            text,
            "fairness    {:.3} (Jain; 1 is even), from {} to {} IOPS a guest",
            fairness.jain,
            count(fairness.min_iops as u64),
            count(fairness.max_iops as u64)
        ),
        None => Ok(()),
    }
}

fn row(text: &mut String, name: &str, iops: f64, mb_per_s: f64, latency: &Latency) -> std::fmt::Result {
    write!(text, "{name:<12}{:>12}{mb_per_s:>9.0}", count(iops as u64))?;
    let mean = latency.mean_ns as u64;
    for ns in [mean, latency.p50_ns, latency.p90_ns, latency.p99_ns, latency.p99_9_ns, latency.max_ns] {
        write!(text, "{:>9}", duration(ns))?;
    }
    writeln!(text)
}

fn details(text: &mut String, report: &Report, paint: Paint) -> std::fmt::Result {
    let total = &report.total;
    if let Some(open) = &report.open_loop {
        arrivals(text, open, paint)?;
    }
    if total.failed.count() > 0 {
        let failed = &total.failed;
        let what = format!(
            "{} requests failed: {} with an I/O error, {} not supported, {} otherwise",
            count(failed.count()),
            count(failed.io_error),
            count(failed.unsupported),
            count(failed.other)
        );
        writeln!(text, "{}", paint.paint(BAD, &what))?;
        if let Some(first) = &failed.first {
            writeln!(text, "  first: {first}")?;
        }
    }
    if let Some(verify) = &report.verify {
        verified(text, verify, paint)?;
    }
    writeln!(
        text,
        "{:<12}{} kicks, {} calls: {:.3} and {:.3} a request",
        "signals",
        count(total.kicks),
        count(total.calls),
        total.kicks_per_request,
        total.calls_per_request
    )?;
    client(text, &report.client)
}

fn arrivals(text: &mut String, open: &OpenLoop, paint: Paint) -> std::fmt::Result {
    let what = format!(
        "{:<12}{} due, {} submitted; at most {} waited at one time",
        "arrivals",
        count(open.due),
        count(open.submitted),
        count(open.backlog_max)
    );
    writeln!(text, "{what}")?;
    if open.backlog_end > 0 {
        let late = format!(
            "  {} were still waiting when time was up: if that grows with --duration, the back-end cannot do this rate",
            count(open.backlog_end)
        );
        writeln!(text, "{}", paint.paint(BAD, &late))?;
    }
    Ok(())
}

fn verified(text: &mut String, verify: &Verify, paint: Paint) -> std::fmt::Result {
    if verify.wrong() == 0 {
        let good = format!(
            "{:<12}{} blocks checked, all as written; {} were written",
            "verified",
            count(verify.blocks_checked),
            count(verify.blocks_written)
        );
        return writeln!(text, "{}", paint.paint(GOOD, &good));
    }
    let bad = format!(
        "WRONG DATA in {} of {} blocks: {} stale, {} misplaced, {} torn, {} never written",
        count(verify.wrong()),
        count(verify.blocks_checked),
        count(verify.stale),
        count(verify.misplaced),
        count(verify.torn),
        count(verify.foreign)
    );
    writeln!(text, "{}", paint.paint(BAD, &bad))?;
    match &verify.first {
        Some(first) => writeln!(text, "  first: {first}"),
        None => Ok(()),
    }
}

fn client(text: &mut String, client: &Client) -> std::fmt::Result {
    writeln!(
        text,
        "{:<12}{:.0} ns a request of its own work, {:.1} completions a look; latencies are too long by {} on average",
        "this client",
        client.busy_ns_per_request,
        client.requests_per_look,
        duration(client.latency_error_ns as u64)
    )?;
    if client.preemptions > 0 {
        writeln!(
            text,
            "  it was preempted {} times: give it a core of its own (--cpu)",
            count(client.preemptions)
        )?;
    }
    Ok(())
}
