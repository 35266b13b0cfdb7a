//! Which I/O addresses are free.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::Iova;

/// The free part of an I/O address space, as the IOMMU's apertures leave it.
///
/// First fit from the bottom. An address once freed may be handed out again: callers free only what is quiesced (D2).
#[derive(Debug)]
pub struct IovaSpace {
    /// Free runs, start to last address, never touching.
    free: BTreeMap<u64, u64>,
}

impl IovaSpace {
    /// A space over the given apertures (inclusive ranges, as `VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE` reports them).
    ///
    /// The first page is left out, so that no mapping has address zero: NVMe takes a zero PRP2 for "none".
    #[must_use]
    pub fn new(apertures: &[RangeInclusive<u64>]) -> Self {
        let mut space = Self { free: BTreeMap::new() };
        for aperture in apertures {
            let (start, last) = ((*aperture.start()).max(0x1000), (*aperture.end()).min(u64::MAX - 0x1000));
            if start <= last {
                space.insert(start, last);
            }
        }
        space
    }

    /// Takes `size_bytes` (not zero) at a multiple of `align_bytes` (a power of two), offset by `phase_bytes` from it.
    ///
    /// A phase equal to the host address' low bits lets the IOMMU use large pages for both.
    pub fn take(&mut self, size_bytes: u64, align_bytes: u64, phase_bytes: u64) -> Option<Iova> {
        let mask = align_bytes.checked_sub(1)?;
        let span = size_bytes.checked_sub(1)?;
        let phase = phase_bytes & mask;
        let (start, last, at) = self.free.iter().find_map(|(&start, &last)| {
            let lowest = (start & !mask).checked_add(phase)?;
            let at = if lowest >= start { lowest } else { lowest.checked_add(align_bytes)? };
            (at.checked_add(span)? <= last).then_some((start, last, at))
        })?;
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - 1);
        }
        if at + span < last {
            self.free.insert(at + size_bytes, last);
        }
        Some(Iova(at))
    }

    /// Gives a run back that [`Self::take`] gave out.
    ///
    /// # Panics
    ///
    /// When a part of it is free already: an address was freed twice, and would be given to two owners.
    pub fn give_back(&mut self, iova: Iova, size_bytes: u64) {
        if let Some(span) = size_bytes.checked_sub(1) {
            self.insert(iova.0, iova.0.saturating_add(span));
        }
    }

    /// How much is free, bytes.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().fold(0u64, |sum, (start, last)| sum.saturating_add((last - start).saturating_add(1)))
    }

    fn insert(&mut self, mut start: u64, mut last: u64) {
        if let Some((&before, &before_last)) = self.free.range(..=last).next_back() {
            assert!(
                before_last < start || before > last,
                "I/O addresses {start:#x}-{last:#x} were freed twice"
            );
        }
        if let Some((&before, &before_last)) = self.free.range(..start).next_back()
            && before_last + 1 == start
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(after) = last.checked_add(1)
            && let Some(after_last) = self.free.remove(&after)
        {
            last = after_last;
        }
        self.free.insert(start, last);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_reserved_window_is_never_given_out() {
        let mut space = IovaSpace::new(&[0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]);
        while let Some(iova) = space.take(0x1000_0000, 0x1000, 0) {
            let last = iova.0 + 0xfff_ffff;
            assert!(iova.0 != 0 && (last <= 0xfedf_ffff || iova.0 >= 0xfef0_0000), "{iova} crosses the hole");
        }
    }

    #[test]
    fn the_phase_of_the_host_address_is_kept() {
        let mut space = IovaSpace::new(&[0..=u64::MAX]);
        assert_eq!(space.take(0x40_0000, 0x20_0000, 0x7f12_3450_3000).unwrap().0 & 0x1f_ffff, 0x10_3000);
    }

    proptest! {
        /// D2, the allocator's half: what is out is disjoint, and all comes back.
        #[test]
        fn runs_that_are_out_never_overlap(steps in proptest::collection::vec((1u64..64, 0u32..4, any::<bool>()), 1..200)) {
            let mut space = IovaSpace::new(&[0x0..=0xff_ffff, 0x200_0000..=0x2ff_ffff]);
            let whole = space.free_bytes();
            let mut out: Vec<(u64, u64)> = Vec::new();
            for (pages, align, free) in steps {
                if free && !out.is_empty() {
                    let (at, size) = out.swap_remove(pages as usize % out.len());
                    space.give_back(Iova(at), size);
                } else if let Some(iova) = space.take(pages << 12, 0x1000 << align, 0) {
                    prop_assert!(out.iter().all(|&(at, size)| iova.0 + (pages << 12) <= at || at + size <= iova.0));
                    out.push((iova.0, pages << 12));
                }
            }
            for (at, size) in out.drain(..) { space.give_back(Iova(at), size); }
            prop_assert_eq!(space.free_bytes(), whole);
        }
    }
}
