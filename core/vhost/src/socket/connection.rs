//! A front-end's connection: bytes and descriptors to its session, frames back.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use vfiomux_spec::vhost_user::{MAX_FDS, MAX_PAYLOAD_SIZE_BYTES};

use super::impl_source;
use crate::codec::Frame;
use crate::{EndReason, Session, Violation};

/// Reads in one call of [`Connection::pump`], so that one front-end cannot keep the loop to itself.
const READS_MAX: usize = 64;

/// Whether there is more to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Nothing to do until the socket becomes ready or an action is completed.
    Idle,
    /// The round has been cut short: call again, perhaps after others have had their turn. No event will come for what
    /// is left, the socket having been ready all along.
    More,
}

impl Progress {
    /// Whether there is nothing to do at once.
    pub fn is_idle(self) -> bool {
        self == Self::Idle
    }
}

/// A front-end's connection.
///
/// Register it for reading and writing. It is content with edge-triggered readiness, as `mio` gives it: it reads and
/// writes until the kernel would block. After [`Session::complete`], [`Connection::pump`] has to be called again without
/// an event, since it stops reading while too much waits, and sends only when called.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    /// What is being sent, and how much of it has been.
    sending: Option<(Frame, usize)>,
}

impl_source!(Connection);

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

impl From<OwnedFd> for Connection {
    /// A connected unix stream socket. It need not be non-blocking; it is only ever used so.
    fn from(socket: OwnedFd) -> Self {
        Self { socket, sending: None }
    }
}

impl Connection {
    /// The process at the other end when it connected, if the kernel knows.
    #[must_use]
    pub fn peer_pid(&self) -> Option<i32> {
        let credentials = rustix::net::sockopt::socket_peercred(&self.socket).ok()?;
        Some(credentials.pid.as_raw_nonzero().get())
    }

    /// User of the process at the other end, when it connected.
    #[must_use]
    pub fn peer_uid(&self) -> Option<u32> {
        let credentials = rustix::net::sockopt::socket_peercred(&self.socket).ok()?;
        Some(credentials.uid.as_raw())
    }

    /// Whether something waits for the socket to become writable.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.sending.is_some()
    }

    /// Send what there is to send, read what there is to read. What goes wrong ends the session.
    pub fn pump(&mut self, session: &mut Session) -> Progress {
        for _ in 0..READS_MAX {
            if let Err(error) = self.send_all(session) {
                session.close(end_reason(error));
            }
            let wanted = session.wanted();
            if wanted == 0 {
                return Progress::Idle;
            }
            match self.receive(wanted, session) {
                Ok(true) => {}
                Ok(false) => return Progress::Idle,
                Err(error) => session.close(end_reason(error)),
            }
        }
        Progress::More
    }

    /// One read into the session. `false`: there was nothing.
    fn receive(&mut self, wanted: usize, session: &mut Session) -> Result<bool, Errno> {
        let mut bytes = [0; MAX_PAYLOAD_SIZE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let limit = wanted.min(bytes.len());
        let Some(bytes) = bytes.get_mut(..limit) else { return Ok(false) };
        let received = loop {
            let slices = &mut [IoSliceMut::new(bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            match rustix::net::recvmsg(&self.socket, slices, &mut ancillary, flags) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        };
        let fds: Vec<OwnedFd> = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        if received.flags.contains(ReturnFlags::CTRUNC) {
            // The kernel has dropped descriptors: for want of room in our buffer, or of numbers in our table.
            session.close(if fds.len() >= MAX_FDS {
                EndReason::Violation(Violation::TooManyFds)
            } else {
                EndReason::Socket(String::from(
                    "no descriptor is free for what the front-end sent; raise LimitNOFILE",
                ))
            });
        } else if received.bytes == 0 {
            session.close(EndReason::Disconnected);
        } else {
            session.feed(bytes.get(..received.bytes).unwrap_or_default(), fds);
        }
        Ok(true)
    }

    /// Send frames until there is none left or the socket is full.
    fn send_all(&mut self, session: &mut Session) -> Result<(), Errno> {
        loop {
            if self.sending.is_none() {
                self.sending = session.next_output().map(|frame| (frame, 0));
            }
            let Some((frame, sent)) = &mut self.sending else { return Ok(()) };
            let rest = frame.bytes.get(*sent..).unwrap_or_default();
            let borrowed: Vec<_> = frame.fds.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !borrowed.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::sendmsg(&self.socket, &[IoSlice::new(rest)], &mut ancillary, flags) {
                Ok(count) => {
                    *sent += count;
                    // Descriptors travel with the first byte, so they have gone even if only a part has.
                    frame.fds.clear();
                    if *sent >= frame.bytes.len() {
                        self.sending = None;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => {
                    self.sending = None;
                    return Err(error);
                }
            }
        }
    }
}

fn end_reason(error: Errno) -> EndReason {
    match error {
        Errno::PIPE | Errno::CONNRESET => EndReason::Disconnected,
        other => EndReason::Socket(other.to_string()),
    }
}
