//! One flush at a time on each namespace, whoever asked for it.

use vfiomux_block::{BlockQueue, Command, Operation};
use vfiomux_channel::{CommandTag, Ending};

use crate::SidecoreCounters;
use crate::device::Seat;

/// The flushes of a device's namespaces.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    namespaces: Vec<Namespace>,
    last_stamp: u32,
    /// Some channel waits for a flush.
    wanted: bool,
}

/// The flushes of one namespace.
#[derive(Debug)]
struct Namespace {
    id: u32,
    /// Of the flush at the device; 0 when there is none.
    stamp: u32,
    /// Channels that the flush at the device answers.
    current: Vec<u16>,
    /// Channels that wait for the next one.
    waiting: Vec<u16>,
}

impl Flushes {
    /// Makes room for one more channel, so that the data path need not.
    pub(crate) fn make_room(&mut self, namespace: u32, channels: usize) {
        if !self.namespaces.iter().any(|space| space.id == namespace) {
            self.namespaces.push(Namespace {
                id: namespace,
                stamp: 0,
                current: Vec::new(),
                waiting: Vec::new(),
            });
        }
        for space in self.namespaces.iter_mut().filter(|space| space.id == namespace) {
            space.current.reserve(channels.saturating_sub(space.current.len()));
            space.waiting.reserve(channels.saturating_sub(space.waiting.len()));
        }
    }

    /// Notes that a channel waits for a flush. It must not be noted already.
    pub(crate) fn wait(&mut self, namespace: u32, channel: u16) {
        if let Some(space) = self.namespaces.iter_mut().find(|space| space.id == namespace) {
            space.waiting.push(channel);
            self.wanted = true;
        }
    }

    /// Forgets a channel that is removed. Nothing of it is at the device.
    pub(crate) fn forget(&mut self, channel: u16) {
        for space in &mut self.namespaces {
            space.waiting.retain(|&index| index != channel);
            space.current.retain(|&index| index != channel);
        }
    }

    /// Submits a flush on each namespace that waits for one and has none at the device.
    #[inline]
    pub(crate) fn submit<Q: BlockQueue>(
        &mut self,
        queue: &mut Q,
        seats: &mut [Seat],
        counters: &SidecoreCounters,
    ) {
        // Asked twice a breath, and nearly always in vain.
        if self.wanted {
            self.submit_wanted(queue, seats, counters);
        }
    }

    fn submit_wanted<Q: BlockQueue>(
        &mut self,
        queue: &mut Q,
        seats: &mut [Seat],
        counters: &SidecoreCounters,
    ) {
        for (index, space) in self.namespaces.iter_mut().enumerate() {
            if space.stamp != 0 || space.waiting.is_empty() {
                continue;
            }
            let stamp = self.last_stamp.wrapping_add(1).max(1);
            let tag = CommandTag { owner: CommandTag::FLUSH, slot: index as u16, stamp };
            let command = Command { operation: Operation::Flush, namespace: space.id, lba: 0, blocks: 0 };
            // Any lane will do: a flush is about the namespace, not the queue that it comes by (NVMe 2.0c 7.1).
            let mut lanes = space
                .waiting
                .iter()
                .filter_map(|&channel| seats.get(usize::from(channel))?.channel.as_ref()?.lane());
            if !lanes.any(|lane| queue.submit(lane, tag.into(), &command, &[]).is_ok()) {
                continue;
            }
            self.last_stamp = stamp;
            space.stamp = stamp;
            counters.device_flushes.add(1);
            std::mem::swap(&mut space.waiting, &mut space.current);
            for (place, &channel) in space.current.iter().enumerate() {
                if let Some(seat) = seats.get_mut(usize::from(channel)) {
                    seat.flush_noted = false;
                    if let Some(channel) = &mut seat.channel {
                        channel.begin_flush(place > 0);
                    }
                }
            }
        }
        self.wanted = self.namespaces.iter().any(|space| !space.waiting.is_empty());
    }

    /// A flush has ended: answers the channels that share it. False: none with that tag is at the device.
    pub(crate) fn end(&mut self, tag: CommandTag, ending: Ending, seats: &mut [Seat], now_ns: u64) -> bool {
        let space = self.namespaces.get_mut(usize::from(tag.slot));
        let Some(space) = space.filter(|space| space.stamp == tag.stamp && tag.stamp != 0) else {
            return false;
        };
        space.stamp = 0;
        for channel in space.current.drain(..) {
            if let Some(Seat { channel: Some(channel), active, again, .. }) =
                seats.get_mut(usize::from(channel))
            {
                *active = true;
                *again |= ending == Ending::Barrier;
                channel.end_flush(ending, now_ns);
            }
        }
        true
    }
}
