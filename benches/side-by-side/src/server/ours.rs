//! vfiomuxd: this program run again, or another build of it.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser as _;
use rustix::process::{Signal, set_parent_process_death_signal};
use vfiomux_rpc::{Client, ClientError, Endpoint, EndpointMode, call};

use super::process::Process;
use super::{Server, Shape, StartError, version};
use crate::contender::Backing;
use crate::error;

/// The first argument that makes this program the daemon.
pub(crate) const ROLE: &str = "vfiomuxd";
/// Room for what a device keeps for itself: its label and the alignment of extents.
const OVERHEAD_BYTES: u64 = 64 << 20;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The other side: this process as the daemon.
pub(crate) fn serve() -> ExitCode {
    // The daemon ends with whoever measures it, however that ends.
    let bound = set_parent_process_death_signal(Some(Signal::TERM));
    let arguments = vfiomux_daemon::Arguments::parse_from(env::args_os().skip(1));
    match bound
        .map_err(|errno| errno.to_string())
        .and_then(|()| vfiomux_daemon::run(&arguments).map_err(|error| error::chain(&error)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfiomuxd: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(super) fn start(
    shape: &Shape<'_>,
    mode: &str,
    cpus: &[u32],
    program: Option<&Path>,
) -> Result<Server, StartError> {
    let mut command = match program {
        Some(program) => Command::new(program),
        None => {
            let mut again = Command::new(env::current_exe().map_err(StartError::Files)?);
            again.arg(ROLE);
            again
        }
    };
    let size_bytes = shape.disk_bytes * shape.disks as u64 + OVERHEAD_BYTES;
    let device = match shape.backing {
        Backing::Null => "null:",
        Backing::Ram => "ram:",
        Backing::Nvme => "sim:nvme,",
    };
    let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
    let control = shape.directory.join("control.sock");
    command
        .arg(format!("--device={device}size={}M", size_bytes >> 20))
        .arg(format!("--mode={mode}"))
        .arg(format!("--cpus={}", cpus.join(",")))
        .arg("--state-dir")
        .arg(shape.directory.join("state"))
        .arg("--control")
        .arg(&control);
    let mut process = Process::spawn(command, shape)?;
    process
        .wait_until(|process| process.log().lines().any(|line| line.starts_with("ready")).then_some(()))?;
    let sockets = shape.sockets();
    create_channels(shape, &control, &sockets)
        .map_err(|error| StartError::Refused { what: error::chain(&error) })?;
    let about = match program {
        Some(program) => version(program).unwrap_or_else(|| program.display().to_string()),
        None => format!("vfiomuxd {}", env!("CARGO_PKG_VERSION")),
    };
    Ok(Server { process, sockets, about: format!("{about}, --mode {mode}"), control: Some(control) })
}

fn create_channels(
    shape: &Shape<'_>,
    control: &Path,
    sockets: &[std::path::PathBuf],
) -> Result<(), ClientError> {
    let mut client = Client::connect(control)?;
    client.set_timeout(Some(CALL_TIMEOUT))?;
    let devices = client.call(&call::DeviceList {})?;
    let device = devices.first().map(|device| device.name.clone()).unwrap_or_default();
    for (disk, socket) in sockets.iter().enumerate() {
        client.call(&call::ChannelCreate {
            name: format!("disk{disk}"),
            device: device.clone(),
            tenant: "bench".to_owned(),
            size_bytes: shape.disk_bytes,
            queues: 1,
            endpoint: Some(Endpoint { path: socket.clone(), mode: EndpointMode::Server }),
            namespace: None,
            block_bytes: None,
            read_only: false,
            guarantees: vfiomux_rpc::Guarantees::default(),
            labels: vfiomux_rpc::Labels::default(),
        })?;
    }
    Ok(())
}

/// The median of the time from the end of a sleep to the submission of the first command, of the first sidecore.
pub(super) fn wake_to_submit_ns(control: &Path) -> Option<u64> {
    let mut client = Client::connect(control).ok()?;
    client.set_timeout(Some(CALL_TIMEOUT)).ok()?;
    let rest = client.call(&call::SidecoreShow { index: 0 }).ok()?.rest;
    (rest.wake_to_submit.count > 0).then_some(rest.wake_to_submit.p50_ns)
}
