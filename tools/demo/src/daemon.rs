//! The daemon as a process: this program, run again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::arguments::DaemonRole;
use crate::error::DemoError;

/// How long the daemon may take to be ready, and to end. It takes a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(20);
const CONTROL: &str = "control.sock";
const LOG: &str = "daemon.log";

/// A running daemon, killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    /// Starts it on a simulated device, with everything it makes in `directory`, and waits until it serves.
    pub(crate) fn start(directory: &Path, device: &str) -> Result<Self, DemoError> {
        let log = fs::File::create(directory.join(LOG)).map_err(DemoError::Spawn)?;
        let child = Command::new(std::env::current_exe().map_err(DemoError::Spawn)?)
            .args(["daemon", "--device", device, "--directory"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C goes to the terminal's foreground group: to us, and we end the daemon when its channels have ended.
            .process_group(0)
            .spawn()
            .map_err(DemoError::Spawn)?;
        let mut daemon = Self { child, directory: directory.to_owned() };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    fn wait_until_ready(&mut self) -> Result<(), DemoError> {
        let stdout = self.child.stdout.take();
        let (ready, is_ready) = mpsc::channel();
        // A line can be waited for with a time limit only by another thread. It ends with the daemon.
        std::thread::Builder::new()
            .name("daemon-output".to_owned())
            .spawn(move || {
                for line in
                    stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok)
                {
                    if line.starts_with("ready") {
                        // Nobody waits any more: then nobody needs to know.
                        let _ = ready.send(());
                    }
                }
            })
            .map_err(DemoError::Thread)?;
        match is_ready.recv_timeout(PATIENCE) {
            Ok(()) => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(DemoError::NotReady { seconds: PATIENCE.as_secs(), log: self.log() })
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().map_err(DemoError::Spawn)?;
                Err(self.ended(status))
            }
        }
    }

    /// Its control socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.directory.join(CONTROL)
    }

    /// Why something failed: when the daemon has ended meanwhile, that is the reason.
    pub(crate) fn blame(&mut self, error: DemoError) -> DemoError {
        match self.child.try_wait() {
            Ok(Some(status)) => self.ended(status),
            _ => error,
        }
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn stop(mut self) -> Result<(), DemoError> {
        let pid = Pid::from_child(&self.child);
        // It may have ended by itself: then waiting says how.
        let _ = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait().map_err(DemoError::Spawn)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.ended(status)),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        Err(DemoError::DaemonStayed { seconds: PATIENCE.as_secs(), log: self.log() })
    }

    fn ended(&self, status: ExitStatus) -> DemoError {
        DemoError::DaemonEnded { how: status.to_string(), log: self.log() }
    }

    /// What it said, or that it said nothing.
    fn log(&self) -> String {
        let text = fs::read_to_string(self.directory.join(LOG)).unwrap_or_default();
        if text.is_empty() { "(nothing)".to_owned() } else { text }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The other side: this process as the daemon.
pub(crate) fn serve(role: &DaemonRole) -> Result<(), DemoError> {
    // A daemon without its demonstration would serve nobody, so it ends with it however that ends.
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|errno| DemoError::Spawn(errno.into()))?;
    let arguments = vfiomux_daemon::Arguments {
        devices: vec![role.device.clone()],
        state_dir: Some(role.directory.join("state")),
        control: Some(role.directory.join(CONTROL)),
        ..Default::default()
    };
    Ok(vfiomux_daemon::run(&arguments)?)
}
