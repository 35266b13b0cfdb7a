//! Mapping and pinning of tenants' memory: seconds for a large VM, so on a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use vfiomux_guest::{GuestError, MapRegion, MemoryMap, RegionCache};
use vfiomux_hw::{DmaDomain, Epoch, Grant, HwError, Quiesced};
use vfiomux_vhost::RegionGrant;

use super::attachment::KeptRegion;
use super::worker::Idle;
use crate::seeded::{self, Bug};

/// The pinner's own state: which files are mapped already, for whichever socket of a VM they came by.
pub(crate) struct Pinner {
    cache: RegionCache,
}

impl Idle for Pinner {
    const EVERY: Option<Duration> = None;
}

impl Pinner {
    pub(crate) fn new() -> Self {
        Self { cache: RegionCache::new() }
    }

    /// Maps `added` beside `kept`. When any of it fails, nothing of it stays mapped (D1).
    pub(crate) fn map(
        &mut self,
        domain: &Arc<DmaDomain>,
        kept: Vec<KeptRegion>,
        added: Vec<RegionGrant>,
    ) -> Result<(Vec<KeptRegion>, MemoryMap), GuestError> {
        let mut all = kept;
        for region in added {
            let file = self.cache.open(region.file, region.mmap_offset, region.id.size_bytes)?;
            all.push(KeptRegion { id: region.id, file });
        }
        let mut regions = Vec::with_capacity(all.len());
        let mut granted: Vec<Grant> = Vec::with_capacity(all.len());
        let mut failure = None;
        for kept in &all {
            match self.cache.grant(&kept.file, domain) {
                Ok(grant) => {
                    granted.push(grant.clone());
                    regions.push(MapRegion {
                        guest_addr: kept.id.guest_addr,
                        user_addr: kept.id.user_addr,
                        file: kept.file.clone(),
                        grant: Some(grant),
                    });
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let made = match failure {
            None => MemoryMap::new(regions),
            Some(error) => {
                drop(regions);
                Err(error)
            }
        };
        match made {
            Ok(map) => Ok((all, map)),
            Err(error) => {
                if seeded::is(Bug::LeakOnFailedHandshake) {
                    std::mem::forget(granted);
                    return Err(error);
                }
                // No command can name what no sidecore has seen.
                if let Ok(quiesced) = Epoch::open(granted).close() {
                    for grant in quiesced.into_each() {
                        let _ = DmaDomain::unmap(grant);
                    }
                }
                Err(error)
            }
        }
    }

    /// Takes quiesced memory out of the domain. What other channels of the VM still hold stays for them.
    pub(crate) fn unmap(&mut self, memory: Quiesced<Arc<MemoryMap>>) -> Vec<HwError> {
        let mut failures = Vec::new();
        let grants = memory.map(|map| Arc::try_unwrap(map).map(MemoryMap::into_grants).unwrap_or_default());
        for grant in grants.into_each() {
            if let Err(error) = DmaDomain::unmap(grant) {
                failures.push(error);
            }
        }
        failures
    }
}
