//! I/O address spaces: what is mapped for a device, where, and until when.
#![expect(
    unsafe_code,
    reason = "memory given to a device is named by raw pointers, and the device writes it behind the compiler's back"
)]

use std::io;
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::{HwError, Iova, IovaSpace, Quiesced, Segment};

mod volatile;

#[cfg(test)]
mod tests;

/// What a device may do with mapped memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rights {
    /// The device may read the memory.
    pub read: bool,
    /// The device may write the memory.
    pub write: bool,
}

impl Rights {
    /// The device may read and write.
    pub const READ_WRITE: Self = Self { read: true, write: true };
    /// The device may only read.
    pub const READ: Self = Self { read: true, write: false };
}

/// The mechanism under a [`DmaDomain`]: VFIO's container, or a simulated IOMMU.
pub trait Iommu: Send + Sync {
    /// Inclusive ranges of usable addresses.
    fn apertures(&self) -> Vec<RangeInclusive<u64>>;

    /// Bitmap of page sizes: bit `n` set means pages of `1 << n` bytes.
    fn page_sizes(&self) -> u64;

    /// How many mappings fit, where there is a limit.
    fn mappings_max(&self) -> Option<u32> {
        None
    }

    /// Whether devices see memory at addresses of our choice. A mechanism that does not translate dictates them instead:
    /// see [`Self::dictated`].
    fn translates(&self) -> bool {
        true
    }

    /// The address at which devices see the memory in any case. Asked only of a mechanism that does not translate, which fails when
    /// there is no one address for the whole.
    fn dictated(&self, _host: NonNull<u8>, _size_bytes: u64) -> io::Result<Iova> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes `size_bytes` of memory at `host` visible to the device at `iova`. Pins the memory where the mechanism is real.
    /// The caller keeps the memory alive until after [`Self::unmap`].
    fn map(&self, iova: Iova, host: NonNull<u8>, size_bytes: u64, rights: Rights) -> io::Result<()>;

    /// Takes exactly a range out again that `map` put in. When it returns well, the device can no longer reach the memory.
    fn unmap(&self, iova: Iova, size_bytes: u64) -> io::Result<()>;
}

/// Memory that can be mapped: stays where it is for as long as the value lives.
///
/// # Safety
///
/// `base` must be valid for reads and writes of `len` bytes until the value is dropped, and nobody may form a reference
/// over it while it is mapped (other parties write it).
pub unsafe trait Backing: Send + Sync {
    /// Where it begins.
    fn base(&self) -> NonNull<u8>;
    /// How long it is, bytes.
    fn len(&self) -> usize;
    /// Whether it has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One mapping, as the ledger shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappingInfo {
    /// Where the device sees it.
    pub iova: Iova,
    /// How long it is, bytes.
    pub size_bytes: u64,
    /// What the device may do.
    pub rights: Rights,
    /// Whether it is memory of our own (queues, bounce buffers) and not a guest's.
    pub own: bool,
}

/// An I/O address space: an allocator of addresses over an [`Iommu`], and the ledger of what is in it (D1).
pub struct DmaDomain {
    id: u64,
    iommu: Box<dyn Iommu>,
    page_bytes: u64,
    state: Mutex<State>,
}

struct State {
    space: IovaSpace,
    ledger: Vec<MappingInfo>,
}

/// The smallest huge page of x86-64 and of arm64 with pages of 4 KiB.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Beyond this, alignment wastes more address space than large pages win.
const LARGEST_ALIGN_BYTES: u64 = 1 << 30;

