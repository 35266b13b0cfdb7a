//! The servers: how each is started, and what it is asked while it runs.

pub(crate) mod ours;
mod process;
mod qsd;
mod spdk;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::contender::{Contender, Kind};
use process::Process;

/// Why a server does not serve. Its last words are part of the message: they are what helps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{program} is not installed")]
    NotInstalled { program: String },
    #[error("{program} cannot be started")]
    Spawn { program: String, source: io::Error },
    #[error("it ended before it served ({how}); its last words: {words}")]
    Ended { how: String, words: String },
    #[error("it did not serve within {} s; its last words: {words}", after.as_secs())]
    NotReady { after: Duration, words: String },
    #[error("its configuration failed: {what}")]
    Refused { what: String },
    #[error("its files cannot be made")]
    Files(#[source] io::Error),
}

/// A server that serves. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    /// Where guests connect, a disk each.
    pub(crate) sockets: Vec<PathBuf>,
    /// Version and what else decides how fast it is.
    pub(crate) about: String,
    control: Option<PathBuf>,
}

impl Server {
    /// Starts a contender with this many disks, on this core, with all its files in `directory`.
    pub(crate) fn start(
        contender: &Contender,
        disks: usize,
        cpu: u32,
        directory: &Path,
    ) -> Result<Self, StartError> {
        std::fs::create_dir_all(directory).map_err(StartError::Files)?;
        let disk_bytes = contender.backing.disk_bytes(disks);
        let shape = Shape { backing: contender.backing, disks, disk_bytes, cpu, directory };
        match &contender.kind {
            Kind::Ours { mode, cpus, program } => ours::start(&shape, mode, cpus, program.as_deref()),
            Kind::Qsd => qsd::start(&shape),
            Kind::Spdk { program } => spdk::start(&shape, program),
        }
    }

    /// Its process, for the accounts.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Takes the processor from it until [`resume`](Self::resume).
    pub(crate) fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it run.
    pub(crate) fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// What explains that it failed: how it ended, when it has, and its last words.
    pub(crate) fn blame(&mut self, why: &str) -> String {
        match self.process.ended() {
            Some(ended) => ended.to_string(),
            None => format!("{why}; its last words: {}", self.process.last_words()),
        }
    }

    /// What it says itself of how fast it wakes up; ours only.
    pub(crate) fn wake_to_submit_ns(&self) -> Option<u64> {
        self.control.as_deref().and_then(ours::wake_to_submit_ns)
    }
}

/// What a server is to be.
struct Shape<'a> {
    backing: crate::contender::Backing,
    disks: usize,
    disk_bytes: u64,
    cpu: u32,
    directory: &'a Path,
}

impl Shape<'_> {
    /// The sockets of the disks.
    fn sockets(&self) -> Vec<PathBuf> {
        (0..self.disks).map(|disk| self.directory.join(format!("{disk}.sock"))).collect()
    }
}

/// The first line of what a program says to `--version`.
fn version(program: &Path) -> Option<String> {
    let output = std::process::Command::new(program).arg("--version").output().ok()?;
    // SPDK's goes to standard error on some versions.
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
}
