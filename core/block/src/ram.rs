//! A disk in memory, for tests and for measuring without a device.
#![expect(
    unsafe_code,
    reason = "the disk is a mapping of its own, and plays the device that reads and writes segments"
)]

use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::ended::{Ended, LocalLane};
use crate::{
    Addressing, BlockQueue, Command, Completion, LaneId, Limits, Operation, Segment, Status, SubmitError, Tag,
};

/// The memory of a disk: zeroes until written, taken from the kernel page by page as it is; in huge pages where the kernel has
/// some to give, since random blocks of a large disk miss the TLB with small ones.
///
/// Queues of several sidecores may share one. Commands on the same blocks at the same time leave either's data in each
/// byte, as on a device.
#[derive(Debug)]
pub struct RamDisk {
    _mapping: Mapping,
    /// Where the disk begins in the mapping.
    base: NonNull<u8>,
    len: usize,
    block_bytes: u32,
}

/// Address space for a disk, with room to begin at a huge page.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Room for `bytes` bytes from [`Self::aligned`] on.
    fn new(bytes: usize) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let len = bytes.checked_add(HUGE_PAGE_BYTES).ok_or_else(invalid)?;
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), len, prot, flags) }?;
        let mapping = Self { start: NonNull::new(mapped.cast()).ok_or_else(invalid)?, len };
        if bytes >= HUGE_PAGE_BYTES {
            // Only advice: a kernel without huge pages serves small ones.
            // SAFETY: the range is the mapping just made.
            let _ = unsafe { madvise(mapped, len, Advice::LinuxHugepage) };
        }
        Ok(mapping)
    }

    /// The first byte that a huge page can begin at.
    fn aligned(&self) -> NonNull<u8> {
        // SAFETY: the mapping is at least a huge page long.
        unsafe { self.start.add(self.start.addr().get().wrapping_neg() % HUGE_PAGE_BYTES) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; commands end inside `submit`, so none is under way.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

// SAFETY: the mapping lives as long as the value and is reached through raw pointers only.
unsafe impl Send for RamDisk {}
// SAFETY: as above.
unsafe impl Sync for RamDisk {}

/// What a disk begins at a multiple of: the huge page of most machines.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The only namespace.
const NAMESPACE: u32 = 1;

impl RamDisk {
    /// A disk of `blocks` blocks of `block_bytes` each (a power of two, 512 or more).
    pub fn new(blocks: u64, block_bytes: u32) -> io::Result<Arc<Self>> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let bytes = blocks.checked_mul(u64::from(block_bytes)).filter(|&bytes| bytes > 0);
        let len = bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(invalid)?;
        if !block_bytes.is_power_of_two() || block_bytes < 512 {
            return Err(invalid());
        }
        let mapping = Mapping::new(len)?;
        Ok(Arc::new(Self { base: mapping.aligned(), _mapping: mapping, len, block_bytes }))
    }

    /// What the disk takes in a command: anything.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            block_bytes: self.block_bytes,
            blocks: self.len as u64 / u64::from(self.block_bytes),
            transfer_bytes_max: 1 << 20,
            segments_max: u32::MAX,
            boundary_blocks: 0,
            addressing: Addressing::Any,
            write_zeroes_blocks_max: 1 << 16,
            deallocate_blocks_max: 1 << 16,
            deallocate_zeroes: true,
            volatile_cache: true,
        }
    }

    /// The namespace that commands name.
    #[must_use]
    pub fn namespace(&self) -> u32 {
        NAMESPACE
    }

    /// Reads the disk past any queue, to see what is on it.
    ///
    /// # Panics
    ///
    /// When the range lies outside the disk.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        let at = self.range(offset, into.len() as u64).expect("read outside a RAM disk");
        // SAFETY: `range` checked the bounds; `into` is the caller's alone.
        unsafe { std::ptr::copy_nonoverlapping(at.as_ptr(), into.as_mut_ptr(), into.len()) };
    }

    /// Writes the disk past any queue.
    ///
    /// # Panics
    ///
    /// When the range lies outside the disk.
    pub fn write(&self, offset: u64, from: &[u8]) {
        let at = self.range(offset, from.len() as u64).expect("write outside a RAM disk");
        // SAFETY: `range` checked the bounds; `from` cannot lie in a mapping that no reference is formed over.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), at.as_ptr(), from.len()) };
    }

    /// The first byte of a range that lies inside.
    fn range(&self, offset: u64, len: u64) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        if end > self.len as u64 {
            return None;
        }
        // SAFETY: `offset` lies inside the mapping, or one past its end.
        Some(unsafe { self.base.add(usize::try_from(offset).ok()?) })
    }

    fn run(&self, command: &Command, data: &[Segment]) -> Status {
        let block = u64::from(self.block_bytes);
        // The codes are NVMe's (NVMe 2.0c 4.3.3, generic command status).
        let refused = |code| Status::Refused { kind: 0, code };
        if command.namespace != NAMESPACE {
            return refused(0x0b);
        }
        if command.operation == Operation::Flush {
            return Status::Success;
        }
        let bytes = u64::from(command.blocks) * block;
        let Some(start) = command.lba.checked_mul(block).and_then(|offset| self.range(offset, bytes)) else {
            return refused(0x80);
        };
        if command.operation.moves_data() {
            if data.iter().map(|segment| u64::from(segment.len())).sum::<u64>() != bytes {
                return refused(0x0f);
            }
            let mut at = start.as_ptr();
            for segment in data {
                let (memory, len) = (segment.host().as_ptr(), segment.len() as usize);
                // SAFETY: the segments sum to `bytes`, which `range` found inside the disk from `start` on; the maker of a
                // segment promised its memory. A guest may aim a segment anywhere but into the disk, which is not mapped
                // from a file of its.
                unsafe {
                    if command.operation == Operation::Read {
                        std::ptr::copy_nonoverlapping(at, memory, len);
                    } else {
                        std::ptr::copy_nonoverlapping(memory, at, len);
                    }
                    at = at.add(len);
                }
            }
            return Status::Success;
        }
        self.zero(start, usize::try_from(bytes).unwrap_or(0));
        Status::Success
    }

    /// Makes a range read as zeroes, and gives whole pages of it back to the kernel.
    fn zero(&self, start: NonNull<u8>, len: usize) {
        const PAGE_BYTES: usize = 4096;
        let lead = start.addr().get().wrapping_neg() % PAGE_BYTES;
        let whole = len.saturating_sub(lead) / PAGE_BYTES * PAGE_BYTES;
        // SAFETY: the range lies inside the disk, and the whole pages inside the range. Private anonymous pages read as
        // zeroes after DONTNEED (madvise(2)).
        unsafe {
            let freed =
                whole > 0 && madvise(start.add(lead).as_ptr().cast(), whole, Advice::LinuxDontNeed).is_ok();
            if freed {
                start.write_bytes(0, lead);
                start.add(lead + whole).write_bytes(0, len - lead - whole);
            } else {
                start.write_bytes(0, len);
            }
        }
    }
}

