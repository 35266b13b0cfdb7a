//! Messages out of bytes, whatever way the bytes were cut, and bytes out of replies.

use std::os::fd::OwnedFd;

use vfiomux_spec::vhost_user::{
    FLAG_REPLY, FrontendRequest, Header, MAX_FDS, MAX_PAYLOAD_SIZE_BYTES, VERSION,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::Violation;

/// Bytes to send, and the descriptors that go with the first of them.
#[derive(Debug)]
pub struct Frame {
    /// Header and payload.
    pub bytes: Vec<u8>,
    /// Descriptors.
    pub fds: Vec<OwnedFd>,
}

impl Frame {
    /// A reply to `request`.
    pub(crate) fn reply(request: FrontendRequest, payload: &[u8], fds: Vec<OwnedFd>) -> Self {
        Self::new(request as u32, VERSION | FLAG_REPLY, payload, fds)
    }

    pub(crate) fn new(request: u32, flags: u32, payload: &[u8], fds: Vec<OwnedFd>) -> Self {
        debug_assert!(payload.len() <= MAX_PAYLOAD_SIZE_BYTES && fds.len() <= MAX_FDS);
        let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(size_of::<Header>() + payload.len());
        bytes.extend_from_slice(Header { request, flags, size }.as_bytes());
        bytes.extend_from_slice(payload);
        Self { bytes, fds }
    }
}

/// A whole message of the front-end's, its header checked.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) request: FrontendRequest,
    pub(crate) needs_reply: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// Puts messages together.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// What there is of the message that is on its way.
    bytes: Vec<u8>,
    /// Descriptors that came with those bytes.
    fds: Vec<OwnedFd>,
    /// The header, once it is whole.
    header: Option<(FrontendRequest, Header)>,
}

impl Decoder {
    /// Bytes that the message on its way still lacks, as far as is known: never past its end.
    ///
    /// Who reads no more than that from a socket knows that descriptors received belong to this very message.
    pub(crate) fn wanted(&self) -> usize {
        self.whole() - self.bytes.len()
    }

    /// Take from `bytes` up to the end of the message on its way; `fds` came with the first of them. Returns the message
    /// if it is whole now.
    ///
    /// After an error the stream has lost its rhythm, and the decoder is of no more use.
    pub(crate) fn push(
        &mut self,
        bytes: &mut &[u8],
        fds: &mut Vec<OwnedFd>,
    ) -> Result<Option<Message>, Violation> {
        self.fds.append(fds);
        if self.fds.len() > MAX_FDS {
            return Err(Violation::TooManyFds);
        }
        loop {
            let (taken, rest) = bytes.split_at(self.wanted().min(bytes.len()));
            self.bytes.extend_from_slice(taken);
            *bytes = rest;
            if self.wanted() > 0 {
                return Ok(None);
            }
            match self.header.take() {
                // The payload may be empty: go round once more to see.
                None => self.header = Some(parse_header(&self.bytes)?),
                Some((request, header)) => {
                    let mut payload = std::mem::take(&mut self.bytes);
                    payload.drain(..size_of::<Header>());
                    let fds = std::mem::take(&mut self.fds);
                    return Ok(Some(Message { request, needs_reply: header.needs_reply(), payload, fds }));
                }
            }
        }
    }

    /// Bytes of the message on its way, or of a header as long as its length is not known.
    fn whole(&self) -> usize {
        let payload = self.header.map_or(0, |(_, header)| header.size as usize);
        size_of::<Header>() + payload
    }
}

fn parse_header(bytes: &[u8]) -> Result<(FrontendRequest, Header), Violation> {
    // The caller has collected exactly a header's bytes; anything else would be a header of version 0.
    let header = Header::read_from_bytes(bytes).unwrap_or_default();
    // The version is looked at first: what is no vhost-user at all is better told by that than by a strange request.
    if header.version() != VERSION {
        return Err(Violation::Version { version: header.version() });
    }
    let request = FrontendRequest::from_raw(header.request)
        .ok_or(Violation::UnknownRequest { code: header.request })?;
    if header.is_reply() {
        return Err(Violation::UnexpectedReply { request: request.name() });
    }
    if header.size as usize > MAX_PAYLOAD_SIZE_BYTES {
        return Err(Violation::PayloadTooLarge { request: request.name(), size: header.size });
    }
    Ok((request, header))
}
