//! Memory that a front-end lends us: files, where the guest sees them, and how addresses become segments.

mod access;
mod cache;
mod map;
mod region;

#[cfg(test)]
pub(crate) use access::watch;
pub(crate) use access::{load, peek, prefetch, store};
pub use cache::RegionCache;
pub(crate) use map::Lookup;
pub use map::{Hint, MapRegion, MemoryMap, OutsideMemory, REGIONS_MAX};
pub use region::{FileIdentity, FileRegion};
