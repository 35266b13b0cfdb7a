use std::io;
use std::path::PathBuf;

use vfiomux_bench_daemon::StartError;
use vfiomux_load::LoadError;
use vfiomux_rpc::ClientError;

/// Why it cannot be measured, or must not go unnoticed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainmentError {
    #[error("signals cannot be listened for")]
    Signals(#[source] io::Error),
    #[error("a directory for the sockets cannot be made")]
    Directory(#[source] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(
        "{} is not there; run cargo build --release -p vfiomux-plugin-host -p vfiomux-plugin-faulty",
        .0.display()
    )]
    NotBuilt(PathBuf),
    #[error("the daemon refused")]
    Refused(#[from] ClientError),
    #[error("the disk cannot be driven")]
    Load(#[from] LoadError),
    #[error("the client's options are wrong")]
    Options(#[from] clap::Error),
    #[error("{failed} requests failed while the plugin was told to {conduct}")]
    Failed { conduct: &'static str, failed: u64 },
    #[error("the plugin was told to {conduct}, and the daemon noticed nothing")]
    Unnoticed { conduct: &'static str },
    #[error("a channel came to be although the plugin was told to {conduct}")]
    Allowed { conduct: &'static str },
    #[error("a thread cannot be started, or panicked")]
    Thread,
    #[error("{} cannot be written", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("the report has no form in JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Plot(#[from] vfiomux_plot::PlotError),
}
