use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::thread::{CpuSet, sched_setaffinity};
use vfiomux_frontend::{FrontendError, Loopback, Pages, Session, Shape};
use vfiomux_spec::virtio::blk::{F_BLK_SIZE, F_FLUSH, F_MQ, F_RO, F_SEG_MAX, SECTOR_SHIFT};
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, RING_INDIRECT_DESC, VERSION_1};

use crate::Arguments;
use crate::arrivals::Due;
use crate::cost::Cost;
use crate::drive::{Course, Driven, Driver, Measured};
use crate::error::LoadError;
use crate::guest::Guest;
use crate::job::Job;
use crate::link::Link;
use crate::oracle::Oracle;
use crate::plan::{Disk, Plan};
use crate::random::mix;
use crate::recorder::Recorder;
use crate::report::{self, Report, Run, SCHEMA};
use crate::summary;
use crate::workload::{Region, Workload};

/// What a null ring passes for.
const NULL_DISK: Disk = Disk { size_bytes: 1 << 40, block_bytes: 512, read_only: false, takes_flushes: true };
const NULL_FEATURES: u64 = VERSION_1 | RING_INDIRECT_DESC | RING_EVENT_IDX | F_FLUSH;
const SECTOR_BYTES: u32 = 1 << SECTOR_SHIFT;

const FEATURE_NAMES: &[(u64, &str)] = &[
    (F_SEG_MAX, "seg-max"),
    (F_RO, "read-only"),
    (F_BLK_SIZE, "block-size"),
    (F_FLUSH, "flush"),
    (F_MQ, "multi-queue"),
    (RING_INDIRECT_DESC, "indirect-descriptors"),
    (RING_EVENT_IDX, "event-index"),
    (VERSION_1, "version-1"),
];

/// Does what the arguments say. It ends early, with a report of what there was, when `stop` is set.
pub fn run(arguments: &Arguments, stop: Arc<AtomicBool>) -> Result<Report, LoadError> {
    let plan = Plan::new(arguments)?;
    let links = connect(&plan)?;
    let disks: Vec<Disk> = links.iter().map(disk).collect();
    let features: Vec<u64> = links.iter().map(features).collect();
    let regions = plan.regions(&disks)?;
    let guests = guests(&plan, links, &regions)?;
    let driven = drive(&plan, guests, stop)?;
    let elapsed_ns = driven.iter().map(|driven| driven.elapsed_ns).max().unwrap_or(0);
    let cost = driven.iter().fold(Cost::default(), |sum, driven| sum.plus(&driven.cost));
    let measured: Vec<Measured> = driven.into_iter().flat_map(|driven| driven.guests).collect();
    let mut report = summarise(&plan, &regions, &measured, elapsed_ns, &cost)?;
    for ((guest, disk), features) in report.guests.iter_mut().zip(&disks).zip(features) {
        guest.disk_bytes = disk.size_bytes;
        guest.features = FEATURE_NAMES
            .iter()
            .filter(|(bit, _)| features & bit != 0)
            .map(|(_, name)| (*name).to_owned())
            .collect();
    }
    for Measured { guest, .. } in measured {
        let socket = guest.link.name().to_owned();
        guest.link.stop().map_err(|source| LoadError::Session { socket, source })?;
    }
    Ok(report)
}

/// How long a run of these arguments takes; `None` when that depends on the back-end, or they cannot be run.
#[must_use]
pub fn expected(arguments: &Arguments) -> Option<Duration> {
    let plan = Plan::new(arguments).ok()?;
    Some(plan.ramp + plan.duration?)
}

fn connect(plan: &Plan) -> Result<Vec<Link>, LoadError> {
    let arguments = &plan.arguments;
    let shape =
        Shape { queues: arguments.queues, requests: arguments.depth, request_bytes: plan.block_bytes };
    let pages = if arguments.hugepages { Pages::Huge } else { Pages::Ordinary };
    plan.sockets
        .iter()
        .map(|socket| {
            let link = if arguments.calibrate {
                Loopback::new(&shape, NULL_FEATURES).and_then(Link::null)
            } else {
                Session::connect_with(Path::new(socket), &shape, pages)
                    .map(|session| Link::Session { socket: socket.clone(), session: Box::new(session) })
            };
            link.map_err(|source| match source {
                FrontendError::Connect { .. } | FrontendError::NoAnswer { .. } => LoadError::Connect(source),
                source => LoadError::Session { socket: socket.clone(), source },
            })
        })
        .collect()
}

