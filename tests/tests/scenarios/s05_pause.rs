use std::time::Duration;

use serde_json::json;
use vfiomux_tests::frontend::{Driver, Request, STATUS_OK};
use vfiomux_tests::scenario::Scenario;

/// S5: no I/O in flight while suspended; the same channel comes back.
#[test]
fn s5_a_vm_is_paused_and_resumed() {
    let scenario = Scenario::begin("S5", &["sim:nvme,size=256M"]);
    let mut operator = scenario.operator();
    let made = operator.call("channel.create", scenario.channel("disk", "sim0", 16));
    let mut vm = Driver::connect(&scenario.socket("disk"), 1).expect("the endpoint listens");
    vm.start_ring(0).expect("the ring starts");
    assert_eq!(vm.request(0, Request::Write, 0, &mut [1; 4096], false), Some(STATUS_OK));

    let suspended = operator.call("channel.suspend", json!({ "name": "disk" }));
    assert!(suspended.get("oper").is("suspended") && suspended.get("admin").is("suspended"));
    let refusal = operator.refused("channel.suspend", json!({ "name": "disk" }), "suspended");
    assert!(refusal.get("next").text().contains("resume"));
    // What the guest asks for now stays in its ring.
    vm.publish(0, 0);
    assert_eq!(vm.wait_for_used(0, Duration::from_millis(200)), None);
    let still = operator.call("channel.show", json!({ "name": "disk" }));
    assert_eq!(still.get("counters").get("write_ops").number(), 1);

    let resumed = operator.call("channel.resume", json!({ "name": "disk" }));
    assert!(resumed.get("oper").is("active") && resumed.get("admin").is("enabled"));
    for field in ["id", "epoch", "extents", "tenant"] {
        assert_eq!(resumed.get(field).raw(), made.get(field).raw(), "{field}");
    }
    let reasons = resumed.get("reasons");
    assert!(["admin", "oper", "health"].iter().all(|axis| reasons.get(axis).is_null()));
    // Its labels are changed as it runs; what the guest would see of it is not.
    let set = operator.call("channel.set", json!({ "name": "disk", "labels": { "tier": "gold" } }));
    assert_eq!(set.get("labels").raw(), &json!({ "tier": "gold" }));
    assert_eq!(set.get("serial").raw(), made.get("serial").raw());
    // And is served as soon as it is resumed, once.
    assert!(vm.wait_for_used(0, Duration::from_secs(10)).is_some());
    let mut data = [0; 4096];
    assert_eq!(vm.request(0, Request::Read, 0, &mut data, false), Some(STATUS_OK));
    assert_eq!(data, [1; 4096]);
    drop(vm);
    scenario.held();
}
