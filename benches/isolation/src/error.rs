use std::error::Error;
use std::io;
use std::path::PathBuf;

use vfiomux_load::LoadError;
use vfiomux_rpc::ClientError;

/// Why it cannot be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IsolationError {
    #[error("signals cannot be listened for")]
    Signals(#[source] io::Error),
    #[error("a directory for the sockets cannot be made")]
    Directory(#[source] io::Error),
    #[error("the daemon cannot be started")]
    Spawn(#[source] io::Error),
    #[error("the daemon did not serve; its last words: {0}")]
    NotReady(String),
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

/// An error and what it came from, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some libraries repeat the cause in their own message.
        if !text.contains(&cause.to_string()) {
            text = format!("{text}: {cause}");
        }
        source = cause.source();
    }
    text
}
