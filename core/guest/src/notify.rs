//! Kicks and calls: the eventfds through which the two sides of a ring wake each other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::GuestError;

/// Wakes the guest: our end of what a front-end passed with SET_VRING_CALL.
///
/// The front-end holds the same open file, so it can make it block again and then fill it. A thread that is caught so comes
/// free when anybody reads from a duplicate: whoever supervises sidecores keeps one.
#[derive(Debug)]
pub struct Call(OwnedFd);

impl Call {
    /// An eventfd from the front-end. Made non-blocking: a front-end that lets its counter run full must not stop a sidecore.
    pub fn new(fd: OwnedFd) -> Result<Self, GuestError> {
        non_blocking(fd).map(Self)
    }

    /// Interrupts the guest, and says whether that was possible.
    ///
    /// A counter that is full has been signalled already, so that counts as possible.
    pub fn signal(&self) -> bool {
        matches!(rustix::io::write(&self.0, &1u64.to_ne_bytes()), Ok(_) | Err(Errno::AGAIN))
    }
}

/// Hears the guest: our end of what a front-end passed with SET_VRING_KICK.
#[derive(Debug)]
pub struct Kick(OwnedFd);

impl Kick {
    /// An eventfd from the front-end, made non-blocking.
    pub fn new(fd: OwnedFd) -> Result<Self, GuestError> {
        non_blocking(fd).map(Self)
    }

    /// Takes back all kicks so far, so that the descriptor is no longer readable. Returns whether there were any.
    pub fn drain(&self) -> bool {
        matches!(rustix::io::read(&self.0, &mut [0u8; 8]), Ok(8))
    }
}

impl AsFd for Kick {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes only what cannot keep us waiting: an anonymous inode, as eventfds are, and no pipe, socket or file, which somebody
/// else serves or reads.
fn non_blocking(fd: OwnedFd) -> Result<OwnedFd, GuestError> {
    let failed = |step| move |errno: Errno| GuestError::Descriptor { step, source: errno.into() };
    let stat = rustix::fs::fstat(&fd).map_err(failed("looking at an eventfd"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Unknown {
        return Err(GuestError::NotAnEvent);
    }
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(failed("reading an eventfd's flags"))?;
    rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)
        .map_err(failed("making an eventfd non-blocking"))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn kicks_are_taken_back_all_at_once() {
        let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let (call, kick) = (Call::new(fd.try_clone().unwrap()).unwrap(), Kick::new(fd).unwrap());
        assert!(!kick.drain());
        assert!(call.signal() && call.signal());
        assert!(kick.drain());
        assert!(!kick.drain());
    }

    #[test]
    fn a_full_counter_does_not_block_the_caller() {
        let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        assert!(Call::new(fd).unwrap().signal());
    }

    #[test]
    fn what_is_no_eventfd_is_refused() {
        let file = rustix::fs::memfd_create("call", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert!(matches!(Call::new(file), Err(GuestError::NotAnEvent)));
        let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
        assert!(matches!(Kick::new(socket.into()), Err(GuestError::NotAnEvent)));
    }
}
