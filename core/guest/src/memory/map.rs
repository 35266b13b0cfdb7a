//! From a guest's addresses to segments.
#![expect(
    unsafe_code,
    reason = "an address that was checked against its region becomes a pointer here, and nowhere else"
)]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vfiomux_hw::{Backing, Grant, Guard, Iova, Segment};

use super::access;
use super::region::{FileRegion, PAGE_BYTES};
use crate::GuestError;
use crate::seeded::{self, Bug};

/// Most regions of a map: what vhost-user front-ends ask for at most (QEMU's 509 usable memory slots).
pub const REGIONS_MAX: usize = 509;

/// A region as a front-end's memory table places it.
#[derive(Debug, Clone)]
pub struct MapRegion {
    /// Where the guest sees it: what descriptors name.
    pub guest_addr: u64,
    /// Where the front-end sees it: what ring addresses name.
    pub user_addr: u64,
    /// The memory.
    pub file: Arc<FileRegion>,
    /// Its mapping in the device's address space; `None` for a device that works with host addresses.
    pub grant: Option<Grant>,
}

/// Which region held the last address. Only a guess: any hint gives right answers with any map.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hint(usize);

/// An address range that does not lie in the memory that a front-end lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an address range outside the memory that the front-end lent")]
pub struct OutsideMemory;

/// What translation needs of a region: half a cache line.
#[derive(Debug, Clone, Copy)]
struct Span {
    guest_addr: u64,
    size_bytes: u64,
    host: NonNull<u8>,
    iova: Iova,
}

// SAFETY: `host` is an address in a `FileRegion`, which may be used from any thread.
unsafe impl Send for Span {}
// SAFETY: as above.
unsafe impl Sync for Span {}

impl Span {
    /// Whether `len` bytes at `guest_addr`, at least one, lie whole in the span.
    #[inline(always)]
    fn contains(&self, guest_addr: u64, len: u32) -> bool {
        // Both differences wrap to a large number, the one below the span and the other for no bytes, so that one compare each
        // tells both sides.
        let offset = guest_addr.wrapping_sub(self.guest_addr);
        let last = u64::from(len).wrapping_sub(1);
        let fits = offset < self.bound() && last < self.bound() - offset;
        #[expect(clippy::cast_possible_truncation, reason = "the bug is that the sum wraps at 32 bits")]
        let wraps = seeded::is(Bug::LengthOverflow)
            && u64::from((offset as u32).wrapping_add(len)) <= self.size_bytes;
        fits || wraps
    }

    /// The segment of `len` bytes at `guest_addr`, if it lies whole in the span.
    #[inline(always)]
    fn segment(&self, guest_addr: u64, len: u32) -> Option<Segment> {
        // SAFETY: they lie in the span.
        self.contains(guest_addr, len).then(|| unsafe { self.segment_within(guest_addr, len) })
    }

    /// The segment of `len` bytes at `guest_addr`.
    ///
    /// # Safety
    ///
    /// [`Self::contains`] has said that they lie in the span.
    #[inline(always)]
    unsafe fn segment_within(&self, guest_addr: u64, len: u32) -> Segment {
        let offset = guest_addr.wrapping_sub(self.guest_addr);
        // SAFETY: the two compares of `contains` put `offset` and `offset + len` inside the span, and nothing was added that
        // could wrap. The memory outlives the segment because whoever uses it keeps the map (see `MemoryMap`).
        unsafe { Segment::new(self.host_at(offset), self.iova.plus(offset), len) }
    }

    #[inline(always)]
    fn bound(&self) -> u64 {
        if seeded::is(Bug::OffByOnePage) { self.size_bytes + PAGE_BYTES } else { self.size_bytes }
    }

    /// # Safety
    ///
    /// `offset` lies inside the span.
    #[inline(always)]
    unsafe fn host_at(&self, offset: u64) -> NonNull<u8> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "an offset into a mapping of ours fits a pointer"
        )]
        // SAFETY: the caller's promise.
        unsafe {
            self.host.add(offset as usize)
        }
    }

    /// Whether `len` bytes at `host` lie in the span.
    #[inline(always)]
    fn holds(&self, host: NonNull<u8>, len: u64) -> bool {
        let offset = (host.as_ptr() as u64).wrapping_sub(self.host.as_ptr() as u64);
        offset <= self.size_bytes && len <= self.size_bytes - offset
    }
}

/// A span that holds no address.
static NOWHERE: Span = Span { guest_addr: 0, size_bytes: 0, host: NonNull::dangling(), iova: Iova(0) };

