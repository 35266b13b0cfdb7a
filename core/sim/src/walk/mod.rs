//! From a command's data pointer to the runs of memory that it names.

mod prp;
mod sgl;

pub(crate) use prp::walk_prps;
pub(crate) use sgl::walk_sgl;

use vfiomux_spec::nvme::Status;

use crate::iommu::{Dma, DmaRefused};
use crate::violation::Access;

/// A run of I/O addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) iova: u64,
    pub(crate) len: u64,
}

/// Where lists and segments are read from: memory behind an IOMMU, or a test's own.
pub(crate) trait ListMemory {
    fn read(&self, iova: u64, into: &mut [u8], access: Access) -> Result<(), DmaRefused>;
}

impl ListMemory for Dma<'_> {
    fn read(&self, iova: u64, into: &mut [u8], access: Access) -> Result<(), DmaRefused> {
        Dma::read(self, iova, into, access)
    }
}

/// Why a data pointer could not be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalkError(pub(crate) Status);

impl From<DmaRefused> for WalkError {
    fn from(_: DmaRefused) -> Self {
        Self(Status::DATA_TRANSFER_ERROR)
    }
}

/// Appends a run, joined to the one before where it continues it.
fn push(runs: &mut Vec<Run>, iova: u64, len: u64) {
    match runs.last_mut() {
        Some(last) if last.iova.checked_add(last.len) == Some(iova) => last.len += len,
        _ => runs.push(Run { iova, len }),
    }
}

#[cfg(test)]
mod tests;
