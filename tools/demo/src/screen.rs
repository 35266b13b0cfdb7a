//! What a person sees while the load runs: a table that redraws itself, or lines when nobody looks.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use vfiomux_rpc::ChannelInfo;

use crate::load::Report;
use crate::tenant::{Phase, Tally};
use crate::units;
use crate::workload::Workload;

const HEAD: &str = "           ── as the guest sees it ─────────────────   ── in the ring ─── ── in the device ─\n  \
                    CHANNEL      IOPS     MB/s      P50      P99        P50      P99      P50      P99    VERIFIED";
const BAR_COLUMNS: usize = 24;

/// Standard output, as a terminal or not.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: bool,
    colour: bool,
    /// Lines of the table that stands there already.
    drawn: usize,
    /// Bytes verified so far, one a channel.
    verified_bytes: Vec<u64>,
    lines_begun: bool,
}

impl Screen {
    pub(crate) fn new(channels: usize) -> Self {
        let terminal = io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            terminal,
            colour: terminal && !unwanted,
            drawn: 0,
            verified_bytes: vec![0; channels],
            lines_begun: false,
        }
    }

    /// How often it can show something new.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(if self.terminal { 500 } else { 1000 })
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        emit(&format!("{text}\n"));
    }

    /// A heading that stays.
    pub(crate) fn head(&self, text: &str) {
        self.say(&self.paint(Style::new().bold(), text));
    }

    /// What went well, and stays.
    pub(crate) fn good(&self, text: &str) {
        self.say(&self.paint(AnsiColor::Green.on_default(), text));
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Shows a report beside what the daemon says of the channels.
    pub(crate) fn show(
        &mut self,
        report: &Report,
        workloads: &[Workload],
        channels: &[ChannelInfo],
        seconds: u32,
    ) {
        let mut rows = String::new();
        let all = workloads.iter().zip(channels).zip(&report.tallies).zip(&mut self.verified_bytes);
        for (((workload, channel), tally), verified_bytes) in all {
            *verified_bytes += tally.verified_blocks * crate::pattern::BLOCK_BYTES as u64;
            let _ =
                writeln!(rows, "{}", row(workload.channel, tally, channel, report.interval, *verified_bytes));
        }
        if self.terminal { self.redraw(report, &rows, seconds) } else { self.append(report, &rows) }
    }

    fn redraw(&mut self, report: &Report, rows: &str, seconds: u32) {
        let elapsed = report.elapsed.as_secs_f64().min(f64::from(seconds));
        let progress = match report.phase {
            Phase::Drive | Phase::Drain => {
                let full = (elapsed / f64::from(seconds) * BAR_COLUMNS as f64) as usize;
                let bar = "█".repeat(full) + &"░".repeat(BAR_COLUMNS.saturating_sub(full));
                format!(
                    "  {bar}  {elapsed:.0} of {seconds} s, every byte read is checked; Ctrl-C ends in order"
                )
            }
            Phase::ReadBack => "  reading every block back".to_owned(),
        };
        let head = self.paint(Style::new().dimmed(), HEAD);
        let text = format!("{head}\n{rows}\n{progress}\n");
        let mut out = String::new();
        if self.drawn > 0 {
            // Up to the table's first line; each line is cleared as it is written over.
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for line in text.lines() {
            let _ = writeln!(out, "\x1b[2K{line}");
        }
        self.drawn = text.lines().count();
        emit(&out);
    }

    fn append(&mut self, report: &Report, rows: &str) {
        if !std::mem::replace(&mut self.lines_begun, true) {
            emit(&format!("{HEAD}   TIME\n"));
        }
        let time = match report.phase {
            Phase::Drive | Phase::Drain => format!("{:.0} s", report.elapsed.as_secs_f64()),
            Phase::ReadBack => "reading back".to_owned(),
        };
        let lines: String = rows.lines().map(|row| format!("{row}   {time}\n")).collect();
        emit(&lines);
    }
}

fn row(name: &str, tally: &Tally, channel: &ChannelInfo, interval: Duration, verified_bytes: u64) -> String {
    let seconds = interval.as_secs_f64().max(1e-6);
    let (ring, device) = (&channel.latency.ring_wait, &channel.latency.device);
    let measured = |count: u64, ns: u64| if count == 0 { "-".to_owned() } else { units::duration(ns) };
    let seen = |quantile| measured(tally.latency.len(), tally.latency.value_at_quantile(quantile));
    format!(
        "  {name:<8} {:>8} {:>8.1} {:>8} {:>8}   {:>8} {:>8} {:>8} {:>8}    {:>8}",
        units::count((tally.requests as f64 / seconds) as u64),
        tally.bytes as f64 / 1e6 / seconds,
        seen(0.5),
        seen(0.99),
        measured(ring.count, ring.p50_ns),
        measured(ring.count, ring.p99_ns),
        measured(device.count, device.p50_ns),
        measured(device.count, device.p99_ns),
        units::bytes(verified_bytes),
    )
}

/// Writes to standard output. Whoever reads it may have gone (`| head`): the demonstration still ends in order.
fn emit(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
