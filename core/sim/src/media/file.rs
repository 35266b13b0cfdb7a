//! A file as a medium: sparse, and there again after a restart.
//!
//! Read and written by system calls rather than mapped, so that a full or failing disk is a status and not a signal.
#![expect(
    unsafe_code,
    reason = "the kernel copies between the file and host memory that is named by raw pointers"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::Errno;

use super::{Medium, inside};
use crate::host_memory::HostMemory;

/// Zeroes are written this much at a time where the file system cannot punch holes.
const ZERO_CHUNK_BYTES: usize = 1 << 16;

/// A part of a file. Several namespaces share one file, each with its own part.
pub(crate) struct FileMedium {
    file: Arc<File>,
    base: u64,
    size_bytes: u64,
}

impl FileMedium {
    /// The `size_bytes` of `file` from `base`; the file must be at least that long.
    pub(crate) fn new(file: Arc<File>, base: u64, size_bytes: u64) -> Self {
        Self { file, base, size_bytes }
    }

    fn offset(&self, offset: u64, len: u64) -> io::Result<i64> {
        inside(offset, len, self.size_bytes)?;
        i64::try_from(self.base + offset).map_err(|_| io::ErrorKind::InvalidInput.into())
    }
}

/// Calls `transfer` until all `len` bytes have moved.
fn all(len: usize, mut transfer: impl FnMut(usize) -> isize) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        match transfer(done) {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            moved if moved > 0 => done += moved.unsigned_abs(),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

impl Medium for FileMedium {
    fn read(&self, offset: u64, into: HostMemory<'_>) -> io::Result<()> {
        let offset = self.offset(offset, into.len() as u64)?;
        let fd = self.file.as_raw_fd();
        // SAFETY: `into` is valid for its length, of which `done` bytes have been written; the kernel checks it again.
        all(into.len(), |done| unsafe {
            libc::pread(fd, into.as_ptr().add(done).cast(), into.len() - done, offset + done as i64)
        })
    }

    fn write(&mut self, offset: u64, from: HostMemory<'_>) -> io::Result<()> {
        let offset = self.offset(offset, from.len() as u64)?;
        let fd = self.file.as_raw_fd();
        // SAFETY: as in `read`; the kernel only reads from `from`.
        all(from.len(), |done| unsafe {
            libc::pwrite(fd, from.as_ptr().add(done).cast(), from.len() - done, offset + done as i64)
        })
    }

    fn zero(&mut self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.offset(offset, len)?;
        let start = self.base + offset;
        match fallocate(&*self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => {
                let zeroes = [0; ZERO_CHUNK_BYTES];
                let mut done = 0;
                while done < len {
                    let chunk = usize::try_from(len - done).unwrap_or(usize::MAX).min(ZERO_CHUNK_BYTES);
                    self.file.write_all_at(zeroes.get(..chunk).unwrap_or_default(), start + done)?;
                    done += chunk as u64;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(fdatasync(&*self.file)?)
    }
}
