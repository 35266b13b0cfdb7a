//! What a device does wrong, and that only the command concerned feels it.

use crate::support::{Rig, flush, poll, read, spec, write};
use vfiomux_block::{BlockQueue, LaneId, Operation, Status, Tag};
use vfiomux_hw::DmaBuffer;
use vfiomux_nvme::sync::BlockIo;
use vfiomux_nvme::{IoError, NvmeError, Queue, State};
use vfiomux_sim::{Action, DeviceSpec, Fault, FaultRates, Match, QueueMatch};
use vfiomux_spec::nvme;

const NEXT_IO: Match = Match { queue: QueueMatch::Io, opcode: None, nsid: None, skip: 0, times: 1 };

fn rig() -> (Rig, Queue, LaneId, DmaBuffer) {
    let mut rig = Rig::new(spec());
    let (queue, lane) = rig.queue(8);
    let buffer = rig.buffer(4096);
    (rig, queue, lane, buffer)
}

#[test]
fn a_status_means_to_a_channel_what_it_meant_to_the_device() {
    let (rig, mut queue, lane, buffer) = rig();
    for (status, meaning) in [
        (nvme::Status::UNRECOVERED_READ, Status::Media { code: 0x81 }),
        (nvme::Status::INVALID_OPCODE, Status::Unsupported),
        (nvme::Status::ABORT_REQUESTED, Status::Aborted),
        (nvme::Status::LBA_OUT_OF_RANGE, Status::Refused { kind: 0, code: 0x80 }),
        (nvme::Status::INVALID_PROTECTION, Status::Refused { kind: 1, code: 0x81 }),
    ] {
        rig.sim.inject(Fault { when: NEXT_IO, action: Action::Fail(status.do_not_retry()) });
        let data = [buffer.segment(0, 512)];
        assert_eq!(rig.command(&mut queue, lane, &read(0, 1), &data), meaning, "{status}");
    }
}

/// What the deletion of its queue ended is told from what the device failed, and the queue is known to be gone.
#[test]
fn commands_that_a_deleted_queue_ends_may_be_submitted_again_elsewhere() {
    let (mut rig, mut queue, lane, _) = rig();
    rig.sim.inject(Fault { when: NEXT_IO, action: Action::Hang });
    queue.submit(lane, Tag(1), &flush(), &[]).unwrap();
    queue.ring();
    rig.sim.run_until_idle();
    rig.controller.delete_lane(lane).unwrap();
    let statuses: Vec<Status> = poll(&mut queue).iter().map(|completion| completion.status).collect();
    assert_eq!((statuses, queue.room(lane)), (vec![Status::QueueDeleted], 0));
    queue.abandon(lane, &mut |completion| panic!("{completion:?} ended before"));
    assert!(queue.detach(lane).is_some());
}

#[test]
fn blocks_outside_the_namespace_are_refused_by_the_device() {
    let (rig, mut queue, lane, buffer) = rig();
    let beyond = read(rig.namespace().limits.blocks, 1);
    let status = rig.command(&mut queue, lane, &beyond, &[buffer.segment(0, 512)]);
    assert_eq!(status, Status::Refused { kind: 0, code: 0x80 });
}

/// I1: a second completion ends nothing, and is counted.
#[test]
fn a_doubled_completion_is_dropped() {
    let (rig, mut queue, lane, _) = rig();
    rig.sim.inject(Fault { when: NEXT_IO, action: Action::Duplicate });
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
    assert_eq!(queue.stray_completions(), 1);
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
    assert_eq!((queue.stray_completions(), queue.in_flight(lane)), (1, 0));
}

/// I1: a completion under another identifier ends nothing, least of all another command.
#[test]
fn a_completion_for_nobody_is_dropped() {
    for mask in [1u16, 0x8, 0x10, 0x8000, 0xffff] {
        let (rig, mut queue, lane, _) = rig();
        rig.sim.inject(Fault { when: NEXT_IO, action: Action::WrongCid(mask) });
        queue.submit(lane, Tag(1), &flush(), &[]).unwrap();
        assert_eq!(rig.run(&mut queue), [], "mask {mask:#x}");
        assert_eq!((queue.stray_completions(), queue.in_flight(lane)), (1, 1));
        assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
    }
}

#[test]
fn a_lost_completion_holds_its_slot_and_no_other() {
    let (rig, mut queue, lane, _) = rig();
    rig.sim.inject(Fault { when: NEXT_IO, action: Action::Drop });
    queue.submit(lane, Tag(1), &flush(), &[]).unwrap();
    assert_eq!(rig.run(&mut queue), []);
    for _ in 0..50 {
        assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
    }
    assert_eq!((queue.in_flight(lane), queue.room(lane)), (1, 7));
}

