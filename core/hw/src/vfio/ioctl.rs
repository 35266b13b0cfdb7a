//! The VFIO calls that `vfio-ioctls` lacks, or makes without telling how they ended.
#![expect(unsafe_code, reason = "ioctls take pointers")]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_TYPE, vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap, vfio_iommu_type1_info, vfio_irq_info, vfio_region_info,
};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ptr, ioctl_with_mut_ref, ioctl_with_ptr, ioctl_with_ref};
use vmm_sys_util::ioctl_io_nr;

use crate::{Iova, Rights};

ioctl_io_nr!(VFIO_DEVICE_GET_REGION_INFO, VFIO_TYPE as u32, VFIO_BASE + 8);
ioctl_io_nr!(VFIO_DEVICE_GET_IRQ_INFO, VFIO_TYPE as u32, VFIO_BASE + 9);
ioctl_io_nr!(VFIO_DEVICE_SET_IRQS, VFIO_TYPE as u32, VFIO_BASE + 10);
ioctl_io_nr!(VFIO_DEVICE_RESET, VFIO_TYPE as u32, VFIO_BASE + 11);
ioctl_io_nr!(VFIO_IOMMU_GET_INFO, VFIO_TYPE as u32, VFIO_BASE + 12);
ioctl_io_nr!(VFIO_IOMMU_MAP_DMA, VFIO_TYPE as u32, VFIO_BASE + 13);
ioctl_io_nr!(VFIO_IOMMU_UNMAP_DMA, VFIO_TYPE as u32, VFIO_BASE + 14);

/// The size of one of the kernel's own structures, as it wants it in `argsz`.
const fn argsz<T>() -> u32 {
    assert!(size_of::<T>() < 4096);
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    {
        size_of::<T>() as u32
    }
}

fn ended(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Resets the device behind `device`.
pub(super) fn reset(device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no argument.
    ended(unsafe { ioctl(&device, VFIO_DEVICE_RESET()) })
}

/// Region `index` of the device, without its capabilities.
pub(super) fn region_info(device: BorrowedFd<'_>, index: u32) -> io::Result<vfio_region_info> {
    let mut info = vfio_region_info { argsz: argsz::<vfio_region_info>(), index, ..Default::default() };
    // SAFETY: the kernel writes at most `argsz` bytes.
    ended(unsafe { ioctl_with_mut_ref(&device, VFIO_DEVICE_GET_REGION_INFO(), &mut info) })?;
    Ok(info)
}

/// How many vectors interrupt `index` of the device has.
pub(super) fn irq_count(device: BorrowedFd<'_>, index: u32) -> io::Result<u32> {
    let mut info = vfio_irq_info { argsz: argsz::<vfio_irq_info>(), index, ..Default::default() };
    // SAFETY: the kernel writes at most `argsz` bytes.
    ended(unsafe { ioctl_with_mut_ref(&device, VFIO_DEVICE_GET_IRQ_INFO(), &mut info) })?;
    Ok(info.count)
}

/// Has interrupt `index` of the device signal `events`, the first for vector 0 and so on; with none, turns all of it off.
pub(super) fn set_irqs(device: BorrowedFd<'_>, index: u32, events: &[RawFd]) -> io::Result<()> {
    let too_many = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let data = if events.is_empty() { VFIO_IRQ_SET_DATA_NONE } else { VFIO_IRQ_SET_DATA_EVENTFD };
    let count = u32::try_from(events.len()).map_err(too_many)?;
    let argsz = u32::try_from((5 + events.len()) * size_of::<u32>()).map_err(too_many)?;
    // `struct vfio_irq_set`: argsz, flags, index, start, count, and then a descriptor for each vector.
    let mut set = vec![argsz, data | VFIO_IRQ_SET_ACTION_TRIGGER, index, 0, count];
    set.extend(events.iter().map(|event| event.cast_unsigned()));
    // SAFETY: the kernel reads `argsz` bytes, and the vector has that many.
    ended(unsafe { ioctl_with_ptr(&device, VFIO_DEVICE_SET_IRQS(), set.as_ptr()) })
}

/// `struct vfio_iommu_type1_info` of a container, with its capabilities behind it.
pub(super) fn iommu_info(container: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut head = vfio_iommu_type1_info { argsz: argsz::<vfio_iommu_type1_info>(), ..Default::default() };
    // SAFETY: the kernel writes at most `argsz` bytes.
    ended(unsafe { ioctl_with_mut_ref(&container, VFIO_IOMMU_GET_INFO(), &mut head) })?;
    // Now `argsz` says what it would take with the capabilities. Words of 64 bits, since the structure is aligned to them.
    let size_bytes = (head.argsz as usize).max(size_of::<vfio_iommu_type1_info>());
    let mut words = vec![0u64; size_bytes.div_ceil(8)];
    let mut first = [0; 8];
    first[..4].copy_from_slice(&head.argsz.to_ne_bytes());
    words[0] = u64::from_ne_bytes(first);
    // SAFETY: the kernel writes at most `argsz` bytes, and `words` has that many.
    ended(unsafe { ioctl_with_mut_ptr(&container, VFIO_IOMMU_GET_INFO(), words.as_mut_ptr()) })?;
    let mut info: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
    info.truncate(size_bytes);
    Ok(info)
}

/// Maps `size_bytes` at `host` for the devices of a container to see at `iova`.
///
/// # Safety
///
/// The memory must be reached by volatile or atomic access alone for as long as it is mapped: devices write it.
pub(super) unsafe fn map(
    container: BorrowedFd<'_>,
    iova: Iova,
    host: *mut u8,
    size_bytes: u64,
    rights: Rights,
) -> io::Result<()> {
    let read = if rights.read { VFIO_DMA_MAP_FLAG_READ } else { 0 };
    let write = if rights.write { VFIO_DMA_MAP_FLAG_WRITE } else { 0 };
    let request = vfio_iommu_type1_dma_map {
        argsz: argsz::<vfio_iommu_type1_dma_map>(),
        flags: read | write,
        vaddr: host as u64,
        iova: iova.raw(),
        size: size_bytes,
    };
    // SAFETY: the kernel reads the structure; the caller answers for what devices do to the memory.
    ended(unsafe { ioctl_with_ref(&container, VFIO_IOMMU_MAP_DMA(), &request) })
}

/// Takes exactly one mapping out again. It is an error when the kernel took out more or less.
pub(super) fn unmap(container: BorrowedFd<'_>, iova: Iova, size_bytes: u64) -> io::Result<()> {
    let mut request = vfio_iommu_type1_dma_unmap {
        argsz: argsz::<vfio_iommu_type1_dma_unmap>(),
        flags: 0,
        iova: iova.raw(),
        size: size_bytes,
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes the structure, which asks for no bitmap behind it.
    ended(unsafe { ioctl_with_mut_ref(&container, VFIO_IOMMU_UNMAP_DMA(), &mut request) })?;
    let taken = request.size;
    if taken == size_bytes {
        Ok(())
    } else {
        Err(io::Error::other(format!("the kernel took {taken:#x} bytes out instead")))
    }
}
