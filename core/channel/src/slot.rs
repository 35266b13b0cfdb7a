//! The channel's commands in flight.

use vfiomux_block::Segment;
use vfiomux_guest::Head;

use crate::own_memory::BounceId;
use crate::seeded::{self, Bug};

/// Index of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotId(pub(crate) u16);

/// What a request is, for counting and for its used length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    Other,
}

/// What the guest will be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Unsupported,
}

/// A request of the guest: kept in the slot of its first command.
#[derive(Debug)]
pub(crate) struct Request {
    /// With which the chain goes back.
    pub(crate) head: Head,
    /// The ring that it goes back to.
    pub(crate) ring: u16,
    pub(crate) kind: Kind,
    pub(crate) outcome: Outcome,
    /// A barrier ended a command before its time: the whole request is done again.
    pub(crate) again: bool,
    /// Commands in flight.
    pub(crate) pieces: u16,
    /// A part is still to be submitted.
    pub(crate) open: bool,
    /// Where the status byte goes; `None` when the guest left no room for one.
    pub(crate) status: Option<Segment>,
    /// Bytes of data.
    pub(crate) data_bytes: u32,
    /// When the first command was submitted.
    pub(crate) submitted_ns: u64,
}

impl Request {
    /// A request as it comes from its ring.
    #[inline]
    pub(crate) fn new(head: Head, ring: u16, status: Option<Segment>, now_ns: u64) -> Self {
        Self {
            head,
            ring,
            kind: Kind::Other,
            outcome: Outcome::Done,
            again: false,
            pieces: 0,
            open: true,
            status,
            data_bytes: 0,
            submitted_ns: now_ns,
        }
    }

    /// Whether it ends, and well, when the one command in flight does.
    #[inline]
    fn ends_with_its_command(&self) -> bool {
        self.pieces == 1 && !self.open && !self.again && self.outcome == Outcome::Done
    }
}

/// A command of the request that `lead` keeps. A line of the cache, so that a request of one command touches one.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Slot {
    /// Which use of the slot is in flight; 0 when none is.
    stamp: u32,
    pub(crate) lead: SlotId,
    /// The bounce buffer that the command names instead of guest memory.
    pub(crate) bounce: Option<BounceId>,
    /// Present in a lead from the time it is popped until it is returned.
    pub(crate) request: Option<Request>,
}

/// All slots of a channel.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    /// Used as a stack, so that a channel with little in flight stays in few cache lines.
    free: Vec<SlotId>,
    last_stamp: u32,
}

impl Slots {
    pub(crate) fn new(count: u16) -> Self {
        let slot = |lead| Slot { stamp: 0, lead: SlotId(lead), bounce: None, request: None };
        Self {
            slots: (0..count).map(slot).collect(),
            free: (0..count).rev().map(SlotId).collect(),
            last_stamp: 0,
        }
    }

    /// How many are taken.
    pub(crate) fn in_use(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Continues the stamps of the channel that had the same index before.
    pub(crate) fn continue_stamps(&mut self, last: u32) {
        self.last_stamp = last;
    }

    pub(crate) fn last_stamp(&self) -> u32 {
        self.last_stamp
    }

    /// The slot that the next [`Self::take`] gives.
    #[inline]
    pub(crate) fn next(&self) -> Option<SlotId> {
        self.free.last().copied()
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<SlotId> {
        self.free.pop()
    }

    #[inline]
    pub(crate) fn give_back(&mut self, id: SlotId) {
        self.free.push(id);
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(id.0))
    }

    /// The request that a lead slot keeps.
    #[inline]
    pub(crate) fn request_mut(&mut self, lead: SlotId) -> Option<&mut Request> {
        self.get_mut(lead)?.request.as_mut()
    }

    /// Keeps a request in its slot, with no command in flight.
    #[inline]
    pub(crate) fn keep(&mut self, lead: SlotId, request: Request) {
        if let Some(slot) = self.get_mut(lead) {
            *slot = Slot { stamp: 0, lead, bounce: None, request: Some(request) };
        }
    }

    /// Keeps a request in its slot, and marks the one command that carries all of it as in flight.
    #[inline]
    pub(crate) fn launch_whole(&mut self, lead: SlotId, request: Request) -> u32 {
        let stamp = self.next_stamp();
        if let Some(slot) = self.get_mut(lead) {
            let request = Request { pieces: 1, open: false, ..request };
            *slot = Slot { stamp, lead, bounce: None, request: Some(request) };
        }
        stamp
    }

    /// Takes a [`Self::launch_whole`] back: the queue did not take the command.
    pub(crate) fn recall_whole(&mut self, lead: SlotId) {
        self.recall(lead);
        if let Some(request) = self.request_mut(lead) {
            (request.pieces, request.open) = (0, true);
        }
    }

    /// Marks a slot's command as in flight and gives it a stamp that none of its earlier commands had.
    #[inline]
    pub(crate) fn launch(&mut self, id: SlotId, lead: SlotId, bounce: Option<BounceId>) -> u32 {
        let stamp = self.next_stamp();
        if let Some(slot) = self.get_mut(id) {
            slot.stamp = stamp;
            slot.lead = lead;
            slot.bounce = bounce;
        }
        stamp
    }

    /// A stamp that no command of the channel in flight has; never 0.
    #[inline]
    fn next_stamp(&mut self) -> u32 {
        if !seeded::is(Bug::StampReused) || self.last_stamp == 0 {
            self.last_stamp = self.last_stamp.wrapping_add(1).max(1);
        }
        self.last_stamp
    }

    /// Takes a launch back: the queue did not take the command.
    pub(crate) fn recall(&mut self, id: SlotId) {
        if let Some(slot) = self.get_mut(id) {
            slot.stamp = 0;
            slot.bounce = None;
        }
    }

    /// The command with that stamp has ended. `None` when no such command is in flight (I1).
    #[inline]
    pub(crate) fn land(&mut self, id: SlotId, stamp: u32) -> Option<Landed> {
        let slot = self.slots.get_mut(usize::from(id.0))?;
        if slot.stamp != stamp || stamp == 0 {
            return None;
        }
        slot.stamp = 0;
        Some(Landed { lead: slot.lead, bounce: slot.bounce.take() })
    }

    /// Takes a request out whose one command has just ended well and was all of it; `None` when there is more to it.
    #[inline]
    pub(crate) fn take_whole(&mut self, landed: &Landed, id: SlotId) -> Option<Request> {
        if landed.lead != id || landed.bounce.is_some() {
            return None;
        }
        let slot = self.slots.get_mut(usize::from(id.0))?;
        let request = slot.request.take_if(|request| request.ends_with_its_command())?;
        self.free.push(id);
        Some(request)
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Landed {
    /// Where its request is kept.
    pub(crate) lead: SlotId,
    /// The bounce buffer that it named.
    pub(crate) bounce: Option<BounceId>,
}

/// A single-piece request costs one cache line of state.
const _: () = assert!(size_of::<Slot>() <= 64);
