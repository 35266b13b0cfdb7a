//! Ending commands for certain, step by step; events; health.

use std::cell::RefCell;
use std::time::Duration;

use crate::support::{Rig, flush, poll, read, spec};
use vfiomux_block::{BlockQueue, LaneId, Status, Tag};
use vfiomux_nvme::{Ended, EndingDeadlines, Event, NvmeError, Queue, State};
use vfiomux_sim::{Action, DeviceSpec, Fault, Match, QueueMatch};
use vfiomux_spec::nvme::log::CriticalWarning;
use vfiomux_spec::nvme::{self, AdminOpcode};

const IO: Match = Match { queue: QueueMatch::Io, opcode: None, nsid: None, skip: 0, times: u32::MAX };

const DEADLINES: EndingDeadlines = EndingDeadlines {
    drain: Duration::from_millis(10),
    abort: Duration::from_millis(10),
    delete: Duration::from_millis(10),
};

/// Submits three commands under `action`, ends the lane, and gives how that went, and how the commands ended.
fn end(
    rig: &mut Rig,
    action: Action,
    also: &[Fault],
) -> (Result<Ended, NvmeError>, Queue, LaneId, Vec<Status>) {
    let (mut queue, lane) = rig.queue(8);
    rig.sim.inject(Fault { when: IO, action });
    for &fault in also {
        rig.sim.inject(fault);
    }
    for tag in 0..3 {
        queue.submit(lane, Tag(tag), &flush(), &[]).unwrap();
    }
    queue.ring();
    let mut statuses = Vec::new();
    let shared = RefCell::new(&mut queue);
    let mut in_flight = || {
        let mut queue = shared.borrow_mut();
        statuses.extend(poll(&mut queue).iter().map(|completion| completion.status));
        let mut ids = Vec::new();
        queue.device_ids(lane, &mut ids);
        ids
    };
    let ended = rig.controller.end_lane(lane, &DEADLINES, &mut in_flight);
    (ended, queue, lane, statuses)
}

#[test]
fn commands_that_complete_are_waited_for() {
    let mut rig = Rig::new(spec());
    let (ended, _, _, statuses) = end(&mut rig, Action::DelayNs(1_000_000), &[]);
    assert_eq!((ended.unwrap(), statuses), (Ended::Drained, vec![Status::Success; 3]));
}

#[test]
fn commands_that_hang_are_aborted() {
    let mut rig = Rig::new(spec());
    let (ended, mut queue, lane, statuses) = end(&mut rig, Action::Hang, &[]);
    assert_eq!((ended.unwrap(), statuses), (Ended::Aborted, vec![Status::Aborted; 3]));
    rig.sim.clear_faults();
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
}

/// D2: who still has a deleted lane may ring its doorbell, which must not be another lane's by then.
#[test]
fn a_deleted_lane_keeps_its_number_until_it_is_dropped() {
    let mut rig = Rig::new(DeviceSpec { queues: 1, ..spec() });
    let (mut queue, lane) = rig.queue(8);
    rig.controller.delete_lane(lane).unwrap();
    queue.submit(lane, Tag(0), &flush(), &[]).unwrap();
    let refused = rig.controller.create_lane(queue.id(), 8);
    assert!(matches!(refused, Err(NvmeError::NoQueues { .. })), "{refused:?}");
    assert_eq!(rig.controller.lanes_free(), 0);
    queue.ring();
    queue.abandon(lane, &mut |_| {});
    drop(queue.detach(lane));
    assert_eq!(rig.controller.lanes_free(), 1);
    let lane = rig.lane(&mut queue, 8);
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
    rig.assert_clean();
}

#[test]
fn commands_whose_completion_is_lost_end_with_their_queue() {
    let mut rig = Rig::new(spec());
    let (ended, mut queue, lane, _) = end(&mut rig, Action::Drop, &[]);
    assert_eq!(ended.unwrap(), Ended::Deleted);
    let mut abandoned = 0;
    queue.abandon(lane, &mut |_| abandoned += 1);
    assert_eq!(abandoned, 3);
    assert!(queue.submit(lane, Tag(0), &flush(), &[]).is_err());
    assert!(queue.detach(lane).is_some());
    // The neighbours did not notice.
    rig.sim.clear_faults();
    let lane = rig.lane(&mut queue, 8);
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
    rig.assert_clean();
}

#[test]
fn a_controller_that_will_not_delete_is_reset() {
    let mut rig = Rig::new(spec());
    let when =
        Match { queue: QueueMatch::Admin, opcode: Some(AdminOpcode::DELETE_IO_SQ.0), ..Match::default() };
    let (ended, mut queue, lane, _) = end(&mut rig, Action::Drop, &[Fault { when, action: Action::Hang }]);
    let Ended::Reset(lost) = ended.unwrap() else { panic!("not reset") };
    assert_eq!((lost.queues[0].id, lost.queues[0].depth), (queue.id(), 8));
    assert!(!queue.is_live());
    let mut abandoned = Vec::new();
    queue.abandon(lane, &mut |completion| abandoned.push(completion.status));
    assert_eq!(abandoned, [Status::Aborted; 3]);
    rig.sim.clear_faults();
    let (mut queue, lane) = rig.queue(8);
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
    rig.assert_clean();
}