/// A look into a map, with the region of the last address at hand.
#[derive(Debug)]
pub(crate) struct Lookup<'a> {
    map: &'a MemoryMap,
    span: &'a Span,
    hint: &'a mut Hint,
}

impl Lookup<'_> {
    /// As [`MemoryMap::segment`].
    #[inline(always)]
    pub(crate) fn segment(&mut self, guest_addr: u64, len: u32) -> Option<Segment> {
        if !self.span.contains(guest_addr, len) {
            self.span = self.map.search(guest_addr, len, self.hint)?;
        }
        // SAFETY: the span contains them, by the look above or the one in `search`.
        Some(unsafe { self.span.segment_within(guest_addr, len) })
    }

    /// The map, and the hint for it.
    #[inline(always)]
    pub(crate) fn parts(&mut self) -> (&MemoryMap, &mut Hint) {
        (self.map, self.hint)
    }
}

/// A front-end's memory table, ready for the data path. Never changes: a new table is a new map.
///
/// Segments made from a map are good for as long as it lives, or one that [is a superset](Self::is_superset_of) of it. A
/// channel keeps its map in a `vfiomux_hw::Epoch`, which lets go of it only when no command names its memory.
#[derive(Debug)]
pub struct MemoryMap {
    /// Sorted by guest address; disjoint.
    spans: Box<[Span]>,
    /// In the same order.
    regions: Box<[MapRegion]>,
    /// The guard's generation at which no region was poisoned.
    clean_at: AtomicU64,
}

impl MemoryMap {
    /// A map of `regions`, in any order.
    pub fn new(mut regions: Vec<MapRegion>) -> Result<Self, GuestError> {
        if regions.len() > REGIONS_MAX {
            return Err(GuestError::TooManyRegions { count: regions.len(), max: REGIONS_MAX });
        }
        // Read before the regions are looked at: a page lost in between makes the numbers differ, which is noticed.
        let clean_at = AtomicU64::new(Guard::generation());
        regions.iter().try_for_each(check_region)?;
        regions.sort_unstable_by_key(|region| region.guest_addr);
        check_disjoint(regions.iter(), |region| region.guest_addr)?;
        let mut by_user: Vec<&MapRegion> = regions.iter().collect();
        by_user.sort_unstable_by_key(|region| region.user_addr);
        check_disjoint(by_user.into_iter(), |region| region.user_addr)?;
        let domain = |region: &MapRegion| region.grant.as_ref().map(|grant| grant.domain().id());
        if regions.windows(2).any(|pair| matches!(pair, [a, b] if domain(a) != domain(b))) {
            return Err(GuestError::MixedGrants);
        }
        let spans = regions.iter().map(span_of).collect();
        let map = Self { spans, regions: regions.into(), clean_at };
        if map.regions.iter().any(|region| region.file.poisoned()) {
            map.clean_at.store(u64::MAX, Ordering::Relaxed);
        }
        Ok(map)
    }

    /// The regions, sorted by guest address.
    #[must_use]
    pub fn regions(&self) -> &[MapRegion] {
        &self.regions
    }

    /// The segment of `len` bytes at `guest_addr`, at least one, when it lies whole in one region: one look when the hint is right.
    ///
    /// Without grants the segment's I/O address means nothing.
    #[inline]
    #[must_use]
    pub fn segment(&self, guest_addr: u64, len: u32, hint: &mut Hint) -> Option<Segment> {
        self.lookup(hint).segment(guest_addr, len)
    }

    /// A look into the map for several addresses in a row, which begins with the region that the hint names.
    #[inline(always)]
    pub(crate) fn lookup<'a>(&'a self, hint: &'a mut Hint) -> Lookup<'a> {
        Lookup { span: self.spans.get(hint.0).unwrap_or(&NOWHERE), map: self, hint }
    }

    /// The span that contains `len` bytes at `guest_addr`, which the hint names from then on.
    #[cold]
    fn search(&self, guest_addr: u64, len: u32, hint: &mut Hint) -> Option<&Span> {
        let at = self.spans.partition_point(|span| span.guest_addr <= guest_addr).checked_sub(1)?;
        let span = self.spans.get(at).filter(|span| span.contains(guest_addr, len))?;
        hint.0 = at;
        Some(span)
    }

    /// Passes the segments of `len` bytes at `guest_addr` to `out`, in order: one, or one for each of the adjacent regions
    /// that the range spans. An empty range has none, wherever it is.
    ///
    /// On failure some segments may have been passed already.
    #[inline]
    pub fn translate(
        &self,
        guest_addr: u64,
        len: u32,
        hint: &mut Hint,
        mut out: impl FnMut(Segment),
    ) -> Result<(), OutsideMemory> {
        match self.segment(guest_addr, len, hint) {
            _ if len == 0 => Ok(()),
            Some(segment) => {
                out(segment);
                Ok(())
            }
            None => self.translate_pieces(guest_addr, len, &mut out),
        }
    }

