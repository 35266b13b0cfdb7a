//! One measurement: the client's run, and the plugin provoked meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser as _;
use serde::Serialize;

use crate::arguments::Arguments;
use crate::breaths::{Breaths, Figures};
use crate::conduct::Conduct;
use crate::daemon::Daemon;
use crate::error::ContainmentError;

/// The client has begun by then, and goes on for as long after what is measured.
const MARGIN: Duration = Duration::from_millis(400);
/// Between two provocations: a plugin that was killed is started again after some such pauses.
const PAUSE: Duration = Duration::from_millis(20);

/// What was measured, and what it showed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    /// A conduct is compared with the quiet of its round.
    pub(crate) round: u32,
    pub(crate) conduct: Conduct,
    pub(crate) breaths: Figures,
    /// Of the client.
    pub(crate) iops: f64,
    pub(crate) p99_ns: u64,
    /// Questions asked, or plugins replaced.
    pub(crate) provocations: u64,
    /// Questions that the plugin left unanswered; most of them while it was down.
    pub(crate) unanswered: u64,
    /// The plugin's processes that were killed or had died, and were started again.
    pub(crate) restarts: u64,
    #[serde(skip)]
    pub(crate) distribution: Breaths,
}

/// Drives the disk and provokes the plugin.
pub(crate) fn measure(
    arguments: &Arguments,
    daemon: &mut Daemon,
    conduct: Conduct,
    round: u32,
    stop: &Arc<AtomicBool>,
) -> Result<Measurement, ContainmentError> {
    daemon.refresh()?;
    let plugin_before = daemon.plugin()?;
    let options = options(arguments, daemon, round)?;
    let stopped = stop.clone();
    let load = thread::Builder::new().name("client".to_owned());
    let load =
        load.spawn(move || vfiomux_load::run(&options, stopped)).map_err(|_| ContainmentError::Thread)?;
    thread::sleep(MARGIN);
    let before = daemon.breaths()?;
    let (began, mut provocations) = (Instant::now(), 0);
    while began.elapsed() < arguments.duration() && !stop.load(Ordering::Relaxed) {
        daemon.provoke(conduct)?;
        provocations += u64::from(conduct != Conduct::Quiet);
        thread::sleep(PAUSE);
    }
    let after = daemon.breaths()?;
    let load = load.join().map_err(|_| ContainmentError::Thread)??;
    let plugin = daemon.plugin()?;
    let noticed = plugin.verdicts.unanswered.saturating_sub(plugin_before.verdicts.unanswered);
    if conduct.is_fault() && (noticed == 0 || plugin.last_fault.is_none()) {
        return Err(ContainmentError::Unnoticed { conduct: conduct.name() });
    }
    match load.total.failed.count() {
        0 => {}
        failed => return Err(ContainmentError::Failed { conduct: conduct.name(), failed }),
    }
    let distribution = Breaths::between(&before, &after);
    Ok(Measurement {
        round,
        conduct,
        breaths: distribution.figures(),
        iops: load.total.iops,
        p99_ns: load.total.latency.p99_ns,
        provocations,
        // A replaced plugin counts anew.
        unanswered: noticed,
        restarts: plugin.restarts.saturating_sub(plugin_before.restarts),
        distribution,
    })
}

/// The client's options: random reads of 4 KiB for longer than is looked at.
fn options(
    arguments: &Arguments,
    daemon: &Daemon,
    round: u32,
) -> Result<vfiomux_load::Arguments, clap::Error> {
    let duration = arguments.duration() + MARGIN;
    let words = [
        "vfiomux-load".to_owned(),
        format!("--depth={}", arguments.depth),
        format!("--cpu={}", arguments.client_cpu),
        format!("--ramp={}us", (MARGIN / 2).as_micros()),
        format!("--duration={}us", duration.as_micros()),
        format!("--seed={}", u64::from(round) + 1),
        daemon.disk.display().to_string(),
    ];
    vfiomux_load::Arguments::try_parse_from(words)
}
