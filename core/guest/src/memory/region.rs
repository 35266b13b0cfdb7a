//! A run of a front-end's file, mapped.
#![expect(
    unsafe_code,
    reason = "a mapping of somebody else's file is guarded against vanishing and given out as raw memory"
)]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{FileType, OFlags, StatFs};
use vfiomux_hw::{Backing, Fill, Guard, Guarded};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, MmapRegion};

use crate::GuestError;

/// What a guest's addresses, a front-end's addresses and file offsets agree on at the least, bytes.
pub(super) const PAGE_BYTES: u64 = 4096;

const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
/// FUSE, NFS, SMB (three generations), 9P, Ceph, AFS: a fault on their pages waits for another process or host.
const SERVED_MAGIC: [u64; 8] =
    [0x6573_5546, 0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f];

/// Which run of which file: what makes two descriptors the same memory.
///
/// While a region of a file is mapped the file lives, so no other can get its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device that the file lies on.
    pub device: u64,
    /// The file's number on it.
    pub inode: u64,
    /// Where the run begins in the file, bytes.
    pub offset: u64,
    /// How long it is, bytes.
    pub size_bytes: u64,
}

/// A descriptor that was looked at and found fit to be mapped.
pub(super) struct Candidate {
    file: File,
    identity: FileIdentity,
    page_bytes: u64,
}

impl Candidate {
    /// Looks at what a front-end passed.
    pub(super) fn examine(fd: OwnedFd, offset: u64, size_bytes: u64) -> Result<Self, GuestError> {
        let failed =
            |step| move |errno: rustix::io::Errno| GuestError::Descriptor { step, source: errno.into() };
        let end = offset.checked_add(size_bytes).filter(|&end| size_bytes != 0 && i64::try_from(end).is_ok());
        let end = end.ok_or(GuestError::BadRange { start: offset, size_bytes })?;
        let stat = rustix::fs::fstat(&fd).map_err(failed("looking at a memory file"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(GuestError::NotAFile);
        }
        // Asked for even when the region is mapped already: whoever may only read a file must not write it through us.
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(failed("reading a memory file's flags"))?;
        if flags & OFlags::RWMODE != OFlags::RDWR {
            return Err(GuestError::ReadOnly);
        }
        let file_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if end > file_bytes {
            return Err(GuestError::BeyondFile { offset, size_bytes, file_bytes });
        }
        let fs = rustix::fs::fstatfs(&fd).map_err(failed("looking at a memory file's file system"))?;
        let magic = magic_of(&fs);
        if SERVED_MAGIC.contains(&magic) {
            return Err(GuestError::ServedFile);
        }
        // A hugetlbfs file is mapped in whole huge pages, which are its blocks.
        let block_bytes = u64::try_from(fs.f_bsize).unwrap_or(PAGE_BYTES);
        let huge = magic == HUGETLBFS_MAGIC && block_bytes.is_power_of_two() && block_bytes > PAGE_BYTES;
        let page_bytes = if huge { block_bytes } else { PAGE_BYTES };
        let identity = FileIdentity { device: stat.st_dev, inode: stat.st_ino, offset, size_bytes };
        Ok(Self { file: File::from(fd), identity, page_bytes })
    }

    pub(super) fn identity(&self) -> FileIdentity {
        self.identity
    }
}

/// The file system's kind. Its type differs between architectures, and only the low half counts.
fn magic_of(fs: &StatFs) -> u64 {
    #[allow(
        clippy::cast_sign_loss,
        clippy::cast_lossless,
        reason = "masked to the 32 bits that magic numbers have"
    )]
    let wide = fs.f_type as u64;
    wide & 0xffff_ffff
}

/// A run of a front-end's file, mapped for reading and writing, shared.
///
/// The mapping covers whole pages; the region proper may begin and end inside them.
#[derive(Debug)]
pub struct FileRegion {
    /// Declared, hence dropped, before the mapping that it guards.
    guarded: Guarded,
    mapping: MmapRegion,
    /// Bytes of the mapping before the region begins.
    lead_bytes: usize,
    identity: FileIdentity,
}