impl DmaDomain {
    /// A domain over `iommu`.
    #[must_use]
    pub fn new(iommu: Box<dyn Iommu>) -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let page_bytes = 1u64 << iommu.page_sizes().trailing_zeros().clamp(12, 30);
        let space = IovaSpace::new(&iommu.apertures());
        let state = Mutex::new(State { space, ledger: Vec::new() });
        Arc::new(Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), iommu, page_bytes, state })
    }

    /// A number that no other domain of this process has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The smallest page that can be mapped, bytes.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// The ranges of addresses that devices can use.
    #[must_use]
    pub fn apertures(&self) -> Vec<RangeInclusive<u64>> {
        self.iommu.apertures()
    }

    /// How many mappings fit, where there is a limit.
    #[must_use]
    pub fn mappings_max(&self) -> Option<u32> {
        self.iommu.mappings_max()
    }

    /// All that is mapped now.
    #[must_use]
    pub fn mappings(&self) -> Vec<MappingInfo> {
        self.lock().ledger.clone()
    }

    /// Maps a tenant's memory. May take seconds for a large one: pinning touches every page.
    pub fn map(self: &Arc<Self>, memory: Arc<dyn Backing>, rights: Rights) -> Result<Grant, HwError> {
        let iova = self.insert(memory.base(), memory.len(), rights, false)?;
        Ok(Grant(Arc::new(Granted { domain: self.clone(), memory, iova, mapped: true })))
    }

    /// Takes a mapping out. The witness says that no command of this holder names it; when other holders
    /// remain (channels of one VM share its memory), the mapping stays for them.
    pub fn unmap(grant: Quiesced<Grant>) -> Result<Unmapped, HwError> {
        // Of holders that let go at the same time, `into_inner` names exactly one the last.
        match Arc::into_inner(grant.into_inner().0) {
            Some(mut last) => {
                let size = last.memory.len();
                last.domain.remove(last.iova, size)?;
                last.mapped = false;
                Ok(Unmapped::Gone)
            }
            None => Ok(Unmapped::StillShared),
        }
    }

    /// Zeroed memory of our own, mapped for the device to read and write: queues, lists, bounce buffers.
    pub fn allocate(self: &Arc<Self>, size_bytes: usize) -> Result<DmaBuffer, HwError> {
        let page = usize::try_from(self.page_bytes).unwrap_or(4096);
        let memory = match size_bytes.max(1).checked_next_multiple_of(page) {
            Some(whole_bytes) if self.iommu.translates() => OwnMemory::new(whole_bytes, MapFlags::empty())?,
            // Devices see memory as it lies: only a huge page lies in one piece.
            Some(whole_bytes) => OwnMemory::new(
                whole_bytes.next_multiple_of(HUGE_PAGE_BYTES),
                MapFlags::HUGETLB | MapFlags::HUGE_2MB,
            )?,
            None => return Err(HwError::Allocate { size_bytes, source: io::ErrorKind::OutOfMemory.into() }),
        };
        let iova = self.insert(memory.base, memory.size_bytes, Rights::READ_WRITE, true)?;
        Ok(DmaBuffer { domain: self.clone(), memory, iova })
    }

    fn insert(&self, host: NonNull<u8>, len: usize, rights: Rights, own: bool) -> Result<Iova, HwError> {
        let (address, size_bytes) = (host.as_ptr() as u64, len as u64);
        let page_bytes = self.page_bytes;
        if size_bytes == 0 || !size_bytes.is_multiple_of(page_bytes) || !address.is_multiple_of(page_bytes) {
            return Err(HwError::Unaligned { address, size_bytes, page_bytes });
        }
        let iova = self.take_address(host, size_bytes)?;
        // The lock is not held meanwhile: pinning a large guest takes seconds, and the address is already ours.
        match self.iommu.map(iova, host, size_bytes, rights) {
            Ok(()) => {
                self.lock().ledger.push(MappingInfo { iova, size_bytes, rights, own });
                Ok(iova)
            }
            Err(source) => {
                self.give_address_back(iova, size_bytes);
                Err(HwError::Map { iova, size_bytes, source })
            }
        }
    }

    fn take_address(&self, host: NonNull<u8>, size_bytes: u64) -> Result<Iova, HwError> {
        if !self.iommu.translates() {
            let dictated = self.iommu.dictated(host, size_bytes);
            return dictated.map_err(|source| HwError::Map { iova: Iova::default(), size_bytes, source });
        }
        let mut align_bytes = self.page_bytes;
        while align_bytes * 2 <= size_bytes && align_bytes < LARGEST_ALIGN_BYTES {
            align_bytes *= 2;
        }
        let mut state = self.lock();
        let aligned = state.space.take(size_bytes, align_bytes, host.as_ptr() as u64);
        // Where alignment does not fit any more, an address that costs more page table entries is better than none.
        let taken = aligned.or_else(|| state.space.take(size_bytes, self.page_bytes, 0));
        taken.ok_or(HwError::NoIovaSpace { size_bytes })
    }

    fn give_address_back(&self, iova: Iova, size_bytes: u64) {
        if self.iommu.translates() {
            self.lock().space.give_back(iova, size_bytes);
        }
    }

    /// On failure the address is never used again and the ledger keeps the entry: the device may still reach it.
    fn remove(&self, iova: Iova, len: usize) -> Result<(), HwError> {
        let size_bytes = len as u64;
        if let Err(source) = self.iommu.unmap(iova, size_bytes) {
            #[cfg(test)]
            if tests::reuses_after_failed_unmap() {
                self.give_address_back(iova, size_bytes);
            }
            return Err(HwError::Unmap { iova, size_bytes, source });
        }
        let mut state = self.lock();
        // One entry, not all: where addresses are dictated, memory mapped twice has the same one twice.
        if let Some(entry) =
            state.ledger.iter().position(|entry| (entry.iova, entry.size_bytes) == (iova, size_bytes))
        {
            state.ledger.swap_remove(entry);
        }
        drop(state);
        self.give_address_back(iova, size_bytes);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for DmaDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DmaDomain")
            .field("id", &self.id)
            .field("mappings", &self.lock().ledger.len())
            .finish_non_exhaustive()
    }
}

