#![expect(unsafe_code, reason = "loads a library, and reads the table that it exports")]

use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW, Symbol};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vfiomux_plugin_abi::{Policy, Refusal, SYMBOL, read_policy};

/// Longest library that is read.
const LIBRARY_BYTES_MAX: u64 = 256 << 20;

/// Why a file is no plugin that can run here. The phrase names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LibraryError {
    #[error("{} cannot be read: {why}", .path.display())]
    Read { path: PathBuf, why: io::Error },
    #[error("{} is longer than a plugin may be ({LIBRARY_BYTES_MAX} bytes)", .path.display())]
    TooLong { path: PathBuf },
    #[error("{} is no shared library: {why}", .path.display())]
    NoLibrary { path: PathBuf, why: &'static str },
    #[error("{} is truncated: {has_bytes} bytes of {needs_bytes}; copy it again", .path.display())]
    Truncated { path: PathBuf, has_bytes: u64, needs_bytes: u64 },
    #[error("{} cannot be loaded: {why}", .path.display())]
    Load { path: PathBuf, why: String },
    #[error("{} exports no vfiomux_policy_v1: it is a library, but no policy plugin", .path.display())]
    NoSymbol { path: PathBuf },
    #[error("{} cannot run here: {why}", .path.display())]
    Refused { path: PathBuf, why: Refusal },
}

/// A library's bytes, in memory that has no name, and that nobody can change or cut under us while it is mapped.
#[derive(Debug)]
pub(crate) struct Image {
    path: PathBuf,
    memory: File,
}

impl Image {
    /// Reads a file, with the rights that the process began with.
    ///
    /// # Errors
    /// It cannot be read, or is no whole shared library for this machine.
    pub(crate) fn read(path: &Path) -> Result<Self, LibraryError> {
        let named = || path.to_owned();
        let read = |why| LibraryError::Read { path: named(), why };
        let about = fs::metadata(path).map_err(read)?;
        if !about.is_file() {
            return Err(LibraryError::NoLibrary { path: named(), why: "it is no file" });
        }
        if about.len() > LIBRARY_BYTES_MAX {
            return Err(LibraryError::TooLong { path: named() });
        }
        let bytes = fs::read(path).map_err(read)?;
        check_shape(&bytes).map_err(|complaint| match complaint {
            Shape::Other(why) => LibraryError::NoLibrary { path: named(), why },
            Shape::Truncated { needs_bytes } => {
                LibraryError::Truncated { path: named(), has_bytes: bytes.len() as u64, needs_bytes }
            }
        })?;
        let memory = memory_with(&bytes).map_err(read)?;
        Ok(Self { path: named(), memory })
    }
}

fn memory_with(bytes: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag, and need none.
    let memory = memfd_create("plugin", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("plugin", flags))
        .map_err(io::Error::from)?;
    let mut memory = File::from(memory);
    memory.write_all(bytes)?;
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(memory)
}

/// What a file is, if it is no whole shared library.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Other(&'static str),
    Truncated { needs_bytes: u64 },
}

/// Looks at the ELF header (System V ABI, chapter 4) and at what it says of the rest, because a loader meets a file that is
/// too short with a bus error.
fn check_shape(bytes: &[u8]) -> Result<(), Shape> {
    const HEADER_BYTES: u64 = 64;
    let field = |at: u64, width: usize| -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let mut whole = [0; 8];
        whole.get_mut(..width)?.copy_from_slice(bytes.get(at..at.checked_add(width)?)?);
        Some(u64::from_le_bytes(whole))
    };
    if bytes.get(..4) != Some(b"\x7fELF") {
        return Err(Shape::Other("it has no ELF header"));
    }
    if bytes.get(4..6) != Some(&[2, 1]) {
        return Err(Shape::Other("it is not for 64 bits, little-endian"));
    }
    let short = Shape::Truncated { needs_bytes: HEADER_BYTES };
    let header = |at, width| field(at, width).ok_or(Shape::Truncated { needs_bytes: HEADER_BYTES });
    let (kind, machine) = (header(16, 2)?, header(18, 2)?);
    if bytes.len() as u64 <= HEADER_BYTES {
        return Err(short);
    }
    if machine != if cfg!(target_arch = "aarch64") { 183 } else { 62 } {
        return Err(Shape::Other("it is for another machine"));
    }
    if kind != 3 {
        return Err(Shape::Other("it is another kind of ELF file"));
    }
    let (programs, sections) = (header(32, 8)?, header(40, 8)?);
    let (program_bytes, program_count) = (header(54, 2)?, header(56, 2)?);
    let (section_bytes, section_count) = (header(58, 2)?, header(60, 2)?);
    let table_end = |start: u64, bytes: u64, count: u64| start.saturating_add(bytes.saturating_mul(count));
    let mut needs_bytes = table_end(programs, program_bytes, program_count);
    if sections != 0 {
        needs_bytes = needs_bytes.max(table_end(sections, section_bytes, section_count));
    }
    for index in 0..program_count {
        let at = programs.saturating_add(program_bytes.saturating_mul(index));
        // Offset and size in the file of a segment.
        if let (Some(offset), Some(size)) = (field(at.saturating_add(8), 8), field(at.saturating_add(32), 8))
        {
            needs_bytes = needs_bytes.max(offset.saturating_add(size));
        }
    }
    if needs_bytes > bytes.len() as u64 { Err(Shape::Truncated { needs_bytes }) } else { Ok(()) }
}