impl FileRegion {
    /// Maps `size_bytes` at `offset` of the file that a front-end passed. [`crate::RegionCache::open`] does it once a VM.
    pub fn map(fd: OwnedFd, offset: u64, size_bytes: u64) -> Result<Self, GuestError> {
        Self::from_candidate(Candidate::examine(fd, offset, size_bytes)?)
    }

    pub(super) fn from_candidate(candidate: Candidate) -> Result<Self, GuestError> {
        let Candidate { file, identity, page_bytes } = candidate;
        let FileIdentity { offset, size_bytes, .. } = identity;
        let start = offset & !(page_bytes - 1);
        // `examine` keeps both ends below 2^63, so neither sum nor rounding wraps.
        let mapped_bytes = (offset + size_bytes).next_multiple_of(page_bytes) - start;
        let too_large = GuestError::BadRange { start: offset, size_bytes };
        let (Ok(len), Ok(lead_bytes)) = (usize::try_from(mapped_bytes), usize::try_from(offset - start))
        else {
            return Err(too_large);
        };
        let mapping = MmapRegionBuilder::new(len)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::new(file, start))
            .build()
            .map_err(|error| not_mapped(size_bytes, error))?;
        let base = NonNull::new(mapping.as_ptr()).ok_or(too_large)?;
        // A guest's memory need not be in a core dump; the attempt may fail on old kernels without harm.
        // SAFETY: the range is the mapping just made.
        let _ = unsafe { rustix::mm::madvise(base.as_ptr().cast(), len, rustix::mm::Advice::LinuxDontDump) };
        // SAFETY: the range is the whole of a mapping of our own, which outlives the guard (field order); whoever uses the
        // memory expects others to write it, and looks at `poisoned`.
        let guarded = unsafe { Guard::register(base, len, Fill::Zeroes) };
        let guarded = guarded.map_err(|source| GuestError::Map { size_bytes, source })?;
        Ok(Self { guarded, mapping, lead_bytes, identity })
    }

    /// Which run of which file this is.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// How long the region is, bytes. Never zero.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.identity.size_bytes
    }

    /// Where the region begins. What others write is reached from here by volatile or atomic access only.
    #[must_use]
    pub fn host(&self) -> NonNull<u8> {
        // SAFETY: the region begins inside the mapping.
        unsafe { self.base().add(self.lead_bytes) }
    }

    /// Bytes of the mapping, as a device sees it, before the region begins.
    #[must_use]
    pub fn lead_bytes(&self) -> u64 {
        self.lead_bytes as u64
    }

    /// Whether the front-end took pages of the file away while we used them. Stays so.
    #[must_use]
    pub fn poisoned(&self) -> bool {
        self.guarded.poisoned()
    }

    /// The file, to be lent to somebody else.
    #[must_use]
    pub fn file(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.mapping.file_offset().map(|backing| backing.file().as_fd())
    }
}

fn not_mapped(size_bytes: u64, error: vm_memory::mmap::MmapRegionError) -> GuestError {
    match error {
        // A file sealed against writing is open for it all the same; the mapping is what fails (memfd_create(2), F_SEAL_WRITE).
        vm_memory::mmap::MmapRegionError::Mmap(source) if source.raw_os_error() == Some(libc::EPERM) => {
            GuestError::ReadOnly
        }
        vm_memory::mmap::MmapRegionError::Mmap(source) => GuestError::Map { size_bytes, source },
        other => GuestError::Map { size_bytes, source: std::io::Error::other(other) },
    }
}

// SAFETY: the mapping stays where it is until the value is dropped, and this crate forms no reference over it.
unsafe impl Backing for FileRegion {
    /// Where the mapping begins: the page that the region begins in.
    fn base(&self) -> NonNull<u8> {
        // SAFETY: `from_candidate` refused a null mapping.
        unsafe { NonNull::new_unchecked(self.mapping.as_ptr()) }
    }

    fn len(&self) -> usize {
        self.mapping.size()
    }
}

#[cfg(test)]
mod tests;
