use vfiomux_sim::{Action, DeviceSpec, Fault, FaultRates, Match, QueueMatch};
use vfiomux_spec::nvme::register::GONE;
use vfiomux_spec::nvme::{NvmOpcode, Status, SubmissionEntry};

use crate::host::{Cq, Host, PAGE, Sq, pattern, small, transfer};

fn booted() -> (Host, Sq, Cq) {
    let mut host = Host::boot(small());
    let (sq, cq) = host.pair();
    (host, sq, cq)
}

fn strike(host: &Host, action: Action) {
    host.sim.inject(Fault { when: Match { queue: QueueMatch::Io, ..Match::default() }, action });
}

fn drain(host: &Host, cq: &mut Cq) -> Vec<(u16, Status)> {
    std::iter::from_fn(|| host.poll(cq)).map(|entry| (entry.cid.get(), entry.status())).collect()
}

#[test]
fn a_delayed_command_completes_when_its_time_has_come() {
    let (mut host, mut sq, mut cq) = booted();
    strike(&host, Action::DelayNs(5000));
    let late = host.submit(&mut sq, SubmissionEntry::flush(1));
    let soon = host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.step(64);
    host.sim.advance_ns(4999);
    host.sim.step(64);
    assert_eq!(drain(&host, &mut cq), [(soon, Status::SUCCESS)]);
    host.sim.advance_ns(1);
    host.sim.step(64);
    assert_eq!(drain(&host, &mut cq), [(late, Status::SUCCESS)]);
}

#[test]
fn a_held_command_is_overtaken_and_not_forgotten() {
    let (mut host, mut sq, mut cq) = booted();
    strike(&host, Action::HoldBack(2));
    let cids: Vec<u16> = (0..4).map(|_| host.submit(&mut sq, SubmissionEntry::flush(1))).collect();
    host.sim.run_until_idle();
    let order: Vec<u16> = drain(&host, &mut cq).into_iter().map(|(cid, _)| cid).collect();
    assert_eq!(order, [cids[1], cids[2], cids[3], cids[0]]);
    strike(&host, Action::HoldBack(100));
    let alone = host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert_eq!(drain(&host, &mut cq), [(alone, Status::SUCCESS)], "nothing else is left to wait for");
}

#[test]
fn a_dropped_completion_is_of_a_command_that_was_done() {
    let (mut host, mut sq, mut cq) = booted();
    let data = host.pattern(512, 1);
    strike(&host, Action::Drop);
    let cid = host.submit(&mut sq, transfer(NvmOpcode::WRITE, 0, 1, &data));
    host.sim.run_until_idle();
    assert_eq!(drain(&host, &mut cq), []);
    let mut back = [0; 512];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    assert_eq!(back[..], pattern(512, 1));
    assert_eq!(host.admin(SubmissionEntry::abort(1, cid)).dw0.get(), 1, "there is nothing to abort");
}

#[test]
fn a_hung_command_yields_to_abort_and_to_the_barrier() {
    let (mut host, mut sq, mut cq) = booted();
    let data = host.pattern(512, 1);
    for _ in 0..2 {
        strike(&host, Action::Hang);
    }
    let one = host.submit(&mut sq, transfer(NvmOpcode::WRITE, 0, 1, &data));
    let two = host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert_eq!((drain(&host, &mut cq), host.sim.outstanding()), (vec![], 2));
    assert_eq!(host.admin(SubmissionEntry::abort(1, one)).dw0.get(), 0);
    assert_eq!(drain(&host, &mut cq), [(one, Status::ABORT_REQUESTED)]);
    assert_eq!(host.admin_status(SubmissionEntry::delete_io_sq(1)), Status::SUCCESS);
    assert_eq!(drain(&host, &mut cq), [(two, Status::ABORTED_SQ_DELETION)]);
    let mut back = [1; 512];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    assert_eq!(back, [0; 512], "a hung command was never carried out");
}

#[test]
fn a_hung_command_that_is_released_goes_on_before_those_that_hung_earlier() {
    let (mut host, mut sq, mut cq) = booted();
    for _ in 0..2 {
        strike(&host, Action::Hang);
    }
    let one = host.submit(&mut sq, SubmissionEntry::flush(1));
    let two = host.submit(&mut sq, SubmissionEntry::flush(1));
    for hung in [two, one] {
        host.sim.run_until_idle();
        assert!(host.sim.release_hung());
        host.sim.run_until_idle();
        assert_eq!(drain(&host, &mut cq), [(hung, Status::SUCCESS)]);
    }
    assert!(!host.sim.release_hung(), "none hangs any more");
}

#[test]
fn a_duplicated_completion_comes_twice() {
    let (mut host, mut sq, mut cq) = booted();
    strike(&host, Action::Duplicate);
    let cid = host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert_eq!(drain(&host, &mut cq), [(cid, Status::SUCCESS); 2]);
}

