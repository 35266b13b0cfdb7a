//! A BAR, mapped.
#![expect(unsafe_code, reason = "registers are mapped into this process")]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::handle::Region;
use crate::bar::Window;
use crate::{Fill, Guard, Guarded};

const PAGE_BYTES: usize = 4096;

/// A mapped register window that survives its device.
///
/// When the device vanishes, or the function is given up while somebody still holds a [`crate::Bar`], it reads as ones.
pub(super) struct BarWindow {
    base: NonNull<u8>,
    /// Length of the registers, bytes.
    len: usize,
    /// Length of the mapping: whole pages.
    mapped_bytes: usize,
    guarded: Option<Guarded>,
}

// SAFETY: the mapping is this value's own, and whoever reaches into it does so by volatile access through `Bar`.
unsafe impl Send for BarWindow {}
// SAFETY: as above; `revoke` replaces pages in one step of the kernel's, under which volatile accesses stay valid.
unsafe impl Sync for BarWindow {}

impl BarWindow {
    /// Maps `region` of `device`. Parts that cannot be mapped (where the kernel keeps the MSI-X table to itself) read as ones.
    pub(super) fn map(device: BorrowedFd<'_>, region: &Region) -> io::Result<Self> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
        let len = usize::try_from(region.size_bytes).map_err(invalid)?;
        let mapped_bytes = len.checked_next_multiple_of(PAGE_BYTES).ok_or(io::ErrorKind::InvalidData)?;
        let rw = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            mmap_anonymous(ptr::null_mut(), mapped_bytes, rw, MapFlags::PRIVATE | MapFlags::NORESERVE)?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // From here on the value unmaps what there is when a step fails.
        let mut window = Self { base, len, mapped_bytes, guarded: None };
        let mut filled = 0;
        for &(offset, size_bytes) in &region.mappable {
            let start = usize::try_from(offset).map_err(invalid)?;
            let size = usize::try_from(size_bytes).map_err(invalid)?.next_multiple_of(PAGE_BYTES);
            let end = start
                .checked_add(size)
                .filter(|&end| end <= mapped_bytes)
                .ok_or(io::ErrorKind::InvalidData)?;
            if start < filled || !start.is_multiple_of(PAGE_BYTES) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            window.fill_with_ones(filled, start);
            // SAFETY: replaces pages of the fresh mapping, which nobody else knows yet.
            unsafe {
                mmap(
                    base.as_ptr().add(start).cast(),
                    size,
                    rw,
                    MapFlags::SHARED | MapFlags::FIXED,
                    device,
                    region.offset + offset,
                )?;
            }
            filled = end;
        }
        window.fill_with_ones(filled, mapped_bytes);
        // SAFETY: the mapping is ours and unmapped only after the guard is gone; registers may read as ones at any time.
        window.guarded = Some(unsafe { Guard::register(base, mapped_bytes, Fill::Ones)? });
        Ok(window)
    }

    fn fill_with_ones(&mut self, from: usize, to: usize) {
        // SAFETY: anonymous memory of the fresh mapping, which nobody else knows yet; `from <= to <= mapped_bytes`.
        unsafe { ptr::write_bytes(self.base.as_ptr().add(from), 0xff, to.saturating_sub(from)) };
    }

    /// Lets go of the device: whoever still holds the window finds ones in it.
    ///
    /// An empty file takes the device's place, every access to it faults, and the guard puts pages of ones there.
    pub(super) fn revoke(&self) -> io::Result<()> {
        let empty = memfd_create("vfiomux-revoked", MemfdFlags::CLOEXEC)?;
        let rw = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: replaces this value's own mapping, in which accesses stay valid by the guard.
        unsafe { mmap(self.base.as_ptr().cast(), self.mapped_bytes, rw, flags, &empty, 0)? };
        Ok(())
    }
}

// SAFETY: the mapping lives until drop, is page aligned, and missing pages are replaced by the guard.
unsafe impl Window for BarWindow {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn len(&self) -> usize {
        self.len
    }

