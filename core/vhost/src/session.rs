//! One connection of a front-end, as a state machine.
//!
//! A message becomes a *job*: it changes the session's own state, asks the owner for what else is needed, and is
//! concluded, with its reply, when everything asked for has been answered. The next message is looked at after that.

mod config;
mod handle;
mod job;
mod memory;
mod ring;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use vfiomux_spec::vhost_user::FrontendRequest;
use vfiomux_spec::virtio::features;

use crate::codec::{Decoder, Frame, Message};
use crate::trace::{Trace, TraceRecord};
use crate::{Action, Device, Direction, EndReason, Error, Outcome, Token, Violation};
use job::Job;
use memory::MemoryTable;
use ring::Ring;

/// Messages that may wait behind one that is being carried out before no more are taken from the socket.
const BACKLOG_MAX: usize = 16;

/// Replies that may wait to be sent before no more messages are taken from the socket: a front-end that asks without
/// listening uses up its own socket, not our memory.
const OUTPUT_MAX: usize = 16;

/// One connection of a front-end. See the crate's text for how to drive it.
#[derive(Debug)]
pub struct Session {
    device: Device,
    decoder: Decoder,
    /// Messages not looked at yet, in order; a violation found while decoding waits its turn like a message.
    backlog: VecDeque<Result<Message, Violation>>,
    job: Option<Job>,
    actions: VecDeque<Action>,
    output: VecDeque<Frame>,
    /// Virtio features in use, with the bits that belong to vhost.
    features: u64,
    protocol_features: u64,
    status: u8,
    rings: Vec<Ring>,
    memory: MemoryTable,
    trace: Trace,
    next_token: u64,
    ended: bool,
}

impl Session {
    /// A session that presents `device`.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if no session can present it.
    pub fn new(device: Device) -> Result<Self, Error> {
        device.check()?;
        let rings = (0..device.rings_max).map(|_| Ring::default()).collect();
        Ok(Self {
            device,
            decoder: Decoder::default(),
            backlog: VecDeque::new(),
            job: None,
            actions: VecDeque::new(),
            output: VecDeque::new(),
            features: 0,
            protocol_features: 0,
            status: 0,
            rings,
            memory: MemoryTable::default(),
            trace: Trace::default(),
            next_token: 0,
            ended: false,
        })
    }

    /// Bytes to read next: never past the end of a message, and zero while too many messages or replies wait or the
    /// session is over.
    ///
    /// Linux hands descriptors over with the read that takes the first byte sent along with them, so whoever reads no
    /// more than this knows which message they belong to.
    #[must_use]
    pub fn wanted(&self) -> usize {
        let full = self.backlog.len() >= BACKLOG_MAX || self.output.len() >= OUTPUT_MAX;
        if self.ended || full || self.is_out_of_step() { 0 } else { self.decoder.wanted() }
    }

    /// Take bytes, cut in any way; `fds` came with the first of them. More than [`Session::wanted`] are taken, too; they
    /// wait.
    pub fn feed(&mut self, mut bytes: &[u8], mut fds: Vec<OwnedFd>) {
        while !(self.ended || self.is_out_of_step() || bytes.is_empty() && fds.is_empty()) {
            match self.decoder.push(&mut bytes, &mut fds) {
                Ok(None) => {}
                Ok(Some(message)) => self.backlog.push_back(Ok(message)),
                Err(violation) => self.backlog.push_back(Err(violation)),
            }
        }
        self.run();
    }

    /// What the owner is to do next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How an action went. After the end of the session every answer is taken, and dropped.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownToken`] and [`Error::WrongOutcome`] tell of a mistake of the owner's; the session is unchanged.
    pub fn complete(&mut self, token: Token, outcome: Outcome) -> Result<(), Error> {
        if self.ended {
            return Ok(());
        }
        self.answer(token, outcome)?;
        self.run();
        Ok(())
    }

    /// What to send next, in one piece with its descriptors.
    pub fn next_output(&mut self) -> Option<Frame> {
        self.output.pop_front()
    }

    /// End the session for a reason that did not come from its messages. Only the first end counts.
    pub fn close(&mut self, reason: EndReason) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.trace.push(Direction::Asked, "ended", reason.to_string());
        self.job = None;
        self.backlog.clear();
        self.decoder = Decoder::default();
        // What the owner has not seen need not be done any more.
        self.actions.clear();
        self.actions.push_back(Action::Ended(reason));
    }

    /// Whether the session is over. Replies may still wait to be sent.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Virtio features in use, without the bits that belong to vhost.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.features & !features::VHOST_OWNED
    }

    /// Protocol features in use.
    #[must_use]
    pub fn protocol_features(&self) -> u64 {
        self.protocol_features
    }

    /// Rings that the owner has been asked to serve.
    pub fn running_rings(&self) -> impl Iterator<Item = u16> {
        (0u16..).zip(&self.rings).filter(|(_, ring)| ring.running).map(|(index, _)| index)
    }

    /// The last things that happened, oldest first.
    pub fn trace(&self) -> impl ExactSizeIterator<Item = &TraceRecord> {
        self.trace.records()
    }

    /// Replace configuration space, as [`Device::config`]; bytes beyond 256 are ignored. The front-end learns of it by
    /// [`BackendChannel::config_changed`](crate::BackendChannel::config_changed).
    pub fn replace_config(&mut self, config: &[u8]) {
        self.device.config.clear();
        self.device.config.extend(config.iter().take(vfiomux_spec::vhost_user::MAX_CONFIG_SIZE_BYTES));
    }

    /// Whether bytes have arrived that are no message: what comes after them means nothing.
    fn is_out_of_step(&self) -> bool {
        matches!(self.backlog.back(), Some(Err(_)))
    }

    /// Carry out messages until one has to wait.
    fn run(&mut self) {
        while !self.ended && self.job.is_none() {
            match self.backlog.pop_front() {
                Some(Ok(message)) => self.handle(message),
                Some(Err(violation)) => self.close(EndReason::Violation(violation)),
                None => return,
            }
        }
    }

    fn reply(&mut self, request: FrontendRequest, payload: &[u8], fds: Vec<OwnedFd>, detail: String) {
        self.trace.push(Direction::Replied, request.name(), detail);
        self.output.push_back(Frame::reply(request, payload, fds));
    }
}

#[cfg(test)]
mod tests;
