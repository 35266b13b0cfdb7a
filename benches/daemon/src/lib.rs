//! The daemon that a benchmark measures: the benchmark's own program, run again.
//!
//! ```text
//!   main ─► served() ── first argument is not vfiomuxd ─► the benchmark ─► Daemon::start ─┐
//!              └─────── first argument is vfiomuxd ─────► vfiomux_daemon::run ◄── itself, ─┘
//!                                                                                run again
//! ```
//!
//! So what is measured is what was built with the benchmark, whatever lies in the path. It is a process of its own, as it is for
//! its users, and it ends with the benchmark however that ends.
//!
//! What does not live here: what the daemon is asked to serve, which each benchmark says in the daemon's own arguments and calls.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser as _;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use vfiomux_rpc::{Client, ClientError, Endpoint, EndpointMode, Guarantees, Labels, RpcError, call};

/// The first argument that makes a benchmark the daemon.
const ROLE: &str = "vfiomuxd";
/// How long the daemon may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to end in order.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be run.
    #[error("the daemon cannot be started")]
    Spawn(#[source] io::Error),
    /// It ended instead.
    #[error("the daemon did not serve; its last words: {0}")]
    NotReady(String),
    /// It serves, and cannot be asked.
    #[error("the daemon refused")]
    Refused(#[from] ClientError),
}

/// How the daemon ended, where this process was started to be it; to be asked first thing in `main`.
#[must_use]
pub fn served() -> Option<ExitCode> {
    env::args_os().nth(1).is_some_and(|role| role == ROLE).then(serve)
}

/// This program, as the daemon, still without arguments.
///
/// # Errors
///
/// This program's file cannot be found.
pub fn again() -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(ROLE);
    Ok(command)
}

fn serve() -> ExitCode {
    // The daemon ends with whoever measures it, however that ends.
    let bound = set_parent_process_death_signal(Some(Signal::TERM));
    let arguments = vfiomux_daemon::Arguments::parse_from(env::args_os().skip(1));
    match bound
        .map_err(|errno| errno.to_string())
        .and_then(|()| vfiomux_daemon::run(&arguments).map_err(|error| chain(&error)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfiomuxd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A daemon that serves, and a connection to it. Ended when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// Its control socket.
    pub client: Client,
}

impl Daemon {
    /// Starts one with these arguments, with its state and its control socket in a directory. It serves when this returns.
    ///
    /// # Errors
    ///
    /// It does not come to serve.
    pub fn start(arguments: impl IntoIterator<Item = String>, directory: &Path) -> Result<Self, StartError> {
        let control = directory.join("control.sock");
        let mut child = again()
            .map_err(StartError::Spawn)?
            .args(arguments)
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--control")
            .arg(&control)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Ctrl-C goes to the terminal's foreground group: to the benchmark, which reports what it has and ends the daemon.
            .process_group(0)
            .spawn()
            .map_err(StartError::Spawn)?;
        let mut words = String::new();
        let ready = child.stdout.take().is_some_and(|output| {
            BufReader::new(output).lines().map_while(Result::ok).any(|line| {
                let ready = line.starts_with("ready");
                words = line;
                ready
            })
        });
        let connected = if ready {
            connect(&control).map_err(StartError::from)
        } else {
            Err(StartError::NotReady(words))
        };
        match connected {
            Ok(client) => Ok(Self { child, client }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < ENDS_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to a daemon that answers within a time.
///
/// # Errors
///
/// Nobody listens there.
pub fn connect(control: &Path) -> Result<Client, ClientError> {
    let mut client = Client::connect(control)?;
    client.set_timeout(Some(CALL_TIMEOUT))?;
    Ok(client)
}

/// The name of the first device.
///
/// # Errors
///
/// The daemon refused, or has none.
pub fn first_device(client: &mut Client) -> Result<String, ClientError> {
    let devices = client.call(&call::DeviceList {})?;
    let first = devices.into_iter().next();
    let none = || RpcError::not_found("a device", "start the daemon with --device");
    first.map(|device| device.name).ok_or_else(|| ClientError::Refused(none()))
}

/// A disk without promises, of one queue, behind a socket if one is given.
#[must_use]
pub fn disk(
    name: String,
    tenant: &str,
    device: &str,
    size_bytes: u64,
    socket: Option<PathBuf>,
) -> call::ChannelCreate {
    call::ChannelCreate {
        name,
        device: device.to_owned(),
        tenant: tenant.to_owned(),
        size_bytes,
        queues: 1,
        endpoint: socket.map(|path| Endpoint { path, mode: EndpointMode::Server }),
        namespace: None,
        block_bytes: None,
        read_only: false,
        guarantees: Guarantees::default(),
        labels: Labels::default(),
    }
}

/// An error and what it came from, in one line.
pub fn chain(error: &dyn Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Layer {
        what: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn a_cause_is_told_once() {
        let within = |what, source| Layer { what, source: Some(Box::new(source)) };
        let deepest = Layer { what: "no such file", source: None };
        let error = within("it failed", within("the log: no such file", deepest));
        assert_eq!(chain(&error), "it failed: the log: no such file");
    }

    #[test]
    fn a_benchmark_is_not_the_daemon_unless_told() {
        assert!(served().is_none());
    }
}
