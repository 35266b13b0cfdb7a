//! One client: its socket, what it has sent of a line, what it has not yet read.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};

use mio::net::UnixStream;

use super::gap_line;
use crate::Gap;
use crate::codec::REQUEST_BYTES_MAX;

/// Bytes read at a time, before other connections have their turn.
const READ_BYTES: usize = 64 << 10;

/// What reading brought.
#[derive(Debug)]
pub(super) enum Input {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// Part of a line; there may be more in the socket.
    More,
    /// A line that exceeds its bound.
    TooLong,
    /// The socket is empty, or has ended.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// What was read. Lines up to `taken` have been given out, and there is no newline before `searched`.
    input: Vec<u8>,
    taken: usize,
    searched: usize,
    output: VecDeque<u8>,
    output_bytes_max: usize,
    in_flight: usize,
    /// Is in the server's list of sockets to read.
    queued: bool,
    subscribed: bool,
    gap: Option<Gap>,
    /// The peer sends nothing more, or nothing more is wanted of it.
    input_ended: bool,
    /// Nothing that we send arrives.
    output_ended: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, output_bytes_max: usize) -> Self {
        Self {
            stream,
            input: Vec::new(),
            taken: 0,
            searched: 0,
            output: VecDeque::new(),
            output_bytes_max,
            in_flight: 0,
            queued: false,
            subscribed: false,
            gap: None,
            input_ended: false,
            output_ended: false,
        }
    }

    pub(super) fn source(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) const fn request_taken(&mut self) {
        self.in_flight += 1;
    }

    pub(super) const fn request_done(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Notes whether it is in the list of sockets to read, and says whether that is news.
    pub(super) const fn set_queued(&mut self, queued: bool) -> bool {
        let news = self.queued != queued;
        self.queued = queued;
        news
    }

    pub(super) const fn subscribe(&mut self) {
        self.subscribed = true;
    }

    pub(super) const fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Nothing that we send arrives any more. What the peer has sent before is still read.
    pub(super) fn peer_left(&mut self) {
        self.output_ended = true;
        self.output.clear();
    }

    /// Takes nothing more from the peer.
    pub(super) fn hang_up(&mut self) {
        self.input_ended = true;
        self.input = Vec::new();
        (self.taken, self.searched) = (0, 0);
    }

    /// Whether nothing is left that it could bring or take.
    pub(super) fn is_over(&self) -> bool {
        let owes = self.in_flight > 0 || !self.output.is_empty() || self.subscribed;
        self.input_ended && (self.output_ended || !owes)
    }

    pub(super) fn next_line(&mut self) -> Input {
        if let Some(line) = self.take_line() {
            return Input::Line(line);
        }
        if self.input.len() - self.taken > REQUEST_BYTES_MAX {
            return Input::TooLong;
        }
        if self.input_ended {
            return Input::Nothing;
        }
        self.input.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        let mut chunk = [0; READ_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => {
                self.hang_up();
                Input::Nothing
            }
            Ok(count) => {
                self.input.extend(chunk.iter().take(count));
                Input::More
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => Input::Nothing,
                ErrorKind::Interrupted => Input::More,
                _ => {
                    self.hang_up();
                    self.peer_left();
                    Input::Nothing
                }
            },
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let found = self.input.iter().skip(self.searched).position(|&byte| byte == b'\n');
        self.searched = found.map_or(self.input.len(), |offset| self.searched + offset);
        let line = self.input.get(self.taken..self.searched)?;
        if found.is_none() || line.len() > REQUEST_BYTES_MAX {
            return None;
        }
        let line = line.to_vec();
        self.searched += 1;
        self.taken = self.searched;
        Some(line)
    }

    /// Sends a line, or drops the client when it does not read.
    pub(super) fn send(&mut self, line: &[u8]) {
        if self.output_ended {
            return;
        }
        if self.output.len() + line.len() > self.output_bytes_max {
            self.hang_up();
            self.peer_left();
            return;
        }
        self.output.extend(line);
        self.flush();
    }

    /// Sends an event, or notes the gap when `limit` bytes are waiting already.
    pub(super) fn send_event(&mut self, seq: u64, line: &[u8], limit: usize) {
        if self.gap.is_some() || self.output.len() + line.len() > limit {
            let first_seq = self.gap.map_or(seq, |gap| gap.first_seq);
            self.gap = Some(Gap { first_seq, last_seq: seq });
        } else {
            self.send(line);
        }
    }

    /// Writes what the socket takes, and announces a gap as soon as all before it is written.
    pub(super) fn flush(&mut self) {
        loop {
            while !self.output.is_empty() {
                let (front, _) = self.output.as_slices();
                match self.stream.write(front) {
                    Ok(0) => return self.peer_left(),
                    Ok(count) => drop(self.output.drain(..count)),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(_) => return self.peer_left(),
                }
            }
            match self.gap.take() {
                Some(gap) => self.output.extend(gap_line(gap)),
                None => return,
            }
        }
    }
}
