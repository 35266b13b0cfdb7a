//! One run of one contender under one workload, and what it showed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use vfiomux_bench_daemon::chain;
use vfiomux_load::report::{Percentile, Report};

use crate::server::Server;
use crate::workload::Workload;
use crate::{cpu_time, instructions};

/// How much longer than planned a run may take, before it is ended.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What one run showed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    pub(crate) group: &'static str,
    pub(crate) workload: String,
    pub(crate) contender: String,
    /// Runs of one round are comparable with each other.
    pub(crate) round: u32,
    /// Time for a cache line from the client's core to the server's, just before.
    pub(crate) core_to_core_ns: Option<f64>,
    /// The same, just after.
    pub(crate) core_to_core_after_ns: Option<f64>,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// The figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) iops: f64,
    pub(crate) mb_per_s: f64,
    pub(crate) mean_ns: f64,
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) p99_9_ns: f64,
    /// Of one core, what the server's threads used: 1 is a whole core.
    pub(crate) server_cores: f64,
    /// The server's CPU time for each I/O.
    pub(crate) server_ns_per_io: f64,
    /// I/O divided by the server's CPU seconds.
    pub(crate) io_per_core_s: f64,
    /// Instructions of the server for each I/O, where they can be counted.
    pub(crate) instructions_per_io: Option<f64>,
    pub(crate) kicks_per_io: f64,
    pub(crate) calls_per_io: f64,
    /// Requests that failed: such a run says nothing about speed.
    pub(crate) failed: u64,
    /// How often something else ran on the client's core.
    pub(crate) client_preemptions: u64,
    /// Share of the time in which something else ran on the server's core or on the client's, whichever is more.
    pub(crate) disturbed: f64,
    /// The course of the latencies, for the picture; too long for the report.
    #[serde(skip)]
    pub(crate) percentiles: Vec<(f64, f64)>,
}

/// What the server used in a part of the measured time.
#[derive(Debug, Clone, Copy)]
struct Used {
    wall: Duration,
    cpu: Duration,
    /// Something else's time on a core.
    others: Duration,
    instructions: Option<u64>,
}

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How<'a> {
    /// Cores of the client.
    pub(crate) clients: &'a [u32],
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    /// Whether the machine counts instructions.
    pub(crate) counts: bool,
    /// The server's core.
    pub(crate) server: u32,
}

/// A run of which something else took more than this share says little.
const CALM: f64 = 0.1;

impl Figures {
    /// Whether the run had its cores to itself.
    pub(crate) fn is_calm(&self) -> bool {
        self.disturbed <= CALM
    }
}

/// Drives a server that runs, and measures.
pub(crate) fn measure(
    server: &Server,
    workload: &Workload,
    how: How<'_>,
    stop: &AtomicBool,
) -> Result<Figures, String> {
    let arguments = workload
        .arguments(&server.sockets, how.clients, how.duration, how.seed)
        .map_err(|error| error.to_string())?;
    let end = Arc::new(AtomicBool::new(false));
    let client = {
        let end = end.clone();
        let thread = thread::Builder::new().name("client".to_owned());
        thread.spawn(move || vfiomux_load::run(&arguments, end)).map_err(|error| error.to_string())?
    };
    let began = Instant::now();
    // The middle of the measured time: load is even there, also when connecting took a while.
    wait(workload.ramp() + how.duration / 5, began, &end, stop);
    let used = observe(server.pid(), how, how.duration * 3 / 5);
    let patience = workload.ramp() + how.duration + PATIENCE;
    while !client.is_finished() {
        if stop.load(Ordering::Relaxed) || began.elapsed() > patience {
            end.store(true, Ordering::Relaxed);
        }
        if began.elapsed() > 2 * patience {
            // The thread waits for a server that will be ended: it then ends itself.
            return Err(format!("the client did not end within {} s", 2 * patience.as_secs()));
        }
        thread::sleep(LOOK_AGAIN);
    }
    let report =
        client.join().map_err(|_| "the client panicked".to_owned())?.map_err(|error| chain(&error))?;
    let used = used.ok_or("the server is gone")?;
    figures(&report, used)
}

