use serde_json::json;
use vfiomux_tests::check::{self, Options};
use vfiomux_tests::scenario::Scenario;

/// S3: nobody else's I/O is disturbed while a running VM gains and loses channels.
#[test]
fn s3_a_running_vm_gains_and_loses_a_channel() {
    let scenario = Scenario::begin("S3", &["sim:nvme,size=256M"]);
    let mut operator = scenario.operator();
    operator.call("channel.create", scenario.channel("steady", "sim0", 64));
    let before = operator.call("channel.show", json!({ "name": "steady" }));

    let socket = scenario.socket("steady");
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let options = Options { operations: 4_000, span_bytes: 8 << 20, ..Options::new(&socket) };
            check::run(&options).unwrap_or_else(|error| panic!("{error}"))
        });
        for _ in 0..5 {
            // Gained without an endpoint, then given one; lost the other way round.
            operator.call(
                "channel.create",
                json!({ "name": "extra", "device": "sim0", "tenant": "acme", "size_bytes": 16 << 20 }),
            );
            let endpoint = json!({ "path": scenario.socket("extra") });
            let attached = operator.call("channel.attach", json!({ "name": "extra", "endpoint": endpoint }));
            assert!(attached.get("oper").is("listening"));
            let options =
                Options { operations: 100, span_bytes: 1 << 20, ..Options::new(scenario.socket("extra")) };
            check::run(&options).unwrap_or_else(|error| panic!("{error}"));
            let grown = operator.call("channel.resize", json!({ "name": "extra", "size_bytes": 24 << 20 }));
            assert_eq!(grown.get("size_bytes").number(), 24 << 20);
            let detached = operator.call("channel.detach", json!({ "name": "extra" }));
            assert!(detached.get("oper").is("provisioned") && detached.get("endpoint").is_null());
            operator.call("channel.destroy", json!({ "name": "extra" }));
        }
        load.join().expect("every byte was right");
    });

    let after = operator.call("channel.show", json!({ "name": "steady" }));
    for field in ["id", "epoch", "generation", "health", "extents"] {
        assert_eq!(after.get(field).raw(), before.get(field).raw(), "{field}");
    }
    let counters = after.get("counters");
    let done = counters.sum(["read_ops", "write_ops", "flush_ops", "discard_ops", "write_zeroes_ops"]);
    assert!(done >= 4_000 && counters.get("read_bytes").number() > 0);
    assert!(counters.sum(["kicks", "calls"]) > 0);
    assert_eq!(counters.sum(["stale_completions", "limited", "limited_ns"]), 0);
    counters.all(["bounced_ops", "bounced_bytes", "error_ops", "flushes_merged"]);
    assert_eq!(operator.call("channel.list", json!({ "tenant": "acme" })).items().len(), 1);
    scenario.held();
}
