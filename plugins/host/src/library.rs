#![expect(unsafe_code, reason = "loads a library, and reads the table that it exports")]

use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW, Symbol};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vfiomux_plugin_abi::{NotALibrary, Policy, Refusal, SYMBOL, check_library, read_policy};

/// Longest library that is read.
const LIBRARY_BYTES_MAX: u64 = 256 << 20;

/// Why a file is no plugin that can run here. The phrase names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LibraryError {
    #[error("{} cannot be read: {why}", .path.display())]
    Read { path: PathBuf, why: io::Error },
    #[error("{} is no file", .path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is longer than a plugin may be ({LIBRARY_BYTES_MAX} bytes)", .path.display())]
    TooLong { path: PathBuf },
    #[error("{} cannot be loaded: {why}", .path.display())]
    NotALibrary { path: PathBuf, why: NotALibrary },
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
            return Err(LibraryError::NotAFile { path: named() });
        }
        if about.len() > LIBRARY_BYTES_MAX {
            return Err(LibraryError::TooLong { path: named() });
        }
        let bytes = fs::read(path).map_err(read)?;
        check_library(&bytes).map_err(|why| LibraryError::NotALibrary { path: named(), why })?;
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