/// A loaded plugin. It is never unloaded: it ends with the process.
#[derive(Debug)]
pub(crate) struct Library {
    /// What both sides know of its table.
    pub(crate) policy: Policy,
}

impl Library {
    /// Loads a library, which runs its constructors, and checks its table.
    pub(crate) fn load(image: &Image) -> Result<Self, LibraryError> {
        let path = image.path.clone();
        let place = format!("/proc/self/fd/{}", image.memory.as_raw_fd());
        // SAFETY: code of others runs from here on, in this process. What it can do is bounded by the sandbox, which is
        // closed, and not by Rust; the daemon believes this process nothing.
        let handle = unsafe { Handle::open(Some(&place), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
            // What the loader said is the source of what was tried.
            let said = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            let why = said.replace(&place, "the library");
            LibraryError::Load { path: path.clone(), why }
        })?;
        // SAFETY: the symbol's type is what its name stands for in the ABI; `read_policy` believes no more than its header.
        let symbol: Result<Symbol<*const Policy>, _> = unsafe { handle.get(SYMBOL) };
        let table = match symbol {
            Ok(symbol) => symbol.as_raw_ptr().cast::<Policy>().cast_const(),
            Err(_) => return Err(LibraryError::NoSymbol { path }),
        };
        // SAFETY: the address is that of the symbol.
        let policy = unsafe { read_policy(table) }.map_err(|why| LibraryError::Refused { path, why })?;
        // Hooks are called for as long as the process lives.
        std::mem::forget(handle);
        Ok(Self { policy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a shared library whose one segment is the whole file.
    fn header(file_bytes: u64) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16] = 3;
        bytes[18] = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
        bytes[32] = 64;
        (bytes[54], bytes[56]) = (56, 1);
        bytes[64 + 32..64 + 40].copy_from_slice(&file_bytes.to_le_bytes());
        bytes
    }

    #[test]
    fn a_whole_library_is_seen_as_one() {
        assert_eq!(check_shape(&header(120)), Ok(()));
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_truncated_or_no_library() {
        let whole = header(120);
        for cut in 0..whole.len() {
            assert!(check_shape(&whole[..cut]).is_err(), "{cut}");
        }
        assert_eq!(check_shape(&header(121)), Err(Shape::Truncated { needs_bytes: 121 }));
        assert!(matches!(check_shape(&header(u64::MAX)), Err(Shape::Truncated { .. })));
    }

    #[test]
    fn what_is_no_library_says_what_it_is_not() {
        let shape = |change: fn(&mut Vec<u8>)| {
            let mut bytes = header(120);
            change(&mut bytes);
            check_shape(&bytes)
        };
        assert_eq!(check_shape(b"#!/bin/sh\n"), Err(Shape::Other("it has no ELF header")));
        assert!(matches!(shape(|bytes| bytes[4] = 1), Err(Shape::Other(why)) if why.contains("64 bits")));
        assert!(matches!(shape(|bytes| bytes[18] = 8), Err(Shape::Other(why)) if why.contains("machine")));
        assert!(matches!(shape(|bytes| bytes[16] = 1), Err(Shape::Other(why)) if why.contains("kind")));
    }
}
