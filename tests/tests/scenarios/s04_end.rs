use serde_json::json;
use vfiomux_tests::check::{self, Initial, Options};
use vfiomux_tests::frontend::{Driver, Request, STATUS_OK};
use vfiomux_tests::scenario::Scenario;

/// S4, C3: resources back in the pool, memory unmapped, data unreadable to the next owner.
#[test]
fn s4_a_vm_is_deleted() {
    let scenario = Scenario::begin("S4", &["sim:nvme,size=256M"]);
    let mut operator = scenario.operator();
    let pools = |operator: &mut vfiomux_tests::scenario::Operator| {
        let pools = operator.call("device.show", json!({ "device": "sim0" })).get("pools");
        (pools.get("bytes").get("used").number(), pools.get("queue_pairs").get("used").number())
    };
    let before = pools(&mut operator);
    let made = operator.call("channel.create", scenario.channel("secret", "sim0", 64));
    let mut vm = Driver::connect(&scenario.socket("secret"), 1).expect("the endpoint listens");
    vm.start_ring(0).expect("the ring starts");
    for sector in (0..1024).step_by(8) {
        assert_eq!(vm.request(0, Request::Write, sector, &mut [0x5e; 4096], false), Some(STATUS_OK));
    }

    // While it is connected it is not ended without insisting, and its generation must be the one that was seen.
    operator.refused("channel.destroy", json!({ "name": "secret" }), "--force");
    operator.refused(
        "channel.destroy",
        json!({ "name": "secret", "force": true, "expected_generation": 7 }),
        "not 7",
    );
    let begun =
        operator.begin("channel.destroy", json!({ "name": "secret", "force": true, "background": true }));
    let job = begun.get("id").number();
    assert!(begun.get("method").is("channel.destroy") && begun.get("object").get("name").is("secret"));
    begun.all(["uid", "began_unix_ns", "doing", "tenant"]);
    let over =
        operator.call_until("job.show", &json!({ "job": job }), |job| !job.get("ended_unix_ns").is_null());
    assert!(over.get("state").is("done") && over.get("error").is_null() && !over.get("result").is_null());
    assert_eq!((over.get("progress_permille").number(), over.get("cancellable").flag()), (1000, false));
    assert_eq!(operator.call("job.list", json!({})).items().len(), 1);
    operator.refused("job.cancel", json!({ "job": job }), "has ended");
    drop(vm);

    assert_eq!(pools(&mut operator), before);
    assert!(!scenario.socket("secret").exists());
    operator.refused("channel.show", json!({ "name": "secret" }), "does not exist");
    let events = operator.call("events.list", json!({ "since": 0 }));
    assert!(events.get("gap").is_null() && events.get("last_seq").number() > 0);
    let states = events.get("events").items();
    let states: Vec<_> = states
        .iter()
        .filter(|event| event.get("object").get("name").is("secret") && event.get("kind").is("oper"))
        .filter_map(|event| event.get("to").raw().as_str().map(str::to_owned))
        .collect();
    assert_eq!(states[states.len() - 3..], ["draining", "scrubbing", "destroyed"]);

    // The next owner gets the same blocks, and finds nothing in them.
    let next = operator.call("channel.create", scenario.channel("next", "sim0", 64));
    assert_eq!(next.get("extents").raw(), made.get("extents").raw());
    assert_ne!(next.get("id").text(), made.get("id").text());
    let options = Options {
        initial: Initial::Zero,
        operations: 200,
        span_bytes: 64 << 20,
        ..Options::new(scenario.socket("next"))
    };
    check::run(&options).unwrap_or_else(|error| panic!("{error}"));
    scenario.held();
}