/// Writes a disk once.
pub(crate) fn fill(socket: &Path, client: u32, disk_bytes: u64) -> Result<(), String> {
    let arguments = crate::workload::fill(socket, client, disk_bytes).map_err(|error| error.to_string())?;
    vfiomux_load::run(&arguments, Arc::new(AtomicBool::new(false))).map_err(|error| chain(&error))?;
    Ok(())
}

/// Sleeps until so long after `began`; passes a wish to stop on to the client.
fn wait(until: Duration, began: Instant, end: &AtomicBool, stop: &AtomicBool) {
    while began.elapsed() < until && !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK_AGAIN.min(until.saturating_sub(began.elapsed())));
    }
    end.fetch_or(stop.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// What a process uses from now on for this long. `None` when it is gone.
fn observe(pid: u32, how: How<'_>, duration: Duration) -> Option<Used> {
    let counter = how.counts.then(|| instructions::count(pid, duration)).flatten();
    let client = how.clients.first().copied()?;
    // Core by core, what all have used and what the one that belongs there has used.
    let look = || {
        let own = |cpu, pid| Some((cpu_time::of_core(cpu)?, cpu_time::of(pid)?));
        Some((Instant::now(), own(how.server, pid)?, own(client, std::process::id())?))
    };
    let (began, server_before, client_before) = look()?;
    thread::sleep(duration);
    let (ended, server_after, client_after) = look()?;
    let instructions = counter.and_then(instructions::result);
    let others = |before: (Duration, Duration), after: (Duration, Duration)| {
        (after.0.saturating_sub(before.0)).saturating_sub(after.1.saturating_sub(before.1))
    };
    Some(Used {
        wall: ended - began,
        cpu: server_after.1.saturating_sub(server_before.1),
        others: others(server_before, server_after).max(others(client_before, client_after)),
        instructions,
    })
}

/// What a process uses for this long, as a share of one core.
pub(crate) fn cores_used(pid: u32, duration: Duration) -> Option<f64> {
    let (began, before) = (Instant::now(), cpu_time::of(pid)?);
    thread::sleep(duration);
    let used = cpu_time::of(pid)?.saturating_sub(before);
    Some(used.as_secs_f64() / began.elapsed().as_secs_f64())
}

fn figures(report: &Report, used: Used) -> Result<Figures, String> {
    let total = &report.total;
    if total.latency.count == 0 {
        let why = total.failed.first.clone();
        return Err(why.unwrap_or_else(|| "not one request was answered in the measured time".to_owned()));
    }
    // The part observed is not exactly the part measured. Both are of even load, so that shares of time can be compared.
    let server_cores = used.cpu.as_secs_f64() / used.wall.as_secs_f64();
    let observed_io = total.iops * used.wall.as_secs_f64();
    let point = |at: &Percentile| (at.percent, at.latency_ns as f64 / 1000.0);
    Ok(Figures {
        iops: total.iops,
        mb_per_s: total.mb_per_s,
        mean_ns: total.latency.mean_ns,
        p50_ns: total.latency.p50_ns as f64,
        p99_ns: total.latency.p99_ns as f64,
        p99_9_ns: total.latency.p99_9_ns as f64,
        server_cores,
        server_ns_per_io: server_cores / total.iops * 1e9,
        io_per_core_s: total.iops / server_cores,
        instructions_per_io: used.instructions.map(|count| count as f64 / observed_io),
        kicks_per_io: total.kicks_per_request,
        calls_per_io: total.calls_per_request,
        failed: total.failed.count(),
        client_preemptions: report.client.preemptions,
        disturbed: used.others.as_secs_f64() / used.wall.as_secs_f64(),
        percentiles: total.latency.percentiles.iter().map(point).collect(),
    })
}
