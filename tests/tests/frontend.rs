//! The back-end's side of vhost-user, judged by a second front-end: the crate `vhost`, with rings written by hand.

use std::path::Path;

use tempfile::TempDir;
use vfiomux_tests::backend::{Backend, QemuStorageDaemon};
use vfiomux_tests::frontend::{Driver, Request, STATUS_IOERR, STATUS_OK, STATUS_UNSUPPORTED, region};
use vfiomux_tests::lab::Lab;
use vfiomux_tests::memory::SharedMemory;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::{VhostUserInflight, VhostUserProtocolFeatures};

struct Disk {
    driver: Driver,
    _backend: QemuStorageDaemon,
    _directory: TempDir,
}

fn disk() -> Option<Disk> {
    Lab::find_or_skip()?;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut backend = QemuStorageDaemon::new(directory.path());
    let socket = backend.create_disk("disk", 64, 2);
    let driver = connect(&socket);
    Some(Disk { driver, _backend: backend, _directory: directory })
}

fn connect(socket: &Path) -> Driver {
    Driver::connect(socket, 2).expect("a session")
}

#[test]
fn what_is_written_on_one_ring_is_read_on_the_other() {
    let Some(mut disk) = disk() else { return };
    let driver = &mut disk.driver;
    driver.start_ring(0).expect("ring 0 starts");
    driver.start_ring(1).expect("ring 1 starts");
    let mut written: Vec<u8> = (0..8192u32).map(|byte| (byte * 7) as u8).collect();
    assert_eq!(driver.request(0, Request::Write, 8, &mut written, false), Some(STATUS_OK));
    assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
    let mut read = vec![0; 8192];
    assert_eq!(driver.request(1, Request::Read, 8, &mut read, true), Some(STATUS_OK));
    assert_eq!(read, written);
}

#[test]
fn a_ring_that_was_stopped_goes_on_where_it_stopped() {
    let Some(mut disk) = disk() else { return };
    let driver = &mut disk.driver;
    driver.start_ring(0).expect("ring 0 starts");
    for _ in 0..3 {
        assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
    }
    assert_eq!(driver.stop_ring(0).expect("GET_VRING_BASE"), 3);
    driver.start_ring(0).expect("ring 0 starts again");
    assert_eq!(driver.request(0, Request::Flush, 0, &mut [], true), Some(STATUS_OK));
}

#[test]
fn the_disk_tells_its_name_and_refuses_what_it_does_not_know() {
    let Some(mut disk) = disk() else { return };
    let driver = &mut disk.driver;
    driver.start_ring(0).expect("ring 0 starts");
    let mut name = [0; 20];
    assert_eq!(driver.request(0, Request::GetId, 0, &mut name, false), Some(STATUS_OK));
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    assert!(name[..end].is_ascii() && end > 0, "{name:?}");
    assert_eq!(driver.request(0, Request::Undefined, 0, &mut [], false), Some(STATUS_UNSUPPORTED));
    assert_eq!(driver.request(0, Request::Read, 64 << 11, &mut [0; 512], false), Some(STATUS_IOERR));
}

#[test]
fn the_configuration_is_told_at_every_length() {
    let Some(mut disk) = disk() else { return };
    let whole = disk.driver.config(60).expect("GET_CONFIG");
    assert_eq!(whole[..8], (64u64 << 11).to_le_bytes(), "capacity in sectors comes first");
    for length in [8, 24, 57] {
        assert_eq!(disk.driver.config(length).expect("GET_CONFIG"), whole[..length]);
    }
}

#[test]
fn memory_comes_and_goes_while_a_ring_runs() {
    let Some(mut disk) = disk() else { return };
    let driver = &mut disk.driver;
    if !driver.protocol_features().contains(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS) {
        panic!("the back-end does not offer CONFIGURE_MEM_SLOTS");
    }
    driver.start_ring(0).expect("ring 0 starts");
    let more = SharedMemory::new(1 << 20).expect("memory");
    for _ in 0..3 {
        let region = region(&more, 0x20_0000_0000);
        driver.session().add_mem_region(&region).expect("ADD_MEM_REG");
        assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
        driver.session().remove_mem_region(&region).expect("REM_MEM_REG");
        assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
    }
}

#[test]
fn an_in_flight_region_is_given_and_taken_back() {
    let Some(mut disk) = disk() else { return };
    let driver = &mut disk.driver;
    if !driver.protocol_features().contains(VhostUserProtocolFeatures::INFLIGHT_SHMFD) {
        return;
    }
    let asked = VhostUserInflight::new(0, 0, 2, vfiomux_tests::frontend::RING_ENTRIES);
    let (given, file) = driver.session().get_inflight_fd(&asked).expect("GET_INFLIGHT_FD");
    assert!(given.mmap_size > 0 && given.num_queues == 2);
    use std::os::fd::AsRawFd;
    driver.session().set_inflight_fd(&given, file.as_raw_fd()).expect("SET_INFLIGHT_FD");
    driver.start_ring(0).expect("ring 0 starts");
    assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
}
