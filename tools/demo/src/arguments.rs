use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Shows what vfiomux does, in one command and on this machine alone.
///
/// Starts vfiomuxd on a simulated 4 GiB NVMe controller, carves one channel for each of two tenants, drives both through
/// vhost-user sessions and checks every byte that comes back. Then it ends everything and says how to attach a QEMU guest.
///
/// Needs no privileges, no hardware and no hugepages, and leaves nothing behind. Ctrl-C ends it early, in order.
#[derive(Debug, Parser)]
#[command(name = "vfiomux-demo", version)]
pub(crate) struct Arguments {
    /// How long to drive the channels, seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub(crate) seconds: u32,
    /// What the random choices and the data follow from.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What this process is, when it is not the demonstration.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The daemon: the demonstration runs itself again as this, so that there is nothing to install.
    #[command(hide = true)]
    Daemon(DaemonRole),
}

/// What the daemon needs to know.
#[derive(Debug, Args)]
pub(crate) struct DaemonRole {
    /// The simulated device.
    #[arg(long)]
    pub(crate) device: String,
    /// Where it keeps its state and its control socket.
    #[arg(long)]
    pub(crate) directory: PathBuf,
}
