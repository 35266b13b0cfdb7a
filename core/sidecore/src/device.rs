use vfiomux_block::{BlockQueue, Completion, LaneId, Status};
use vfiomux_channel::{Asked, BlockChannel, CommandTag, Ending};

use crate::flush::Flushes;
use crate::schedule::Schedule;
use crate::service::Services;
use crate::sidecore::SHOWN_AT_ONCE;
use crate::{Pace, SidecoreCounters};

/// A device as this sidecore has it.
#[derive(Debug)]
pub(crate) struct Device<Q> {
    pub(crate) queue: Box<Q>,
    /// Its lanes.
    pub(crate) lanes: Vec<LaneId>,
    pub(crate) flushes: Flushes,
    /// Whose turn it is, where somebody was promised something.
    pub(crate) schedule: Option<Box<Schedule>>,
    /// How it is driven then.
    pub(crate) pace: Pace,
    /// Channels on it.
    pub(crate) channels: u32,
    /// It answers no more.
    pub(crate) gone: bool,
    pub(crate) gone_reported: bool,
}

impl<Q: BlockQueue> Device<Q> {
    pub(crate) fn new(queue: Box<Q>) -> Self {
        Self {
            queue,
            lanes: Vec::new(),
            flushes: Flushes::default(),
            schedule: None,
            pace: Pace::default(),
            channels: 0,
            gone: false,
            gone_reported: false,
        }
    }

    /// How many commands a schedule lets the device have of us. Where commands end as they are submitted nothing is out between two
    /// breaths, so that the window bounds no queue, only what is taken in a breath: there each channel has room for a line of requests,
    /// and who has no more than that is nobody's neighbour.
    pub(crate) fn window_commands(&self) -> u32 {
        let commands = self.pace.window_commands;
        if self.queue.ends_at_once() {
            commands.max(SHOWN_AT_ONCE.saturating_mul(self.channels))
        } else {
            commands
        }
    }

    /// Whether any command is at the device.
    pub(crate) fn in_flight(&self) -> bool {
        self.queue.in_flight_total() > 0
    }
}

/// A place in the table of channels.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    pub(crate) channel: Option<Box<BlockChannel>>,
    /// Index of the device that the channel lies on.
    pub(crate) device: u16,
    /// Requests that its guest is shown the answers to while others of the same breath are taken.
    pub(crate) part: u32,
    /// Its wish for a flush is noted.
    pub(crate) flush_noted: bool,
    /// There may be something to do for the channel in this breath: a ring has moved, a command has ended, its last turn left
    /// something undone, or control has changed something. All others are passed over.
    pub(crate) active: bool,
    /// It is to have a turn in the next breath, whatever happens until then.
    pub(crate) again: bool,
    /// What the channel's guests were asked for since its last turn.
    pub(crate) asked: Asked,
    /// The last channel that sat here, and the last stamp that it used.
    pub(crate) last_incarnation: u32,
    pub(crate) last_stamp: u32,
}

/// Where completions go.
pub(crate) struct Router<'a> {
    pub(crate) seats: &'a mut [Seat],
    pub(crate) flushes: &'a mut Flushes,
    pub(crate) services: &'a mut Services,
    pub(crate) gone: &'a mut bool,
    /// Counts commands that were no channel's.
    pub(crate) others: usize,
    pub(crate) counters: &'a SidecoreCounters,
    pub(crate) device: u16,
    pub(crate) now_ns: u64,
}

impl Router<'_> {
    /// A command was completed by the device.
    #[inline(always)]
    pub(crate) fn completed(&mut self, completion: Completion) {
        if completion.status == Status::Gone {
            *self.gone = true;
        }
        // Control deleted the queue, and is about to say so: the commands that this ends are as good as given up already.
        let ending = match completion.status {
            Status::QueueDeleted => Ending::Barrier,
            status => Ending::Completed(status),
        };
        self.ended(completion, ending);
    }

    /// A command was ended by a barrier.
    pub(crate) fn abandoned(&mut self, completion: Completion) {
        self.ended(completion, Ending::Barrier);
    }

    /// Brings an ending to whom the tag names, on this device; anybody else is told nothing (I1).
    #[inline(always)]
    fn ended(&mut self, completion: Completion, ending: Ending) {
        let tag = CommandTag::from(completion.tag);
        let known = match tag.owner {
            CommandTag::FLUSH => {
                self.others += 1;
                self.flushes.end(tag, ending, self.seats, self.now_ns)
            }
            CommandTag::SERVICE => {
                self.others += 1;
                self.services.end(tag, completion.status, self.device)
            }
            index => match self.seats.get_mut(usize::from(index)) {
                // A channel that knows no such command counts it itself as well.
                Some(Seat { channel: Some(channel), device, active, again, .. })
                    if *device == self.device =>
                {
                    *active = true;
                    // What is to be done again waits for a turn, which the channel may have had in this breath.
                    *again |= ending == Ending::Barrier;
                    channel.complete(tag, ending, self.now_ns)
                }
                _ => false,
            },
        };
        if !known {
            self.counters.strays.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use vfiomux_block::{FaultPlan, FaultyQueue, NullQueue, RamDisk, RamQueue};

    use super::*;

    #[test]
    fn each_channel_has_room_for_a_line_of_requests_where_commands_end_at_once() {
        let pace = Pace { window_commands: 128, ..Pace::default() };
        let null = Device { channels: 200, pace, ..Device::new(Box::new(NullQueue::new())) };
        assert_eq!(null.window_commands(), 200 * SHOWN_AT_ONCE);
        let few = Device { channels: 16, ..null };
        assert_eq!(few.window_commands(), 128);
        let disk = RamDisk::new(1 << 10, 512).unwrap();
        let later = Box::new(FaultyQueue::new(RamQueue::new(disk), FaultPlan::default()));
        let later = Device { channels: 200, pace, ..Device::new(later) };
        assert_eq!(
            later.window_commands(),
            128,
            "what is at the device is in its order, and no more than keeps it busy"
        );
    }
}