#[test]
fn a_controller_that_does_not_come_up_again_stays_halted() {
    let mut rig = Rig::new(spec());
    let (_, lane) = rig.queue(8);
    rig.sim.stick_csts(true);
    rig.sim.inject(Fault { when: Match { times: u32::MAX, ..Match::default() }, action: Action::Hang });
    let ended = rig.controller.end_lane(lane, &DEADLINES, &mut || vec![(lane.0, 0)]);
    assert_eq!((ended.unwrap(), rig.controller.state()), (Ended::Halted, State::Halted));
}

#[test]
fn a_controller_that_left_cannot_promise_that_commands_ended() {
    let mut rig = Rig::new(spec());
    let (_queue, lane) = rig.queue(8);
    rig.sim.remove();
    let ended = rig.controller.end_lane(lane, &DEADLINES, &mut || vec![(lane.0, 0)]);
    assert!(matches!(ended, Err(NvmeError::Gone { .. })));
}

/// D2: after a halt the device touches no memory that a command named, and old queues ring no doorbell.
#[test]
fn after_a_halt_nothing_moves() {
    let mut rig = Rig::new(spec());
    let (mut queue, lane) = rig.queue(8);
    rig.sim.inject(Fault { when: IO, action: Action::DelayNs(1_000_000) });
    let buffer = rig.buffer(4096);
    queue.submit(lane, Tag(1), &read(0, 8), &[buffer.segment(0, 4096)]).unwrap();
    queue.ring();
    rig.sim.step(64);
    queue.submit(lane, Tag(2), &read(0, 8), &[buffer.segment(0, 4096)]).unwrap();
    rig.controller.halt().unwrap();
    drop(buffer);
    rig.controller.restart().unwrap();
    let (_other, _) = rig.queue(8);
    queue.ring();
    rig.sim.run_until_idle();
    assert_eq!(poll(&mut queue), []);
    rig.assert_clean();
}

#[test]
fn what_a_halt_ended_can_be_deleted_and_is_not_made_anew() {
    let mut rig = Rig::new(spec());
    let (queue, lane) = rig.queue(8);
    let (kept, _) = rig.queue(4);
    rig.controller.halt().unwrap();
    rig.controller.delete_lane(lane).unwrap();
    rig.controller.delete_queue(queue.id()).unwrap();
    let lost: Vec<_> = rig.controller.restart().unwrap().queues.iter().map(|lost| lost.id).collect();
    assert_eq!(lost, [kept.id()]);
}

#[test]
fn a_namespace_that_changed_is_told_of_and_found() {
    let mut rig = Rig::new(spec());
    assert_eq!(rig.controller.poll_events().unwrap(), []);
    for size in [32 << 20, 48 << 20, 16 << 20] {
        assert!(rig.sim.resize_namespace(1, size));
        rig.sim.run_until_idle();
        assert_eq!(rig.controller.poll_events().unwrap(), [Event::NamespacesChanged(vec![1])]);
        rig.controller.rescan_namespaces().unwrap();
        assert_eq!(rig.namespace().limits.blocks, size / 512);
    }
    assert_eq!(rig.controller.poll_events().unwrap(), []);
}

#[test]
fn a_health_warning_is_told_of() {
    let mut rig = Rig::new(spec());
    rig.sim.warn(CriticalWarning::new().with_spare(true));
    rig.sim.run_until_idle();
    let events = rig.controller.poll_events().unwrap();
    let [Event::Health(health)] = events[..] else { panic!("{events:?}") };
    assert!(health.spare_low && health.is_critical() && !health.read_only);
    assert_eq!(rig.controller.health().unwrap(), health);
}

#[test]
fn an_admin_command_refused_is_named_with_its_status() {
    let mut rig = Rig::new(spec());
    let when = Match { queue: QueueMatch::Admin, ..Match::default() };
    rig.sim.inject(Fault { when, action: Action::Fail(nvme::Status::INVALID_QUEUE_SIZE.do_not_retry()) });
    let error = rig.controller.create_queue(8, None).unwrap_err();
    assert_eq!(error.to_string(), "sim0 refused Create I/O Completion Queue: invalid queue size (0x102)");
    // That was an answer: the controller works on.
    assert!(rig.controller.create_queue(8, None).is_ok());
}

/// I1, on the admin queue.
#[test]
fn admin_completions_doubled_or_for_nobody_are_dropped() {
    let mut rig = Rig::new(spec());
    let admin = Match { queue: QueueMatch::Admin, ..Match::default() };
    rig.sim.inject(Fault { when: admin, action: Action::Duplicate });
    rig.controller.health().unwrap();
    rig.controller.health().unwrap();
    assert_eq!(rig.controller.stray_completions(), 1);
    rig.sim.inject(Fault { when: admin, action: Action::WrongCid(0x4000) });
    assert!(matches!(rig.controller.health(), Err(NvmeError::Timeout { .. })));
    assert_eq!((rig.controller.stray_completions(), rig.controller.state()), (2, State::Failed));
}
