#![expect(unsafe_code, reason = "the tests look at mapped memory")]

use rustix::fs::{Mode, SealFlags, fcntl_add_seals, ftruncate};

use super::*;
use crate::fixture::memfd;

fn reopened(fd: &OwnedFd, flags: OFlags) -> OwnedFd {
    use std::os::fd::AsRawFd;
    rustix::fs::open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty()).unwrap()
}

fn byte(region: &FileRegion, offset: usize) -> u8 {
    // SAFETY: the tests pass offsets inside the region.
    unsafe { region.host().add(offset).read_volatile() }
}

#[test]
fn what_is_in_the_file_is_in_the_region() {
    let file = memfd(3 * 4096);
    rustix::io::pwrite(&file, b"hello", 4096).unwrap();
    let region = FileRegion::map(file, 4096, 8192).unwrap();
    assert_eq!((byte(&region, 0), byte(&region, 4), byte(&region, 5)), (b'h', b'o', 0));
    assert_eq!((region.len(), region.size_bytes(), region.lead_bytes()), (8192, 8192, 0));
}

#[test]
fn a_region_may_begin_and_end_inside_pages() {
    let file = memfd(3 * 4096);
    rustix::io::pwrite(&file, b"x", 4096 + 512).unwrap();
    let region = FileRegion::map(file, 4096 + 512, 4096).unwrap();
    assert_eq!(byte(&region, 0), b'x');
    assert_eq!((region.len(), region.size_bytes(), region.lead_bytes()), (8192, 4096, 512));
    assert!((region.base().as_ptr() as usize).is_multiple_of(4096));
}

#[test]
fn a_file_may_end_inside_its_last_page() {
    let region = FileRegion::map(memfd(5000), 0, 5000).unwrap();
    assert_eq!((region.len(), byte(&region, 4999)), (8192, 0));
}

#[test]
fn a_region_beyond_its_file_is_refused() {
    for (offset, size_bytes) in [(0, 8193), (4096, 4097), (8192, 1), (1 << 40, 4096)] {
        let refused = FileRegion::map(memfd(8192), offset, size_bytes);
        assert!(matches!(refused, Err(GuestError::BeyondFile { file_bytes: 8192, .. })), "{refused:?}");
    }
}

#[test]
fn an_empty_or_wrapping_region_is_refused() {
    for (offset, size_bytes) in [(0, 0), (4096, 0), (u64::MAX, 2), (4096, u64::MAX), (1 << 62, 1 << 62)] {
        let refused = FileRegion::map(memfd(8192), offset, size_bytes);
        assert!(matches!(refused, Err(GuestError::BadRange { .. })), "{refused:?}");
    }
}

#[test]
fn a_descriptor_that_cannot_write_is_refused() {
    let file = memfd(4096);
    for flags in [OFlags::RDONLY, OFlags::WRONLY] {
        assert!(matches!(FileRegion::map(reopened(&file, flags), 0, 4096), Err(GuestError::ReadOnly)));
    }
    fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
    assert!(matches!(FileRegion::map(file, 0, 4096), Err(GuestError::ReadOnly)));
}

#[test]
fn what_is_no_file_is_refused() {
    let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
    assert!(matches!(FileRegion::map(socket.into(), 0, 4096), Err(GuestError::NotAFile)));
    let device = File::options().read(true).write(true).open("/dev/zero").unwrap();
    assert!(matches!(FileRegion::map(device.into(), 0, 4096), Err(GuestError::NotAFile)));
}

#[test]
fn a_truncated_file_poisons_its_region_and_ends_nothing() {
    let file = memfd(2 * 4096);
    let region = FileRegion::map(file.try_clone().unwrap(), 0, 8192).unwrap();
    assert!(!region.poisoned());
    ftruncate(&file, 4096).unwrap();
    assert_eq!((byte(&region, 0), region.poisoned()), (0, false));
    assert_eq!((byte(&region, 4096), region.poisoned()), (0, true));
}
