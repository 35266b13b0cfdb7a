//! Sidecores as an operator sees and sets them.

use vfiomux_rpc::{Change, ErrorCode, SidecoreInfo, SidecoreMode, call};

use super::guest::{Guest, OK, pattern};
use super::world::{World, assert_refused};

fn show(world: &World) -> SidecoreInfo {
    world.call(&call::SidecoreShow { index: 0 }).unwrap()
}

const fn set(mode: SidecoreMode) -> call::SidecoreSet {
    call::SidecoreSet { index: 0, mode }
}

#[test]
fn a_sidecore_at_work_is_given_another_mode() {
    let world = World::new("sim:nvme,size=64M");
    world.create("disk", 8);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    for mode in [SidecoreMode::Poll, SidecoreMode::Event, SidecoreMode::Adaptive] {
        assert_eq!(world.call(&set(mode)).unwrap().mode, mode);
        assert_eq!(show(&world).mode, mode);
        assert_eq!(guest.write(8, &pattern(1, 65536)), OK);
        assert_eq!(guest.read(8, 65536), pattern(1, 65536));
    }
    let rest = show(&world).rest;
    assert!(rest.busy_ns > 0 && rest.naps > 0 && rest.sleep_cost_ns > 0, "{rest:?}");
    session.hang_up();
}

#[test]
fn a_dry_run_and_what_cannot_be_leave_a_sidecore_as_it_is() {
    let world = World::new("sim:nvme,size=64M");
    let before = show(&world).mode;
    let dry = Change { dry_run: true, ..Change::default() };
    assert_eq!(world.call_with(&set(SidecoreMode::Poll), &dry).unwrap().mode, SidecoreMode::Poll);
    let generation = Change { expected_generation: Some(1), ..Change::default() };
    let refused = world.call_with(&set(SidecoreMode::Poll), &generation);
    assert_refused(refused, ErrorCode::InvalidArgument, "leave expected_generation out");
    let missing = call::SidecoreSet { index: 7, mode: SidecoreMode::Poll };
    assert_refused(world.call(&missing), ErrorCode::NotFound, "sidecore list");
    assert_refused(world.call(&call::SidecoreShow { index: 7 }), ErrorCode::NotFound, "sidecore list");
    let all = world.call(&call::SidecoreList {}).unwrap();
    assert_eq!(all.iter().map(|info| info.mode).collect::<Vec<_>>(), [before]);
}
