//! When a sidecore may sleep, and what wakes it.

use std::os::fd::{AsRawFd, RawFd};

use vfiomux_block::BlockQueue;
use vfiomux_channel::Rest;

use crate::Sidecore;
use crate::device::Device;

/// What a descriptor that ended a sleep belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The mailbox.
    Orders,
    /// A device's completions.
    Device,
    /// A ring's kick: index of the channel, of the ring.
    Kick(u16, u16),
}

impl<Q: BlockQueue> Sidecore<Q> {
    /// Asks everybody to wake us, then looks once more at everything. Only on [`Rest::Sleep`] may the thread sleep.
    ///
    /// The caller has said that it falls asleep ([`crate::mailbox::Mailbox::fall_asleep`]) before.
    pub(crate) fn arm(&mut self) -> Rest {
        let mut rest = Rest::Sleep;
        if self.mailbox.has_orders() || !self.outbox.is_empty() {
            // Reports that control has left no room for are tried again: nobody tells us when there is some.
            return if self.mailbox.has_orders() { Rest::Ready } else { Rest::Poll };
        }
        for device in self.devices.iter_mut().flatten() {
            if device.queue.arm() {
                return Rest::Ready;
            }
            if device.queue.wake_fd().is_none() && device.in_flight() {
                rest = Rest::Poll;
            }
        }
        for seat in &mut self.seats {
            let device = self.devices.get(usize::from(seat.device)).and_then(Option::as_ref);
            let completions_due = device.is_some_and(Device::in_flight);
            match seat.channel.as_mut().map(|channel| channel.arm(completions_due)) {
                Some(Rest::Ready) => return Rest::Ready,
                Some(Rest::Poll) => rest = Rest::Poll,
                Some(Rest::Sleep) | None => {}
            }
        }
        rest
    }

    /// Asks nobody to wake us any more.
    pub(crate) fn disarm(&mut self) {
        // Nothing waited while we slept: what is found next came after the sleep began.
        self.looked_ns = u64::MAX;
        for device in self.devices.iter_mut().flatten() {
            device.queue.disarm();
        }
        for channel in self.seats.iter_mut().filter_map(|seat| seat.channel.as_mut()) {
            channel.disarm();
        }
    }

    /// All descriptors that may end a sleep. They change with [`Self::wake_sources`].
    pub(crate) fn sources(&self) -> Vec<(Source, RawFd)> {
        let devices = self.devices.iter().flatten().filter_map(|device| device.queue.wake_fd());
        let channels = self.seats.iter().filter_map(|seat| seat.channel.as_ref());
        let kicks = channels.filter(|channel| channel.fault().is_none()).flat_map(|channel| {
            let index = channel.id().index;
            channel.kicks().map(move |(ring, fd)| (Source::Kick(index, ring), fd.as_raw_fd()))
        });
        let orders = std::iter::once((Source::Orders, self.mailbox.wake_fd()));
        orders.chain(devices.map(|fd| (Source::Device, fd))).chain(kicks).collect()
    }

    /// A descriptor has ended a sleep.
    pub(crate) fn woken_by(&mut self, source: Source) {
        match source {
            Source::Orders => self.mailbox.drain_wake(),
            Source::Device => {}
            Source::Kick(channel, _) => {
                if let Some(channel) =
                    self.seats.get(usize::from(channel)).and_then(|seat| seat.channel.as_ref())
                {
                    channel.count_kick();
                }
            }
        }
    }
}
