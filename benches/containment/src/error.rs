use std::error::Error;
use std::io;
use std::path::PathBuf;

use vfiomux_load::LoadError;
use vfiomux_rpc::ClientError;

/// Why it cannot be measured, or must not go unnoticed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainmentError {
    #[error("signals cannot be listened for")]
    Signals(#[source] io::Error),
    #[error("a directory for the sockets cannot be made")]
    Directory(#[source] io::Error),
    #[error("the daemon cannot be started")]
    Spawn(#[source] io::Error),
    #[error("the daemon did not serve; its last words: {0}")]
    NotReady(String),
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
