use vfiomux_hw::Function;
use vfiomux_sim::{DeviceSpec, Run, SimNvme};
use vfiomux_spec::nvme::register::Cc;
use vfiomux_spec::nvme::{CompletionEntry, NvmOpcode, Status, SubmissionEntry};

use crate::host::{Cq, Host, PAGE, pattern, small, transfer};

fn opened(spec: DeviceSpec) -> Host {
    let mut host = Host::attach(vfiomux_sim::open(spec, "sim0").unwrap());
    host.enable();
    host
}

/// Waits as a sleeping driver would: on the vector.
fn wait_on_vector(host: &Host, cq: &mut Cq) -> CompletionEntry {
    use std::os::fd::AsRawFd;
    loop {
        if let Some(entry) = host.poll(cq) {
            return entry;
        }
        let vector = &host.vectors[1];
        let mut fds = [libc::pollfd { fd: vector.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        // SAFETY: one descriptor, as said.
        #[expect(unsafe_code, reason = "waiting on an event that lends its descriptor only as a number")]
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), 1, 10_000) };
        assert_eq!(ready, 1, "a completion must raise its vector");
        let _ = vector.read();
    }
}

#[test]
fn a_thread_serves_a_driver_that_sleeps_on_interrupts() {
    let mut host = opened(small());
    let (mut sq, mut cq) = host.pair();
    let (from, into) = (host.pattern(PAGE, 6), host.buffer(PAGE));
    for lba in 0..200u64 {
        host.submit(&mut sq, transfer(NvmOpcode::WRITE, lba * 8, 8, &from));
        assert_eq!(wait_on_vector(&host, &mut cq).status(), Status::SUCCESS);
        host.submit(&mut sq, transfer(NvmOpcode::READ, lba * 8, 8, &into));
        assert_eq!(wait_on_vector(&host, &mut cq).status(), Status::SUCCESS);
        assert_eq!(crate::host::bytes(&into, PAGE), pattern(PAGE, 6));
    }
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn a_thread_keeps_modelled_time() {
    let mut host = opened(DeviceSpec { service_ns: 2_000_000, ..small() });
    let (mut sq, mut cq) = host.pair();
    let start = std::time::Instant::now();
    host.submit(&mut sq, SubmissionEntry::flush(1));
    assert_eq!(wait_on_vector(&host, &mut cq).status(), Status::SUCCESS);
    assert!(start.elapsed() >= std::time::Duration::from_millis(2));
}

#[test]
fn inline_everything_is_done_when_the_doorbell_returns() {
    let mut host = opened(DeviceSpec { run: Run::Inline, ..small() });
    let (mut sq, mut cq) = host.pair();
    let data = host.pattern(PAGE, 2);
    for lba in 0..100 {
        let cid = host.submit(&mut sq, transfer(NvmOpcode::WRITE, lba, 8, &data));
        let completion = host.poll(&mut cq).unwrap();
        assert_eq!((completion.cid.get(), completion.status()), (cid, Status::SUCCESS));
    }
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn stepped_io_waits_for_its_step() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    host.submit(&mut sq, SubmissionEntry::flush(1));
    assert!(host.poll(&mut cq).is_none());
    assert_eq!(host.sim.step(1), 1);
    assert!(host.poll(&mut cq).is_some());
    assert_eq!(host.sim.step(1), 0);
}

#[test]
fn stepping_everything_leaves_registers_and_admin_to_the_test_too() {
    let sim = SimNvme::new(small(), "sim0").unwrap();
    sim.step_everything();
    let host = Host::attach(sim.function());
    host.program_admin_queue();
    host.bar.write32(0x14, Cc::new().with_en(true).with_iosqes(6).with_iocqes(4).into_bits()).unwrap();
    assert!(!host.csts().rdy());
    sim.step(1);
    assert!(host.csts().rdy());
}

#[test]
fn mappings_come_and_go_while_the_thread_copies() {
    let mut host = opened(small());
    let (mut sq, mut cq) = host.pair();
    for round in 0..200u64 {
        let data = host.pattern(2 * PAGE, 1);
        host.submit(&mut sq, transfer(NvmOpcode::WRITE, round * 16, 16, &data));
        assert_eq!(wait_on_vector(&host, &mut cq).status(), Status::SUCCESS);
    }
    assert_eq!(host.sim.violations(), []);
    assert_eq!(host.sim.iommu().mappings().len(), 4);
}

#[test]
fn dropping_the_function_ends_its_thread_and_the_device_can_be_driven_again() {
    let host = opened(small());
    let sim = host.sim.clone();
    drop(host);
    let mut host = Host::attach(sim.function());
    host.enable();
    assert_eq!(host.admin_status(SubmissionEntry::get_features(7, 0)), Status::SUCCESS);
    assert_eq!(host.function.identity().name, "sim0");
}