/// One sidecore's way to a [`RamDisk`]: commands are carried out as they are submitted.
#[derive(Debug)]
pub struct RamQueue {
    disk: Arc<RamDisk>,
    ended: Ended,
}

impl RamQueue {
    /// A queue without lanes.
    #[must_use]
    pub fn new(disk: Arc<RamDisk>) -> Self {
        Self { disk, ended: Ended::default() }
    }
}

impl BlockQueue for RamQueue {
    type Lane = LocalLane;

    fn attach(&mut self, lane: LocalLane) -> LaneId {
        self.ended.attach(lane)
    }

    fn detach(&mut self, lane: LaneId) -> Option<LocalLane> {
        self.ended.detach(lane)
    }

    #[inline]
    fn room(&self, lane: LaneId) -> usize {
        self.ended.room(lane)
    }

    fn in_flight(&self, lane: LaneId) -> usize {
        self.ended.in_flight(lane)
    }

    fn in_flight_total(&self) -> usize {
        self.ended.in_flight_total()
    }

    #[inline(always)]
    fn submit(
        &mut self,
        lane: LaneId,
        tag: Tag,
        command: &Command,
        data: &[Segment],
    ) -> Result<(), SubmitError> {
        let disk = &self.disk;
        self.ended.submit(lane, tag, || disk.run(command, data))
    }

    fn ring(&mut self) {}

