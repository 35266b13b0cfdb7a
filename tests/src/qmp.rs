//! QEMU's machine protocol: JSON lines over a socket, replies and events mixed.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long QEMU may take to answer a command. It answers at once unless the machine is overloaded.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

/// A connection on which commands may be given.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// A line whose end has not come yet when a read timed out.
    partial_line: Vec<u8>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Takes QEMU's greeting and leaves negotiation mode.
    pub fn negotiate(stream: UnixStream) -> io::Result<Qmp> {
        let mut qmp =
            Qmp { stream: BufReader::new(stream), partial_line: Vec::new(), events: VecDeque::new() };
        qmp.receive(Instant::now() + REPLY_DEADLINE)?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Gives a command and waits for what it returns.
    pub fn execute(&mut self, command: &str, arguments: Value) -> io::Result<Value> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.stream.get_mut().write_all(line.as_bytes())?;
        let deadline = Instant::now() + REPLY_DEADLINE;
        loop {
            let mut message = self.receive(deadline)?;
            if message.get("event").is_some() {
                self.events.push_back(message);
            } else if let Some(error) = message.get("error") {
                return Err(io::Error::other(format!("{command}: {error}")));
            } else {
                return Ok(message["return"].take());
            }
        }
    }

    /// Gives a command of the human monitor, for what QMP lacks.
    pub fn human(&mut self, command_line: &str) -> io::Result<String> {
        let output = self.execute("human-monitor-command", json!({ "command-line": command_line }))?;
        Ok(output.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a device that `device_del` was asked for is gone. Events that come meanwhile are dropped.
    pub fn wait_until_deleted(&mut self, device: &str, deadline: Instant) -> io::Result<()> {
        loop {
            let message = match self.events.pop_front() {
                Some(event) => event,
                None => self.receive(deadline)?,
            };
            // The parts of a device have such events too, which carry a path and no name.
            if message["event"] == "DEVICE_DELETED" && message["data"]["device"] == device {
                return Ok(());
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<Value> {
        let line = read_line(&mut self.stream, &mut self.partial_line, deadline)?;
        let Some(line) = line else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        serde_json::from_str(&line).map_err(|error| io::Error::other(format!("QMP said {line:?}: {error}")))
    }
}

/// Reads a line, without its end, until the deadline; `None` at the end of the stream. What has come of a line when the deadline
/// passes stays in `partial_line` for the next call.
pub(crate) fn read_line(
    stream: &mut BufReader<UnixStream>,
    partial_line: &mut Vec<u8>,
    deadline: Instant,
) -> io::Result<Option<String>> {
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.get_ref().set_read_timeout(Some(remaining))?;
        match stream.read_until(b'\n', partial_line) {
            Ok(0) if partial_line.is_empty() => return Ok(None),
            // Either the line's end, or the stream's in the middle of a line, which is then all that will come of it.
            Ok(_) => {
                let line = String::from_utf8_lossy(partial_line).trim_end().to_owned();
                partial_line.clear();
                return Ok(Some(line));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
