//! The order of things: daemon, channels, load, and everything back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use vfiomux_rpc::{ChannelInfo, Client, DeviceInfo, Endpoint, EndpointMode, Status, call};

use crate::arguments::Arguments;
use crate::daemon::Daemon;
use crate::error::DemoError;
use crate::load::{Load, Report};
use crate::next;
use crate::screen::{Moment, Screen};
use crate::tenant::{Phase, Tally, Tenant};
use crate::units;
use crate::workload::{WORKLOADS, Workload, plural};

const DEVICE: &str = "sim:nvme,size=4G";
/// The name that the daemon gives its first simulated device.
const DEVICE_NAME: &str = "sim0";
/// How long the daemon may take over one request. Destroying scrubs, which takes longest.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything, from a directory that does not exist yet to one that does not exist any more.
pub(crate) fn run(arguments: &Arguments) -> Result<(), DemoError> {
    let stop = listen_for_ctrl_c().map_err(DemoError::Signals)?;
    let directory =
        tempfile::Builder::new().prefix("vfiomux-demo.").tempdir().map_err(DemoError::Directory)?;
    let mut screen = Screen::new();
    screen.head("vfiomux: two tenants on one simulated NVMe controller");

    let starting = Instant::now();
    let mut daemon = Daemon::start(directory.path(), DEVICE)?;
    let ready_after = starting.elapsed();
    let outcome = serve(arguments, &mut screen, &daemon, directory.path(), ready_after, stop);
    let sample = outcome.map_err(|error| daemon.blame(error))?;
    daemon.stop()?;
    screen.say("  daemon   ended on SIGTERM, exit code 0");
    let path = directory.path().to_owned();
    directory.close().map_err(DemoError::Directory)?;
    if path.exists() {
        return Err(DemoError::LeftBehind(path));
    }

    screen.head("\nTo have the same with a QEMU guest");
    screen.say(&next::commands(&sample));
    screen.say("\nThe guest sees a second disk. docs/guide/first-guest.md goes through it, docs/guide/real-disk.md goes on from there.");
    Ok(())
}

/// What is done while the daemon runs. Returns a channel as it was when it served.
fn serve(
    arguments: &Arguments,
    screen: &mut Screen,
    daemon: &Daemon,
    directory: &Path,
    ready_after: Duration,
    stop: Arc<AtomicBool>,
) -> Result<ChannelInfo, DemoError> {
    let mut client = Client::connect(&daemon.control())?;
    client.set_timeout(Some(CALL_TIMEOUT))?;
    let status = client.call(&call::StatusShow {})?;
    let device = client.call(&call::DeviceShow { device: DEVICE_NAME.to_owned() })?;
    introduce(screen, &status, &device, ready_after);
    let mut tenants = Vec::new();
    for workload in &WORKLOADS {
        let endpoint = directory.join(workload.channel).with_extension("sock");
        create(&mut client, workload, &endpoint)?;
        screen.say(&format!(
            "  {:<8} {} MiB for tenant {}: {}",
            workload.channel,
            workload.size_bytes >> 20,
            workload.tenant,
            workload.describe()
        ));
        tenants.push(Tenant::connect(workload, &endpoint, arguments.seed)?);
    }
    screen.say("");

    let load = Load { tenants, seconds: arguments.seconds, interval: screen.interval(), stop };
    let totals = drive(load, screen, &mut client, arguments.seconds)?;
    let channels = show_all(&mut client)?;
    conclude(screen, &totals, &channels);

    let ending = Instant::now();
    for workload in &WORKLOADS {
        client.call(&call::ChannelDestroy { name: workload.channel.to_owned(), force: false })?;
    }
    screen.say(&format!("  channels destroyed and scrubbed in {} ms", ending.elapsed().as_millis()));
    let [sample, ..] = channels;
    Ok(sample)
}

fn create(client: &mut Client, workload: &Workload, endpoint: &Path) -> Result<ChannelInfo, DemoError> {
    Ok(client.call(&call::ChannelCreate {
        name: workload.channel.to_owned(),
        device: DEVICE_NAME.to_owned(),
        tenant: workload.tenant.to_owned(),
        size_bytes: workload.size_bytes,
        queues: workload.queues,
        endpoint: Some(Endpoint { path: endpoint.to_owned(), mode: EndpointMode::Server }),
        namespace: None,
        block_bytes: None,
        read_only: false,
        guarantees: vfiomux_rpc::Guarantees::default(),
        labels: vfiomux_rpc::Labels::default(),
    })?)
}

