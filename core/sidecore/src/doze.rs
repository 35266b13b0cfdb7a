//! Falling asleep and waking up (V3).
//!
//! Before a sleep everybody who may have something to say is asked to wake us, and then everything is looked at once more.
//! What was asked is remembered: a channel that had no turn since is asked nothing again. It stays asked when the sidecore
//! wakes, too, until it turns out to stay awake: a sidecore that sleeps between any two requests asks one ring for a kick,
//! makes one system call, and takes the next breath.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use vfiomux_block::BlockQueue;
use vfiomux_channel::{Asked, ChannelId, Rest};

use crate::Sidecore;
use crate::device::Device;
use crate::spin::Awaited;
use crate::wake::Source;

/// Whether the thread may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lull {
    /// Everybody will wake us.
    Sleep,
    /// There is something to do.
    Ready,
    /// Somebody will not wake us, and must be looked at.
    Poll,
}

impl<Q: BlockQueue> Sidecore<Q> {
    /// Sleeps if nothing is there to be done, and takes note of what it was woken by.
    ///
    /// `clock` is read when the sleep has ended; what it said is given back.
    pub(crate) fn doze(&mut self, clock: impl Fn() -> u64) -> (Lull, u64) {
        self.mailbox.fall_asleep();
        let lull = self.arm();
        let lull = if lull == Lull::Sleep { self.set_alarm(&clock) } else { lull };
        if lull == Lull::Sleep {
            self.counters().naps.add(1);
            if self.scheduled {
                self.tell_standings(clock());
            }
            self.sleep();
            // Nothing waited while we slept: what is found next came after the sleep began.
            self.looked_ns = u64::MAX;
        }
        let now_ns = clock();
        self.mailbox.wake_up();
        (lull, now_ns)
    }

    /// Has the sleep end when the first channel that waits for its limit may go on. Nobody else would end it for that.
    fn set_alarm(&mut self, clock: impl Fn() -> u64) -> Lull {
        let due_ns = self.next_due_ns();
        if due_ns.is_none() && !self.alarm {
            return Lull::Sleep;
        }
        let after_ns = due_ns.map(|due_ns| due_ns.saturating_sub(clock()));
        if after_ns == Some(0) {
            return Lull::Ready;
        }
        self.alarm = due_ns.is_some();
        match self.wakes.set_timer(after_ns.map(Duration::from_nanos)) {
            Ok(()) => Lull::Sleep,
            Err(_) => Lull::Poll,
        }
    }

    /// Asks everybody to wake us, then looks once more at everything. Only on [`Lull::Sleep`] may the thread sleep.
    ///
    /// The caller has said that it falls asleep ([`crate::mailbox::Mailbox::fall_asleep`]) before.
    fn arm(&mut self) -> Lull {
        if self.mailbox.has_orders() {
            return Lull::Ready;
        }
        // Reports that control has left no room for are tried again: nobody tells us when there is some.
        let mut lull = if self.outbox.is_empty() && !self.wakes.is_deaf() { Lull::Sleep } else { Lull::Poll };
        for device in self.devices.iter_mut().flatten() {
            if device.queue.arm() {
                return Lull::Ready;
            }
            if device.queue.wake_fd().is_none() && device.in_flight() {
                lull = Lull::Poll;
            }
        }
        let Self { turns, seats, devices, .. } = self;
        for &index in turns.iter() {
            let Some(seat) = seats.get_mut(usize::from(index)) else { continue };
            if seat.asked != Asked::Nothing && !seat.active {
                continue;
            }
            let Some(channel) = &mut seat.channel else { continue };
            let device = devices.get(usize::from(seat.device)).and_then(Option::as_ref);
            let completions_due = channel.is_starved() && device.is_some_and(Device::in_flight);
            match channel.arm(completions_due) {
                Rest::Ready => return Lull::Ready,
                Rest::Poll => lull = Lull::Poll,
                Rest::Sleep(asked) => seat.asked = asked,
            }
        }
        lull
    }