fn disk(link: &Link) -> Disk {
    let Link::Session { session, .. } = link else { return NULL_DISK };
    let (features, config) = (session.features(), session.config());
    Disk {
        size_bytes: config.capacity.get().saturating_mul(SECTOR_BYTES.into()),
        block_bytes: match config.blk_size.get() {
            bytes if features & F_BLK_SIZE != 0 && bytes >= SECTOR_BYTES => bytes,
            _ => SECTOR_BYTES,
        },
        read_only: features & F_RO != 0,
        takes_flushes: features & F_FLUSH != 0,
    }
}

fn features(link: &Link) -> u64 {
    match link {
        Link::Session { session, .. } => session.features(),
        _ => NULL_FEATURES,
    }
}

fn guests(plan: &Plan, links: Vec<Link>, regions: &[Region]) -> Result<Vec<Guest>, LoadError> {
    let arguments = &plan.arguments;
    let count = links.len() as f64;
    // Two runs with one seed do the same, but what the first one wrote must not pass for the second one's.
    let this_run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let numbered = (0u64..).zip(links).zip(regions);
    numbered
        .map(|((number, link), &region)| {
            let seed = mix(arguments.seed ^ mix(number));
            let workload =
                Workload::new(arguments.pattern, plan.read_percent, region, arguments.flush_every, seed);
            // Guests of a constant rate take turns.
            let due = plan
                .arrivals()
                .map(|(spread, rate)| Due::new(spread, rate, number as f64 / count, mix(seed)));
            let oracle = arguments.verify.then(|| Oracle::new(region, this_run ^ mix(number)));
            Guest::new(link, Job::new(region, workload, due, oracle)?, arguments.depth)
        })
        .collect()
}

/// Drives the guests, dealt out to threads.
fn drive(plan: &Plan, guests: Vec<Guest>, stop: Arc<AtomicBool>) -> Result<Vec<Driven>, LoadError> {
    let arguments = &plan.arguments;
    let course = Course {
        ramp: plan.ramp,
        duration: plan.duration,
        requests: arguments.requests,
        wait: arguments.wait,
        fill: plan.fills(),
        sweep: arguments.verify,
        stop,
    };
    let share = guests.len().div_ceil(plan.threads as usize).max(1);
    let origin = Instant::now();
    let mut guests = guests.into_iter();
    let mut threads = Vec::new();
    let mut cpus = arguments.cpu.iter().flat_map(|cpus| cpus.0.iter().copied());
    loop {
        let shared: Vec<Guest> = guests.by_ref().take(share).collect();
        if shared.is_empty() {
            break;
        }
        let driver = Driver::new(shared, course.clone(), origin)?;
        let cpu = cpus.next();
        let thread = thread::Builder::new().name("load".to_owned()).spawn(move || {
            if let Some(cpu) = cpu {
                pin(cpu)?;
            }
            driver.run()
        });
        threads.push(thread.map_err(|source| LoadError::System { step: "start a thread", source })?);
    }
    threads.into_iter().map(|thread| thread.join().map_err(|_| LoadError::Panicked)?).collect()
}

