//! Word of what happens to the function itself.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use vfiomux_hw::Notices;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The two descriptors behind [`Notices`].
pub(crate) struct NoticeBoard {
    removal: EventFd,
    error: EventFd,
}

impl NoticeBoard {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { removal: EventFd::new(EFD_NONBLOCK)?, error: EventFd::new(EFD_NONBLOCK)? })
    }

    pub(crate) fn raise_removal(&self) {
        let _ = self.removal.write(1);
    }

    pub(crate) fn raise_error(&self) {
        let _ = self.error.write(1);
    }

    /// Lowers both.
    pub(crate) fn clear(&self) {
        // What was not raised has nothing to be read.
        let _ = self.removal.read();
        let _ = self.error.read();
    }

    pub(crate) fn notices(&self) -> Notices<'_> {
        Notices { removal: Some(borrow(&self.removal)), error: Some(borrow(&self.error)) }
    }
}

#[expect(unsafe_code, reason = "the event type lends its descriptor only as a number")]
fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    let fd: RawFd = event.as_raw_fd();
    // SAFETY: the descriptor stays open for as long as the event that is borrowed here.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
