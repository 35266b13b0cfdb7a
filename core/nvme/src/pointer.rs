//! Data pointers: how a command names its memory (NVMe 2.0c 4.1).
//!
//! Physical region pages are preferred, because every controller has them and reads them well; a scatter-gather list is
//! written only for memory that pages cannot say. Either needs at most the one list area that each slot owns.

use vfiomux_block::Segment;
use vfiomux_spec::nvme::queue::{CommandFlags, PSDT_SGL};
use vfiomux_spec::nvme::sgl::SglDescriptor;

use crate::memory::DmaWords;

/// The controller's page (`CC.MPS`), as bring-up sets it.
const PAGE_BYTES: u64 = crate::namespace::PAGE_BYTES as u64;

/// The list area of one slot: a part of DMA memory that lies in one page of the controller.
pub(crate) struct ListArea<'a> {
    pub(crate) words: &'a mut DmaWords,
    /// Index of the area's first word.
    pub(crate) first: usize,
    /// Length, words.
    pub(crate) len: usize,
}

impl ListArea<'_> {
    pub(crate) fn iova(&self) -> u64 {
        self.words.iova().plus((self.first * size_of::<u64>()) as u64).raw()
    }

    #[inline]
    pub(crate) fn write<const N: usize>(&mut self, at: usize, values: [u64; N]) -> Option<()> {
        if at + N > self.len {
            return None;
        }
        self.words.write(self.first + at, values);
        Some(())
    }

    /// Writes `count` words from `at` on: `first`, then each `step` more.
    #[inline]
    fn write_steps(&mut self, at: usize, count: usize, first: u64, step: u64) -> Option<()> {
        if at + count > self.len {
            return None;
        }
        self.words.write_steps(self.first + at, count, first, step);
        Some(())
    }
}

/// A data pointer and how to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataPointer {
    /// The command's byte 1.
    pub(crate) flags: u8,
    /// PRP entry 1, or the first half of an SGL descriptor.
    pub(crate) first: u64,
    /// PRP entry 2, or the second half of an SGL descriptor.
    pub(crate) second: u64,
    /// How much memory it names.
    pub(crate) bytes: u64,
}

impl DataPointer {
    /// One segment that two entries can name: all of a small request, mostly. `None` when it takes more, or cannot be said
    /// by pages.
    #[inline]
    pub(crate) fn of_two_pages(segment: &Segment) -> Option<Self> {
        let first = segment.iova().raw();
        let (lead, bytes) = (first & (PAGE_BYTES - 1), u64::from(segment.len()));
        if first & 3 != 0 || bytes == 0 || lead + bytes > 2 * PAGE_BYTES {
            return None;
        }
        let second = if lead + bytes > PAGE_BYTES { (first - lead).wrapping_add(PAGE_BYTES) } else { 0 };
        Some(Self { flags: 0, first, second, bytes })
    }
}

/// Names `data`. `None` when the controller cannot be told, or the list would not fit.
#[inline]
pub(crate) fn describe(
    sgl_align_bytes: Option<u32>,
    data: &[Segment],
    area: &mut ListArea<'_>,
) -> Option<DataPointer> {
    match pages(data, area) {
        Some(pointer) => Some(pointer),
        None => scatter_gather(sgl_align_bytes?, data, area),
    }
}

/// Names `data` by pages (NVMe 2.0c 4.1.1): the first entry may begin inside a page, the others begin one. Memory that
/// goes on where the entry before ended needs no entry of its own until the next page begins.
#[inline]
fn pages(data: &[Segment], area: &mut ListArea<'_>) -> Option<DataPointer> {
    let in_page = PAGE_BYTES - 1;
    let (head, rest) = data.split_first()?;
    let first = head.iova().raw();
    let mut end = first.wrapping_add(u64::from(head.len()));
    if first & 3 != 0 || head.is_empty() {
        return None;
    }
    let mut bytes = u64::from(head.len());
    let mut entries = Entries { area, second: 0, count: 0 };
    entries.pages_from((first & !in_page).wrapping_add(PAGE_BYTES), end)?;
    for segment in rest {
        if segment.is_empty() {
            continue;
        }
        let start = segment.iova().raw();
        if start != end && (start | end) & in_page != 0 {
            return None;
        }
        end = start.wrapping_add(u64::from(segment.len()));
        entries.pages_from(start.wrapping_add(in_page) & !in_page, end)?;
        bytes += u64::from(segment.len());
    }
    Some(DataPointer { flags: 0, first, second: entries.finish(), bytes })
}

/// The entries behind the first.
struct Entries<'a, 'b> {
    area: &'a mut ListArea<'b>,
    /// The first of them: stays out of the list while it is the only one.
    second: u64,
    count: usize,
}

impl Entries<'_, '_> {
    /// One entry for each page from `page` to `end`.
    #[inline]
    fn pages_from(&mut self, page: u64, end: u64) -> Option<()> {
        let Some(bytes) = end.checked_sub(page).filter(|&bytes| bytes > 0) else { return Some(()) };
        let count = usize::try_from(bytes.div_ceil(PAGE_BYTES)).ok()?;
        if self.count + count == 1 {
            self.second = page;
        } else {
            if self.count == 1 {
                self.area.write(0, [self.second])?;
            }
            self.area.write_steps(self.count, count, page, PAGE_BYTES)?;
        }
        self.count += count;
        Some(())
    }

    /// PRP entry 2. A list is ended by a zero entry where it has room for one: should the controller ever read on, it meets an
    /// address that is never mapped, not the remains of another command's list (C1).
    #[inline]
    fn finish(self) -> u64 {
        if self.count < 2 {
            return self.second;
        }
        let _ = self.area.write(self.count, [0]);
        self.area.iova()
    }
}

/// Names `data` by a scatter-gather list (NVMe 2.0c 4.1.2): one descriptor for each run of neighbouring segments, in the
/// command itself when there is only one, else in the area as the last segment of descriptors.
#[cold]
fn scatter_gather(align_bytes: u32, data: &[Segment], area: &mut ListArea<'_>) -> Option<DataPointer> {
    let unaligned = |value: u64| !value.is_multiple_of(u64::from(align_bytes));
    let flags = CommandFlags::new().with_psdt(PSDT_SGL).into_bits();
    let mut bytes = 0u64;
    let mut count = 0usize;
    // The run that is being joined.
    let (mut start, mut len) = (0u64, 0u32);
    for segment in data.iter().filter(|segment| !segment.is_empty()) {
        let at = segment.iova().raw();
        if unaligned(at) || unaligned(u64::from(segment.len())) {
            return None;
        }
        bytes += u64::from(segment.len());
        if len > 0 && at == start.wrapping_add(u64::from(len)) {
            len = len.checked_add(segment.len())?;
            continue;
        }
        if len > 0 {
            area.write(count * 2, halves(SglDescriptor::data_block(start, len)))?;
            count += 1;
        }
        (start, len) = (at, segment.len());
    }
    let [first, second] = match (count, len) {
        (_, 0) => return None,
        (0, _) => halves(SglDescriptor::data_block(start, len)),
        _ => {
            area.write(count * 2, halves(SglDescriptor::data_block(start, len)))?;
            let length = u32::try_from((count + 1) * size_of::<SglDescriptor>()).ok()?;
            halves(SglDescriptor::last_segment(area.iova(), length))
        }
    };
    Some(DataPointer { flags, first, second, bytes })
}

/// A descriptor as the two words that it is.
fn halves(descriptor: SglDescriptor) -> [u64; 2] {
    let words: [u64; 2] = zerocopy::transmute!(descriptor);
    words.map(u64::from_le)
}

#[cfg(test)]
mod tests;
