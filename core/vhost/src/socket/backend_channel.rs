//! The second socket of a session, on which the back-end asks and the front-end answers.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use vfiomux_spec::vhost_user::{BackendRequest, FLAG_NEED_REPLY, FLAG_REPLY, Header, U64, VERSION};
use zerocopy::FromBytes;

use super::impl_source;
use crate::Error;
use crate::codec::Frame;

/// Bytes of an acknowledgement: header and u64.
const ACKNOWLEDGEMENT_SIZE_BYTES: usize = size_of::<Header>() + size_of::<U64>();

/// Tells the front-end that configuration space has changed.
///
/// Changes are merged: however many there are while the front-end has not yet taken (or acknowledged) one, it is told
/// once more afterwards, and reads what is there then.
#[derive(Debug)]
pub struct BackendChannel {
    socket: OwnedFd,
    /// Whether the front-end acknowledges.
    reply_ack: bool,
    /// Whether there has been a change that the front-end has not been told of.
    changed: bool,
    /// Whether an acknowledgement is due.
    awaiting: bool,
    /// What has not been sent yet of the message on its way.
    unsent: Vec<u8>,
    /// What has arrived of an acknowledgement.
    received: Vec<u8>,
}

impl_source!(BackendChannel);

impl BackendChannel {
    /// On the socket of [`Action::SetBackendChannel`](crate::Action::SetBackendChannel).
    #[must_use]
    pub fn new(socket: OwnedFd, reply_ack: bool) -> Self {
        Self { socket, reply_ack, changed: false, awaiting: false, unsent: Vec::new(), received: Vec::new() }
    }

    /// Tell the front-end that configuration space has changed (vhost-user: CONFIG_CHANGE_MSG), now or as soon as it
    /// takes it.
    ///
    /// # Errors
    ///
    /// [`Error::BackendChannel`]: of no more use, drop it. The session goes on.
    pub fn config_changed(&mut self) -> Result<(), Error> {
        self.changed = true;
        self.pump()
    }

    /// Whether a change is still on its way to the front-end.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.changed || self.awaiting || !self.unsent.is_empty()
    }

    /// Read and send what there is. To be called when the socket is ready.
    ///
    /// # Errors
    ///
    /// [`Error::BackendChannel`]: of no more use, drop it. The session goes on.
    pub fn pump(&mut self) -> Result<(), Error> {
        self.receive()?;
        if self.changed && !self.awaiting && self.unsent.is_empty() {
            let flags = if self.reply_ack { VERSION | FLAG_NEED_REPLY } else { VERSION };
            self.unsent = Frame::new(BackendRequest::ConfigChangeMsg as u32, flags, &[], Vec::new()).bytes;
            self.changed = false;
            self.awaiting = self.reply_ack;
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), Error> {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.socket, &self.unsent, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(Error::BackendChannel(errno.to_string())),
            }
        }
        Ok(())
    }

    /// Take acknowledgements. Bounded: a front-end that sends more than was asked for breaks the channel.
    fn receive(&mut self) -> Result<(), Error> {
        loop {
            let mut bytes = [0; ACKNOWLEDGEMENT_SIZE_BYTES];
            let room = ACKNOWLEDGEMENT_SIZE_BYTES - self.received.len();
            let Some(bytes) = bytes.get_mut(..room) else { return Ok(()) };
            // Without room for ancillary data the kernel closes descriptors that come along.
            match rustix::net::recv(&self.socket, &mut *bytes, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(Error::BackendChannel(String::from("closed by the front-end"))),
                Ok((_, count)) => self.received.extend(bytes.iter().take(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(Error::BackendChannel(errno.to_string())),
            }
            if self.received.len() == ACKNOWLEDGEMENT_SIZE_BYTES {
                self.acknowledged()?;
            }
        }
    }

    fn acknowledged(&mut self) -> Result<(), Error> {
        let received = std::mem::take(&mut self.received);
        let parsed = Header::read_from_prefix(&received)
            .ok()
            .and_then(|(header, rest)| Some((header, U64::read_from_bytes(rest).ok()?.value)));
        let expected = (BackendRequest::ConfigChangeMsg as u32, VERSION | FLAG_REPLY, size_of::<U64>());
        match parsed {
            Some((Header { request, flags, size }, value))
                if self.awaiting && (request, flags, size as usize) == expected =>
            {
                self.awaiting = false;
                if value != 0 {
                    tracing::warn!(value, "the front-end did not take a change of configuration space");
                }
                Ok(())
            }
            _ => Err(Error::BackendChannel(String::from(
                "the front-end sent something that is no acknowledgement",
            ))),
        }
    }
}

impl AsRawFd for BackendChannel {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}