#[test]
fn a_completion_can_name_another_command() {
    let (mut host, mut sq, mut cq) = booted();
    strike(&host, Action::WrongCid(0x8000));
    let cid = host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert_eq!(drain(&host, &mut cq), [(cid ^ 0x8000, Status::SUCCESS)]);
}

#[test]
fn a_failed_command_has_the_status_it_was_given_and_did_nothing() {
    let (mut host, mut sq, mut cq) = booted();
    let data = host.pattern(512, 1);
    strike(&host, Action::Fail(Status::WRITE_FAULT.do_not_retry()));
    let completion = host.io((&mut sq, &mut cq), transfer(NvmOpcode::WRITE, 0, 1, &data));
    assert_eq!((completion.status(), completion.status_field().dnr()), (Status::WRITE_FAULT, true));
    let mut back = [1; 512];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    assert_eq!(back, [0; 512]);
}

#[test]
fn a_fatal_error_stops_everything_until_reset() {
    let (mut host, mut sq, mut cq) = booted();
    strike(&host, Action::Fatal);
    host.submit(&mut sq, SubmissionEntry::flush(1));
    host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert!(host.csts().cfs());
    assert_eq!(drain(&host, &mut cq), []);
    host.write_cc(vfiomux_spec::nvme::register::Cc::new());
    host.enable();
    assert!(host.csts().rdy() && !host.csts().cfs());
}

#[test]
fn a_device_made_to_fail_does_so_again_after_every_reset() {
    let mut host = Host::boot(DeviceSpec { fail_after: Some(1), ..small() });
    let (mut sq, mut cq) = host.pair();
    let first = host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert_eq!(drain(&host, &mut cq), [(first, Status::SUCCESS)]);
    host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert!(host.csts().cfs());
    host.write_cc(vfiomux_spec::nvme::register::Cc::new());
    host.enable();
    assert!(!host.csts().cfs());
    let (mut sq, _cq) = host.pair();
    host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert!(host.csts().cfs());
}

#[test]
fn a_function_can_vanish_under_a_command() {
    let (mut host, mut sq, cq) = booted();
    strike(&host, Action::Vanish);
    host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert!(Host::peek(&cq).is_none() && !host.sim.is_present());
    assert_eq!(host.bar.read32(0x1c).unwrap(), GONE);
}

#[test]
fn admin_commands_can_be_struck_too() {
    let (mut host, ..) = booted();
    let when = Match { queue: QueueMatch::Admin, ..Match::default() };
    host.sim.inject(Fault { when, action: Action::Hang });
    let hung = host.submit_admin(SubmissionEntry::get_features(7, 0));
    let abort = host.submit_admin(SubmissionEntry::abort(0, hung));
    let ends = [host.poll_admin().unwrap(), host.poll_admin().unwrap()]
        .map(|entry| (entry.cid.get(), entry.status()));
    assert_eq!(ends, [(hung, Status::ABORT_REQUESTED), (abort, Status::SUCCESS)]);
}

/// Runs writes to random blocks under a seed and returns the order of completions, faults included.
fn world(seed: u64, rates: FaultRates) -> Vec<(u16, u16, Status)> {
    let mut host = Host::boot(DeviceSpec { seed: Some(seed), service_ns: 500, ..small() });
    let mut cq = host.create_cq(1, 64, None);
    let mut sqs: Vec<Sq> = (1..=4).map(|id| host.create_sq(id, 16, 1)).collect();
    host.sim.set_fault_rates(rates, seed);
    let data = host.pattern(PAGE, 1);
    let mut seen = Vec::new();
    for round in 0..10u64 {
        for sq in &mut sqs {
            host.submit(sq, transfer(NvmOpcode::WRITE, round * 8, 8, &data));
        }
        host.sim.run_until_idle();
        while let Some(entry) = host.poll(&mut cq) {
            seen.push((entry.sq_id.get(), entry.cid.get(), entry.status()));
        }
    }
    assert_eq!(host.sim.violations(), []);
    seen
}

#[test]
fn a_seed_replays_its_world_and_another_gives_another() {
    let none = FaultRates::default();
    assert_eq!(world(1, none), world(1, none));
    assert_ne!(world(1, none), world(2, none));
    assert_eq!(world(1, none).len(), 40);
    let in_order = |seen: &[(u16, u16, Status)]| seen.is_sorted_by_key(|&(_, cid, _)| cid);
    assert!(!in_order(&world(1, none)), "a seed shuffles completions");
    let some = FaultRates {
        drop_ppm: 100_000,
        error_ppm: 100_000,
        duplicate_ppm: 50_000,
        wrong_cid_ppm: 50_000,
        hang_ppm: 20_000,
        delay_ppm: 100_000,
        hold_back_ppm: 100_000,
    };
    assert_eq!(world(3, some), world(3, some));
    assert!(world(3, some).iter().any(|&(.., status)| status == Status::INTERNAL_ERROR));
}
