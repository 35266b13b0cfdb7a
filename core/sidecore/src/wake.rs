//! What ends a sleep: one epoll set, for as long as the sidecore lives.
//!
//! A descriptor goes in when what it belongs to comes, and out before that is handed back: a kick descriptor is shared with the
//! front-end, so closing our end would leave it in the set. Each change costs one system call, however many there are.
//!
//! Listening is edge-triggered. What was heard need not be read to be heard again, and is not: a front-end could make a
//! read block, and it would be one more system call in every sleep. What is raised while the sidecore is awake ends the
//! next sleep at once, needlessly, and once.

use std::io;
use std::os::fd::RawFd;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::SidecoreError;

/// Wake-ups taken from the kernel at a time; what is left is there at the next sleep.
const EVENTS_MAX: usize = 64;

/// What a descriptor that ends a sleep belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The mailbox.
    Orders,
    /// A device's completions: its slot.
    Device(u16),
    /// A ring's kick: index of the channel, of the ring.
    Kick(u16, u16),
}

/// Bits of a token that tell a kick's ring, or a device's slot.
const LOW_BITS: u32 = 16;
const DEVICE: usize = 1 << (2 * LOW_BITS);
const KICK: usize = 2 << (2 * LOW_BITS);

impl From<Source> for Token {
    fn from(source: Source) -> Self {
        Self(match source {
            Source::Orders => 0,
            Source::Device(slot) => DEVICE | usize::from(slot),
            Source::Kick(channel, ring) => KICK | usize::from(channel) << LOW_BITS | usize::from(ring),
        })
    }
}

impl From<Token> for Source {
    fn from(Token(token): Token) -> Self {
        let low = |bits: usize| (bits & 0xffff) as u16;
        match token {
            0 => Self::Orders,
            _ if token & KICK != 0 => Self::Kick(low(token >> LOW_BITS), low(token)),
            _ => Self::Device(low(token)),
        }
    }
}

/// The descriptors that end a sleep.
#[derive(Debug)]
pub(crate) struct WakeSet {
    poll: Poll,
    events: Events,
    /// What the kernel would not listen to. While there is any, there is no sleep.
    unheard: Vec<Source>,
}

impl WakeSet {
    pub(crate) fn new() -> Result<Self, SidecoreError> {
        let poll = Poll::new().map_err(|source| SidecoreError::Descriptor { source })?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS_MAX), unheard: Vec::new() })
    }

    /// Listens to a descriptor, until it is [forgotten](Self::forget); the caller keeps it open until then.
    pub(crate) fn listen(&mut self, source: Source, fd: RawFd) {
        if self.poll.registry().register(&mut SourceFd(&fd), source.into(), Interest::READABLE).is_err() {
            self.unheard.push(source);
        }
    }

    /// Listens to a descriptor no more.
    pub(crate) fn forget(&mut self, source: Source, fd: RawFd) {
        self.unheard.retain(|&unheard| unheard != source);
        // Not there, when the kernel would not listen to it in the first place, or it is forgotten for the second time.
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
    }

    /// Whether something would not be heard.
    pub(crate) fn is_deaf(&self) -> bool {
        !self.unheard.is_empty()
    }

    /// Sleeps until a descriptor is raised.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.poll.poll(&mut self.events, None)
    }

    /// Whether a sleep would end at once.
    #[cfg(test)]
    pub(crate) fn is_woken(&mut self) -> bool {
        self.poll.poll(&mut self.events, Some(std::time::Duration::ZERO)).is_ok() && !self.events.is_empty()
    }

    /// What ended the sleep.
    pub(crate) fn woken_by(&self) -> impl Iterator<Item = Source> + '_ {
        self.events.iter().map(|event| event.token().into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn raised() -> std::os::fd::OwnedFd {
        eventfd(1, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn a_token_tells_its_source() {
        let ends = [0, 1, 0xfffe, 0xffff];
        let kicks = ends.iter().flat_map(|&channel| ends.map(|ring| Source::Kick(channel, ring)));
        for source in ends.map(Source::Device).into_iter().chain(kicks).chain([Source::Orders]) {
            assert_eq!(Source::from(Token::from(source)), source);
        }
    }

    #[test]
    fn what_is_raised_ends_a_sleep_once_and_again_when_it_is_raised_again() {
        let mut wakes = WakeSet::new().unwrap();
        let kick = raised();
        wakes.listen(Source::Kick(3, 1), kick.as_raw_fd());
        wakes.wait().unwrap();
        assert_eq!(wakes.woken_by().collect::<Vec<_>>(), [Source::Kick(3, 1)]);
        let other = raised();
        wakes.listen(Source::Device(0), other.as_raw_fd());
        wakes.wait().unwrap();
        assert_eq!(wakes.woken_by().collect::<Vec<_>>(), [Source::Device(0)]);
        rustix::io::write(&kick, &1u64.to_ne_bytes()).unwrap();
        wakes.wait().unwrap();
        assert_eq!(wakes.woken_by().collect::<Vec<_>>(), [Source::Kick(3, 1)]);
    }

    #[test]
    fn what_is_forgotten_ends_no_sleep_though_somebody_else_keeps_it_open() {
        let mut wakes = WakeSet::new().unwrap();
        let (kick, other) = (raised(), raised());
        let theirs = kick.try_clone().unwrap();
        wakes.listen(Source::Kick(0, 0), kick.as_raw_fd());
        wakes.forget(Source::Kick(0, 0), kick.as_raw_fd());
        drop(kick);
        rustix::io::write(&theirs, &1u64.to_ne_bytes()).unwrap();
        wakes.listen(Source::Orders, other.as_raw_fd());
        wakes.wait().unwrap();
        assert_eq!(wakes.woken_by().collect::<Vec<_>>(), [Source::Orders]);
    }

    #[test]
    fn what_cannot_be_heard_is_remembered_until_it_is_forgotten() {
        let mut wakes = WakeSet::new().unwrap();
        let file = rustix::fs::memfd_create("kick", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        wakes.listen(Source::Kick(0, 0), file.as_raw_fd());
        assert!(wakes.is_deaf());
        wakes.forget(Source::Kick(0, 0), file.as_raw_fd());
        assert!(!wakes.is_deaf());
    }
}
