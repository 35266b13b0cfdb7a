//! vfiomuxd: this program run again, or another build of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use vfiomux_bench_daemon::{again, chain, connect, disk, first_device};
use vfiomux_rpc::{ClientError, call};

use super::process::Process;
use super::{Server, Shape, StartError, version};
use crate::contender::Backing;

/// Room for what a device keeps for itself: its label and the alignment of extents.
const OVERHEAD_BYTES: u64 = 64 << 20;

pub(super) fn start(
    shape: &Shape<'_>,
    mode: &str,
    cpus: &[u32],
    program: Option<&Path>,
) -> Result<Server, StartError> {
    let mut command = match program {
        Some(program) => Command::new(program),
        None => again().map_err(StartError::Files)?,
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
        .map_err(|error| StartError::Refused { what: chain(&error) })?;
    let about = match program {
        Some(program) => version(program).unwrap_or_else(|| program.display().to_string()),
        None => format!("vfiomuxd {}", env!("CARGO_PKG_VERSION")),
    };
    Ok(Server { process, sockets, about: format!("{about}, --mode {mode}"), control: Some(control) })
}

fn create_channels(shape: &Shape<'_>, control: &Path, sockets: &[PathBuf]) -> Result<(), ClientError> {
    let mut client = connect(control)?;
    let device = first_device(&mut client)?;
    for (number, socket) in sockets.iter().enumerate() {
        let name = format!("disk{number}");
        client.call(&disk(name, "bench", &device, shape.disk_bytes, Some(socket.clone())))?;
    }
    Ok(())
}

/// The median of the time from the end of a sleep to the submission of the first command, of the first sidecore.
pub(super) fn wake_to_submit_ns(control: &Path) -> Option<u64> {
    let mut client = connect(control).ok()?;
    let rest = client.call(&call::SidecoreShow { index: 0 }).ok()?.rest;
    (rest.wake_to_submit.count > 0).then_some(rest.wake_to_submit.p50_ns)
}