    fn is_gone(&self) -> bool {
        self.guarded.as_ref().is_some_and(Guarded::poisoned)
    }
}

impl Drop for BarWindow {
    fn drop(&mut self) {
        // The guard first: its range must be mapped for as long as it is registered.
        self.guarded = None;
        // SAFETY: mapped in `map` with this length; whoever could reach into it holds the value, so nobody does.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::Arc;

    use rustix::fs::ftruncate;

    use super::*;
    use crate::Bar;

    /// A file in which a device with `pages` pages of registers begins at page 1: page `n` of it is filled with `n`.
    fn device(pages: u8) -> OwnedFd {
        let file = memfd_create("device", MemfdFlags::CLOEXEC).unwrap();
        for page in 0..=pages {
            let fill = page.saturating_sub(1);
            rustix::io::pwrite(&file, &[fill; PAGE_BYTES], u64::from(page) * 4096).unwrap();
        }
        file
    }

    fn window(file: &OwnedFd, size_bytes: u64, mappable: &[(u64, u64)]) -> io::Result<Arc<BarWindow>> {
        let region = Region { offset: 4096, size_bytes, mappable: mappable.to_vec() };
        BarWindow::map(file.as_fd(), &region).map(Arc::new)
    }

    fn pages(bar: &Bar) -> Vec<u32> {
        (0..bar.len() / PAGE_BYTES).map(|page| bar.read32(page * PAGE_BYTES).unwrap()).collect()
    }

    #[test]
    fn parts_that_cannot_be_mapped_read_as_ones() {
        let window = window(&device(4), 0x4000, &[(0, 0x1000), (0x2000, 0x1000)]).unwrap();
        let bar = Bar::new(window, None);
        assert_eq!(pages(&bar), [0, u32::MAX, 0x0202_0202, u32::MAX]);
        bar.write32(0x1000, 0).unwrap();
        assert!(!bar.is_gone());
    }

    #[test]
    fn a_window_shorter_than_a_page_ends_where_the_registers_end() {
        let bar = Bar::new(window(&device(1), 0x100, &[(0, 0x100)]).unwrap(), None);
        assert!(bar.read32(0xfc).is_ok() && bar.read32(0x100).is_err());
    }

    #[test]
    fn a_vanished_device_reads_as_ones_and_is_gone() {
        let file = device(2);
        let bar = Bar::new(window(&file, 0x2000, &[(0, 0x2000)]).unwrap(), None);
        assert_eq!(pages(&bar), [0, 0x0101_0101]);
        ftruncate(&file, 0).unwrap();
        assert_eq!(pages(&bar), [u32::MAX, u32::MAX]);
        assert!(bar.is_gone());
    }

    #[test]
    fn a_revoked_window_leaves_the_device_alone() {
        let file = device(1);
        let window = window(&file, 0x1000, &[(0, 0x1000)]).unwrap();
        let bar = Bar::new(window.clone(), None);
        let doorbell = bar.doorbell(8).unwrap();
        window.revoke().unwrap();
        doorbell.ring(0x1234);
        assert_eq!((bar.read32(0).unwrap(), bar.read32(8).unwrap()), (u32::MAX, 0x1234));
        assert!(bar.is_gone());
        let mut kept = [1; 4];
        rustix::io::pread(&file, &mut kept, 4096 + 8).unwrap();
        assert_eq!(kept, [0; 4]);
    }

    #[test]
    fn areas_that_overlap_or_leave_the_region_are_refused() {
        let file = device(4);
        for areas in [
            &[(0, 0x2000), (0x1000, 0x1000)][..],
            &[(0x3000, 0x2000)],
            &[(0x800, 0x800)],
            &[(u64::MAX - 1, 2)],
        ] {
            assert!(window(&file, 0x4000, areas).is_err(), "{areas:x?}");
        }
    }
}
