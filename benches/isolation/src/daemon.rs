//! The daemon that is measured: this program run again.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser as _;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use vfiomux_rpc::{Client, Endpoint, EndpointMode, call};

use crate::arguments::Arguments;
use crate::error::{self, IsolationError};
use crate::regime::Regime;

/// The first argument that makes this program the daemon.
pub(crate) const ROLE: &str = "vfiomuxd";
/// Size of each disk.
const DISK_BYTES: u64 = 64 << 20;
/// Room for what a device keeps for itself: its label and the alignment of extents.
const OVERHEAD_BYTES: u64 = 64 << 20;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

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

/// A daemon that serves a device to a victim and to bullies. Ended when dropped.
pub(crate) struct Daemon {
    child: Child,
    client: Client,
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
        let control = directory.join("control.sock");
        let mut child = Command::new(env::current_exe().map_err(IsolationError::Spawn)?)
            .arg(ROLE)
            .arg(format!(
                "--device=sim:nvme,size={}M,service-ns={service_ns},parallel={}",
                size_bytes >> 20,
                arguments.parallel
            ))
            .arg(format!("--mode={}", arguments.mode))
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--control")
            .arg(&control)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(IsolationError::Spawn)?;
        let mut words = String::new();
        let ready = child.stdout.take().is_some_and(|output| {
            BufReader::new(output).lines().map_while(Result::ok).any(|line| {
                let ready = line.starts_with("ready");
                words = line;
                ready
            })
        });
        let client = if ready { Client::connect(&control).ok() } else { None };
        let Some(mut client) = client else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(IsolationError::NotReady(words));
        };
        let names = std::iter::once("victim".to_owned()).chain((0..bullies).map(bully));
        let sockets: Vec<PathBuf> = names.clone().map(|name| directory.join(name + ".sock")).collect();
        let created = create(&mut client, names.zip(&sockets));
        let (victim, bullies) = match sockets.split_first() {
            Some((victim, bullies)) => (victim.clone(), bullies.to_vec()),
            None => (PathBuf::new(), Vec::new()),
        };
        let daemon = Self { child, client, victim, bullies };
        created.map(|()| daemon)
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
            self.client.call(&call::ChannelTune { name, guarantees })?;
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
    client.set_timeout(Some(CALL_TIMEOUT))?;
    let devices = client.call(&call::DeviceList {})?;
    let device = devices.first().map(|device| device.name.clone()).unwrap_or_default();
    // What is not measured cannot be promised; and the window of commands at the device follows from it.
    client.call(&call::DeviceCalibrate { device: device.clone(), force: false, duration_ms: Some(500) })?;
    for (name, socket) in channels {
        client.call(&call::ChannelCreate {
            tenant: if name == "victim" { "victim" } else { "bully" }.to_owned(),
            name,
            device: device.clone(),
            size_bytes: DISK_BYTES,
            queues: 1,
            endpoint: Some(Endpoint { path: socket.clone(), mode: EndpointMode::Server }),
            namespace: None,
            block_bytes: None,
            read_only: false,
            guarantees: vfiomux_rpc::Guarantees::default(),
            labels: Default::default(),
        })?;
    }
    Ok(())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < ENDS_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
