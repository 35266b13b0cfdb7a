use std::io;
use std::path::PathBuf;

/// What can go wrong in making a simulated device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The text does not begin like a simulated device.
    #[error("{0:?} is no simulated device; write sim:nvme,size=4G[,file=PATH]…")]
    NotSimulated(String),
    /// A key that does not exist.
    #[error("sim:nvme has no setting {key:?}; did you mean {nearest}? Settings: {known}")]
    UnknownKey {
        /// What was written.
        key: String,
        /// The most similar one that exists.
        nearest: &'static str,
        /// All that exist.
        known: String,
    },
    /// A key was given twice.
    #[error("sim:nvme: {0} is given twice; leave one out")]
    Repeated(String),
    /// A value cannot be what its key needs.
    #[error("sim:nvme: {key}={value} is not {expected}")]
    BadValue {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Settings that do not go together, or do not fit.
    #[error("sim:nvme: {0}")]
    Conflict(&'static str),
    /// The backing file could not be opened or made.
    #[error("cannot open {} as a simulated disk: {source}; check the directory, its permissions, and the space on it", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The backing file is in use by another simulated device.
    #[error("{} is already the disk of another simulated device; give each device a file of its own", path.display())]
    FileBusy {
        /// The file.
        path: PathBuf,
    },
    /// Memory or a descriptor could not be had.
    #[error(
        "cannot set up a simulated device: {0}; check the limits on memory and open files (ulimit -v, ulimit -n)"
    )]
    Resources(#[from] io::Error),
    /// A block that the namespace does not have, through the test's own access.
    #[error("namespace {nsid} has no blocks {lba}+{blocks}")]
    NoSuchBlocks {
        /// Namespace.
        nsid: u32,
        /// First block.
        lba: u64,
        /// How many.
        blocks: u64,
    },
}