fn introduce(screen: &Screen, status: &Status, device: &DeviceInfo, ready_after: Duration) {
    let namespace = device.namespaces.first();
    let size_gib =
        namespace.map_or(0, |namespace| (namespace.blocks * u64::from(namespace.block_bytes)) >> 30);
    let block_bytes = namespace.map_or(0, |namespace| namespace.block_bytes);
    let sidecores = plural(status.sidecores.len() as u64, "sidecore");
    screen.say(&format!(
        "\n  daemon   vfiomuxd {}, process {}, {sidecores}, ready after {} ms",
        status.version,
        status.pid,
        ready_after.as_millis()
    ));
    screen.say(&format!("  device   {}, {size_gib} GiB NVMe, blocks of {block_bytes} bytes", device.name));
}

/// Runs the load and shows it. Returns what each tenant did in all, driving and reading back.
fn drive(load: Load, screen: &mut Screen, client: &mut Client, seconds: u32) -> Result<Totals, DemoError> {
    let (sender, reports) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || load.run(&sender))
        .map_err(DemoError::Thread)?;
    let mut totals = Totals::new();
    let mut shown = Ok(());
    // Ends when the thread does, whose own failure matters more than that of what was shown.
    for report in &reports {
        totals.add(&report);
        // What is left over when a person stops it early is too short to say anything.
        let whole = report.phase == Phase::Drive && report.interval >= screen.interval() * 9 / 10;
        if whole && shown.is_ok() {
            shown = show_all(client).map(|channels| {
                let (elapsed, interval, tallies) = (report.elapsed, report.interval, &report.tallies);
                let verified_blocks = totals.verified_blocks();
                screen.show(
                    &Moment { elapsed, interval, tallies, verified_blocks, channels: &channels },
                    seconds,
                );
            });
        }
    }
    thread.join().map_err(|_| DemoError::Panicked)??;
    shown?;
    Ok(totals)
}

fn show_all(client: &mut Client) -> Result<[ChannelInfo; WORKLOADS.len()], DemoError> {
    let mut show =
        |workload: &Workload| client.call(&call::ChannelShow { name: workload.channel.to_owned() });
    let [first, second] = &WORKLOADS;
    Ok([show(first)?, show(second)?])
}

/// What each tenant did in all.
#[derive(Debug)]
struct Totals {
    /// How long they were driven.
    elapsed: Duration,
    driven: [Tally; WORKLOADS.len()],
    /// Blocks that were read back in the end.
    read_back: [u64; WORKLOADS.len()],
}

impl Totals {
    fn new() -> Self {
        Self {
            elapsed: Duration::ZERO,
            driven: WORKLOADS.each_ref().map(|_| Tally::new()),
            read_back: [0; WORKLOADS.len()],
        }
    }

    fn add(&mut self, report: &Report) {
        if report.phase == Phase::ReadBack {
            let blocks = report.tallies.iter().map(|tally| tally.verified_blocks);
            self.read_back.iter_mut().zip(blocks).for_each(|(sum, blocks)| *sum += blocks);
        } else {
            self.elapsed = report.elapsed;
            self.driven.iter_mut().zip(&report.tallies).for_each(|(sum, tally)| sum.add(tally));
        }
    }

    fn verified_blocks(&self) -> Vec<u64> {
        self.driven.iter().zip(&self.read_back).map(|(driven, back)| driven.verified_blocks + back).collect()
    }
}

fn conclude(screen: &mut Screen, totals: &Totals, channels: &[ChannelInfo]) {
    let (elapsed, verified_blocks) = (totals.elapsed, totals.verified_blocks());
    let all: u64 = verified_blocks.iter().sum();
    screen.conclude(&Moment {
        elapsed,
        interval: elapsed,
        tallies: &totals.driven,
        verified_blocks,
        channels,
    });
    screen.say("");
    let done = totals.driven.iter().zip(&totals.read_back);
    for ((workload, channel), (driven, read_back)) in WORKLOADS.iter().zip(channels).zip(done) {
        let copied = match channel.counters.bounced_ops {
            0 => "none copied on the way".to_owned(),
            ops => format!("{} copied on the way", units::count(ops)),
        };
        screen.say(&format!(
            "  {:<8} {} requests, {}, {copied}; {} blocks read back in the end",
            workload.tenant,
            units::count(driven.requests),
            units::bytes(driven.bytes),
            units::count(*read_back),
        ));
    }
    screen.good(&format!(
        "  verified {} blocks of 4 KiB; every one held what its tenant last wrote",
        units::count(all)
    ));
}

/// A flag that the first Ctrl-C or SIGTERM sets. The second ends at once.
fn listen_for_ctrl_c() -> std::io::Result<Arc<AtomicBool>> {
    const EXIT_BY_CTRL_C: i32 = 130;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [Signal::INT, Signal::TERM].map(Signal::as_raw) {
        signal_hook::flag::register_conditional_shutdown(signal, EXIT_BY_CTRL_C, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}
