//! The back-end's side of vhost-user, judged by a second front-end: the crate `vhost`, with rings written by hand.

use std::os::fd::AsRawFd;

use vfiomux_tests::backend::{Backend, QemuStorageDaemon};
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::frontend::{
    Driver, RING_ENTRIES, Request, STATUS_IOERR, STATUS_OK, STATUS_UNSUPPORTED, region,
};
use vfiomux_tests::lab::Lab;
use vfiomux_tests::memory::SharedMemory;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::{VhostUserInflight, VhostUserProtocolFeatures};

/// Runs a test on a disk of 64 MiB with two queues: ours, and before it, where QEMU is installed, that of QEMU's own daemon, which tells
/// whether it is the test that is wrong.
fn on_each_back_end(test: impl Fn(&mut Driver)) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    if Lab::find_or_skip().is_some() {
        on(&mut QemuStorageDaemon::new(directory.path()), &test);
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    on(&mut Vfiomuxd::start(directory.path(), &["sim:nvme,size=256M"]), &test);
}

fn on(backend: &mut impl Backend, test: impl Fn(&mut Driver)) {
    let socket = backend.create_disk("disk", 64, 2);
    test(&mut Driver::connect(&socket, 2).expect("a session"));
}

#[test]
fn what_is_written_on_one_ring_is_read_on_the_other() {
    on_each_back_end(|driver| {
        driver.start_ring(0).expect("ring 0 starts");
        driver.start_ring(1).expect("ring 1 starts");
        let mut written: Vec<u8> = (0..8192u32).map(|byte| (byte * 7) as u8).collect();
        assert_eq!(driver.request(0, Request::Write, 8, &mut written, false), Some(STATUS_OK));
        assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
        let mut read = vec![0; 8192];
        assert_eq!(driver.request(1, Request::Read, 8, &mut read, true), Some(STATUS_OK));
        assert_eq!(read, written);
    });
}

#[test]
fn a_ring_that_was_stopped_goes_on_where_it_stopped() {
    on_each_back_end(|driver| {
        driver.start_ring(0).expect("ring 0 starts");
        for _ in 0..3 {
            assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
        }
        assert_eq!(driver.stop_ring(0).expect("GET_VRING_BASE"), 3);
        driver.start_ring(0).expect("ring 0 starts again");
        assert_eq!(driver.request(0, Request::Flush, 0, &mut [], true), Some(STATUS_OK));
    });
}

#[test]
fn the_disk_tells_its_name_and_refuses_what_it_does_not_know() {
    on_each_back_end(|driver| {
        driver.start_ring(0).expect("ring 0 starts");
        let mut name = [0; 20];
        assert_eq!(driver.request(0, Request::GetId, 0, &mut name, false), Some(STATUS_OK));
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        assert!(name[..end].is_ascii() && end > 0, "{name:?}");
        assert_eq!(driver.request(0, Request::Undefined, 0, &mut [], false), Some(STATUS_UNSUPPORTED));
        assert_eq!(driver.request(0, Request::Read, 64 << 11, &mut [0; 512], false), Some(STATUS_IOERR));
    });
}

#[test]
fn the_configuration_is_told_at_every_length() {
    on_each_back_end(|driver| {
        let whole = driver.config(60).expect("GET_CONFIG");
        assert_eq!(whole[..8], (64u64 << 11).to_le_bytes(), "capacity in sectors comes first");
        for length in [8, 24, 57] {
            assert_eq!(driver.config(length).expect("GET_CONFIG"), whole[..length]);
        }
    });
}

#[test]
fn memory_comes_and_goes_while_a_ring_runs() {
    on_each_back_end(|driver| {
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
    });
}

#[test]
fn an_in_flight_region_is_given_and_taken_back() {
    on_each_back_end(|driver| {
        if !driver.protocol_features().contains(VhostUserProtocolFeatures::INFLIGHT_SHMFD) {
            return;
        }
        let asked = VhostUserInflight::new(0, 0, 2, RING_ENTRIES);
        let (given, file) = driver.session().get_inflight_fd(&asked).expect("GET_INFLIGHT_FD");
        assert!(given.mmap_size > 0 && given.num_queues == 2);
        driver.session().set_inflight_fd(&given, file.as_raw_fd()).expect("SET_INFLIGHT_FD");
        driver.start_ring(0).expect("ring 0 starts");
        assert_eq!(driver.request(0, Request::Flush, 0, &mut [], false), Some(STATUS_OK));
    });
}
