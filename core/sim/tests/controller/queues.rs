use vfiomux_sim::{DeviceSpec, Violation};
use vfiomux_spec::nvme::feature::{NUMBER_OF_QUEUES, QueueCount};
use vfiomux_spec::nvme::register::{completion_doorbell, submission_doorbell};
use vfiomux_spec::nvme::{NvmOpcode, Status, SubmissionEntry};

use crate::host::{Host, PAGE, bytes, pattern, small, transfer};

#[test]
fn as_many_queues_are_granted_as_asked_for_and_there() {
    let mut host = Host::boot(small());
    let ask = |n: u16| {
        let count = QueueCount::new().with_submission(n - 1).with_completion(n - 1);
        SubmissionEntry::set_features(NUMBER_OF_QUEUES, 0, count.into_bits())
    };
    assert_eq!(host.admin(ask(3)).dw0.get(), 0x0002_0002);
    assert_eq!(host.admin(ask(100)).dw0.get(), 0x0007_0007);
    assert_eq!(host.admin(SubmissionEntry::get_features(NUMBER_OF_QUEUES, 0)).dw0.get(), 0x0007_0007);
    let too_many = SubmissionEntry::set_features(NUMBER_OF_QUEUES, 0, u32::MAX);
    assert_eq!(host.admin_status(too_many), Status::INVALID_FIELD);
    host.create_cq(1, 2, None);
    assert_eq!(host.admin_status(ask(2)), Status::COMMAND_SEQUENCE);
}

