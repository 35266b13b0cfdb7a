//! The daemon under test, run as an operator runs it, and `vfiomuxctl` beside it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use vfiomux_manager::monitor::Monitor;

use crate::backend::Backend;
use crate::lab::workspace_program;
use crate::trace;
use crate::vm::Killed;

/// How long the daemon may take to be ready, and to end: nothing that it does then takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `vfiomuxd`, killed when dropped. Unless it was killed in the middle of something, what it has recorded when a test ends it
/// must be able to have happened.
#[derive(Debug)]
pub struct Vfiomuxd {
    child: Killed,
    directory: PathBuf,
}

impl Vfiomuxd {
    /// Starts the daemon on these devices, with its state, sockets and log in `directory`, and waits until it is ready. Starting again
    /// in the same directory is a restart.
    ///
    /// # Panics
    ///
    /// When it does not become ready, with what it said.
    #[track_caller]
    pub fn start(directory: &Path, devices: &[&str]) -> Vfiomuxd {
        Vfiomuxd::start_by(command(directory, devices), directory)
    }

    /// The same with a configuration file of this content.
    #[track_caller]
    pub fn start_with_config(directory: &Path, devices: &[&str], config: &str) -> Vfiomuxd {
        let path = directory.join("vfiomux.toml");
        fs::write(&path, config).expect("a file in the test's own directory");
        let mut command = command(directory, devices);
        command.arg("--config").arg(path);
        Vfiomuxd::start_by(command, directory)
    }

    #[track_caller]
    fn start_by(mut command: Command, directory: &Path) -> Vfiomuxd {
        let child = command.stdout(Stdio::piped()).stderr(log(directory)).spawn();
        let mut daemon =
            Vfiomuxd { child: Killed(child.expect("vfiomuxd starts")), directory: directory.to_owned() };
        daemon.wait_until_ready();
        daemon
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let stdout = self.child.0.stdout.take().expect("piped above");
        let (lines, received) = mpsc::channel();
        // Reads on after the daemon is ready, so that it can never block on a full pipe; ends with it.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with("ready") => return,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    panic!("vfiomuxd is not ready in time; it says:\n{}", self.log())
                }
                Err(RecvTimeoutError::Disconnected) => panic!("vfiomuxd ended; it says:\n{}", self.log()),
            }
        }
    }

    /// Runs the daemon where it is expected to refuse to start, and returns how it ended and what it said.
    pub fn refused(directory: &Path, devices: &[&str]) -> (ExitStatus, String) {
        refusal(command(directory, devices))
    }

    /// The same with a configuration file.
    pub fn refused_with_config(directory: &Path, config: &Path) -> (ExitStatus, String) {
        let mut command = command(directory, &["sim:nvme,size=64M"]);
        command.arg("--config").arg(config);
        refusal(command)
    }

    /// The daemon's process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child.0)
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// Where a channel of this name is served, by the convention of [`Vfiomuxd::create_channel`].
    pub fn endpoint(&self, channel: &str) -> PathBuf {
        self.directory.join(format!("{channel}.sock"))
    }

    /// What the daemon has said on standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("vfiomuxd.log")).unwrap_or_default()
    }

    /// Runs `vfiomuxctl`, however it ends.
    pub fn try_ctl(&self, arguments: &[&str]) -> Output {
        Command::new(workspace_program("vfiomuxctl"))
            .arg("--control")
            .arg(self.control())
            .args(arguments)
            .output()
            .expect("vfiomuxctl runs")
    }

    /// Runs `vfiomuxctl`, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.try_ctl(arguments);
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "vfiomuxctl {arguments:?}: {}\n{stdout}{stderr}\n{}",
            output.status,
            self.log()
        );
        stdout.into_owned()
    }

    /// Runs `vfiomuxctl … --json`, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn ctl_json(&self, arguments: &[&str]) -> Value {
        let printed = self.ctl(&[arguments, &["--json"]].concat());
        serde_json::from_str(&printed)
            .unwrap_or_else(|error| panic!("vfiomuxctl {arguments:?} printed no JSON: {error}\n{printed}"))
    }

    /// Runs `vfiomuxctl`, which must fail without a crash, and returns its complaint.
    #[track_caller]
    pub fn ctl_refused(&self, arguments: &[&str]) -> String {
        let output = self.try_ctl(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "vfiomuxctl {arguments:?} was to be refused");
        assert!(
            output.status.code().is_some_and(|code| code != 101),
            "vfiomuxctl {arguments:?} crashed:\n{complaint}"
        );
        complaint
    }

    /// Creates a channel on a device, attached to [`Vfiomuxd::endpoint`].
    #[track_caller]
    pub fn create_channel(
        &self,
        name: &str,
        device: &str,
        tenant: &str,
        size_mib: u64,
        queues: u16,
    ) -> PathBuf {
        let endpoint = self.endpoint(name);
        let (size, queues) = (format!("{size_mib}M"), queues.to_string());
        self.ctl(&[
            "channel",
            "create",
            name,
            "--device",
            device,
            "--tenant",
            tenant,
            "--size",
            &size,
            "--queues",
            &queues,
            "--endpoint",
            &endpoint.to_string_lossy(),
        ]);
        endpoint
    }

    /// Ends the daemon as systemd does, and demands that it ends well.
    #[track_caller]
    pub fn terminate(mut self) {
        self.assert_trace();
        rustix::process::kill_process(self.pid(), Signal::TERM).expect("the daemon runs");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.0.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "vfiomuxd does not end; it says:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "vfiomuxd ended with {status}; it says:\n{}", self.log());
    }

    /// L1: the events that the daemon has recorded follow from one another. A daemon that has ended tells nothing.
    #[track_caller]
    pub fn assert_trace(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let events = loop {
            let error = match trace::recorded(&self.control()) {
                Ok(events) => break events,
                Err(error) => error,
            };
            // A test has killed it, or it has left on its own; or its directory was taken away before it.
            if matches!(self.child.0.try_wait(), Ok(Some(_))) || !self.control().exists() {
                return;
            }
            assert!(Instant::now() < deadline, "a daemon that lives tells no events: {error}");
            std::thread::sleep(Duration::from_millis(5));
        };
        if let Err(violation) = Monitor::check(&events) {
            panic!("{violation}; it recorded {events:#?}");
        }
    }

    /// Ends the daemon as a crash does: at once, in the middle of whatever it does.
    pub fn kill(mut self) {
        self.child.end();
    }
}

