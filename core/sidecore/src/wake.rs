//! What ends a sleep: one epoll set, for as long as the sidecore lives.
//!
//! A descriptor goes in when what it belongs to comes, and out before that is handed back: a kick descriptor is shared with the
//! front-end, so closing our end would leave it in the set. Each change costs one system call, however many there are.
//!
//! Listening is edge-triggered. What was heard need not be read to be heard again, and is not: a front-end could make a
//! read block, and it would be one more system call in every sleep. What is raised while the sidecore is awake ends the
//! next sleep at once, needlessly, and once.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

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
    /// The time that a sleep was to end at.
    Timer,
}

/// Bits of a token that tell a kick's ring, or a device's slot.
const LOW_BITS: u32 = 16;
const DEVICE: usize = 1 << (2 * LOW_BITS);
const KICK: usize = 2 << (2 * LOW_BITS);
const TIMER: usize = 4 << (2 * LOW_BITS);

impl From<Source> for Token {
    fn from(source: Source) -> Self {
        Self(match source {
            Source::Orders => 0,
            Source::Device(slot) => DEVICE | usize::from(slot),
            Source::Timer => TIMER,
            Source::Kick(channel, ring) => KICK | usize::from(channel) << LOW_BITS | usize::from(ring),
        })
    }
}

impl From<Token> for Source {
    fn from(Token(token): Token) -> Self {
        let low = |bits: usize| (bits & 0xffff) as u16;
        match token {
            0 => Self::Orders,
            TIMER => Self::Timer,
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
    /// Set for a sleep that is to end at a time. A kernel's time-out for the set itself counts in milliseconds.
    timer: OwnedFd,
    /// What the kernel would not listen to. While there is any, there is no sleep.
    unheard: Vec<Source>,
}

impl WakeSet {
    pub(crate) fn new() -> Result<Self, SidecoreError> {
        let failed = |source| SidecoreError::Descriptor { source };
        let poll = Poll::new().map_err(failed)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(|error| failed(error.into()))?;
        let mut wakes = Self { poll, events: Events::with_capacity(EVENTS_MAX), timer, unheard: Vec::new() };
        let fd = wakes.timer.as_raw_fd();
        wakes.listen(Source::Timer, fd);
        Ok(wakes)
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
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).is_ok() && !self.events.is_empty()
    }

    /// Has the next sleep end after so long, or not for its length.
    pub(crate) fn set_timer(&mut self, after: Option<Duration>) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // No time at all would mean no timer.
        let after = after.map(|after| after.max(Duration::from_nanos(1)));
        // As far away as the kernel counts, when it is further.
        let far = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let it_value = after.map_or(zero, |after| Timespec::try_from(after).unwrap_or(far));
        let once = Itimerspec { it_interval: zero, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// What ended the sleep.
    pub(crate) fn woken_by(&self) -> impl Iterator<Item = Source> + '_ {
        self.events.iter().map(|event| event.token().into())
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn raised() -> OwnedFd {
        eventfd(1, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn a_token_tells_its_source() {
        let ends = [0, 1, 0xfffe, 0xffff];
        let kicks = ends.iter().flat_map(|&channel| ends.map(|ring| Source::Kick(channel, ring)));
        for source in ends.map(Source::Device).into_iter().chain(kicks).chain([Source::Orders, Source::Timer])
        {
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
    fn a_sleep_ends_at_its_time_when_nothing_else_ends_it() {
        let mut wakes = WakeSet::new().unwrap();
        wakes.set_timer(Some(Duration::ZERO)).unwrap();
        wakes.wait().unwrap();
        assert_eq!(wakes.woken_by().collect::<Vec<_>>(), [Source::Timer]);
        wakes.set_timer(Some(Duration::MAX)).unwrap();
        wakes.set_timer(None).unwrap();
        let kick = raised();
        wakes.listen(Source::Kick(0, 0), kick.as_raw_fd());
        wakes.wait().unwrap();
        assert_eq!(wakes.woken_by().collect::<Vec<_>>(), [Source::Kick(0, 0)]);
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
