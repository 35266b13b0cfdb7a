use std::io;
use std::path::PathBuf;

/// Why the whole cannot be done. That one server fails is a result, not an error: see [`crate::server::StartError`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("no measurement has such a name; --list shows them")]
    NothingSelected,
    #[error("CPU {0} is not one that this process may run on; see `taskset -p $$`")]
    NoSuchCpu(u32),
    #[error("the threads cannot be pinned")]
    Pin(#[source] rustix::io::Errno),
    #[error("signals cannot be listened for")]
    Signals(#[source] io::Error),
    #[error("a directory for the sockets cannot be made")]
    Directory(#[source] io::Error),
    #[error("{} cannot be written", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("the report has no form in JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Plot(#[from] vfiomux_plot::PlotError),
}
