//! The daemon that is measured: this program run again.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser as _;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use vfiomux_rpc::{Bucket, Client, ClientError, Endpoint, EndpointMode, ErrorCode, Labels, PluginInfo, call};

use crate::arguments::Arguments;
use crate::conduct::Conduct;
use crate::error::{self, ContainmentError};

/// The first argument that makes this program the daemon.
pub(crate) const ROLE: &str = "vfiomuxd";
const DISK_BYTES: u64 = 64 << 20;
const DEVICE_BYTES: u64 = 4 * DISK_BYTES;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const PLUGIN: &str = "faulty";
const DISK: &str = "disk";
const PROVOKED: &str = "provoked";

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

/// A daemon with one sidecore, one disk and the test plugin. Ended when dropped.
pub(crate) struct Daemon {
    child: Child,
    client: Client,
    plugin: PathBuf,
    /// Where the client connects.
    pub(crate) disk: PathBuf,
}

impl Daemon {
    pub(crate) fn start(arguments: &Arguments, directory: &Path) -> Result<Self, ContainmentError> {
        let (host, plugin) = (arguments.plugin_host(), arguments.plugin());
        for built in [&host, &plugin] {
            if !built.exists() {
                return Err(ContainmentError::NotBuilt(built.clone()));
            }
        }
        let control = directory.join("control.sock");
        let mut child = Command::new(env::current_exe().map_err(ContainmentError::Spawn)?)
            .arg(ROLE)
            .arg(format!("--device=ram:size={}M", DEVICE_BYTES >> 20))
            .arg("--mode=poll")
            .arg(format!("--cpus={}", arguments.sidecore_cpu))
            .arg("--plugin-host")
            .arg(host)
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--control")
            .arg(&control)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(ContainmentError::Spawn)?;
        let mut words = String::new();
        let ready = child.stdout.take().is_some_and(|output| {
            BufReader::new(output).lines().map_while(Result::ok).any(|line| {
                let ready = line.starts_with("ready");
                words = line;
                ready
            })
        });
        let client = if ready { Client::connect(&control).ok() } else { None };
        let Some(client) = client else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(ContainmentError::NotReady(words));
        };
        let mut daemon = Self { child, client, plugin, disk: directory.join("disk.sock") };
        daemon.client.set_timeout(Some(CALL_TIMEOUT))?;
        let endpoint = Endpoint { path: daemon.disk.clone(), mode: EndpointMode::Server };
        daemon.create(DISK, Some(endpoint), Labels::default())?;
        let library = daemon.plugin.clone();
        daemon.client.call(&call::PluginLoad { name: PLUGIN.to_owned(), library, config: None, order: 0 })?;
        Ok(daemon)
    }

    fn create(&mut self, name: &str, endpoint: Option<Endpoint>, labels: Labels) -> Result<(), ClientError> {
        let devices = self.client.call(&call::DeviceList {})?;
        self.client.call(&call::ChannelCreate {
            name: name.to_owned(),
            device: devices.first().map(|device| device.name.clone()).unwrap_or_default(),
            tenant: "bench".to_owned(),
            size_bytes: DISK_BYTES,
            queues: 1,
            endpoint,
            namespace: None,
            block_bytes: None,
            read_only: false,
            guarantees: vfiomux_rpc::Guarantees::default(),
            labels,
        })?;
        Ok(())
    }

    /// How long the sidecore's breaths took since its start.
    pub(crate) fn breaths(&mut self) -> Result<Vec<Bucket>, ContainmentError> {
        Ok(self.client.call(&call::SidecoreShow { index: 0 })?.breath_time)
    }

    pub(crate) fn plugin(&mut self) -> Result<PluginInfo, ContainmentError> {
        Ok(self.client.call(&call::PluginShow { name: PLUGIN.to_owned() })?)
    }

    /// Provokes a conduct once.
    pub(crate) fn provoke(&mut self, conduct: Conduct) -> Result<(), ContainmentError> {
        if conduct == Conduct::Replace {
            let (library, name) = (Some(self.plugin.clone()), PLUGIN.to_owned());
            self.client.call(&call::PluginReplace { name, library, config: None })?;
            return Ok(());
        }
        let Some(order) = conduct.order() else { return Ok(()) };
        // Only in the question whether the channel may come to be, so that it can end again in any case.
        let labels = Labels([("faulty-create".to_owned(), order.to_owned())].into());
        match self.create(PROVOKED, None, labels) {
            Ok(()) => {
                self.client.call(&call::ChannelDestroy { name: PROVOKED.to_owned(), force: false })?;
                if conduct.is_fault() {
                    return Err(ContainmentError::Allowed { conduct: conduct.name() });
                }
                Ok(())
            }
            Err(ClientError::Refused(refused)) if refused.code == ErrorCode::Denied && conduct.is_fault() => {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts a plugin into the place of one that has been killed often and is started ever more seldom.
    pub(crate) fn refresh(&mut self) -> Result<(), ContainmentError> {
        self.provoke(Conduct::Replace)
    }
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
