//! Mapping a VM's memory once, however many of its sockets lend it to us.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use vfiomux_hw::{DmaDomain, Grant, Rights, WeakGrant};

use super::region::{Candidate, FileIdentity, FileRegion};
use crate::GuestError;

/// Regions by file identity, and their grants by address and domain. Holds neither in place: only finds them again.
///
/// A VM with three disks opens three sockets and passes the same memory over each. The kernel charges every mapping and
/// every pin of it anew, so the second and third find what the first made.
#[derive(Debug, Default)]
pub struct RegionCache {
    regions: Mutex<HashMap<FileIdentity, Weak<FileRegion>>>,
    /// A region stays where it is while its grant lives, so that an address never finds the grant of an earlier region.
    grants: Mutex<HashMap<(usize, u64), WeakGrant>>,
}

impl RegionCache {
    /// A cache that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The region of `size_bytes` at `offset` of the file, mapped now unless somebody still holds it.
    ///
    /// `fd` is looked at either way: a descriptor that is open for reading only does not find a mapping for writing.
    pub fn open(&self, fd: OwnedFd, offset: u64, size_bytes: u64) -> Result<Arc<FileRegion>, GuestError> {
        let candidate = Candidate::examine(fd, offset, size_bytes)?;
        let identity = candidate.identity();
        let mut regions = lock(&self.regions);
        // A poisoned region is of no use to a newcomer, whose file was just found whole.
        if let Some(region) =
            regions.get(&identity).and_then(Weak::upgrade).filter(|region| !region.poisoned())
        {
            return Ok(region);
        }
        let region = Arc::new(FileRegion::from_candidate(candidate)?);
        regions.retain(|_, region| region.strong_count() > 0);
        regions.insert(identity, Arc::downgrade(&region));
        Ok(region)
    }

    /// A share of the region's mapping in `domain`, made now unless somebody still holds one. May block for as long as
    /// pinning takes, also for others who ask for a grant.
    ///
    /// Like every share it goes back through [`DmaDomain::unmap`], also when it was never used.
    pub fn grant(&self, region: &Arc<FileRegion>, domain: &Arc<DmaDomain>) -> Result<Grant, GuestError> {
        let key = (region.host().as_ptr() as usize, domain.id());
        let mut grants = lock(&self.grants);
        if let Some(grant) = grants.get(&key).and_then(WeakGrant::upgrade) {
            return Ok(grant);
        }
        let grant = domain.map(region.clone(), Rights::READ_WRITE)?;
        grants.retain(|_, grant| grant.is_held());
        grants.insert(key, grant.downgrade());
        Ok(grant)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