    /// Asks nobody to kick any more, but those who had no reason to for long.
    pub(crate) fn disarm(&mut self) {
        for &index in &self.turns {
            if let Some(seat) = self.seats.get_mut(usize::from(index))
                && seat.asked != Asked::KicksAlways
                && let Some(channel) = &mut seat.channel
            {
                channel.disarm();
                seat.asked = Asked::Nothing;
            }
        }
    }

    /// Sleeps until somebody has something to say.
    fn sleep(&mut self) {
        loop {
            if let Err(error) = self.wakes.wait() {
                // Interrupted by a signal: look around and lie down again.
                if error.kind() != io::ErrorKind::Interrupted {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return;
            }
            if self.note_wakes() {
                return;
            }
        }
    }

    /// Takes note of what has ended a sleep. False: nothing that was not known, so that it can go on.
    fn note_wakes(&mut self) -> bool {
        let Self { wakes, mailbox, devices, seats, .. } = self;
        let (mut orders, mut completions, mut kicks, mut alarm) = (false, false, false, false);
        for source in wakes.woken_by() {
            match source {
                Source::Orders => {
                    mailbox.drain_wake();
                    orders = true;
                }
                // An interrupt for what was found by looking, while we were awake, is news to nobody.
                Source::Device(slot) => {
                    let device = devices.get_mut(usize::from(slot)).and_then(Option::as_mut);
                    completions |= device.is_some_and(|device| device.queue.arm());
                }
                Source::Timer => alarm = true,
                Source::Kick(channel, _) => {
                    kicks = true;
                    if let Some(channel) =
                        seats.get(usize::from(channel)).and_then(|seat| seat.channel.as_ref())
                    {
                        channel.count_kick();
                    }
                }
            }
        }
        let counters = mailbox.counters();
        counters.woken_by_orders.add(u64::from(orders));
        counters.woken_by_devices.add(u64::from(completions));
        counters.woken_by_kicks.add(u64::from(kicks));
        orders || completions || kicks || alarm
    }

    /// What is most likely to come next.
    pub(crate) fn awaited(&self) -> Awaited {
        let in_flight = self.devices.iter().flatten().any(Device::in_flight);
        if in_flight { Awaited::Completion } else { Awaited::Request }
    }

    /// Is woken by a channel's kicks from now on.
    pub(crate) fn hear_channel(&mut self, index: u16) {
        let Self { seats, wakes, .. } = self;
        let channel = seats.get(usize::from(index)).and_then(|seat| seat.channel.as_ref());
        for (ring, kick) in channel.into_iter().flat_map(|channel| channel.kicks()) {
            wakes.listen(Source::Kick(index, ring), kick.as_raw_fd());
        }
    }

    /// Is woken by a channel's kicks no more.
    pub(crate) fn ignore_channel(&mut self, index: u16) {
        let Self { seats, wakes, .. } = self;
        let channel = seats.get(usize::from(index)).and_then(|seat| seat.channel.as_ref());
        for (ring, kick) in channel.into_iter().flat_map(|channel| channel.kicks()) {
            wakes.forget(Source::Kick(index, ring), kick.as_raw_fd());
        }
    }

    /// Is woken by a ring's kicks from now on.
    pub(crate) fn hear_ring(&mut self, id: ChannelId, ring: u16) {
        let Self { seats, wakes, .. } = self;
        let channel = seats.get(usize::from(id.index)).and_then(|seat| seat.channel.as_ref());
        if let Some(kick) = channel.and_then(|channel| channel.kick(ring)) {
            wakes.listen(Source::Kick(id.index, ring), kick.as_raw_fd());
        }
    }

    /// Is woken by a ring's kicks no more.
    pub(crate) fn ignore_ring(&mut self, id: ChannelId, ring: u16) {
        let Self { seats, wakes, .. } = self;
        let channel = seats.get(usize::from(id.index)).and_then(|seat| seat.channel.as_ref());
        if let Some(kick) = channel.and_then(|channel| channel.kick(ring)) {
            wakes.forget(Source::Kick(id.index, ring), kick.as_raw_fd());
        }
    }
}

#[cfg(test)]
mod tests;
