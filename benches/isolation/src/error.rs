use std::io;
use std::path::PathBuf;

use vfiomux_bench_daemon::StartError;
use vfiomux_load::LoadError;
use vfiomux_rpc::ClientError;

/// Why it cannot be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IsolationError {
    #[error("signals cannot be listened for")]
    Signals(#[source] io::Error),
    #[error("a directory for the sockets cannot be made")]
    Directory(#[source] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the daemon refused")]
    Refused(#[from] ClientError),
    #[error("the {who} cannot be driven")]
    Load {
        who: &'static str,
        #[source]
        source: LoadError,
    },
    #[error("the client's options are wrong")]
    Options(#[from] clap::Error),
    #[error("{failed} requests of the {who} failed; see what the daemon said on standard error")]
    Failed { who: &'static str, failed: u64 },
    #[error("a thread cannot be started, or panicked")]
    Thread,
    #[error("{} cannot be written", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("the report has no form in JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Plot(#[from] vfiomux_plot::PlotError),
}
