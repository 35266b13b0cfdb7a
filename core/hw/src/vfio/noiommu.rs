//! Functions that no IOMMU confines, where an operator insists.
//!
//! VFIO's no-IOMMU mode opens such a function like any other, and translates nothing: the device is given physical addresses,
//! and reaches whatever it is told to. Memory can then be named only where it lies in one physical piece. Buffers of our own are
//! put on huge pages for that; a guest's memory qualifies only where it, too, is one piece.
//!
//! Debian's kernels are built without this mode, so that no test runs against it: only the reading of addresses is
//! tested. Everything here is refused without `--allow-unsafe-noiommu` (D4).
#![expect(
    unsafe_code,
    reason = "ioctls take pointers and return descriptors, and memory is locked by pointer"
)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;

use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_NOIOMMU_IOMMU, VFIO_TYPE};
use vmm_sys_util::ioctl::{ioctl_with_ptr, ioctl_with_ref, ioctl_with_val};
use vmm_sys_util::ioctl_io_nr;

use super::handle::{BareDevice, Handle};
use crate::inventory::{FunctionInfo, Group};
use crate::{DmaDomain, HwError, Iommu, Iova, Rights};

ioctl_io_nr!(VFIO_SET_IOMMU, VFIO_TYPE as u32, VFIO_BASE + 2);
ioctl_io_nr!(VFIO_GROUP_SET_CONTAINER, VFIO_TYPE as u32, VFIO_BASE + 4);
ioctl_io_nr!(VFIO_GROUP_GET_DEVICE_FD, VFIO_TYPE as u32, VFIO_BASE + 6);

const PAGE_BYTES: u64 = 4096;

/// Opens a function of a group that VFIO made up. Needs CAP_SYS_RAWIO, and CAP_SYS_ADMIN to learn physical addresses.
pub(super) fn open(known: &FunctionInfo, group: &Group) -> Result<(Handle, Arc<DmaDomain>), HwError> {
    let failed = |step| move |source| HwError::Step { function: known.address.to_string(), step, source };
    tracing::warn!(
        function = %known.address,
        "owned without an IOMMU: this device can read and write all memory of this host"
    );
    let read_write = |path: &str| OpenOptions::new().read(true).write(true).open(path);
    let container = read_write("/dev/vfio/vfio").map_err(failed("opening /dev/vfio/vfio"))?;
    let group = read_write(&format!("/dev/vfio/noiommu-{}", group.id))
        .map_err(failed("opening the no-IOMMU group"))?;
    let descriptor = container.as_raw_fd();
    // SAFETY: the kernel reads one descriptor.
    ended(unsafe { ioctl_with_ref(&group, VFIO_GROUP_SET_CONTAINER(), &descriptor) })
        .map_err(failed("joining the no-IOMMU group to a container"))?;
    // SAFETY: the call takes a plain number.
    ended(unsafe { ioctl_with_val(&container, VFIO_SET_IOMMU(), VFIO_NOIOMMU_IOMMU.into()) })
        .map_err(failed("choosing the no-IOMMU mode"))?;
    let name =
        CString::new(known.address.to_string()).map_err(|error| failed("naming the device")(error.into()))?;
    // SAFETY: the kernel reads a string that ends in NUL.
    let device = ended(unsafe { ioctl_with_ptr(&group, VFIO_GROUP_GET_DEVICE_FD(), name.as_ptr()) })
        .map_err(failed("opening the device"))?;
    // SAFETY: a descriptor that the kernel has just made for us.
    let device = unsafe { OwnedFd::from_raw_fd(device) };
    let iommu = Untranslated::new().map_err(failed("opening /proc/self/pagemap"))?;
    let device = BareDevice { device, _group: group.into(), _container: container.into() };
    Ok((Handle::Bare(device), DmaDomain::new(Box::new(iommu))))
}

