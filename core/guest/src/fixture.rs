//! What this crate's tests build on.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfiomux_hw::{DmaDomain, Iommu, Iova, Rights};

use crate::{FileRegion, MapRegion, MemoryMap};

/// A file of `size_bytes` that can be sealed and truncated.
pub(crate) fn memfd(size_bytes: u64) -> OwnedFd {
    let file = memfd_create("guest-test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, size_bytes).unwrap();
    file
}

/// A region that is the whole of a new file.
pub(crate) fn region(size_bytes: u64) -> Arc<FileRegion> {
    Arc::new(FileRegion::map(memfd(size_bytes), 0, size_bytes).unwrap())
}

/// A region at a guest address, which the front-end sees a terabyte further on.
pub(crate) fn placed(guest_addr: u64, size_bytes: u64) -> MapRegion {
    MapRegion { guest_addr, user_addr: guest_addr + (1 << 40), file: region(size_bytes), grant: None }
}

/// A map of regions given as guest address and size.
pub(crate) fn map_of(regions: &[(u64, u64)]) -> MemoryMap {
    MemoryMap::new(regions.iter().map(|&(at, size_bytes)| placed(at, size_bytes)).collect()).unwrap()
}

/// A domain over an IOMMU that takes everything.
pub(crate) fn domain() -> Arc<DmaDomain> {
    struct Willing;
    impl Iommu for Willing {
        fn apertures(&self) -> Vec<RangeInclusive<u64>> {
            vec![0..=(1 << 39) - 1]
        }
        fn page_sizes(&self) -> u64 {
            4096
        }
        fn map(&self, _: Iova, _: NonNull<u8>, _: u64, _: Rights) -> io::Result<()> {
            Ok(())
        }
        fn unmap(&self, _: Iova, _: u64) -> io::Result<()> {
            Ok(())
        }
    }
    DmaDomain::new(Box::new(Willing))
}