/// Whether [`DmaDomain::unmap`] took the last holder's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmapped {
    /// The device can no longer reach the memory.
    Gone,
    /// Another holder still needs it.
    StillShared,
}

/// A tenant's memory, present in a domain. Clones share the one mapping.
///
/// Dropping the last clone without [`DmaDomain::unmap`] leaves the mapping in place, pinned and in the ledger, rather
/// than pull memory from under a command: a leak that the ledger shows (D1), never a use after free.
#[derive(Debug, Clone)]
pub struct Grant(Arc<Granted>);

struct Granted {
    domain: Arc<DmaDomain>,
    memory: Arc<dyn Backing>,
    iova: Iova,
    mapped: bool,
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{:#x} in domain {}", self.iova, self.memory.len(), self.domain.id)
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if self.mapped {
            tracing::error!(mapping = ?self, "a grant was dropped while mapped; it stays pinned until the function is released");
            // One count more, never taken back: the memory outlives every command that may name it.
            std::mem::forget(self.memory.clone());
        }
    }
}

impl Grant {
    /// Where the device sees the first byte.
    #[must_use]
    pub fn iova(&self) -> Iova {
        self.0.iova
    }

    /// The domain that it is mapped in.
    #[must_use]
    pub fn domain(&self) -> &Arc<DmaDomain> {
        &self.0.domain
    }

    /// The memory itself.
    #[must_use]
    pub fn memory(&self) -> &Arc<dyn Backing> {
        &self.0.memory
    }

    /// Whether both are clones of one mapping.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A handle that finds the mapping again while somebody holds it, and does not keep it in place.
    #[must_use]
    pub fn downgrade(&self) -> WeakGrant {
        WeakGrant(Arc::downgrade(&self.0))
    }
}

/// What a [`Grant`] downgrades to: finds the mapping again for a further holder, as long as there is one.
#[derive(Debug, Clone)]
pub struct WeakGrant(Weak<Granted>);

impl WeakGrant {
    /// A further share of the mapping, or `None` when its last holder has let go.
    #[must_use]
    pub fn upgrade(&self) -> Option<Grant> {
        self.0.upgrade().map(Grant)
    }