    #[cold]
    fn translate_pieces(
        &self,
        mut guest_addr: u64,
        mut len: u32,
        out: &mut dyn FnMut(Segment),
    ) -> Result<(), OutsideMemory> {
        let first = self.spans.partition_point(|span| span.guest_addr <= guest_addr).saturating_sub(1);
        for span in self.spans.get(first..).unwrap_or_default() {
            let room =
                span.size_bytes.checked_sub(guest_addr.wrapping_sub(span.guest_addr)).ok_or(OutsideMemory)?;
            let piece = len.min(u32::try_from(room).unwrap_or(u32::MAX));
            // Also `None` when the next region does not begin where the last one ended.
            out(span.segment(guest_addr, piece).ok_or(OutsideMemory)?);
            len -= piece;
            if len == 0 {
                return Ok(());
            }
            // Inside the span or one past it: a region that ends at the top of the address space was refused.
            guest_addr += u64::from(piece);
        }
        Err(OutsideMemory)
    }

    /// Copies guest memory at `guest_addr` out. On failure `into` may be filled in part.
    pub fn read(&self, guest_addr: u64, into: &mut [u8], hint: &mut Hint) -> Result<(), OutsideMemory> {
        let len = u32::try_from(into.len()).map_err(|_| OutsideMemory)?;
        let mut rest = into;
        self.translate(guest_addr, len, hint, |segment| {
            let (piece, after) = std::mem::take(&mut rest).split_at_mut(segment.len() as usize);
            // SAFETY: a segment made by this map just now lies whole in memory that the map holds.
            unsafe { access::copy_out(segment.host().as_ptr(), piece) };
            rest = after;
        })
    }

    /// Copies `from` into guest memory at `guest_addr`. On failure a part may have been written.
    pub fn write(&self, guest_addr: u64, from: &[u8], hint: &mut Hint) -> Result<(), OutsideMemory> {
        let len = u32::try_from(from.len()).map_err(|_| OutsideMemory)?;
        let mut rest = from;
        self.translate(guest_addr, len, hint, |segment| {
            let (piece, after) = rest.split_at(segment.len() as usize);
            // SAFETY: as in `read`.
            unsafe { access::copy_in(segment.host().as_ptr(), piece) };
            rest = after;
        })
    }

    /// Copies the first `into.len()` bytes of a segment of this map, or of one that this is a superset of, out.
    #[inline]
    pub fn copy_from(
        &self,
        segment: &Segment,
        into: &mut [u8],
        hint: &mut Hint,
    ) -> Result<(), OutsideMemory> {
        self.check_segment(segment, into.len(), hint)?;
        // SAFETY: `check_segment` found the bytes in memory that the map holds.
        unsafe { access::copy_out(segment.host().as_ptr(), into) };
        Ok(())
    }

    /// Reads the first two words of a segment, as [`Self::copy_from`] does.
    #[inline]
    pub fn copy_words(&self, segment: &Segment, hint: &mut Hint) -> Result<[u64; 2], OutsideMemory> {
        self.check_segment(segment, 16, hint)?;
        // SAFETY: as in `copy_from`.
        Ok(unsafe { access::copy_out_words(segment.host().as_ptr()) })
    }

    /// Writes the first byte of a segment, as [`Self::copy_to`] does.
    #[inline]
    pub fn set_byte(&self, segment: &Segment, value: u8, hint: &mut Hint) -> Result<(), OutsideMemory> {
        self.check_segment(segment, 1, hint)?;
        // SAFETY: as in `copy_from`. Relaxed: what tells others to look comes after, with a release of its own.
        unsafe { access::store(segment.host().as_ptr(), value, Ordering::Relaxed) };
        Ok(())
    }

    /// Copies `from` over the first bytes of a segment of this map, or of one that this is a superset of.
    #[inline]
    pub fn copy_to(&self, segment: &Segment, from: &[u8], hint: &mut Hint) -> Result<(), OutsideMemory> {
        self.check_segment(segment, from.len(), hint)?;
        // SAFETY: as in `copy_from`.
        unsafe { access::copy_in(segment.host().as_ptr(), from) };
        Ok(())
    }