#[test]
fn queues_that_cannot_be_are_refused_for_the_right_reason() {
    let mut host = Host::boot(small());
    let page = host.buffer(PAGE);
    let at = page.iova().raw();
    let _cq = host.create_cq(1, 8, None);
    let mut discontiguous = SubmissionEntry::create_io_cq(2, 7, at, None);
    discontiguous.cdw11.set(0);
    let cases = [
        (SubmissionEntry::create_io_cq(0, 7, at, None), Status::INVALID_QUEUE_ID),
        (SubmissionEntry::create_io_cq(9, 7, at, None), Status::INVALID_QUEUE_ID),
        (SubmissionEntry::create_io_cq(1, 7, at, None), Status::INVALID_QUEUE_ID),
        (SubmissionEntry::create_io_cq(2, 0, at, None), Status::INVALID_QUEUE_SIZE),
        (SubmissionEntry::create_io_cq(2, 64, at, None), Status::INVALID_QUEUE_SIZE),
        (SubmissionEntry::create_io_cq(2, 7, at + 8, None), Status::PRP_OFFSET_INVALID),
        (SubmissionEntry::create_io_cq(2, 7, at, Some(9)), Status::INVALID_INTERRUPT_VECTOR),
        (discontiguous, Status::INVALID_FIELD),
        (SubmissionEntry::create_io_sq(1, 7, at, 2, 0), Status::INVALID_CQ),
        (SubmissionEntry::create_io_sq(1, 7, at, 0, 0), Status::INVALID_QUEUE_ID),
        (SubmissionEntry::create_io_sq(9, 7, at, 1, 0), Status::INVALID_QUEUE_ID),
        (SubmissionEntry::create_io_sq(1, 64, at, 1, 0), Status::INVALID_QUEUE_SIZE),
        (SubmissionEntry::delete_io_sq(1), Status::INVALID_QUEUE_ID),
        (SubmissionEntry::delete_io_sq(0), Status::INVALID_QUEUE_ID),
        (SubmissionEntry::delete_io_cq(0), Status::INVALID_QUEUE_ID),
        (SubmissionEntry::delete_io_cq(5), Status::INVALID_QUEUE_ID),
    ];
    for (entry, status) in cases {
        assert_eq!(host.admin_status(entry), status, "{entry:?}");
    }
    let _sq = host.create_sq(1, 8, 1);
    assert_eq!(host.admin_status(SubmissionEntry::delete_io_cq(1)), Status::INVALID_QUEUE_DELETION);
    assert_eq!(host.admin_status(SubmissionEntry::delete_io_sq(1)), Status::SUCCESS);
    assert_eq!(host.admin_status(SubmissionEntry::delete_io_cq(1)), Status::SUCCESS);
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn queues_wrap_and_the_phase_flips_each_time_round() {
    let mut host = Host::boot(small());
    let mut cq = host.create_cq(1, 5, None);
    let mut sq = host.create_sq(1, 3, 1);
    let data = host.pattern(512, 1);
    for lba in 0..50 {
        let completion = host.io((&mut sq, &mut cq), transfer(NvmOpcode::WRITE, lba, 1, &data));
        assert_eq!(completion.status(), Status::SUCCESS);
        assert_eq!(u32::from(completion.sq_head.get()), sq.tail);
    }
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn a_full_completion_queue_holds_commands_back_and_loses_none() {
    let mut host = Host::boot(small());
    let mut cq = host.create_cq(1, 4, None);
    let mut sq = host.create_sq(1, 16, 1);
    let cids: Vec<u16> = (0..10).map(|_| host.submit(&mut sq, SubmissionEntry::flush(1))).collect();
    host.sim.run_until_idle();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(Host::peek(&cq).unwrap().cid.get());
        host.poll(&mut cq);
    }
    assert!(Host::peek(&cq).is_none(), "one entry of a full queue stays free");
    while seen.len() < 10 {
        host.sim.run_until_idle();
        while let Some(entry) = host.poll(&mut cq) {
            seen.push(entry.cid.get());
        }
    }
    assert_eq!(seen, cids);
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn many_submission_queues_share_one_completion_queue() {
    let mut host = Host::boot(small());
    let mut cq = host.create_cq(1, 64, None);
    let mut sqs: Vec<_> = (1..=8).map(|id| host.create_sq(id, 8, 1)).collect();
    let data = host.pattern(PAGE, 3);
    let mut wanted = Vec::new();
    for round in 0..4u64 {
        for sq in &mut sqs {
            let lba = u64::from(sq.id) * 100 + round * 8;
            wanted.push((sq.id, host.submit(sq, transfer(NvmOpcode::WRITE, lba, 8, &data))));
        }
    }
    host.sim.run_until_idle();
    let mut seen = Vec::new();
    while let Some(entry) = host.poll(&mut cq) {
        assert_eq!(entry.status(), Status::SUCCESS);
        seen.push((entry.sq_id.get(), entry.cid.get()));
    }
    seen.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    let mut back = vec![0; PAGE];
    host.sim.read_blocks(1, 824, &mut back).unwrap();
    assert_eq!(back, pattern(PAGE, 3));
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn deleting_a_submission_queue_ends_its_commands_and_only_its() {
    let mut host = Host::boot(DeviceSpec { service_ns: 1000, ..small() });
    let mut cq = host.create_cq(1, 64, None);
    let (mut one, mut two) = (host.create_sq(1, 16, 1), host.create_sq(2, 16, 1));
    let data = host.buffer(PAGE);
    let mut first = [0; 4];
    first.fill_with(|| host.submit(&mut one, transfer(NvmOpcode::READ, 0, 8, &data)));
    let other = host.submit(&mut two, SubmissionEntry::flush(1));
    host.sim.step(64);
    assert_eq!(host.sim.outstanding(), 5);
    assert_eq!(host.admin_status(SubmissionEntry::delete_io_sq(1)), Status::SUCCESS);
    // D2: after the barrier the memory may go, and nothing reaches for it.
    drop(data);
    let mut aborted: Vec<u16> = std::iter::from_fn(|| host.poll(&mut cq))
        .map(|entry| {
            assert_eq!((entry.sq_id.get(), entry.status()), (1, Status::ABORTED_SQ_DELETION));
            entry.cid.get()
        })
        .collect();
    aborted.sort_unstable();
    assert_eq!(aborted, first);
    host.sim.run_until_idle();
    assert_eq!(host.poll(&mut cq).unwrap().cid.get(), other);
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn as_many_commands_take_their_time_at_once_as_the_device_is_wide() {
    let mut host = Host::boot(DeviceSpec { service_ns: 1000, parallel: 2, ..small() });
    let mut cq = host.create_cq(1, 64, None);
    let (mut one, mut two) = (host.create_sq(1, 16, 1), host.create_sq(2, 16, 1));
    for _ in 0..3 {
        host.submit(&mut one, SubmissionEntry::flush(1));
    }
    host.submit(&mut two, SubmissionEntry::flush(1));
    // The commands of both queues wait in the one order in which they were fetched.
    let mut ended = Vec::new();
    for _ in 0..2 {
        host.sim.step(64);
        assert!(host.poll(&mut cq).is_none());
        host.sim.advance_ns(1000);
        host.sim.step(64);
        ended.push(
            std::iter::from_fn(|| host.poll(&mut cq)).map(|entry| entry.sq_id.get()).collect::<Vec<_>>(),
        );
    }
    assert_eq!(ended, [vec![1, 1], vec![1, 2]]);
    // Units that were idle did not save the time up.
    host.sim.advance_ns(1_000_000);
    for _ in 0..3 {
        host.submit(&mut one, SubmissionEntry::flush(1));
    }
    host.sim.step(64);
    host.sim.advance_ns(1000);
    host.sim.step(64);
    assert_eq!(std::iter::from_fn(|| host.poll(&mut cq)).count(), 2);
}

#[test]
fn a_deleted_queue_can_be_made_again_and_starts_from_nothing() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    host.io((&mut sq, &mut cq), SubmissionEntry::flush(1));
    assert_eq!(host.admin_status(SubmissionEntry::delete_io_sq(1)), Status::SUCCESS);
    let mut sq = host.create_sq(1, 4, 1);
    assert_eq!(host.sim.run_until_idle(), 0);
    host.io((&mut sq, &mut cq), SubmissionEntry::flush(1));
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn doorbells_outside_the_queue_are_recorded_and_ignored() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    host.bar.write32(submission_doorbell(1, 0), 32).unwrap();
    host.sim.run_until_idle();
    let expected = Violation::DoorbellValue { queue_id: 1, completion: false, value: 32, entries: 32 };
    assert_eq!(host.sim.take_violations(), [expected]);
    host.io((&mut sq, &mut cq), SubmissionEntry::flush(1));
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn a_completion_head_past_what_was_posted_is_recorded_once_it_matters() {
    let mut host = Host::boot(small());
    let cq = host.create_cq(1, 2, None);
    let mut sq = host.create_sq(1, 8, 1);
    host.submit(&mut sq, SubmissionEntry::flush(1));
    host.submit(&mut sq, SubmissionEntry::flush(1));
    host.bar.write32(completion_doorbell(1, 0), 9).unwrap();
    host.sim.run_until_idle();
    let expected = Violation::DoorbellValue { queue_id: 1, completion: true, value: 9, entries: cq.entries };
    assert_eq!(host.sim.take_violations(), [expected]);
}

#[test]
fn an_identifier_used_twice_at_once_is_recorded_and_refused() {
    let mut host = Host::boot(DeviceSpec { service_ns: 10, ..small() });
    let (mut sq, mut cq) = host.pair();
    let entry = SubmissionEntry::flush(1).with_cid(77);
    Host::submit_on(&host.bar, host.cap(), &mut sq, &entry);
    Host::submit_on(&host.bar, host.cap(), &mut sq, &entry);
    host.sim.run_until_idle();
    let statuses: Vec<Status> =
        std::iter::from_fn(|| host.poll(&mut cq)).map(|entry| entry.status()).collect();
    assert_eq!(statuses, [Status::CID_CONFLICT, Status::SUCCESS]);
    assert!(matches!(host.sim.violations()[..], [Violation::CidReused { .. }]));
}

#[test]
fn each_queue_interrupts_on_its_own_vector_once_a_batch() {
    let mut host = Host::boot(small());
    let (mut sq, _cq) = host.pair();
    let _ = host.vectors[0].read();
    for _ in 0..5 {
        host.submit(&mut sq, SubmissionEntry::flush(1));
    }
    host.sim.run_until_idle();
    assert_eq!(host.vectors[1].read().unwrap(), 1);
    assert!(host.vectors[0].read().is_err() && host.vectors[2].read().is_err());
}

#[test]
fn a_queue_without_interrupts_is_silent() {
    let mut host = Host::boot(small());
    let mut cq = host.create_cq(2, 8, None);
    let mut sq = host.create_sq(2, 8, 2);
    let before = host.sim.counters().interrupts;
    host.io((&mut sq, &mut cq), SubmissionEntry::flush(1));
    assert_eq!(host.sim.counters().interrupts, before);
    assert_eq!(bytes(&cq.buffer, 8), [0; 8]);
}
