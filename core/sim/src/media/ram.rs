//! Memory as a medium: anonymous pages, which cost nothing until they are written.
#![expect(
    unsafe_code,
    reason = "the medium is a mapping of its own, copied to and from host memory by raw pointers"
)]

use std::io;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::{Medium, inside};
use crate::host_memory::HostMemory;

const PAGE_BYTES: usize = 4096;

pub(crate) struct RamMedium {
    base: NonNull<u8>,
    size_bytes: usize,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for RamMedium {}

impl RamMedium {
    pub(crate) fn new(size_bytes: u64) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let size_bytes = usize::try_from(size_bytes).map_err(|_| too_large())?;
        // SAFETY: a fresh private mapping at an address of the kernel's choice overlaps nothing. NORESERVE, because the pages
        // come as they are written.
        let mapped = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                size_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        Ok(Self { base: NonNull::new(mapped.cast()).ok_or_else(too_large)?, size_bytes })
    }

    fn at(&self, offset: u64, len: usize) -> io::Result<*mut u8> {
        inside(offset, len as u64, self.size_bytes as u64)?;
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the range was just checked to lie inside the mapping.
        Ok(unsafe { self.base.as_ptr().add(offset) })
    }
}

impl Medium for RamMedium {
    fn read(&self, offset: u64, into: HostMemory<'_>) -> io::Result<()> {
        let from = self.at(offset, into.len())?;
        // SAFETY: both sides are valid for `into.len()` bytes; the medium is never itself mapped for a device.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_ptr(), into.len()) };
        Ok(())
    }

    fn write(&mut self, offset: u64, from: HostMemory<'_>) -> io::Result<()> {
        let into = self.at(offset, from.len())?;
        // SAFETY: as in `read`.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), into, from.len()) };
        Ok(())
    }

    fn zero(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let start = self.at(offset, len)?;
        let head = start.align_offset(PAGE_BYTES).min(len);
        let whole = (len - head) / PAGE_BYTES * PAGE_BYTES;
        // SAFETY: head, whole pages and tail partition the range checked above; dropping a private anonymous page makes it
        // read as zeroes.
        unsafe {
            start.write_bytes(0, head);
            if whole > 0 {
                madvise(start.add(head).cast(), whole, Advice::LinuxDontNeed)?;
            }
            start.add(head + whole).write_bytes(0, len - head - whole);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for RamMedium {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; nothing keeps a pointer into it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.size_bytes) };
    }
}
