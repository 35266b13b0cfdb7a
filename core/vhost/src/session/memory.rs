//! Which regions the front-end has granted: enough to tell a grant that overlaps or does not exist.

use vfiomux_spec::vhost_user::MAX_MEM_SLOTS;

use crate::{RegionId, Violation};

#[derive(Debug, Default)]
pub(super) struct MemoryTable {
    regions: Vec<RegionId>,
}

impl MemoryTable {
    /// Whether a region could be added.
    pub(super) fn check_addition(&self, request: &'static str, region: RegionId) -> Result<(), Violation> {
        if self.regions.len() >= MAX_MEM_SLOTS {
            return Err(Violation::TooManyRegions);
        }
        if self.regions.iter().any(|other| overlap(other, &region)) {
            return Err(Violation::RegionOverlap { request, guest_addr: region.guest_addr });
        }
        Ok(())
    }

    /// A table of these regions, if they do not overlap.
    pub(super) fn of(
        request: &'static str,
        regions: impl IntoIterator<Item = RegionId>,
    ) -> Result<Self, Violation> {
        let mut table = Self::default();
        for region in regions {
            table.check_addition(request, region)?;
            table.add(region);
        }
        Ok(table)
    }

    pub(super) fn contains(&self, region: RegionId) -> bool {
        self.regions.contains(&region)
    }

    pub(super) fn add(&mut self, region: RegionId) {
        self.regions.push(region);
    }

    pub(super) fn remove(&mut self, region: RegionId) {
        self.regions.retain(|other| *other != region);
    }
}

/// Whether two regions share a guest address. Sharing one of the front-end's is allowed: a VMM may show the same memory
/// to its guest in two places. That no region wraps has been checked when it was read.
fn overlap(a: &RegionId, b: &RegionId) -> bool {
    a.guest_addr < b.guest_addr.saturating_add(b.size_bytes)
        && b.guest_addr < a.guest_addr.saturating_add(a.size_bytes)
}
