use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{self, Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::fault::how;
use super::{HostFault, PluginSpec};
use crate::wire::{ANSWER_BYTES_MAX, Decoder, Reply, Told, phrase};

/// How long a host may take to end once its socket is closed, and a process to be seen as dead once it is.
const GRACE: Duration = Duration::from_millis(200);
/// So much of what a host writes to its standard error is kept.
const LAST_WORDS_BYTES: usize = 512;

/// A plugin host that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Non-blocking.
    socket: UnixStream,
    /// Non-blocking; none once it is closed.
    stderr: Option<ChildStderr>,
    last_words: Vec<u8>,
    decoder: Decoder,
}

impl Process {
    /// Starts the host of a plugin. It has said nothing yet.
    ///
    /// The host asks the kernel to be killed with the thread that calls this.
    pub(super) fn spawn(spec: &PluginSpec) -> Result<Self, HostFault> {
        let why = |error: io::Error| HostFault::Spawn { why: format!("{}: {error}", spec.host.display()) };
        let (socket, theirs) = UnixStream::pair().map_err(why)?;
        socket.set_nonblocking(true).map_err(why)?;
        let cpus: Vec<String> = spec.cpus.iter().map(ToString::to_string).collect();
        let mut child = Command::new(&spec.host)
            .arg(&spec.library)
            .arg(spec.memory_bytes_max.to_string())
            .arg(process::id().to_string())
            .arg(cpus.join(","))
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => HostFault::Spawn { why: missing(&spec.host) },
                _ => why(error),
            })?;
        let stderr = child.stderr.take();
        let process =
            Self { child, socket, stderr, last_words: Vec::new(), decoder: Decoder::new(ANSWER_BYTES_MAX) };
        if let Some(stderr) = &process.stderr {
            rustix::io::ioctl_fionbio(stderr, true).map_err(|error| why(error.into()))?;
        }
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Puts a question and waits for its answer, but no longer than the deadline.
    ///
    /// # Errors
    /// What the host did instead of answering. It is of no use any more.
    pub(super) fn exchange(
        &mut self,
        id: u64,
        question: &[u8],
        name: &'static str,
        deadline: Duration,
    ) -> Result<(Told, Vec<u8>), HostFault> {
        self.check_silent()?;
        let until = Instant::now() + deadline;
        let mut unsent = question;
        loop {
            let Some(ready) = self.wait(until, !unsent.is_empty())? else {
                return Err(HostFault::Late { question: name, deadline });
            };
            if ready.contains(PollFlags::OUT) && !unsent.is_empty() {
                match self.socket.write(unsent) {
                    Ok(sent) => unsent = unsent.get(sent..).unwrap_or_default(),
                    Err(error) if is_passing(&error) => {}
                    Err(_) => return Err(self.ended()),
                }
            }
            if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && self.receive()? {
                let message = self.decoder.message::<Told>().map_err(|error| HostFault::Garbage {
                    what: match std::error::Error::source(&error) {
                        Some(source) => format!("{error}: {}", phrase(&source.to_string())),
                        None => error.to_string(),
                    },
                })?;
                let Some((told, attachment)) = message else { continue };
                if told.id != id {
                    let what = format!("it answers question {}, and was asked {id}", told.id);
                    return Err(HostFault::Garbage { what });
                }
                if !unsent.is_empty() || !self.decoder.is_empty() {
                    return Err(HostFault::Unasked);
                }
                if let Reply::Garbage { what } = &told.reply {
                    return Err(HostFault::Garbage { what: phrase(what) });
                }
                return Ok((told, attachment));
            }
        }
    }

    /// Whether the host is there and holds its tongue, which is what it should do while nothing is asked.
    pub(super) fn check_silent(&mut self) -> Result<(), HostFault> {
        match self.wait(Instant::now(), false)? {
            Some(ready) if ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) => {
                if self.receive()? { Err(HostFault::Unasked) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Waits for the socket, and meanwhile reads what comes on standard error; none when the time is over.
    fn wait(&mut self, until: Instant, to_send: bool) -> Result<Option<PollFlags>, HostFault> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
            let wanted = if to_send { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let mut fds = vec![PollFd::from_borrowed_fd(self.socket.as_fd(), wanted)];
            if let Some(stderr) = &self.stderr {
                fds.push(PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN));
            }
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(HostFault::Spawn { why: format!("poll: {error}") }),
            }
            let revents = |at: usize| fds.get(at).map_or(PollFlags::empty(), |fd| fd.revents());
            let (ready, said) = (revents(0), revents(1));
            if !said.is_empty() {
                self.listen();
            }
            if !ready.is_empty() {
                return Ok(Some(ready));
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }

    /// Reads what has come on the socket; false when there was nothing.
    fn receive(&mut self) -> Result<bool, HostFault> {
        let mut bytes = [0; 16 << 10];
        match self.socket.read(&mut bytes) {
            Ok(0) => Err(self.ended()),
            Ok(count) => {
                self.decoder.feed(bytes.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(error) if is_passing(&error) => Ok(false),
            Err(_) => Err(self.ended()),
        }
    }

    /// Reads what has come on standard error, once, and keeps the end of it.
    fn listen(&mut self) {
        let Some(stderr) = &mut self.stderr else { return };
        let mut bytes = [0; 16 << 10];
        match stderr.read(&mut bytes) {
            Ok(0) => self.stderr = None,
            Ok(count) => {
                self.last_words.extend_from_slice(bytes.get(..count).unwrap_or_default());
                let surplus = self.last_words.len().saturating_sub(LAST_WORDS_BYTES);
                self.last_words.drain(..surplus);
            }
            Err(error) if is_passing(&error) => {}
            Err(_) => self.stderr = None,
        }
    }

    /// The socket is closed: how the process ended, which is about to be seen. On a busy machine it may be seen late; a process
    /// that is ending already ends as it would have, although it is killed now.
    fn ended(&mut self) -> HostFault {
        let status = self.reap_within(GRACE).or_else(|| {
            let killed = self.child.kill().and_then(|()| self.child.wait()).ok();
            killed.filter(|status| status.signal() != Some(Signal::KILL.as_raw()))
        });
        let how = status.map_or_else(|| "closed its socket".to_owned(), how);
        self.listen();
        HostFault::Died { how, last_words: phrase(&String::from_utf8_lossy(&self.last_words)) }
    }

    /// Closes the socket, which asks the host to end in order, and kills it when it does not. What the plugin does at its
    /// end is nobody's concern any more.
    pub(super) fn end(mut self) {
        // A host that is gone already needs no telling.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.reap_within(GRACE);
    }

    fn reap_within(&mut self, patience: Duration) -> Option<process::ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that has been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What there is none of when the kernel finds no file to run: that of the host, or what the host itself is run by.
fn missing(host: &Path) -> String {
    if host.exists() {
        format!("{} names an interpreter or loader that is not there; install it again", host.display())
    } else {
        let host = host.display();
        format!("{host} is not there; install it beside vfiomuxd, or name it with --plugin-host")
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_misses_the_host_is_told_where_it_belongs() {
        let host = "/nonexistent/vfiomux-plugin-host".into();
        let fault = Process::spawn(&PluginSpec { host, ..PluginSpec::new("p", "/p.so") }).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "cannot be started: /nonexistent/vfiomux-plugin-host is not there; install it beside vfiomuxd, or name it \
             with --plugin-host"
        );
    }

    #[test]
    fn a_host_that_is_there_is_not_told_to_be_missing() {
        let why = missing(&std::env::current_exe().unwrap());
        assert!(why.contains("an interpreter or loader that is not there"), "{why}");
    }
}
