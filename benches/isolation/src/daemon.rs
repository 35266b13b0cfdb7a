//! The daemon that is measured.

use std::path::{Path, PathBuf};

use vfiomux_bench_daemon::{disk, first_device};
use vfiomux_rpc::{Client, call};

use crate::arguments::Arguments;
use crate::error::IsolationError;
use crate::regime::Regime;

/// Size of each disk.
const DISK_BYTES: u64 = 64 << 20;
/// Room for what a device keeps for itself: its label and the alignment of extents.
const OVERHEAD_BYTES: u64 = 64 << 20;

/// A daemon that serves a device to a victim and to bullies. Ended when dropped.
pub(crate) struct Daemon {
    daemon: vfiomux_bench_daemon::Daemon,
    /// Where the victim connects.
    pub(crate) victim: PathBuf,
    /// Where the bullies do.
    pub(crate) bullies: Vec<PathBuf>,
}

impl Daemon {
    /// Starts one with a disk for the victim and one for each of `bullies`.
    pub(crate) fn start(
        arguments: &Arguments,
        bullies: u32,
        directory: &Path,
    ) -> Result<Self, IsolationError> {
        let size_bytes = DISK_BYTES * (u64::from(bullies) + 1) + OVERHEAD_BYTES;
        let service_ns = u64::from(arguments.service_us) * 1000;
        let device = format!(
            "--device=sim:nvme,size={}M,service-ns={service_ns},parallel={}",
            size_bytes >> 20,
            arguments.parallel
        );
        let mut daemon =
            vfiomux_bench_daemon::Daemon::start([device, format!("--mode={}", arguments.mode)], directory)?;
        let names = std::iter::once("victim".to_owned()).chain((0..bullies).map(bully));
        let sockets: Vec<PathBuf> = names.clone().map(|name| directory.join(name + ".sock")).collect();
        let created = create(&mut daemon.client, names.zip(&sockets));
        let (victim, bullies) = match sockets.split_first() {
            Some((victim, bullies)) => (victim.clone(), bullies.to_vec()),
            None => (PathBuf::new(), Vec::new()),
        };
        created.map(|()| Self { daemon, victim, bullies })
    }

    /// Puts a regime in force for the victim and so many bullies.
    pub(crate) fn tune(
        &mut self,
        arguments: &Arguments,
        regime: Regime,
        bullies: u32,
    ) -> Result<(), IsolationError> {
        let alone_iops = 1_000_000 / u64::from(arguments.service_us.max(1));
        let victim = ("victim".to_owned(), regime.of_victim(alone_iops));
        let limits = regime.of_bully(arguments.device_iops(), bullies);
        for (name, guarantees) in std::iter::once(victim).chain((0..bullies).map(|n| (bully(n), limits))) {
            self.daemon.client.call(&call::ChannelTune { name, guarantees })?;
        }
        Ok(())
    }
}

fn bully(number: u32) -> String {
    format!("bully{number}")
}

fn create<'a>(
    client: &mut Client,
    channels: impl Iterator<Item = (String, &'a PathBuf)>,
) -> Result<(), IsolationError> {
    let device = first_device(client)?;
    // What is not measured cannot be promised; and the window of commands at the device follows from it.
    client.call(&call::DeviceCalibrate { device: device.clone(), force: false, duration_ms: Some(500) })?;
    for (name, socket) in channels {
        let tenant = if name == "victim" { "victim" } else { "bully" };
        client.call(&disk(name, tenant, &device, DISK_BYTES, Some(socket.clone())))?;
    }
    Ok(())
}