    /// A segment is only an address, and safe code can keep one for too long: looked up again before it is followed.
    #[inline]
    fn check_segment(&self, segment: &Segment, len: usize, hint: &mut Hint) -> Result<(), OutsideMemory> {
        if len > segment.len() as usize {
            return Err(OutsideMemory);
        }
        let (host, len) = (segment.host(), len as u64);
        let hinted = self.spans.get(hint.0).is_some_and(|span| span.holds(host, len));
        if hinted { Ok(()) } else { self.find_segment(host, len, hint) }
    }

    #[cold]
    fn find_segment(&self, host: NonNull<u8>, len: u64, hint: &mut Hint) -> Result<(), OutsideMemory> {
        // Spans are not sorted by host address. The miss is rare, and a VM has few regions.
        hint.0 = self.spans.iter().position(|span| span.holds(host, len)).ok_or(OutsideMemory)?;
        Ok(())
    }

    /// Whether the front-end took pages of this memory away: what was in them is lost, and the channel must stop.
    ///
    /// One load and one compare when nobody's memory was lost since the last call.
    #[inline]
    #[must_use]
    pub fn poisoned(&self) -> bool {
        let generation = Guard::generation();
        generation != self.clean_at.load(Ordering::Relaxed) && self.poisoned_since(generation)
    }

    #[cold]
    fn poisoned_since(&self, generation: u64) -> bool {
        let poisoned = self.regions.iter().any(|region| region.file.poisoned());
        if !poisoned {
            self.clean_at.store(generation, Ordering::Relaxed);
        }
        poisoned
    }

    /// Whether every address of `old` means the same here, in the same mapping: commands that name segments of `old` may go on.
    #[must_use]
    pub fn is_superset_of(&self, old: &Self) -> bool {
        let same = |a: &MapRegion, b: &MapRegion| {
            a.user_addr == b.user_addr
                && Arc::ptr_eq(&a.file, &b.file)
                && match (&a.grant, &b.grant) {
                    (Some(a), Some(b)) => a.is_same(b),
                    (None, None) => true,
                    _ => false,
                }
        };
        old.regions.iter().all(|region| {
            let at = self.regions.binary_search_by_key(&region.guest_addr, |region| region.guest_addr);
            at.is_ok_and(|at| self.regions.get(at).is_some_and(|here| same(here, region)))
        })
    }

    /// The shares of mappings that the map held, each to go through [`vfiomux_hw::DmaDomain::unmap`].
    #[must_use]
    pub fn into_grants(self) -> Vec<Grant> {
        self.regions.into_iter().filter_map(|region| region.grant).collect()
    }

    /// The region that `len` bytes at the front-end's address `user_addr` lie in, and where we see them.
    pub(crate) fn at_user(&self, user_addr: u64, len: u64) -> Option<(NonNull<u8>, &Arc<FileRegion>)> {
        self.regions.iter().zip(&self.spans).find_map(|(region, span)| {
            let offset = user_addr.wrapping_sub(region.user_addr);
            let inside = offset < span.size_bytes && len <= span.size_bytes - offset;
            // SAFETY: `offset` lies inside the span.
            inside.then(|| (unsafe { span.host_at(offset) }, &region.file))
        })
    }
}

fn check_region(region: &MapRegion) -> Result<(), GuestError> {
    let &MapRegion { guest_addr, user_addr, .. } = region;
    let size_bytes = region.file.size_bytes();
    for start in [guest_addr, user_addr] {
        if start.checked_add(size_bytes).is_none() {
            return Err(GuestError::BadRange { start, size_bytes });
        }
    }
    // What is page-aligned for the guest is page-aligned for us and the device: rings and PRPs build on it.
    let phase = |address: u64| address % PAGE_BYTES;
    let host = phase(region.file.identity().offset);
    if phase(guest_addr) != host || phase(user_addr) != host {
        return Err(GuestError::Misaligned { guest_addr });
    }
    match &region.grant {
        Some(grant) if grant.memory().base() != region.file.base() => Err(GuestError::MixedGrants),
        _ => Ok(()),
    }
}

fn check_disjoint<'a>(
    sorted: impl Iterator<Item = &'a MapRegion> + Clone,
    start: impl Fn(&MapRegion) -> u64,
) -> Result<(), GuestError> {
    for (before, after) in sorted.clone().zip(sorted.skip(1)) {
        if start(after) - start(before) < before.file.size_bytes() {
            return Err(GuestError::Overlap { first: start(before), second: start(after) });
        }
    }
    Ok(())
}

fn span_of(region: &MapRegion) -> Span {
    let iova = region.grant.as_ref().map_or(Iova(0), |grant| grant.iova().plus(region.file.lead_bytes()));
    Span {
        guest_addr: region.guest_addr,
        size_bytes: region.file.size_bytes(),
        host: region.file.host(),
        iova,
    }
}

#[cfg(test)]
mod tests;
