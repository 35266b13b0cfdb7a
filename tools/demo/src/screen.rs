//! What a person sees while the load runs: a table that redraws itself, or lines when nobody looks.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use vfiomux_rpc::ChannelInfo;

use crate::pattern::BLOCK_BYTES;
use crate::tenant::Tally;
use crate::units;

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
    /// The head of the table is still to be written.
    head_missing: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { terminal, colour: terminal && !unwanted, drawn: 0, head_missing: true }
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

    /// Shows what was done of late, beside what the daemon says of the channels.
    pub(crate) fn show(&mut self, moment: &Moment<'_>, seconds: u32) {
        if !self.terminal {
            return self.append(&moment.rows(), &format!("{:.0} s", moment.elapsed.as_secs_f64()));
        }
        let share = moment.elapsed.as_secs_f64() / f64::from(seconds);
        let full = ((share * BAR_COLUMNS as f64) as usize).min(BAR_COLUMNS);
        let bar = "█".repeat(full) + &"░".repeat(BAR_COLUMNS - full);
        let passed = moment.elapsed.as_secs().min(seconds.into());
        let footer =
            format!("  {bar}  {passed} of {seconds} s, every byte read is checked; Ctrl-C ends in order");
        self.redraw(&moment.rows(), &footer);
    }

    /// Leaves what was done in all.
    pub(crate) fn conclude(&mut self, moment: &Moment<'_>) {
        let seconds = format!("{:.0} s", moment.interval.as_secs_f64());
        if self.terminal {
            self.redraw(&moment.rows(), &format!("  over all {seconds}"));
        } else {
            self.append(&moment.rows(), &format!("all {seconds}"));
        }
    }

    fn redraw(&mut self, rows: &[String], footer: &str) {
        let mut out = String::new();
        if self.drawn > 0 {
            // Up to the table's first line; each line is cleared as it is written over.
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        let dimmed = |line| self.paint(Style::new().dimmed(), line);
        let lines: Vec<String> = HEAD
            .lines()
            .map(dimmed)
            .chain(rows.iter().cloned())
            .chain([String::new(), footer.to_owned()])
            .collect();
        for line in &lines {
            let _ = writeln!(out, "\x1b[2K{line}");
        }
        self.drawn = lines.len();
        emit(&out);
    }

    fn append(&mut self, rows: &[String], time: &str) {
        if std::mem::take(&mut self.head_missing) {
            emit(&format!("{HEAD}   TIME\n"));
        }
        let lines: String = rows.iter().map(|row| format!("{row}   {time}\n")).collect();
        emit(&lines);
    }
}

/// What there is to show at a time. Of each list, one a channel.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    /// Since the load began.
    pub(crate) elapsed: Duration,
    /// What the tallies cover.
    pub(crate) interval: Duration,
    pub(crate) tallies: &'a [Tally],
    /// Verified since the load began.
    pub(crate) verified_blocks: Vec<u64>,
    /// What the daemon says.
    pub(crate) channels: &'a [ChannelInfo],
}

impl Moment<'_> {
    fn rows(&self) -> Vec<String> {
        let all = self.channels.iter().zip(self.tallies).zip(&self.verified_blocks);
        all.map(|((channel, tally), blocks)| row(tally, channel, self.interval, blocks * BLOCK_BYTES as u64))
            .collect()
    }
}

fn row(tally: &Tally, channel: &ChannelInfo, interval: Duration, verified_bytes: u64) -> String {
    let seconds = interval.as_secs_f64().max(1e-6);
    let (ring, device) = (&channel.latency.ring_wait, &channel.latency.device);
    let measured = |count: u64, ns: u64| if count == 0 { "-".to_owned() } else { units::duration(ns) };
    let seen = |quantile| measured(tally.latency.len(), tally.latency.value_at_quantile(quantile));
    format!(
        "  {:<8} {:>8} {:>8.1} {:>8} {:>8}   {:>8} {:>8} {:>8} {:>8}    {:>8}",
        channel.name,
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
