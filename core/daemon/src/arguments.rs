use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use vfiomux_manager::config::{Config, SidecoreCpu, parse_mode};
use vfiomux_rpc::SidecoreMode;

use crate::DaemonError;

/// Owns physical devices through VFIO, carves them into channels, and serves each channel to a VM over vhost-user.
///
/// Stays in the foreground, prints one line beginning with "ready" when it serves, and ends in order on SIGTERM. Channels
/// and their settings are kept for the next start.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "vfiomuxd", version)]
pub struct Arguments {
    /// A device to own: a PCI address (0000:03:00.0), a simulated one (sim:nvme,size=4G[,file=PATH]), a disk in memory
    /// (ram:size=4G) or one that does nothing (null:size=4G). May be repeated.
    #[arg(long = "device", value_name = "SPEC")]
    pub devices: Vec<String>,
    /// Configuration file; flags win over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where settings and transitions are kept [default: /var/lib/vfiomux].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The control socket [default: /run/vfiomux/control.sock].
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
    /// What a sidecore does when there is nothing to do: look again for ever, spin only while that is likely to cost less than a
    /// sleep, or sleep at once [default: adaptive].
    #[arg(long, value_name = "poll|adaptive|event", value_parser = parse_mode)]
    pub mode: Option<SidecoreMode>,
    /// Processors for the sidecores, one thread each, with modes of their own where those of --mode do not fit (1,3:event).
    /// Without, one thread that is not pinned.
    #[arg(long, value_delimiter = ',', value_name = "CPU[:MODE]")]
    pub cpus: Vec<SidecoreCpu>,
    /// The program that runs policy plugins [default: vfiomux-plugin-host beside this one].
    #[arg(long, value_name = "PATH")]
    pub plugin_host: Option<PathBuf>,
    /// Own functions that no IOMMU keeps from this host's memory. Whoever controls such a device controls the host.
    #[arg(long)]
    pub allow_unsafe_noiommu: bool,
    /// How much is logged to standard error.
    #[arg(long, value_enum, default_value_t)]
    pub log: LogLevel,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// And what may go wrong.
    #[default]
    Warn,
    /// And every event.
    Info,
    /// And every action of a front-end.
    Debug,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

impl Arguments {
    /// The configuration file with these flags merged in.
    pub(crate) fn config(&self) -> Result<Config, DaemonError> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        config.devices.extend(self.devices.iter().cloned());
        if let Some(directory) = &self.state_dir {
            config.state_dir.clone_from(directory);
        }
        if let Some(path) = &self.control {
            config.control.clone_from(path);
        }
        if let Some(mode) = self.mode {
            config.sidecores.mode = mode;
        }
        if !self.cpus.is_empty() {
            config.sidecores.cpus.clone_from(&self.cpus);
        }
        if let Some(program) = &self.plugin_host {
            config.plugin_host.clone_from(program);
        }
        config.allow_unsafe_noiommu |= self.allow_unsafe_noiommu;
        Ok(config)
    }
}