    /// Whether the mapping still has a holder. Unlike [`Self::upgrade`] it takes no share, which would have to be given back.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Zeroed memory of our own, mapped for a device. Unmapped, then freed, on drop.
///
/// The device may write it at any time, so it is reached through raw pointers only.
#[derive(Debug)]
pub struct DmaBuffer {
    domain: Arc<DmaDomain>,
    memory: OwnMemory,
    iova: Iova,
}

impl DmaBuffer {
    /// Where the device sees the first byte.
    #[must_use]
    pub fn iova(&self) -> Iova {
        self.iova
    }

    /// Where we see the first byte; valid until the buffer is dropped.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.memory.base
    }

    /// Length, bytes: what was asked for, rounded up to whole pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.size_bytes
    }

    /// Never: a buffer has at least a page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// A part of the buffer as commands name it.
    ///
    /// The buffer must outlive every command that names the segment; dropping it earlier makes the device fault, not write
    /// into somebody else's memory, since the buffer leaves the domain before its memory is freed.
    ///
    /// # Panics
    ///
    /// When the range lies outside the buffer.
    #[must_use]
    pub fn segment(&self, offset: usize, len: u32) -> Segment {
        assert!(
            offset.checked_add(len as usize).is_some_and(|end| end <= self.len()),
            "a segment outside its buffer"
        );
        // SAFETY: the range was checked, and no reference is ever formed over the buffer's memory.
        unsafe { Segment::new(self.memory.base.add(offset), self.iova.plus(offset as u64), len) }
    }

    /// Copies the buffer's bytes from `offset` into `into`.
    ///
    /// # Panics
    ///
    /// When the range lies outside the buffer.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(
            offset.checked_add(into.len()).is_some_and(|end| end <= self.len()),
            "read outside a DMA buffer"
        );
        // SAFETY: the range was checked, and the buffer is mapped for as long as it lives.
        unsafe { volatile::read(self.memory.base.add(offset), into) };
    }

    /// Copies `from` into the buffer at `offset`.
    ///
    /// # Panics
    ///
    /// When the range lies outside the buffer.
    pub fn write(&mut self, offset: usize, from: &[u8]) {
        assert!(
            offset.checked_add(from.len()).is_some_and(|end| end <= self.len()),
            "write outside a DMA buffer"
        );
        // SAFETY: the range was checked, and the buffer is mapped for as long as it lives.
        unsafe { volatile::write(self.memory.base.add(offset), from) };
    }
}

impl Drop for DmaBuffer {
    fn drop(&mut self) {
        if let Err(error) = self.domain.remove(self.iova, self.memory.size_bytes) {
            tracing::error!(%error, "memory of our own could not be unmapped; it is kept until the process ends");
            self.memory.keep = true;
        }
    }
}

/// Anonymous, page-aligned memory of this process.
#[derive(Debug)]
struct OwnMemory {
    base: NonNull<u8>,
    size_bytes: usize,
    keep: bool,
}

// SAFETY: the mapping belongs to this value alone; whoever reaches into it does so through raw pointers.
unsafe impl Send for OwnMemory {}
// SAFETY: as above.
unsafe impl Sync for OwnMemory {}

impl OwnMemory {
    fn new(size_bytes: usize, extra: MapFlags) -> Result<Self, HwError> {
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let mapped = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                size_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::POPULATE | extra,
            )
        };
        let base = mapped.map_err(|errno| HwError::Allocate { size_bytes, source: errno.into() })?;
        let base = NonNull::new(base.cast())
            .ok_or_else(|| HwError::Allocate { size_bytes, source: io::ErrorKind::OutOfMemory.into() })?;
        Ok(Self { base, size_bytes, keep: false })
    }
}

impl Drop for OwnMemory {
    fn drop(&mut self) {
        if !self.keep {
            // SAFETY: mapped in `new` with this length; the device was cut off from it before (see `DmaBuffer::drop`).
            let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.size_bytes) };
        }
    }
}
