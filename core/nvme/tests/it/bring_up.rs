//! From a function to a controller that serves, and what stops it on the way.

use std::time::Duration;

use crate::support::{Rig, flush, spec};
use vfiomux_block::{Addressing, BlockQueue};
use vfiomux_nvme::{NvmeError, Options, State};
use vfiomux_sim::{Action, DeviceSpec, Fault, Match, QueueMatch, SimNvme};
use vfiomux_spec::nvme::{AdminOpcode, Status};

fn start(spec: DeviceSpec, prepare: impl FnOnce(&SimNvme)) -> Result<Rig, NvmeError> {
    let sim = SimNvme::new(spec, "sim0").unwrap();
    prepare(&sim);
    Rig::try_start(&sim, Options::default())
}

#[test]
fn a_controller_comes_up_and_says_what_it_is() {
    let rig = Rig::new(DeviceSpec { serial: Some("S123".to_owned()), queues: 9, ..spec() });
    let info = rig.controller.info();
    assert_eq!((info.serial.as_str(), info.lanes_max, info.queues_max), ("S123", 9, 9));
    assert_eq!((info.version.as_str(), info.depth_max), ("2.0.0", 1023));
    assert_eq!(rig.controller.state(), State::Running);
    rig.assert_clean();
}

#[test]
fn a_namespace_has_the_limits_that_the_device_gives() {
    let rig = Rig::new(DeviceSpec { lba_bytes: 4096, mdts: 5, sgl: false, ..spec() });
    let limits = rig.namespace().limits;
    assert_eq!((limits.block_bytes, limits.blocks), (4096, (64 << 20) / 4096));
    assert_eq!(limits.transfer_bytes_max, 128 << 10);
    assert_eq!(limits.addressing, Addressing::Prp { page_bytes: 4096 });
    assert!(
        limits.write_zeroes_blocks_max > 0 && limits.deallocate_blocks_max > 0 && limits.deallocate_zeroes
    );
    assert!(rig.namespace().eui64.is_some());
}

#[test]
fn lists_are_used_where_the_controller_has_them() {
    let rig = Rig::new(DeviceSpec { sgl: true, ..spec() });
    assert_eq!(rig.namespace().limits.addressing, Addressing::Sgl { align_bytes: 4 });
    let options = Options { sgl: false, ..Options::default() };
    let rig = Rig::with(DeviceSpec { sgl: true, ..spec() }, options);
    assert_eq!(rig.namespace().limits.addressing, Addressing::Prp { page_bytes: 4096 });
}

#[test]
fn a_device_without_limit_gets_ours() {
    let rig = Rig::new(DeviceSpec { mdts: 0, ..spec() });
    assert_eq!(rig.namespace().limits.transfer_bytes_max, Options::default().transfer_bytes_max);
}

#[test]
fn every_namespace_is_found() {
    let rig = Rig::new(DeviceSpec { namespaces: 5, ..spec() });
    let ids: Vec<u32> = rig.controller.namespaces().iter().map(|namespace| namespace.id).collect();
    assert_eq!((ids, rig.controller.skipped().len()), (vec![1, 2, 3, 4, 5], 0));
}

#[test]
fn without_a_list_of_namespaces_each_number_is_tried() {
    let refused = Action::Fail(Status::INVALID_FIELD.do_not_retry());
    // The third Identify is for the list: after the controller, and the controller's NVM part.
    let when = Match {
        queue: QueueMatch::Admin,
        opcode: Some(AdminOpcode::IDENTIFY.0),
        skip: 2,
        times: 1,
        ..Match::default()
    };
    let rig = start(DeviceSpec { namespaces: 3, ..spec() }, |sim| {
        sim.inject(Fault { when, action: refused });
    });
    assert_eq!(rig.unwrap().controller.namespaces().len(), 3);
}

