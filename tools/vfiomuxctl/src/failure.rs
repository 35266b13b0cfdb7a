//! What goes wrong, as the operator reads it and as a script sees it.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use vfiomux_rpc::vmm_arguments::AttachmentError;
use vfiomux_rpc::{ClientError, ErrorCode};

use crate::apply::ApplyError;
use crate::new_plugin::NewPluginError;

/// Shown by `--help` and in the manual.
pub(crate) const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  refused by the daemon, for another reason than those below
  2  wrong usage
  3  the daemon cannot be reached, or the connection broke
  4  what was named does not exist
  5  the policy denies it
  6  the caller lacks the role
  7  the name is taken, the object busy, or not in the state or generation expected
  8  not enough space or queues left
  9  the device failed or is gone

Environment:
  VFIOMUX_CONTROL  control socket of the daemon, unless --control says otherwise
  NO_COLOR         when set, no colour";

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The daemon refused, or did not answer.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The channel cannot be attached to that VMM.
    #[error("{0}")]
    Attachment(#[from] AttachmentError),
    /// A path cannot be made absolute.
    #[error("cannot tell the absolute path of the endpoint: {0}")]
    Endpoint(io::Error),
    /// A new plugin cannot be written.
    #[error("{0}")]
    NewPlugin(#[from] NewPluginError),
    /// What a file wants cannot be planned.
    #[error("{0}")]
    Apply(#[from] ApplyError),
    /// A recording cannot be written.
    #[error("{}: {source}{}", path.display(), advice_for_recording(source))]
    Recording {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What was asked for cannot be written.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

fn advice_for_recording(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::AlreadyExists => "; a recording is a new file, so give another name",
        _ => "",
    }
}

impl Failure {
    /// Tells the operator, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if matches!(self, Self::Output(error) if error.kind() == ErrorKind::BrokenPipe) {
            // Whoever reads has read enough, as `head` does.
            return ExitCode::SUCCESS;
        }
        let text = match self {
            Self::Client(ClientError::Refused(error)) if json => format!("{}\n", json!({ "error": error })),
            _ => {
                let next = self.next();
                let next = if next.is_empty() { String::new() } else { format!("  next: {next}\n") };
                format!("vfiomuxctl: {self}\n{next}")
            }
        };
        // There is nobody else to tell.
        let _ = io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.exit_code())
    }

    fn next(&self) -> &str {
        match self {
            Self::Client(ClientError::Refused(error)) => &error.data.next,
            Self::Client(ClientError::Unreachable { source, .. }) => match source.kind() {
                ErrorKind::PermissionDenied => "run as root, or as a member of the socket's group",
                _ => "start vfiomuxd, or say where it listens with --control PATH",
            },
            Self::Client(ClientError::Closed | ClientError::Io(_)) => {
                "see whether vfiomuxd still runs, and what it logged"
            }
            _ => "",
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Client(ClientError::Refused(error)) => match error.code {
                ErrorCode::NotFound => 4,
                ErrorCode::Denied => 5,
                ErrorCode::Permission => 6,
                ErrorCode::Exists | ErrorCode::Busy | ErrorCode::Conflict => 7,
                ErrorCode::NoSpace => 8,
                ErrorCode::DeviceFault => 9,
                _ => 1,
            },
            Self::Client(ClientError::Parameters(_)) | Self::Endpoint(_) => 2,
            Self::Client(_) => 3,
            Self::Apply(error) if error.is_usage() => 2,
            Self::Apply(_)
            | Self::Attachment(_)
            | Self::NewPlugin(_)
            | Self::Recording { .. }
            | Self::Output(_) => 1,
        }
    }
}
