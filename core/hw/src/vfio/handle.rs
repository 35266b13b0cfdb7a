//! A device descriptor, and how it is closed.
#![expect(unsafe_code, reason = "a descriptor is borrowed by number, and closed by hand")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};
use vfio_ioctls::{VfioDevice, VfioRegionInfoCap};

use super::ioctl;

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
pub(super) enum Handle {
    /// Of a group in a container. A device opened through iommufd would be one more of these.
    Grouped(GroupedDevice),
    /// Of a group that VFIO made up: nothing confines it.
    Bare(BareDevice),
}

impl Handle {
    pub(super) fn grouped(device: VfioDevice) -> Self {
        Self::Grouped(GroupedDevice(ManuallyDrop::new(device)))
    }

    /// Region `index` of the device.
    pub(super) fn region(&self, index: u32) -> io::Result<Region> {
        let info = ioctl::region_info(self.as_fd(), index)?;
        let needed = VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        let sparse = match self {
            Self::Grouped(device) => device.sparse_areas(index, info.offset),
            Self::Bare(_) => None,
        };
        let mappable = match sparse {
            _ if info.flags & needed != needed => Vec::new(),
            Some(areas) => areas,
            None => vec![(0, info.size)],
        };
        Ok(Region { offset: info.offset, size_bytes: info.size, mappable })
    }

    /// How many vectors interrupt `index` has; 0 when the device has no such interrupt.
    pub(super) fn irq_count(&self, index: u32) -> u32 {
        ioctl::irq_count(self.as_fd(), index).unwrap_or(0)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Grouped(device) => device.as_fd(),
            Self::Bare(device) => device.device.as_fd(),
        }
    }
}

/// A device that `vfio-ioctls` opened.
pub(super) struct GroupedDevice(ManuallyDrop<VfioDevice>);

impl GroupedDevice {
    /// The parts of a region that can be mapped, where not all of it can.
    fn sparse_areas(&self, index: u32, offset: u64) -> Option<Vec<(u64, u64)>> {
        // `VfioDevice` leaves out regions that it could not read, which moves those behind them to lower indices.
        let found = (0..=index)
            .find(|&index| self.0.get_region_offset(index) == offset && self.0.get_region_size(index) > 0)?;
        self.0.get_region_caps(found).into_iter().find_map(|capability| match capability {
            VfioRegionInfoCap::SparseMmap(sparse) => {
                Some(sparse.areas.iter().map(|area| (area.offset, area.size)).collect())
            }
            _ => None,
        })
    }
}

impl AsFd for GroupedDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the device keeps its descriptor open until `drop` below.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl Drop for GroupedDevice {
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

/// A device that nothing confines. Its descriptors are closed in this order.
pub(super) struct BareDevice {
    pub(super) device: OwnedFd,
    pub(super) _group: OwnedFd,
    pub(super) _container: OwnedFd,
}
