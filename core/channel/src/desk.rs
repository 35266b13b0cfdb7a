//! Where a request lies while it is cut into commands.

use vfiomux_block::split::Cursor;
use vfiomux_guest::Chain;

use crate::config::RANGES_MAX;
use crate::slot::SlotId;

/// Index of a desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeskId(u8);

/// What is done to the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Read,
    Write,
    /// By the device's own command.
    Zero {
        deallocate: bool,
    },
    /// By writing zeroes, where the device has no command for it.
    WriteZeroes,
    Deallocate,
}

/// A run of the channel's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) block: u64,
    pub(crate) blocks: u64,
}

/// A request that is not wholly submitted, or whose bounced pieces are not wholly back.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) chain: Chain,
    pub(crate) lead: SlotId,
    pub(crate) work: Work,
    /// How far the data has been cut.
    pub(crate) cursor: Cursor,
    /// What is being cut now.
    pub(crate) left: Range,
    /// What comes after, last first.
    pub(crate) ranges: Vec<Range>,
    /// Reads into bounce buffers in flight, which need the chain when they come back.
    pub(crate) bounced: u16,
}

/// The desks of a channel.
///
/// Nearly every request is submitted whole in the breath that pops it, and leaves its desk at once, untaken. One that the lane has no
/// room for stays, and nothing else is popped until it is through. One that reads into bounce buffers keeps its desk until
/// they are emptied.
#[derive(Debug)]
pub(crate) struct Desks {
    desks: Box<[Desk]>,
    free: Vec<DeskId>,
    /// The one that is not wholly submitted.
    pub(crate) current: Option<DeskId>,
}

impl Desks {
    pub(crate) fn new(count: u8) -> Self {
        let desk = |_| Desk {
            chain: Chain::new(),
            lead: SlotId(0),
            work: Work::Read,
            cursor: Cursor::default(),
            left: Range { block: 0, blocks: 0 },
            ranges: Vec::with_capacity(RANGES_MAX as usize),
            bounced: 0,
        };
        Self {
            desks: (0..count).map(desk).collect(),
            free: (0..count).rev().map(DeskId).collect(),
            current: None,
        }
    }

    /// The desk that the next [`Self::take`] gives: where a request is that needs none for long.
    #[inline]
    pub(crate) fn next(&self) -> Option<DeskId> {
        self.free.last().copied()
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<DeskId> {
        self.free.pop()
    }

    #[inline]
    pub(crate) fn give_back(&mut self, id: DeskId) {
        self.free.push(id);
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: DeskId) -> Option<&mut Desk> {
        self.desks.get_mut(usize::from(id.0))
    }
}