/// I1: out of order, each completion still finds its command.
#[test]
fn completions_out_of_order_find_their_commands() {
    let (rig, mut queue, lane, _) = rig();
    rig.sim.inject(Fault { when: NEXT_IO, action: Action::HoldBack(3) });
    for tag in 0..5 {
        queue.submit(lane, Tag(tag), &flush(), &[]).unwrap();
    }
    let done: Vec<u64> = rig.run(&mut queue).iter().map(|completion| completion.tag.0).collect();
    assert_eq!(done.len(), 5);
    assert_ne!(done, [0, 1, 2, 3, 4]);
}

/// I1: completions of a lane that was deleted, still in the queue when another lane takes over its number, end nothing.
#[test]
fn a_successor_of_the_same_number_is_not_served_its_predecessors_completions() {
    let mut rig = Rig::new(DeviceSpec { queues: 1, ..spec() });
    let mut queue = rig.controller.create_queue(16, None).unwrap();
    let lane = rig.lane(&mut queue, 4);
    for tag in 0..4 {
        queue.submit(lane, Tag(tag), &flush(), &[]).unwrap();
    }
    queue.ring();
    rig.sim.run_until_idle();
    rig.controller.delete_lane(lane).unwrap();
    let mut abandoned = 0;
    queue.abandon(lane, &mut |completion| {
        assert_eq!(completion.status, Status::Aborted);
        abandoned += 1;
    });
    assert_eq!((abandoned, queue.in_flight(lane), queue.room(lane)), (4, 0, 0));
    let stale = queue.detach(lane).unwrap();
    drop(stale);
    let successor = rig.lane(&mut queue, 4);
    assert_eq!(successor, lane);
    for tag in 10..14 {
        queue.submit(successor, Tag(tag), &flush(), &[]).unwrap();
    }
    let done: Vec<u64> = rig.run(&mut queue).iter().map(|completion| completion.tag.0).collect();
    assert_eq!((done, queue.stray_completions()), (vec![10, 11, 12, 13], 4));
}

/// I1: not even when the identifier is the very one that the successor begins with.
#[test]
fn a_successor_is_not_served_a_completion_of_its_own_first_identifier() {
    let mut rig = Rig::new(DeviceSpec { queues: 1, ..spec() });
    let (mut queue, lane) = rig.queue(1);
    let id_of_next = |queue: &mut Queue| {
        queue.submit(lane, Tag(1), &flush(), &[]).unwrap();
        let mut ids = Vec::new();
        queue.device_ids(lane, &mut ids);
        ids
    };
    let _ = id_of_next(&mut queue);
    rig.run(&mut queue);
    let stale = id_of_next(&mut queue);
    queue.ring();
    rig.sim.run_until_idle();
    rig.controller.delete_lane(lane).unwrap();
    queue.abandon(lane, &mut |_| {});
    queue.detach(lane).unwrap();
    let _ = rig.lane(&mut queue, 1);
    // The device has not heard of the new command, and its identifier is that of the completion that waits.
    assert_eq!(id_of_next(&mut queue), stale);
    assert_eq!(poll(&mut queue), []);
    assert_eq!(queue.stray_completions(), 1);
    assert_eq!(rig.run(&mut queue).len(), 1);
}

#[test]
fn a_device_that_loses_a_completion_times_a_blocking_transfer_out() {
    let (rig, mut queue, lane, buffer) = rig();
    rig.sim.inject(Fault { when: NEXT_IO, action: Action::Drop });
    let clock = rig.clock.clone();
    let limits = rig.namespace().limits;
    let mut io = BlockIo::new(&mut queue, lane, 1, limits, &clock, std::time::Duration::from_millis(5));
    assert!(matches!(io.read(0, 1, &buffer, 0), Err(IoError::Timeout { .. })));
    io.read(0, 1, &buffer, 0).unwrap();
    rig.sim.inject(Fault { when: NEXT_IO, action: Action::Fail(nvme::Status::WRITE_FAULT.do_not_retry()) });
    let error = io.write(3, 1, &buffer, 0).unwrap_err();
    assert_eq!(error.to_string(), "write of 1 blocks at block 3 failed: Media { code: 128 }");
}

#[test]
fn a_device_that_leaves_is_noticed_and_everything_says_so() {
    let (mut rig, mut queue, lane, buffer) = rig();
    rig.sim.inject(Fault { when: NEXT_IO, action: Action::Vanish });
    queue.submit(lane, Tag(5), &read(0, 1), &[buffer.segment(0, 512)]).unwrap();
    assert_eq!(rig.run(&mut queue), []);
    assert!(matches!(rig.controller.poll_events(), Err(NvmeError::Gone { .. })));
    assert_eq!((rig.controller.state(), queue.is_live()), (State::Gone, false));
    assert!(queue.submit(lane, Tag(6), &flush(), &[]).is_err());
    assert!(matches!(rig.controller.delete_lane(lane), Err(NvmeError::Gone { .. })));
    assert!(matches!(rig.controller.create_queue(4, None), Err(NvmeError::Gone { .. })));
    assert!(matches!(rig.controller.reset(), Err(NvmeError::Gone { .. })));
    let mut ended = Vec::new();
    queue.abandon(lane, &mut |completion| ended.push((completion.tag, completion.status)));
    assert_eq!(ended, [(Tag(5), Status::Gone)]);
}

