//! The two kinds of ring that a controller and we share: commands go out on one, completions come back on the other.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use vfiomux_hw::{Bar, DmaDomain, Doorbell, HwError, Iova};
use vfiomux_spec::nvme::queue::CompletionTail;
use vfiomux_spec::nvme::register::{completion_doorbell, submission_doorbell};
use vfiomux_spec::nvme::{CompletionEntry, SubmissionEntry};

use crate::memory::DmaWords;

const SUBMISSION_WORDS: usize = size_of::<SubmissionEntry>() / size_of::<u64>();
const COMPLETION_WORDS: usize = size_of::<CompletionEntry>() / size_of::<u64>();

/// Our side of a submission queue (NVMe 2.0c 3.3.1). One entry always stays empty, so that full and empty differ.
#[derive(Debug)]
pub(crate) struct SubmissionRing {
    memory: DmaWords,
    doorbell: Doorbell,
    entries: usize,
    /// Where the next command goes.
    tail: usize,
    /// Up to where the controller has taken commands, as its completions say.
    head: usize,
    /// How many commands lie from there to the tail.
    waiting: usize,
}

impl SubmissionRing {
    /// A ring of `entries` entries for the queue `id`.
    pub(crate) fn new(
        domain: &Arc<DmaDomain>,
        bar: &Bar,
        dstrd: u8,
        id: u16,
        entries: u32,
    ) -> Result<Self, HwError> {
        let entries = entries as usize;
        Ok(Self {
            memory: DmaWords::allocate(domain, entries * SUBMISSION_WORDS)?,
            doorbell: bar.doorbell(submission_doorbell(id, dstrd))?,
            entries,
            tail: 0,
            head: 0,
            waiting: 0,
        })
    }

    /// Where the controller sees the ring.
    pub(crate) fn iova(&self) -> Iova {
        self.memory.iova()
    }

    /// How many entries it has, 0's based, as Create I/O Submission Queue wants it.
    pub(crate) fn entries_0based(&self) -> u16 {
        u16::try_from(self.entries - 1).unwrap_or(u16::MAX)
    }

    /// How many more commands fit.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.entries - 1 - self.waiting
    }

    /// Places a command. The caller has seen that there is room.
    #[inline]
    pub(crate) fn push(&mut self, command: SubmissionEntry) {
        let words: [u64; SUBMISSION_WORDS] = zerocopy::transmute!(command);
        // The bytes are in the controller's order already, and `write` puts words there in that order again.
        self.memory.write(self.tail * SUBMISSION_WORDS, words.map(u64::from_le));
        self.tail = if self.tail + 1 == self.entries { 0 } else { self.tail + 1 };
        self.waiting += 1;
    }

    /// Tells the controller of all that was placed. `Doorbell::ring` holds the release fence.
    #[inline]
    pub(crate) fn ring(&self) {
        // The tail is less than 65,536, the most entries that a queue can have.
        self.doorbell.ring(self.tail as u32);
    }

    /// Takes in how far the controller says it is. Word from a late completion, or nonsense, lies outside what is
    /// outstanding and changes nothing.
    #[inline]
    pub(crate) fn retire(&mut self, head: u16) {
        let head = usize::from(head);
        let behind = if head >= self.head { head - self.head } else { head + self.entries - self.head };
        if head < self.entries && behind <= self.waiting {
            self.head = head;
            self.waiting -= behind;
        }
    }
}

/// Our side of a completion queue (NVMe 2.0c 3.3.3.2).
#[derive(Debug)]
pub(crate) struct CompletionRing {
    memory: DmaWords,
    doorbell: Doorbell,
    entries: usize,
    head: usize,
    /// What the phase tag of a new entry is: set on the first round, flipped on each further one.
    phase: bool,
}

impl CompletionRing {
    /// A ring of `entries` entries for the queue `id`.
    pub(crate) fn new(
        domain: &Arc<DmaDomain>,
        bar: &Bar,
        dstrd: u8,
        id: u16,
        entries: u32,
    ) -> Result<Self, HwError> {
        let entries = entries as usize;
        Ok(Self {
            memory: DmaWords::allocate(domain, entries * COMPLETION_WORDS)?,
            doorbell: bar.doorbell(completion_doorbell(id, dstrd))?,
            entries,
            head: 0,
            phase: true,
        })
    }

    /// Where the controller sees the ring.
    pub(crate) fn iova(&self) -> Iova {
        self.memory.iova()
    }

    /// How many entries it has, 0's based, as Create I/O Completion Queue wants it.
    pub(crate) fn entries_0based(&self) -> u16 {
        u16::try_from(self.entries - 1).unwrap_or(u16::MAX)
    }

    /// How many commands may be in flight so that their completions always fit.
    pub(crate) fn capacity(&self) -> usize {
        self.entries - 1
    }

    /// The completion at the head, if the controller has written it. The entry's tail is read once, in one load.
    #[inline]
    pub(crate) fn peek(&self) -> Option<CompletionTail> {
        let tail = CompletionTail::from_bits(self.memory.read(self.head * COMPLETION_WORDS + 1));
        if tail.phase() != self.phase {
            return None;
        }
        // Acquire: what the controller wrote before the phase tag (data, and the entry's first half) is read after it.
        // Pairs with the controller's ordered writes of data, then completion (NVMe 2.0c 3.3.3.2).
        fence(Ordering::Acquire);
        Some(tail)
    }

    /// Dwords 0 and 1 of the completion at the head, after [`Self::peek`] has shown that it is there.
    pub(crate) fn result(&self) -> u64 {
        self.memory.read(self.head * COMPLETION_WORDS)
    }

    /// Steps behind the completion at the head.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.head += 1;
        if self.head == self.entries {
            self.head = 0;
            self.phase = !self.phase;
        }
    }

    /// Gives the entries up to the head back to the controller.
    #[inline]
    pub(crate) fn publish(&self) {
        self.doorbell.ring(self.head as u32);
    }

    /// How many completions wait at the head and behind.
    pub(crate) fn pending(&self) -> usize {
        let (mut head, mut phase, mut count) = (self.head, self.phase, 0);
        while count < self.entries {
            let tail = CompletionTail::from_bits(self.memory.read(head * COMPLETION_WORDS + 1));
            if tail.phase() != phase {
                break;
            }
            count += 1;
            head += 1;
            if head == self.entries {
                head = 0;
                phase = !phase;
            }
        }
        count
    }
}
