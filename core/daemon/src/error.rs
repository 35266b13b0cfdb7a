use std::io;
use std::path::PathBuf;

use vfiomux_manager::config::ConfigError;
use vfiomux_manager::control::StartError;

/// Why the daemon cannot serve. The message is what an operator reads.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A device specification that names nothing.
    #[error("--device {spec}: {why}")]
    Device {
        /// As it was given.
        spec: String,
        /// What is wrong with it, and what to write.
        why: String,
    },
    /// The control thread.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The directory of the control socket.
    #[error("cannot make {}: {source}; give another place with --control", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Signals.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// The poll.
    #[error("the control loop failed: {0}")]
    Serve(io::Error),
}
