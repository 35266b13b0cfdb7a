//! A child process: its core, its log, its end.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Shape, StartError};
use crate::cores;

/// How long a server may take until it serves. SPDK needs seconds for hundreds of disks.
const READY_WITHIN: Duration = Duration::from_secs(40);
/// How long it may take to end in order.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Lines of the log that are worth showing.
const LAST_WORDS: usize = 6;

/// A server's process, ended when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program pinned to the core of its shape, with its output in a log.
    pub(super) fn spawn(mut command: Command, shape: &Shape<'_>) -> Result<Self, StartError> {
        let log = shape.directory.join("log");
        let output = File::create(&log).map_err(StartError::Files)?;
        let errors = output.try_clone().map_err(StartError::Files)?;
        command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C goes to the terminal's foreground group: to us, and we end the server.
            .process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        // A child starts where the thread that starts it runs. That has to be this thread, which lives as long as the
        // child: the daemon asks to be ended with its parent, and the kernel takes the parent to be the thread.
        let home = cores::here().map_err(|errno| StartError::Files(errno.into()))?;
        let spawned = cores::pin(&[shape.cpu]).map_err(io::Error::from).and_then(|()| command.spawn());
        cores::pin(&home).map_err(|errno| StartError::Files(errno.into()))?;
        match spawned {
            Ok(child) => Ok(Self { child, log }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StartError::NotInstalled { program })
            }
            Err(source) => Err(StartError::Spawn { program, source }),
        }
    }

    /// Waits until `ready` gives something.
    pub(super) fn wait_until<T>(
        &mut self,
        mut ready: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, StartError> {
        let began = Instant::now();
        loop {
            if let Some(value) = ready(self) {
                return Ok(value);
            }
            if let Some(error) = self.ended() {
                return Err(error);
            }
            if began.elapsed() > READY_WITHIN {
                return Err(StartError::NotReady { after: READY_WITHIN, words: self.last_words() });
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said.
    pub(super) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended, when it has.
    pub(super) fn ended(&mut self) -> Option<StartError> {
        let status = self.child.try_wait().ok()??;
        Some(StartError::Ended { how: status.to_string(), words: self.last_words() })
    }

    pub(super) fn signal(&self, signal: Signal) {
        // A process that has ended needs no signal.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// The end of what it has said.
    pub(super) fn last_words(&self) -> String {
        last_lines(&self.log(), LAST_WORDS)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that is stopped hears nothing but KILL until it runs again.
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        let began = Instant::now();
        while began.elapsed() < ENDS_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(LOOK_AGAIN);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines with something in them, joined.
fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default();
    if tail.is_empty() { "(nothing)".to_owned() } else { tail.join(" | ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Backing;

    fn shell(directory: &std::path::Path, script: &str) -> Process {
        let cores = rustix::thread::sched_getaffinity(None).unwrap();
        let cpu = (0..1024).find(|cpu| cores.is_set(*cpu)).unwrap() as u32;
        let shape = Shape { backing: Backing::Null, disks: 1, disk_bytes: 1 << 20, cpu, directory };
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn(command, &shape).unwrap()
    }

    #[test]
    fn what_failed_is_told_in_the_servers_own_words() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = shell(directory.path(), "echo starting; echo no such device >&2; exit 3");
        let error = process.wait_until(|_| None::<()>).unwrap_err().to_string();
        assert!(error.contains("no such device") && error.contains('3'), "{error}");
    }

    #[test]
    fn what_is_ready_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = shell(directory.path(), "echo ready; exec sleep 60");
        let line =
            process.wait_until(|process| process.log().contains("ready").then(|| process.log())).unwrap();
        assert_eq!(line, "ready\n");
    }

    #[test]
    fn a_stopped_process_ends_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let process = shell(directory.path(), "exec sleep 60");
        let pid = process.pid();
        process.signal(Signal::STOP);
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_said_to_be_missing() {
        let directory = tempfile::tempdir().unwrap();
        let shape = Shape {
            backing: Backing::Null,
            disks: 1,
            disk_bytes: 1 << 20,
            cpu: 0,
            directory: directory.path(),
        };
        let spawned = Process::spawn(Command::new("/nonexistent/vhost"), &shape);
        assert!(matches!(spawned, Err(StartError::NotInstalled { .. })));
    }

    #[test]
    fn last_words_are_the_last_lines() {
        assert_eq!(last_lines("a\n\nb\nc\n", 2), "b | c");
        assert_eq!(last_lines("\n", 2), "(nothing)");
    }
}
