//! The daemon that is measured.

use std::path::{Path, PathBuf};

use vfiomux_bench_daemon::{disk, first_device};
use vfiomux_rpc::{Bucket, ClientError, ErrorCode, Labels, PluginInfo, call};

use crate::arguments::Arguments;
use crate::conduct::Conduct;
use crate::error::ContainmentError;

const DISK_BYTES: u64 = 64 << 20;
const DEVICE_BYTES: u64 = 4 * DISK_BYTES;
const PLUGIN: &str = "faulty";
const DISK: &str = "disk";
const PROVOKED: &str = "provoked";

/// A daemon with one sidecore, one disk and the test plugin. Ended when dropped.
pub(crate) struct Daemon {
    daemon: vfiomux_bench_daemon::Daemon,
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
        let own = [
            format!("--device=ram:size={}M", DEVICE_BYTES >> 20),
            "--mode=poll".to_owned(),
            format!("--cpus={}", arguments.sidecore_cpu),
            format!("--plugin-host={}", host.display()),
        ];
        let daemon = vfiomux_bench_daemon::Daemon::start(own, directory)?;
        let mut daemon = Self { daemon, plugin, disk: directory.join("disk.sock") };
        daemon.create(DISK, Some(daemon.disk.clone()), Labels::default())?;
        let library = daemon.plugin.clone();
        daemon.daemon.client.call(&call::PluginLoad {
            name: PLUGIN.to_owned(),
            library,
            config: None,
            order: 0,
            deadline_ms: None,
        })?;
        Ok(daemon)
    }

    fn create(&mut self, name: &str, socket: Option<PathBuf>, labels: Labels) -> Result<(), ClientError> {
        let device = first_device(&mut self.daemon.client)?;
        let disk = disk(name.to_owned(), "bench", &device, DISK_BYTES, socket);
        self.daemon.client.call(&call::ChannelCreate { labels, ..disk })?;
        Ok(())
    }

    /// How long the sidecore's breaths took since its start.
    pub(crate) fn breaths(&mut self) -> Result<Vec<Bucket>, ContainmentError> {
        Ok(self.daemon.client.call(&call::SidecoreShow { index: 0 })?.breath_time)
    }

    pub(crate) fn plugin(&mut self) -> Result<PluginInfo, ContainmentError> {
        Ok(self.daemon.client.call(&call::PluginShow { name: PLUGIN.to_owned() })?)
    }

    /// Provokes a conduct once.
    pub(crate) fn provoke(&mut self, conduct: Conduct) -> Result<(), ContainmentError> {
        if conduct == Conduct::Replace {
            let (library, name) = (Some(self.plugin.clone()), PLUGIN.to_owned());
            self.daemon.client.call(&call::PluginReplace {
                name,
                library,
                config: None,
                deadline_ms: None,
            })?;
            return Ok(());
        }
        let Some(order) = conduct.order() else { return Ok(()) };
        // Only in the question whether the channel may come to be, so that it can end again in any case.
        let labels = Labels([("faulty-create".to_owned(), order.to_owned())].into());
        match self.create(PROVOKED, None, labels) {
            Ok(()) => {
                self.daemon.client.call(&call::ChannelDestroy { name: PROVOKED.to_owned(), force: false })?;
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
