use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;
use vfiomux_hw::{Function, HwError};
use vfiomux_sim::{DeviceSpec, SimFunction, SimNvme};
use vfiomux_spec::nvme::register::{
    ACQ, ASQ, CC, CSTS, Cc, GONE, NSSR, NSSR_RESET, SHN_NORMAL, SHST_COMPLETE, SHST_OCCURRING, VS,
};
use vfiomux_spec::nvme::{Status, SubmissionEntry};

use crate::host::{Host, small};

const ENABLE: Cc = Cc::new().with_en(true).with_iosqes(6).with_iocqes(4);

#[test]
fn capabilities_are_what_the_spec_asked_for() {
    let host = Host::boot(DeviceSpec { dstrd: 2, queue_entries: 33, ..small() });
    assert_eq!(host.cap().max_queue_entries(), 33);
    assert_eq!(host.cap().dstrd(), 2);
    assert!(host.cap().supports_nvm() && host.cap().cqr() && host.cap().supports_page_shift(12));
    assert_eq!(host.bar.read32(VS).unwrap(), 0x0002_0000);
}

#[test]
fn ready_follows_enable_both_ways() {
    let host = Host::boot(small());
    assert!(host.csts().rdy());
    host.write_cc(Cc::new());
    assert!(!host.csts().rdy() && !host.csts().cfs());
}

#[test]
fn an_admin_queue_that_cannot_be_is_fatal_until_reset() {
    let sim = SimNvme::new(small(), "sim0").unwrap();
    let mut host = Host::attach(sim.function());
    host.write_cc(ENABLE);
    assert!(host.csts().cfs() && !host.csts().rdy(), "an admin queue without entries");
    host.write_cc(Cc::new());
    assert!(!host.csts().cfs());
    host.program_admin_queue();
    host.bar.write64(ASQ, 0x1234).unwrap();
    host.write_cc(ENABLE);
    assert!(host.csts().cfs(), "an unaligned admin queue");
    host.write_cc(Cc::new());
    host.enable();
    assert!(host.csts().rdy());
    assert_eq!(host.bar.read64(ACQ).unwrap(), host.cq.buffer.iova().raw());
}

#[test]
fn an_unsupported_page_size_or_command_set_is_fatal() {
    for cc in [ENABLE.with_mps(5), ENABLE.with_css(6), ENABLE.with_ams(1)] {
        let sim = SimNvme::new(small(), "sim0").unwrap();
        let host = Host::attach(sim.function());
        host.program_admin_queue();
        host.write_cc(cc);
        assert!(host.csts().cfs());
    }
}

#[test]
fn shutdown_completes_and_a_reset_starts_again() {
    let mut host = Host::boot(small());
    host.write_cc(ENABLE.with_shn(SHN_NORMAL));
    assert_eq!(host.csts().shst(), SHST_COMPLETE);
    host.write_cc(Cc::new());
    host.enable();
    assert_eq!(host.admin_status(SubmissionEntry::get_features(7, 0)), Status::SUCCESS);
}

#[test]
fn stuck_status_neither_rises_nor_falls_nor_shuts_down() {
    let host = Host::boot(small());
    host.sim.stick_csts(true);
    host.write_cc(ENABLE.with_shn(SHN_NORMAL));
    assert_eq!(host.csts().shst(), SHST_OCCURRING);
    host.write_cc(Cc::new());
    assert!(host.csts().rdy());
    host.sim.stick_csts(false);
}

#[test]
fn a_subsystem_reset_is_a_reset_that_says_so() {
    let mut host = Host::boot(small());
    host.bar.write32(NSSR, NSSR_RESET).unwrap();
    assert!(host.csts().nssro() && !host.csts().rdy());
    assert_eq!(host.bar.read32(CC).unwrap(), 0);
    host.enable();
    assert!(host.csts().rdy());
}

#[test]
fn a_function_that_left_reads_as_ones_whatever_is_written() {
    let mut host = Host::boot(small());
    host.sim.remove();
    host.bar.write32(CC, 0).unwrap();
    assert_eq!((host.bar.read32(CC).unwrap(), host.bar.read32(CSTS).unwrap()), (GONE, GONE));
    assert!(matches!(host.function.reset(), Err(HwError::Gone { .. })));
    assert!(matches!(host.function.enable(), Err(HwError::Gone { .. })));
    host.sim.reinsert();
    host.function.reset().unwrap();
    host.function.enable().unwrap();
    host.enable();
    assert!(host.csts().rdy());
}

/// Whether a function's removal was asked for, and whether it has failed.
fn told(function: &SimFunction) -> (bool, bool) {
    let readable = |fd: BorrowedFd<'_>| {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    };
    let notices = function.notices();
    (readable(notices.removal.unwrap()), readable(notices.error.unwrap()))
}

#[test]
fn removal_and_error_reach_the_notices() {
    let host = Host::boot(small());
    assert_eq!(told(&host.function), (false, false));
    host.sim.request_removal();
    assert_eq!(told(&host.function), (true, false));
    host.sim.remove();
    assert_eq!(told(&host.function), (true, true));
    host.sim.reinsert();
    assert_eq!(told(&host.function), (true, true), "whoever had it has lost it");
}

/// The descriptors are an owner's own, as with VFIO: the next one is told of what happens to it, not of what has happened to the last.
#[test]
fn a_new_owner_hears_nothing_of_what_the_last_was_told() {
    let Host { sim, function, .. } = Host::boot(small());
    sim.request_removal();
    sim.remove();
    drop(function);
    sim.reinsert();
    let next = sim.function();
    assert_eq!(told(&next), (false, false));
    sim.remove();
    assert_eq!(told(&next), (false, true));
}

#[test]
fn only_the_first_bar_exists_and_vectors_are_counted() {
    let mut host = Host::boot(small());
    assert!(matches!(host.function.bar(1), Err(HwError::NoBar { index: 1, .. })));
    assert!(matches!(host.function.enable_vectors(10), Err(HwError::Vectors { offered: 9, wanted: 10, .. })));
}

#[test]
fn giving_the_function_up_resets_the_controller() {
    let host = Host::boot(small());
    let (sim, bar) = (host.sim.clone(), host.bar.clone());
    drop(host);
    assert_eq!(bar.read32(CSTS).unwrap(), 0);
    assert_eq!(sim.iommu().mappings(), []);
    assert_eq!(sim.violations(), []);
}