fn command(directory: &Path, devices: &[&str]) -> Command {
    let mut command = Command::new(workspace_program("vfiomuxd"));
    for device in devices {
        command.args(["--device", device]);
    }
    command.arg("--state-dir").arg(directory.join("state"));
    command.arg("--control").arg(directory.join("control.sock"));
    command.stdin(Stdio::null());
    command
}

/// The log of all the daemons that run in this directory.
fn log(directory: &Path) -> fs::File {
    let path = directory.join("vfiomuxd.log");
    fs::OpenOptions::new().create(true).append(true).open(path).expect("a log in the test's own directory")
}

fn refusal(mut command: Command) -> (ExitStatus, String) {
    let mut child =
        Killed(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("vfiomuxd starts"));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.0.try_wait().expect("a child of ours") {
            break status;
        }
        assert!(Instant::now() < deadline, "vfiomuxd was to refuse, and runs: {command:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    (status, complaint(&mut child.0))
}

fn complaint(child: &mut Child) -> String {
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = std::io::Read::read_to_string(&mut BufReader::new(stderr), &mut complaint);
    }
    complaint
}

/// What a failed test shows of the daemon that it failed with.
impl Drop for Vfiomuxd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for arguments in [["status", "--json"].as_slice(), &["channel", "list", "--json"]] {
                eprintln!(
                    "vfiomuxctl {arguments:?}: {}",
                    String::from_utf8_lossy(&self.try_ctl(arguments).stdout)
                );
            }
            eprintln!("vfiomuxd says:\n{}", self.log());
        } else {
            self.assert_trace();
        }
    }
}

impl Backend for Vfiomuxd {
    fn create_disk(&mut self, name: &str, size_mib: u64, queues: u16) -> PathBuf {
        self.create_channel(name, "sim0", "tenant", size_mib, queues)
    }
}
