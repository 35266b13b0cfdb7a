//! One measurement: the victim's run and the bullies', at the same time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use clap::Parser as _;
use serde::Serialize;
use vfiomux_load::report::{Percentile, Report};

use crate::arguments::Arguments;
use crate::daemon::Daemon;
use crate::error::IsolationError;
use crate::regime::Regime;

/// Before what is measured: longer than it takes until queues are as long as they will be.
const RAMP: Duration = Duration::from_millis(500);

/// What was measured, and what it showed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    /// Measurements of one round are comparable with each other.
    pub(crate) round: u32,
    pub(crate) regime: Regime,
    /// None: the victim alone.
    pub(crate) bullies: u32,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// The figures of a measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) victim_iops: f64,
    pub(crate) victim_p50_ns: f64,
    pub(crate) victim_p99_ns: f64,
    pub(crate) victim_p99_9_ns: f64,
    /// Of all bullies together.
    pub(crate) bullies_iops: f64,
    pub(crate) bullies_p50_ns: f64,
    /// The course of the victim's latencies in microseconds, for the picture; too long for the report.
    #[serde(skip)]
    pub(crate) percentiles: Vec<(f64, f64)>,
}

impl Figures {
    /// What the device did.
    pub(crate) fn total_iops(&self) -> f64 {
        self.victim_iops + self.bullies_iops
    }
}

/// Drives the victim and so many bullies at once.
pub(crate) fn measure(
    arguments: &Arguments,
    daemon: &Daemon,
    regime: Regime,
    bullies: u32,
    round: u32,
    stop: &Arc<AtomicBool>,
) -> Result<Figures, IsolationError> {
    debug_assert!(bullies > 0 || regime == Regime::Unlimited);
    let bullies = usize::try_from(bullies).unwrap_or(usize::MAX).min(daemon.bullies.len());
    let sockets = daemon.bullies.get(..bullies).unwrap_or_default();
    // The bullies are there before the victim's measured time begins, and until it has ended.
    let both = arguments.duration();
    let crowd = (bullies > 0)
        .then(|| start("bullies", options(sockets, arguments.depth, both + RAMP / 2, RAMP, round)?, stop))
        .transpose()?;
    let victim = start("victim", options(&[&daemon.victim], 1, both, RAMP + RAMP / 4, round)?, stop)?;
    let victim = victim()?;
    let mut figures = Figures {
        victim_iops: victim.total.iops,
        victim_p50_ns: victim.total.latency.p50_ns as f64,
        victim_p99_ns: victim.total.latency.p99_ns as f64,
        victim_p99_9_ns: victim.total.latency.p99_9_ns as f64,
        percentiles: course(&victim),
        ..Figures::default()
    };
    if let Some(crowd) = crowd {
        let crowd = crowd()?;
        figures.bullies_iops = crowd.total.iops;
        figures.bullies_p50_ns = crowd.total.latency.p50_ns as f64;
    }
    Ok(figures)
}

fn course(report: &Report) -> Vec<(f64, f64)> {
    let point = |at: &Percentile| (at.percent, at.latency_ns as f64 / 1e3);
    report.total.latency.percentiles.iter().map(point).collect()
}

/// The client's options: random reads of 4 KiB by guests that sleep until they are called.
fn options(
    sockets: &[impl AsRef<std::path::Path>],
    depth: u16,
    duration: Duration,
    ramp: Duration,
    round: u32,
) -> Result<vfiomux_load::Arguments, clap::Error> {
    let mut words = vec!["vfiomux-load".to_owned(), "--wait=sleep".to_owned()];
    words.push(format!("--depth={depth}"));
    words.push(format!("--duration={}us", duration.as_micros()));
    words.push(format!("--ramp={}us", ramp.as_micros()));
    words.push(format!("--seed={}", u64::from(round) + 1));
    words.extend(sockets.iter().map(|socket| PathBuf::from(socket.as_ref()).display().to_string()));
    vfiomux_load::Arguments::try_parse_from(words)
}

/// Starts a run; what is returned waits for its report.
fn start(
    who: &'static str,
    options: vfiomux_load::Arguments,
    stop: &Arc<AtomicBool>,
) -> Result<impl FnOnce() -> Result<Report, IsolationError>, IsolationError> {
    let stop = stop.clone();
    let run = thread::Builder::new().name(who.to_owned()).spawn(move || vfiomux_load::run(&options, stop));
    let run = run.map_err(|_| IsolationError::Thread)?;
    Ok(move || {
        let report = run.join().map_err(|_| IsolationError::Thread)?;
        let report = report.map_err(|source| IsolationError::Load { who, source })?;
        match report.total.failed.count() {
            0 => Ok(report),
            failed => Err(IsolationError::Failed { who, failed }),
        }
    })
}