fn ended(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Memory as a device sees it that nothing confines: at its physical address.
struct Untranslated {
    pagemap: File,
}

impl Untranslated {
    fn new() -> io::Result<Self> {
        Ok(Self { pagemap: File::open("/proc/self/pagemap")? })
    }
}

impl Iommu for Untranslated {
    fn apertures(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=u64::MAX]
    }

    fn page_sizes(&self) -> u64 {
        PAGE_BYTES
    }

    fn translates(&self) -> bool {
        false
    }

    /// Locks the memory, so that it keeps the physical address that it has.
    fn dictated(&self, host: NonNull<u8>, size_bytes: u64) -> io::Result<Iova> {
        let len = usize::try_from(size_bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: locking and unlocking change nothing that a program can see; the range is the caller's.
        unsafe { rustix::mm::mlock(host.as_ptr().cast(), len)? };
        let physical = self.physical(host, size_bytes);
        if physical.is_err() {
            // SAFETY: as above.
            let _ = unsafe { rustix::mm::munlock(host.as_ptr().cast(), len) };
        }
        physical.map(Iova)
    }

    fn map(&self, _: Iova, _: NonNull<u8>, _: u64, _: Rights) -> io::Result<()> {
        // The device reaches all memory as it is. What was locked stays locked until it is unmapped from the process.
        Ok(())
    }

    fn unmap(&self, _: Iova, _: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Untranslated {
    fn physical(&self, host: NonNull<u8>, size_bytes: u64) -> io::Result<u64> {
        let first_page = host.as_ptr() as u64 / PAGE_BYTES;
        one_piece((0..size_bytes.div_ceil(PAGE_BYTES)).map(|page| {
            // One entry of 64 bits a page of virtual memory (Documentation/admin-guide/mm/pagemap.rst).
            let mut entry = [0; 8];
            self.pagemap.read_exact_at(&mut entry, (first_page + page) * 8)?;
            frame_of(u64::from_ne_bytes(entry))
        }))
    }
}

/// The physical address of pages in these frames, if each follows the one before.
fn one_piece(frames: impl Iterator<Item = io::Result<u64>>) -> io::Result<u64> {
    let mut first_and_next = None;
    for frame in frames {
        let frame = frame?;
        let (first, next) = *first_and_next.get_or_insert((frame, frame));
        if frame != next {
            return Err(io::Error::other(
                "the memory does not lie in one physical piece, and no IOMMU can make it so; back the guest by huge pages, \
                 or enable the IOMMU",
            ));
        }
        first_and_next = Some((first, next + 1));
    }
    first_and_next.map(|(first, _)| first * PAGE_BYTES).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// The page frame in an entry of the pagemap.
fn frame_of(entry: u64) -> io::Result<u64> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    match (entry & PRESENT != 0, entry & FRAME) {
        (false, _) => Err(io::Error::other("the memory is not in RAM")),
        // The kernel shows zero to those who may not know.
        (true, 0) => Err(io::Error::from_raw_os_error(libc::EPERM)),
        (true, frame) => Ok(frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_pagemap_are_told_apart() {
        assert_eq!(frame_of(0x8180_0000_0012_3456).unwrap(), 0x12_3456);
        assert_eq!(frame_of(0x8180_0000_0000_0000).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(frame_of(0x0000_0000_0012_3456).is_err());
    }

    #[test]
    fn only_frames_in_a_row_are_one_piece() {
        let frames = |frames: &[u64]| one_piece(frames.iter().map(|&frame| Ok(frame)));
        assert_eq!(frames(&[7, 8, 9]).unwrap(), 0x7000);
        for scattered in [&[7, 9][..], &[7, 6], &[7, 7], &[]] {
            assert!(frames(scattered).is_err(), "{scattered:?}");
        }
    }

    #[test]
    fn a_page_has_a_physical_address_for_those_who_may_know() {
        let iommu = Untranslated::new().unwrap();
        let memory = vec![1u8; 8192];
        let base = memory.as_ptr().align_offset(4096);
        let page = NonNull::from(&memory[base]);
        match iommu.dictated(page, PAGE_BYTES) {
            Ok(address) => assert_eq!(address.raw() % PAGE_BYTES, 0),
            // Without the right to know, the answer is that, never an address.
            Err(error) => {
                assert!(matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM | libc::EAGAIN)))
            }
        }
    }
}
