//! Where a namespace's bytes are.

mod cache;
mod file;
mod ram;

use std::io;

pub(crate) use cache::VolatileCache;
pub(crate) use file::FileMedium;
pub(crate) use ram::RamMedium;

use crate::host_memory::HostMemory;

/// A run of bytes that outlives the controller's resets. Nothing written yet reads as zeroes.
///
/// A range outside the medium is an error, never a panic: callers check block ranges, and this checks them.
pub(crate) trait Medium: Send {
    /// Copies from the medium into host memory.
    fn read(&self, offset: u64, into: HostMemory<'_>) -> io::Result<()>;

    /// Copies from host memory onto the medium.
    fn write(&mut self, offset: u64, from: HostMemory<'_>) -> io::Result<()>;

    /// Makes a range read as zeroes, giving the storage behind it back where that is possible.
    fn zero(&mut self, offset: u64, len: u64) -> io::Result<()>;

    /// Returns once all that was written before survives a loss of power, as far as the host can tell.
    fn flush(&mut self) -> io::Result<()>;
}

/// One of the two media there are; an enum, so that the copy of a block is not behind a virtual call.
pub(crate) enum AnyMedium {
    Ram(RamMedium),
    File(FileMedium),
}

impl Medium for AnyMedium {
    fn read(&self, offset: u64, into: HostMemory<'_>) -> io::Result<()> {
        match self {
            Self::Ram(medium) => medium.read(offset, into),
            Self::File(medium) => medium.read(offset, into),
        }
    }

    fn write(&mut self, offset: u64, from: HostMemory<'_>) -> io::Result<()> {
        match self {
            Self::Ram(medium) => medium.write(offset, from),
            Self::File(medium) => medium.write(offset, from),
        }
    }

    fn zero(&mut self, offset: u64, len: u64) -> io::Result<()> {
        match self {
            Self::Ram(medium) => medium.zero(offset, len),
            Self::File(medium) => medium.zero(offset, len),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Ram(medium) => medium.flush(),
            Self::File(medium) => medium.flush(),
        }
    }
}

/// Checks that a range lies inside a medium of `size` bytes.
fn inside(offset: u64, len: u64, size: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

#[cfg(test)]
mod tests;