    #[inline]
    fn poll(&mut self, budget: usize, sink: &mut impl FnMut(Completion)) -> usize {
        self.ended.poll(budget, sink)
    }

    #[inline]
    fn ends_at_once(&self) -> bool {
        true
    }

    #[inline]
    fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    fn abandon(&mut self, lane: LaneId, sink: &mut impl FnMut(Completion)) {
        self.ended.abandon(lane, sink);
    }

    fn device_ids(&self, _lane: LaneId, _into: &mut Vec<(u16, u16)>) {}

    fn stray_completions(&self) -> u64 {
        0
    }

    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self) -> bool {
        !self.ended.is_empty()
    }

    fn disarm(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: &mut [u8]) -> Segment {
        let len = u32::try_from(bytes.len()).unwrap();
        // SAFETY: the tests keep the array alive and look at it only after the command has ended.
        unsafe { Segment::new(NonNull::new(bytes.as_mut_ptr()).unwrap(), vfiomux_hw::Iova(0), len) }
    }

    fn run(
        queue: &mut RamQueue,
        lane: LaneId,
        operation: Operation,
        lba: u64,
        blocks: u32,
        data: &[Segment],
    ) -> Status {
        queue.submit(lane, Tag(7), &Command { operation, namespace: 1, lba, blocks }, data).unwrap();
        let mut ended = None;
        assert_eq!(queue.poll(8, &mut |completion| ended = Some(completion)), 1);
        ended.unwrap().status
    }

    #[test]
    fn what_is_written_is_read_until_it_is_zeroed() {
        let disk = RamDisk::new(64, 512).unwrap();
        let mut queue = RamQueue::new(disk.clone());
        let lane = queue.attach(LocalLane { depth: 4 });
        let (mut data, mut back) = ([0xa5u8; 1024], [0u8; 1024]);
        assert_eq!(run(&mut queue, lane, Operation::Write, 7, 2, &[segment(&mut data)]), Status::Success);
        assert_eq!(run(&mut queue, lane, Operation::Read, 7, 2, &[segment(&mut back)]), Status::Success);
        assert_eq!(back, data);
        // From inside the first page to the end of the last: whole pages and both ragged ends.
        let zeroes = Operation::WriteZeroes { deallocate: false };
        assert_eq!(run(&mut queue, lane, zeroes, 8, 56, &[]), Status::Success);
        disk.read(7 * 512, &mut back);
        assert_eq!((&back[..512], &back[512..]), (&[0xa5; 512][..], &[0; 512][..]));
    }

    #[test]
    fn a_command_beyond_the_end_is_refused() {
        let mut queue = RamQueue::new(RamDisk::new(8, 512).unwrap());
        let lane = queue.attach(LocalLane { depth: 1 });
        let mut data = [0u8; 1024];
        for lba in [7, 8, u64::MAX] {
            let status = run(&mut queue, lane, Operation::Read, lba, 2, &[segment(&mut data)]);
            assert!(matches!(status, Status::Refused { .. }), "{lba}: {status:?}");
        }
    }

    #[test]
    fn a_full_lane_takes_nothing_and_an_abandoned_one_ends_everything() {
        let mut queue = RamQueue::new(RamDisk::new(8, 512).unwrap());
        let lane = queue.attach(LocalLane { depth: 2 });
        let flush = Command { operation: Operation::Flush, namespace: 1, lba: 0, blocks: 0 };
        assert_eq!(queue.submit(lane, Tag(1), &flush, &[]), Ok(()));
        assert_eq!(queue.submit(lane, Tag(2), &flush, &[]), Ok(()));
        assert_eq!(queue.submit(lane, Tag(3), &flush, &[]), Err(SubmitError::Full));
        assert_eq!((queue.room(lane), queue.detach(lane)), (0, None));
        let mut ended = Vec::new();
        queue.abandon(lane, &mut |completion| ended.push((completion.tag, completion.status)));
        assert_eq!(ended, [(Tag(1), Status::Aborted), (Tag(2), Status::Aborted)]);
        assert_eq!(queue.detach(lane), Some(LocalLane { depth: 2 }));
        assert_eq!(queue.submit(lane, Tag(4), &flush, &[]), Err(SubmitError::NoLane));
    }
}
