//! A ring's parameters as they are put together, message by message.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use vfiomux_spec::vhost_user::VringAddr;

use crate::RingSetup;
use crate::request::Notifier;

/// An eventfd that has been set, or whose absence has been.
type EventFd = Option<Arc<OwnedFd>>;

#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) size: Option<u16>,
    pub(super) addr: Option<VringAddr>,
    /// Zero until SET_VRING_BASE, then where the ring stopped last.
    pub(super) base: u32,
    /// Set by SET_VRING_KICK, with a descriptor or as polled; cleared when the ring is stopped for good, so that only
    /// another SET_VRING_KICK starts it again.
    pub(super) kick: Option<EventFd>,
    pub(super) call: EventFd,
    pub(super) err: EventFd,
    /// What SET_VRING_ENABLE has said, if it has.
    pub(super) enabled: Option<bool>,
    /// From the moment at which the owner is asked to start it to that at which the owner has stopped it.
    pub(super) running: bool,
}

impl Ring {
    /// Everything for a start, if it is known and the ring is enabled.
    ///
    /// `enabled_at_first` is what holds as long as SET_VRING_ENABLE has not said otherwise: rings start enabled if
    /// PROTOCOL_FEATURES was not negotiated (vhost-user: Ring states).
    pub(super) fn setup(&self, features: u64, enabled_at_first: bool) -> Option<RingSetup> {
        if !self.enabled.unwrap_or(enabled_at_first) {
            return None;
        }
        let (size, addr, kick) = (self.size?, self.addr?, self.kick.clone()?);
        Some(RingSetup {
            size,
            desc_user_addr: addr.descriptor,
            avail_user_addr: addr.available,
            used_user_addr: addr.used,
            base: self.base,
            features,
            kick,
            call: self.call.clone(),
            err: self.err.clone(),
        })
    }

    pub(super) fn set_notifier(&mut self, notifier: Notifier, fd: EventFd) {
        match notifier {
            Notifier::Kick => self.kick = Some(fd),
            Notifier::Call => self.call = fd,
            Notifier::Err => self.err = fd,
        }
    }

    /// Back to the initial state. The eventfds that we signal stay, as front-ends set them once, before the first start.
    pub(super) fn reset(&mut self) {
        let (call, err) = (self.call.take(), self.err.take());
        *self = Self { call, err, ..Self::default() };
    }
}
