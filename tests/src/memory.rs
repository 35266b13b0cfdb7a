//! Memory that a front-end of ours shares with a back-end.
#![expect(unsafe_code, reason = "maps the memory that the back-end reads and writes")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// A shared mapping. No reference to its bytes is ever made: while a request is in flight they are the back-end's.
#[derive(Debug)]
pub struct SharedMemory {
    file: OwnedFd,
    address: *mut u8,
    length: usize,
}

impl SharedMemory {
    /// Zeroed memory in a file of its own.
    pub fn new(length: usize) -> io::Result<SharedMemory> {
        let file = rustix::fs::memfd_create("vfiomux-check", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&file, length as u64)?;
        // SAFETY: a new mapping at an address that the kernel chooses takes nothing from anybody.
        let address = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, &file, 0)?
        };
        Ok(SharedMemory { file, address: address.cast(), length })
    }

    /// The file, to be passed to the back-end.
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// How many bytes there are.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where the mapping begins in this process, which is also what the back-end is told as its address.
    pub fn address(&self) -> usize {
        self.address as usize
    }

    /// Cuts the file off under everybody's feet. From then on only the numbers of this value are of use: touching its bytes ends the
    /// process, as it must not end a back-end.
    pub fn cut_off(&self) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&self.file, 0)?)
    }

    /// Writes bytes before a request is submitted.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length, "a buffer within the shared memory");
        // SAFETY: within the mapping, which lives as long as self. Nobody else should touch these bytes, as no request names them
        // yet; should a broken back-end do so all the same, torn bytes are what the oracle is there to find.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.add(offset), bytes.len()) }
    }

    /// Reads bytes after a request has completed.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= self.length, "a buffer within the shared memory");
        // SAFETY: as in `write`: the request that named these bytes has completed.
        unsafe { std::ptr::copy_nonoverlapping(self.address.add(offset), bytes.as_mut_ptr(), bytes.len()) }
    }
}

impl SharedMemory {
    /// Reads an index that the back-end publishes: what it wrote before is seen after.
    pub fn load_u16(&self, offset: usize) -> u16 {
        u16::from_le(self.index(offset).load(Ordering::Acquire))
    }

    /// Publishes an index: what was written before is seen by whoever reads it.
    pub fn store_u16(&self, offset: usize, value: u16) {
        self.index(offset).store(value.to_le(), Ordering::Release);
    }

    fn index(&self, offset: usize) -> &AtomicU16 {
        assert!(offset.is_multiple_of(2) && offset + 2 <= self.length, "an index within the shared memory");
        // SAFETY: aligned, since the mapping is, and within the mapping, which lives as long as the reference. Both sides reach
        // indices by atomic access only.
        unsafe { AtomicU16::from_ptr(self.address.add(offset).cast()) }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no pointer into it outlives self. It cannot fail for a range that was mapped.
        let _ = unsafe { rustix::mm::munmap(self.address.cast(), self.length) };
    }
}