fn pin(cpu: u32) -> Result<(), LoadError> {
    let failed = |source| LoadError::Pin { cpu, source };
    let at = cpu as usize;
    if at >= CpuSet::MAX_CPU {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    let mut set = CpuSet::new();
    set.set(at);
    sched_setaffinity(None, &set).map_err(|errno| failed(errno.into()))
}

fn summarise(
    plan: &Plan,
    regions: &[Region],
    all: &[Measured],
    elapsed_ns: u64,
    cost: &Cost,
) -> Result<Report, LoadError> {
    let mut merged = Recorder::new()?;
    let (mut kicks, mut calls) = (0, 0);
    let mut guests = Vec::new();
    let mut work = Vec::new();
    for measured in all {
        merged.add(measured.guest.recorder())?;
        kicks += measured.kicks;
        calls += measured.calls;
        work.push(measured.guest.work());
        guests.push(report::Guest {
            socket: measured.guest.link.name().to_owned(),
            features: Vec::new(),
            disk_bytes: 0,
            tally: summary::tally(
                measured.guest.recorder(),
                plan.block_bytes,
                elapsed_ns,
                measured.kicks,
                measured.calls,
            )?,
        });
    }
    let iops: Vec<f64> = guests.iter().map(|guest| guest.tally.iops).collect();
    Ok(Report {
        schema: SCHEMA,
        program: concat!("vfiomux-load ", env!("CARGO_PKG_VERSION")).to_owned(),
        run: described(plan, regions),
        elapsed_ns,
        total: summary::tally(&merged, plan.block_bytes, elapsed_ns, kicks, calls)?,
        guests,
        fairness: summary::fairness(&iops),
        open_loop: summary::open_loop(all),
        verify: summary::verified(all),
        client: summary::client(cost, &work, merged.requests()),
    })
}

fn described(plan: &Plan, regions: &[Region]) -> Run {
    let arguments = &plan.arguments;
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Run {
        sockets: arguments.sockets.clone(),
        calibration: arguments.calibrate,
        pattern: arguments.pattern,
        read_percent: plan.read_percent,
        block_bytes: plan.block_bytes,
        depth: arguments.depth,
        queues: arguments.queues,
        guests: u32::try_from(plan.sockets.len()).unwrap_or(u32::MAX),
        threads: plan.threads,
        cpus: arguments.cpu.clone().map(|cpus| cpus.0).unwrap_or_default(),
        ramp_ns: ns(plan.ramp),
        duration_ns: plan.duration.map(ns),
        requests: arguments.requests,
        offset_bytes: arguments.offset,
        size_bytes: regions.first().map_or(0, Region::size_bytes),
        flush_every: arguments.flush_every,
        seed: arguments.seed,
        rate_per_s: arguments.rate,
        arrivals: arguments.rate.map(|_| arguments.arrivals),
        wait: arguments.wait,
        hugepages: arguments.hugepages,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn calibrated(words: &str) -> Report {
        let words = ["vfiomux-load", "--calibrate"].into_iter().chain(words.split_whitespace());
        run(&Arguments::try_parse_from(words).unwrap(), Arc::default()).unwrap()
    }

    #[test]
    fn a_report_survives_being_written_and_read() {
        let report = calibrated("--guests 2 --requests 200 --pattern randrw --rate 1M --flush-every 9");
        let text = serde_json::to_string(&report).unwrap();
        assert!(serde_json::from_str::<Report>(&text).unwrap() == report);
        // What is not there is left out, and a later version's additions do not disturb this one.
        assert!(!text.contains("verify"));
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["total"]["later"] = 1.into();
        assert!(serde_json::from_value::<Report>(value).unwrap() == report);
    }

    #[test]
    fn every_request_of_every_guest_is_in_the_report_once() {
        let report =
            calibrated("--guests 3 --threads 2 --queues 2 --depth 4 --requests 100 --flush-every 10");
        let requests: Vec<u64> = report.guests.iter().map(|guest| guest.tally.requests).collect();
        assert_eq!(requests, [100, 100, 100]);
        let total = &report.total;
        assert_eq!(
            (total.requests, total.reads + total.flushes, total.latency.count),
            (300, 300, total.reads)
        );
        assert_eq!(total.bytes, total.reads * 4096);
        assert!(report.fairness.is_some() && report.open_loop.is_none());
    }

    #[test]
    fn arrivals_that_were_due_were_submitted_or_wait() {
        let report = calibrated("--rate 200k --duration 50ms --ramp 10ms");
        let open = report.open_loop.unwrap();
        assert_eq!(open.due, open.submitted + open.backlog_end);
        assert_eq!(report.total.requests, open.submitted);
    }

    #[test]
    fn a_run_that_somebody_ends_early_still_reports() {
        let words = ["vfiomux-load", "--calibrate", "--duration", "1h"];
        let report =
            run(&Arguments::try_parse_from(words).unwrap(), Arc::new(AtomicBool::new(true))).unwrap();
        assert!(report.elapsed_ns < 60_000_000_000);
    }

    #[test]
    fn a_core_that_there_is_not_is_named() {
        let words = ["vfiomux-load", "--calibrate", "--cpu", "1023", "--requests", "1"];
        let refused = run(&Arguments::try_parse_from(words).unwrap(), Arc::default());
        assert!(matches!(refused, Err(LoadError::Pin { cpu: 1023, .. })), "{refused:?}");
    }
}
