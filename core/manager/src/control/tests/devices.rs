//! Devices that fail, leave, and come back.

use vfiomux_rpc::{ErrorCode, EventKind, FunctionState};

use super::guest::{Guest, OK, pattern};
use super::world::{World, assert_refused, wait};
use crate::lifecycle::Oper;

const SPEC: &str = "sim:nvme,size=64M";

fn wait_device(world: &World, state: FunctionState) {
    wait(&format!("sim0 is {state:?}"), || (world.device("sim0").unwrap().state == state).then_some(()));
}

/// S9: a device that is pulled out quarantines its channels; back again, an operator lets them go on with their data.
#[test]
fn channels_of_a_device_pulled_out_are_quarantined_and_resume_when_it_is_back() {
    let mut world = World::new(SPEC);
    world.create("disk", 8);
    let mut guest = Guest::new();
    let session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(5, 4096)), OK);
    world.sim().remove();
    let shown = world.wait_oper("disk", Oper::Quarantined);
    assert!(shown.reasons.oper.unwrap().contains("left"));
    wait_device(&world, FunctionState::Lost);
    wait("the endpoint is gone", || (!world.endpoint("disk").path.exists()).then_some(()));
    wait("nothing is mapped", || (world.devices[0].mappings() == 0).then_some(()));
    assert_refused(world.resume("disk"), ErrorCode::DeviceFault, "");
    world.wait_event("the loss", |event| {
        event.kind == EventKind::Function && event.to.as_deref() == Some("lost")
    });
    world.assert_lives_by_the_table();
    drop(session);

    world.stop();
    world.sim().reinsert();
    world.start();
    assert_eq!(world.show("disk").oper, Oper::Quarantined);
    assert_eq!(world.resume("disk").unwrap().oper, Oper::Listening);
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.read(0, 4096), pattern(5, 4096));
    assert_eq!(world.device("sim0").unwrap().state, FunctionState::Ready);
    world.assert_lives_by_the_table();
}

/// The kernel waits for us to let a function go: that must not depend on its having channels.
#[test]
fn a_device_whose_removal_is_requested_is_let_go_with_and_without_channels() {
    for channels in [0, 2] {
        let world = World::new(SPEC);
        for index in 0..channels {
            world.create(&format!("disk-{index}"), 4);
        }
        world.sim().request_removal();
        wait("nothing is mapped", || (world.devices[0].mappings() == 0).then_some(()));
        wait_device(&world, FunctionState::Lost);
        for index in 0..channels {
            assert_eq!(world.show(&format!("disk-{index}")).oper, Oper::Quarantined);
        }
    }
}
