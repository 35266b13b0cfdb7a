//! Queues as the controller keeps them.

use vfiomux_spec::nvme::queue::{COMPLETION_ENTRY_SHIFT, SUBMISSION_ENTRY_SHIFT};
use vfiomux_spec::nvme::{CompletionEntry, SubmissionEntry};
use zerocopy::IntoBytes;

use super::registers::Registers;
use crate::iommu::{Dma, DmaRefused};
use crate::violation::{Access, Violation, Violations};

pub(super) struct SubmissionQueue {
    pub(super) id: u16,
    base: u64,
    entries: u32,
    pub(super) head: u32,
    tail: u32,
    /// What the doorbell held last, right or wrong.
    doorbell: u32,
    pub(super) cq_id: u16,
}

pub(super) struct CompletionQueue {
    pub(super) id: u16,
    base: u64,
    entries: u32,
    head: u32,
    tail: u32,
    phase: bool,
    doorbell: u32,
    /// Vector to signal, when interrupts are enabled.
    pub(super) vector: Option<u16>,
    /// Something was posted since the vector was last signalled.
    pub(super) news: bool,
    /// Submission queues that complete here.
    pub(super) users: u32,
}

/// Steps from `from` forward to `to` in a ring.
fn ahead(from: u32, to: u32, entries: u32) -> u32 {
    if to >= from { to - from } else { entries - from + to }
}

impl SubmissionQueue {
    pub(super) fn new(id: u16, base: u64, entries: u32, cq_id: u16) -> Self {
        Self { id, base, entries, head: 0, tail: 0, doorbell: 0, cq_id }
    }

    /// Looks at the doorbell. A tail outside the queue, or past its head, is recorded and ignored; false says so.
    pub(super) fn look(&mut self, registers: &Registers, violations: &Violations) -> bool {
        let value = registers.sq_tail(self.id);
        if value == self.doorbell {
            return true;
        }
        self.doorbell = value;
        let free = self.entries - 1 - self.waiting();
        if value >= self.entries || ahead(self.tail, value, self.entries) > free {
            let entries = self.entries;
            violations.record(Violation::DoorbellValue {
                queue_id: self.id,
                completion: false,
                value,
                entries,
            });
            return false;
        }
        self.tail = value;
        true
    }

    /// Commands that wait to be fetched.
    pub(super) fn waiting(&self) -> u32 {
        ahead(self.head, self.tail, self.entries)
    }

    /// Fetches the next command.
    pub(super) fn fetch(&mut self, dma: &Dma<'_>) -> Result<SubmissionEntry, DmaRefused> {
        let mut entry = SubmissionEntry::default();
        let iova = self.base + (u64::from(self.head) << SUBMISSION_ENTRY_SHIFT);
        dma.serve(None);
        dma.read(iova, entry.as_mut_bytes(), Access::FetchCommand)?;
        self.head = if self.head + 1 == self.entries { 0 } else { self.head + 1 };
        Ok(entry)
    }
}

impl CompletionQueue {
    pub(super) fn new(id: u16, base: u64, entries: u32, vector: Option<u16>) -> Self {
        let (head, tail, doorbell, users) = (0, 0, 0, 0);
        Self { id, base, entries, head, tail, phase: true, doorbell, vector, news: false, users }
    }

    /// Looks at the doorbell. A head outside the queue, or past its tail, is recorded and ignored; false says so.
    pub(super) fn look(&mut self, registers: &Registers, violations: &Violations) -> bool {
        let value = registers.cq_head(self.id);
        if value == self.doorbell {
            return true;
        }
        self.doorbell = value;
        let posted = ahead(self.head, self.tail, self.entries);
        if value >= self.entries || ahead(self.head, value, self.entries) > posted {
            let entries = self.entries;
            violations.record(Violation::DoorbellValue {
                queue_id: self.id,
                completion: true,
                value,
                entries,
            });
            return false;
        }
        self.head = value;
        true
    }

    /// Whether a completion fits: a full queue keeps one entry free (NVMe 2.0c 3.3.1.2.1).
    pub(super) fn has_room(&self) -> bool {
        ahead(self.head, self.tail, self.entries) < self.entries - 1
    }

    /// Posts a completion; its phase tag is set here. The caller made sure that there is room.
    pub(super) fn post(&mut self, dma: &Dma<'_>, mut entry: CompletionEntry) -> Result<(), DmaRefused> {
        let phase = entry.status_field().with_phase(self.phase);
        entry.status.set(phase.into_bits());
        let iova = self.base + (u64::from(self.tail) << COMPLETION_ENTRY_SHIFT);
        let (first, tail) = entry.as_bytes().split_at(8);
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        dma.serve(None);
        dma.post(iova, word(first), word(tail))?;
        self.tail += 1;
        if self.tail == self.entries {
            self.tail = 0;
            self.phase = !self.phase;
        }
        self.news = true;
        Ok(())
    }
}
