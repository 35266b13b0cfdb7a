//! A device descriptor, and how it is closed.
#![expect(unsafe_code, reason = "a descriptor is borrowed by number, and closed by hand")]

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use vfio_bindings::bindings::vfio::{VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_WRITE};
use vfio_ioctls::{VfioDevice, VfioRegionInfoCap};

/// A region of a device: a BAR, or configuration space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Region {
    /// Where it begins in the device's descriptor, bytes.
    pub(super) offset: u64,
    /// How long it is, bytes; 0 when the device has no such region.
    pub(super) size_bytes: u64,
    /// The parts that can be mapped, as offset in the region and length, bytes.
    pub(super) mappable: Vec<(u64, u64)>,
}

/// An open VFIO device.
pub(super) struct Handle(ManuallyDrop<VfioDevice>);

impl Handle {
    pub(super) fn new(device: VfioDevice) -> Self {
        Self(ManuallyDrop::new(device))
    }

    pub(super) fn region(&self, index: u32) -> Region {
        let size_bytes = self.0.get_region_size(index);
        let flags = self.0.get_region_flags(index);
        let sparse = self.0.get_region_caps(index).into_iter().find_map(|capability| match capability {
            VfioRegionInfoCap::SparseMmap(sparse) => Some(sparse.areas),
            _ => None,
        });
        let mappable = if flags & VFIO_REGION_INFO_FLAG_MMAP == 0 || flags & VFIO_REGION_INFO_FLAG_WRITE == 0
        {
            Vec::new()
        } else if let Some(areas) = sparse {
            areas.iter().map(|area| (area.offset, area.size)).collect()
        } else {
            vec![(0, size_bytes)]
        };
        Region { offset: self.0.get_region_offset(index), size_bytes, mappable }
    }

    /// How many vectors interrupt `index` has; 0 when the device has no such interrupt.
    pub(super) fn irq_count(&self, index: u32) -> u32 {
        self.0.get_irq_info(index).map_or(0, |irq| irq.count)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the device keeps its descriptor open until `drop` below.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl Drop for Handle {
    /// Closes the device, also one that is being unplugged.
    ///
    /// `VfioDevice` closes its descriptor and then looks up its group in sysfs, and panics when that is gone. The kernel
    /// takes an unplugged device out of sysfs as soon as the last descriptor is closed: a race. A second descriptor, held
    /// across, makes the order certain. The price is that the container keeps the group until the container goes, which is
    /// when the last grant in its domain has been dropped: just as well, since those grants must still be unmapped.
    fn drop(&mut self) {
        let last = self.as_fd().try_clone_to_owned();
        if last.is_err() {
            // Out of descriptors: the device stays open rather than risk the panic.
            tracing::error!("a device could not be closed: this process is out of file descriptors");
            return;
        }
        // SAFETY: dropped once, here, and not used again.
        unsafe { ManuallyDrop::drop(&mut self.0) };
        drop(last);
    }
}