#[test]
fn a_stuck_status_register_is_a_timeout() {
    let error = start(spec(), |sim| sim.stick_csts(true)).unwrap_err();
    assert!(matches!(error, NvmeError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("CSTS.RDY stays 0"), "{error}");
}

#[test]
fn a_fatal_controller_is_named_so() {
    let when = Match { queue: QueueMatch::Admin, ..Match::default() };
    let error = start(spec(), |sim| sim.inject(Fault { when, action: Action::Fatal })).unwrap_err();
    assert!(matches!(error, NvmeError::Fatal { .. }), "{error}");
}

#[test]
fn a_controller_that_failed_before_is_reset_first() {
    let rig = start(spec(), SimNvme::fail).unwrap();
    assert_eq!(rig.controller.state(), State::Running);
}

#[test]
fn a_controller_that_was_left_running_is_taken_over() {
    let sim = SimNvme::new(spec(), "sim0").unwrap();
    let first = Rig::try_start(&sim, Options::default()).unwrap();
    // Its owner dies without a word.
    std::mem::forget(first.controller);
    let mut second = Rig::try_start(&sim, Options::default()).unwrap();
    let (mut queue, lane) = second.queue(4);
    assert_eq!(second.command(&mut queue, lane, &flush(), &[]), vfiomux_block::Status::Success);
}

#[test]
fn a_function_that_is_not_there_is_gone() {
    let error = start(spec(), SimNvme::remove).unwrap_err();
    assert!(matches!(error, NvmeError::Gone { .. }), "{error}");
}

#[test]
fn a_function_that_leaves_during_bring_up_is_gone() {
    let when = Match { queue: QueueMatch::Admin, skip: 3, ..Match::default() };
    let error = start(spec(), |sim| sim.inject(Fault { when, action: Action::Vanish })).unwrap_err();
    assert!(matches!(error, NvmeError::Gone { .. }), "{error}");
}

#[test]
fn a_lost_admin_completion_is_a_timeout_within_its_time() {
    let when = Match { queue: QueueMatch::Admin, ..Match::default() };
    let sim = SimNvme::new(spec(), "sim0").unwrap();
    sim.inject(Fault { when, action: Action::Drop });
    let options = Options { admin_timeout: Duration::from_secs(3), ..Options::default() };
    let error = Rig::try_start(&sim, options).map(drop).unwrap_err();
    assert!(error.to_string().contains("within 3s"), "{error}");
}

#[test]
fn the_queues_granted_are_handed_out_and_no_more() {
    let mut rig = Rig::new(DeviceSpec { queues: 1, ..spec() });
    let (mut queue, lane) = rig.queue(32);
    let error = rig.controller.create_lane(queue.id(), 32).unwrap_err();
    assert!(matches!(error, NvmeError::NoQueues { kind: "submission", granted: 1, .. }), "{error}");
    assert!(matches!(rig.controller.create_queue(32, None), Err(NvmeError::NoQueues { .. })));
    rig.controller.delete_lane(lane).unwrap();
    queue.detach(lane).unwrap();
    let again = rig.lane(&mut queue, 32);
    assert_eq!(rig.command(&mut queue, again, &flush(), &[]), vfiomux_block::Status::Success);
}

#[test]
fn queues_are_as_deep_as_the_controller_allows() {
    for entries in [2, 3, 5, 64] {
        let mut rig = Rig::new(DeviceSpec { queue_entries: entries, ..spec() });
        let (mut queue, lane) = rig.queue(1000);
        assert_eq!(queue.depth(), entries as usize - 1);
        assert_eq!(queue.room(lane), entries as usize - 1);
        for round in 0..50 {
            let status = rig.command(&mut queue, lane, &flush(), &[]);
            assert_eq!(status, vfiomux_block::Status::Success, "round {round} of {entries} entries");
        }
        rig.assert_clean();
    }
}

#[test]
fn wide_doorbells_are_rung_where_they_are() {
    let mut rig = Rig::new(DeviceSpec { dstrd: 3, queues: 3, ..spec() });
    for _ in 0..3 {
        let (mut queue, lane) = rig.queue(8);
        assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), vfiomux_block::Status::Success);
    }
}

#[test]
fn a_queue_in_use_is_not_deleted() {
    let mut rig = Rig::new(spec());
    let (queue, lane) = rig.queue(8);
    assert!(matches!(rig.controller.delete_queue(queue.id()), Err(NvmeError::QueueInUse { lanes: 1, .. })));
    rig.controller.delete_lane(lane).unwrap();
    rig.controller.delete_queue(queue.id()).unwrap();
    assert!(matches!(rig.controller.delete_queue(queue.id()), Err(NvmeError::NoSuchQueue { .. })));
    assert!(matches!(rig.controller.delete_lane(lane), Err(NvmeError::NoSuchQueue { .. })));
}

#[test]
fn a_vector_that_is_off_is_refused() {
    let mut rig = Rig::with(spec(), Options { vectors: 2, ..Options::default() });
    assert!(rig.controller.create_queue(8, Some(1)).is_ok());
    let error = rig.controller.create_queue(8, Some(2)).unwrap_err();
    assert!(error.to_string().contains("interrupt vector 2; 2 are on"), "{error}");
}

#[test]
fn a_shutdown_ends_in_rest_and_a_restart_works() {
    let mut rig = Rig::new(spec());
    rig.controller.shutdown().unwrap();
    assert_eq!(rig.controller.state(), State::Halted);
    assert!(matches!(rig.controller.create_queue(8, None), Err(NvmeError::Stopped { .. })));
    rig.controller.restart().unwrap();
    let (mut queue, lane) = rig.queue(8);
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), vfiomux_block::Status::Success);
}

#[test]
fn dropping_the_controller_leaves_nothing_mapped() {
    let mut rig = Rig::new(spec());
    let (queue, _) = rig.queue(8);
    let Rig { controller, sim, .. } = rig;
    drop(queue);
    drop(controller);
    assert_eq!((sim.iommu().mappings().len(), sim.violations()), (0, vec![]));
}

#[test]
fn a_namespace_is_formatted_with_other_blocks() {
    let mut rig = Rig::new(DeviceSpec { namespaces: 2, ..spec() });
    let namespace = rig.controller.format(2, 4096, vfiomux_nvme::SecureErase::UserData).unwrap();
    assert_eq!((namespace.id, namespace.limits.block_bytes), (2, 4096));
    let error = rig.controller.format(2, 8192, vfiomux_nvme::SecureErase::None).unwrap_err();
    assert!(error.to_string().contains("it has 512, 4096"), "{error}");
    let error = rig.controller.format(9, 512, vfiomux_nvme::SecureErase::None).unwrap_err();
    assert!(matches!(error, NvmeError::NoSuchNamespace { nsid: 9, .. }));
}

#[test]
fn a_device_is_sanitized_or_says_that_it_cannot() {
    let mut rig = Rig::new(spec());
    rig.sim.write_blocks(1, 8, &[7; 512]).unwrap();
    rig.controller.sanitize().unwrap();
    let mut block = [1; 512];
    rig.sim.read_blocks(1, 8, &mut block).unwrap();
    assert_eq!(block, [0; 512]);
    let mut rig = Rig::new(DeviceSpec { sanitize: false, format: false, ..spec() });
    assert!(matches!(rig.controller.sanitize(), Err(NvmeError::Unsupported { .. })));
    let format = rig.controller.format(1, 4096, vfiomux_nvme::SecureErase::None).map(drop);
    assert!(matches!(format, Err(NvmeError::Unsupported { .. })));
}