#[test]
fn a_device_that_came_back_is_reset_into_service() {
    let (mut rig, queue, lane, _) = rig();
    rig.sim.remove();
    assert!(rig.controller.poll_events().is_err());
    rig.sim.reinsert();
    let lost = rig.controller.reset().unwrap();
    assert_eq!((lost.queues.len(), lost.queues[0].lanes.clone()), (1, vec![(lane, 8)]));
    assert!(!queue.is_live());
    let (mut queue, lane) = rig.queue(8);
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
    rig.assert_clean();
}

#[test]
fn a_fatal_device_is_noticed_and_reset_into_service() {
    let (mut rig, _queue, _, _) = rig();
    rig.sim.fail();
    assert!(matches!(rig.controller.poll_events(), Err(NvmeError::Fatal { .. })));
    assert_eq!(rig.controller.state(), State::Failed);
    assert!(matches!(rig.controller.poll_events(), Err(NvmeError::Stopped { .. })));
    rig.controller.reset().unwrap();
    let (mut queue, lane) = rig.queue(8);
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
}

/// I1 under a device that does everything wrong by chance: each command ends at most once, with its own tag, and what the
/// device says was read or written is.
#[test]
fn chaos_ends_each_command_at_most_once() {
    for seed in 0..8u64 {
        let mut rig = Rig::new(DeviceSpec { seed: Some(seed), service_ns: 1000, ..spec() });
        let mut queue = rig.controller.create_queue(200, None).unwrap();
        let mut lanes: Vec<LaneId> = (0..4).map(|_| rig.lane(&mut queue, 32)).collect();
        rig.sim.set_fault_rates(
            FaultRates {
                delay_ppm: 20_000,
                hold_back_ppm: 50_000,
                drop_ppm: 2_000,
                hang_ppm: 2_000,
                duplicate_ppm: 20_000,
                wrong_cid_ppm: 2_000,
                error_ppm: 20_000,
            },
            seed,
        );
        let buffer = rig.buffer(4096);
        let mut flying = std::collections::HashSet::new();
        let mut next = 0;
        for round in 0..1500 {
            for &lane in &lanes {
                if queue.room(lane) > 0 && (round + usize::from(lane.0)) % 3 != 0 {
                    let data = [buffer.segment(0, 512)];
                    let command = if next % 2 == 0 { read(next % 64, 1) } else { write(next % 64, 1) };
                    queue.submit(lane, Tag(next), &command, &data).unwrap();
                    flying.insert(Tag(next));
                    next += 1;
                }
            }
            queue.ring();
            rig.sim.step(round % 40);
            if round % 5 == 0 {
                rig.sim.advance_ns(100_000);
            }
            for completion in poll(&mut queue) {
                assert!(flying.remove(&completion.tag), "seed {seed}: {completion:?} ended twice");
            }
            let full = lanes.iter().position(|&lane| queue.in_flight(lane) > 8 && round % 100 == 99);
            if let Some(index) = full {
                // What hangs or was lost is ended by the barrier.
                rig.controller.delete_lane(lanes[index]).unwrap();
                queue.abandon(lanes[index], &mut |completion| {
                    assert!(flying.remove(&completion.tag), "seed {seed}: {completion:?} ended twice");
                });
                queue.detach(lanes[index]).unwrap();
                lanes[index] = rig.lane(&mut queue, 32);
            }
        }
        let left: usize = lanes.iter().map(|&lane| queue.in_flight(lane)).sum();
        assert_eq!(left, flying.len(), "seed {seed}");
        assert!(next > 1000 && queue.stray_completions() > 0, "seed {seed}: {next} commands");
        rig.assert_clean();
    }
}

#[test]
fn a_device_without_an_operation_says_so() {
    let (rig, mut queue, lane, _) = rig();
    let when = Match { opcode: Some(nvme::NvmOpcode::WRITE_ZEROES.0), ..NEXT_IO };
    rig.sim.inject(Fault { when, action: Action::Fail(nvme::Status::INVALID_OPCODE.do_not_retry()) });
    let operation = Operation::WriteZeroes { deallocate: false };
    let command = vfiomux_block::Command { operation, ..read(0, 1) };
    assert_eq!(rig.command(&mut queue, lane, &command, &[]), Status::Unsupported);
}
