//! A device descriptor, and how it is closed.
#![expect(unsafe_code, reason = "a descriptor is borrowed by number, and closed by hand")]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_REQ_IRQ_INDEX, VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
};
use vfio_ioctls::{VfioDevice, VfioRegionInfoCap};

use super::ioctl;

/// A region of a device: a BAR, or configuration space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

    pub(super) fn bare(device: BareDevice) -> Self {
        Self::Bare(device)
    }

    pub(super) fn region(&self, index: u32) -> Region {
        match self {
            Self::Grouped(device) => device.region(index),
            Self::Bare(device) => device.regions.get(index as usize).cloned().unwrap_or_default(),
        }
    }

    /// How many vectors interrupt `index` has; 0 when the device has no such interrupt.
    pub(super) fn irq_count(&self, index: u32) -> u32 {
        match self {
            Self::Grouped(device) => device.0.get_irq_info(index).map_or(0, |irq| irq.count),
            Self::Bare(device) => device.irq_counts.get(index as usize).copied().unwrap_or(0),
        }
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
    fn region(&self, index: u32) -> Region {
        let size_bytes = self.0.get_region_size(index);
        let sparse = self.0.get_region_caps(index).into_iter().find_map(|capability| match capability {
            VfioRegionInfoCap::SparseMmap(sparse) => Some(sparse.areas),
            _ => None,
        });
        let mappable = match sparse {
            _ if !can_be_mapped(self.0.get_region_flags(index)) => Vec::new(),
            Some(areas) => areas.iter().map(|area| (area.offset, area.size)).collect(),
            None => vec![(0, size_bytes)],
        };
        Region { offset: self.0.get_region_offset(index), size_bytes, mappable }
    }
}

fn can_be_mapped(flags: u32) -> bool {
    let needed = VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    flags & needed == needed
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
    device: OwnedFd,
    _group: OwnedFd,
    _container: OwnedFd,
    regions: Vec<Region>,
    irq_counts: Vec<u32>,
}

impl BareDevice {
    pub(super) fn new(device: OwnedFd, group: OwnedFd, container: OwnedFd) -> io::Result<Self> {
        let region = |index| {
            // An optional region that is absent is refused, and means the same as an empty one.
            let Ok(info) = ioctl::region_info(device.as_fd(), index) else { return Region::default() };
            let mappable = if can_be_mapped(info.flags) { vec![(0, info.size)] } else { Vec::new() };
            Region { offset: info.offset, size_bytes: info.size, mappable }
        };
        let regions: Vec<Region> = (0..=VFIO_PCI_CONFIG_REGION_INDEX).map(region).collect();
        if regions.last().is_none_or(|config| config.size_bytes == 0) {
            return Err(io::Error::other("the device has no configuration space"));
        }
        let irq_counts = (0..=VFIO_PCI_REQ_IRQ_INDEX)
            .map(|index| ioctl::irq_count(device.as_fd(), index).unwrap_or(0))
            .collect();
        Ok(Self { device, _group: group, _container: container, regions, irq_counts })
    }
}
