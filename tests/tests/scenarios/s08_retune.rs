use serde_json::json;
use vfiomux_tests::frontend::{Driver, Request, STATUS_OK};
use vfiomux_tests::lab::workspace_library;
use vfiomux_tests::scenario::{Answer, Scenario};

/// How a channel's guarantees were kept.
const KEPT: [&str; 5] = ["contended_ns", "given_cost", "interval_ns", "reserved_due_cost", "share_due_cost"];
/// What an explanation of a channel's pace goes by.
const OBSERVED: [&str; 10] = [
    "bytes",
    "device_mean_ns",
    "interval_ns",
    "ops",
    "others_ops",
    "own_limit_ns",
    "ring_wait_mean_ns",
    "sidecore_busy_permille",
    "tenant_limit_ns",
    "turn_wait_ns",
];

/// S8: load shifts and an operator retunes: in force at once, with the I/O running, and each is told what it is held to.
#[test]
fn s8_an_operator_retunes() {
    let config = "[sidecores]\ncpus = [0, 1]\n[sidecores.balance]\nenabled = false\n";
    let scenario = Scenario::begin_with("S8", &["sim:nvme,size=256M"], config);
    let mut operator = scenario.operator();
    operator.call("device.calibrate", json!({ "device": "sim0", "duration_ms": 300 }));
    operator.call("channel.create", scenario.channel("busy", "sim0", 16));
    let mut vm = Driver::connect(&scenario.socket("busy"), 1).expect("the endpoint listens");
    vm.start_ring(0).expect("the ring starts");
    let mut work = |requests: u32| {
        for _ in 0..requests {
            assert_eq!(vm.request(0, Request::Read, 0, &mut [0; 4096], false), Some(STATUS_OK));
        }
    };
    work(10);
    let show = json!({ "name": "busy" });
    let limit = json!({ "per_second": 200, "burst": 1 });
    let wide = json!({ "per_second": 1_u64 << 40 });
    let guarantees = json!({
        "ops": limit, "bytes": wide, "read_ops": wide, "read_bytes": wide, "write_ops": wide, "write_bytes": wide,
        "reservation_ops": 100, "share": 3, "objective": { "permille": 990, "latency_ns": 5_000_000 },
    });
    let tried =
        operator.call("channel.tune", json!({ "name": "busy", "guarantees": guarantees, "dry_run": true }));
    assert_eq!(tried.get("generation").number(), 1);
    let tuned = operator.call("channel.tune", json!({ "name": "busy", "guarantees": guarantees }));
    assert_eq!(tuned.get("generation").number(), 2);
    let events = operator.call("events.list", json!({ "since": 0 })).get("events").items();
    let tells =
        |event: &Answer| event.get("kind").is("setting") && *event.get("generation").raw() == json!(2);
    assert!(events.iter().any(tells));
    let told = tuned.get("guarantees");
    assert_eq!(told.get("ops").sum(["per_second", "burst"]), 201);
    for rate in ["bytes", "read_ops", "read_bytes", "write_ops", "write_bytes"] {
        assert_eq!(told.get(rate).get("per_second").number(), 1 << 40, "{rate}");
    }
    assert_eq!((told.get("reservation_ops").number(), told.get("share").number()), (100, 3));
    assert_eq!(told.get("objective").sum(["permille", "latency_ns"]), 5_000_990);
    // On a slow machine a guest that asks one by one may ask no faster than the limit affords it.
    let limited = operator.call_until("channel.show", &show, |channel| {
        work(20);
        let counters = channel.get("counters");
        counters.get("limited").number() > 0 && counters.get("limited_ns").number() > 0
    });
    let latency = limited.get("latency");
    for part in ["ring_wait", "device"] {
        let times = latency.get(part);
        assert!(times.get("count").number() > 0, "{part}");
        times.all(["mean_ns", "p50_ns", "p99_ns", "p999_ns"]);
    }

    // Who is served where, and how that sidecore spends its time.
    let here = limited.get("sidecore").number();
    let other = 1 - here;
    let moved = operator.call("channel.move", json!({ "name": "busy", "sidecore": other }));
    assert_eq!(moved.get("sidecore").number(), other);
    work(5);
    let set = operator.call("sidecore.set", json!({ "index": other, "mode": "event" }));
    assert!(set.get("mode").is("event"));
    work(5);
    let sidecores = operator.call("sidecore.list", json!({})).items();
    assert_eq!(sidecores.iter().map(|sidecore| sidecore.get("channels").number()).sum::<u64>(), 1);
    let sidecore = operator.call("sidecore.show", json!({ "index": other }));
    assert_eq!((sidecore.get("index").number(), sidecore.get("cpu").number()), (other, other));
    assert!(sidecore.get("busy_permille").number() <= 1000);
    let serves = &sidecore.get("serves").items()[0];
    assert!(serves.get("name").is("busy") && serves.get("tenant").is("acme") && serves.get("lane").is("own"));
    assert!(serves.get("load_permille").number() <= 1000);
    let rest = sidecore.get("rest");
    assert!(rest.sum(["busy_ns", "spun_ns", "asleep_ns"]) > 0);
    assert!(rest.sum(["woken_by_kicks", "woken_by_devices", "woken_by_orders"]) > 0);
    rest.all(["asleep", "spin_max_us", "sleep_cost_ns", "naps", "short_naps", "wake_to_submit"]);

    let breaths = sidecore.get("breath_time").items();
    assert!(breaths.iter().map(|bucket| bucket.get("count").number()).sum::<u64>() > 0);
    breaths[0].all(["up_to_ns"]);

    // How promises are kept, and why it is as slow as it is.
    let kept = operator.call("channel.show", show.clone()).get("kept");
    kept.all(KEPT);
    let explained = operator.call("channel.explain", show.clone());
    assert!(explained.get("channel").is("busy") && explained.get("refused").is_null());
    assert!(!explained.get("plan").items().is_empty());
    let pace = operator.call_until("channel.explain", &show, |why| !why.get("pace").is_null()).get("pace");
    pace.all(["cause", "summary", "next"]);
    pace.get("observed").all(OBSERVED);
    let greedy =
        json!({ "name": "busy", "guarantees": { "objective": { "permille": 5000, "latency_ns": 1 } } });
    operator.refused("channel.tune", greedy, "1 to 999");
    let refused = operator.call("channel.explain", show.clone()).get("refused");
    assert!(refused.get("method").is("channel.tune") && refused.get("reason").text().contains("1 to 999"));
    refused.all(["time_unix_ns", "next"]);

    // The tenant as a whole is held to something too.
    let limits = json!({
        "ops": limit, "bytes": wide, "read_ops": wide, "read_bytes": wide, "write_ops": wide, "write_bytes": wide,
    });
    let tenant = operator.call("tenant.tune", json!({ "name": "acme", "limits": limits }));
    assert_eq!(tenant.get("limits").get("ops").get("per_second").number(), 200);
    for rate in ["bytes", "read_ops", "read_bytes", "write_ops", "write_bytes"] {
        assert_eq!(tenant.get("limits").get(rate).get("per_second").number(), 1 << 40, "{rate}");
    }
    work(20);
    let tenants = operator.call("tenant.list", json!({}));
    assert_eq!(tenants.find("name", "acme").get("channels").raw(), &json!(["busy"]));
    let tenant = operator.call("tenant.show", json!({ "name": "acme" }));
    assert_eq!((tenant.get("size_bytes").number(), tenant.get("reserved_ops").number()), (16 << 20, 100));
    tenant.all(["generation"]);
    let counted = tenant.get("counters");
    assert!(counted.sum(["read_ops", "read_bytes"]) > 0);
    assert_eq!(counted.sum(["write_ops", "write_bytes", "error_ops"]), 0);
    counted.all(["limited_ns", "tenant_limited_ns"]);
    let counters = operator.call("channel.show", show.clone()).get("counters");
    counters.all(["tenant_limited", "tenant_limited_ns", "contended_ns"]);
    operator.call("tenant.tune", json!({ "name": "acme", "limits": {} }));

    // A policy is brought in while all runs, replaced, and sent away; what it says holds from then on.
    let quota = scenario.directory().join("quota.toml");
    std::fs::write(&quota, "[tenants.acme]\nchannels = 1\n").expect("a file of our own");
    let library = workspace_library("vfiomux_plugin_tenant_quota");
    let loaded =
        operator.call("plugin.load", json!({ "name": "quota", "library": library, "config": quota }));
    assert!(loaded.get("name").is("quota") && loaded.get("status").is("running"), "{:#}", loaded.raw());
    loaded
        .all(["library", "config", "order", "origin", "pid", "plugin", "version", "abi", "hooks", "sandbox"]);
    assert_eq!(loaded.sum(["restarts", "log_dropped"]), 0);
    assert_eq!(loaded.get("deadline_ms").number(), 500, "for a verdict, as nobody said otherwise");
    assert!(loaded.get("last_fault").is_null() && loaded.get("restart_in_ms").is_null());
    // What it is asked from here on is noted, for its author.
    let from = operator.call("plugin.record", json!({ "name": "quota" })).get("last_line").number();
    operator.refused("channel.create", scenario.channel("second", "sim0", 16), "acme");
    let noted = operator.call("plugin.record", json!({ "name": "quota", "since": from }));
    assert_eq!(noted.get("missed").number(), 0);
    let lines: Vec<String> = noted.get("lines").items().iter().map(|line| line.text()).collect();
    let create = lines.iter().position(|line| line.starts_with("{\"create\""));
    assert!(create.is_some_and(|at| lines[at + 1].starts_with("# deny: ")), "{lines:?}");
    assert_eq!(operator.call("plugin.list", json!({})).items().len(), 1);
    let verdicts = operator.call("plugin.show", json!({ "name": "quota" })).get("verdicts");
    assert_eq!(verdicts.get("denied").number(), 1);
    verdicts.all(["allowed", "amended", "unanswered", "retunes"]);
    std::fs::write(&quota, "[tenants.acme]\nchannels = 2\n").expect("a file of our own");
    let replaced = operator.call("plugin.replace", json!({ "name": "quota" }));
    assert!(replaced.get("plugin").get("name").is("quota"));
    assert_eq!((replaced.get("channels").number(), replaced.get("differences").items().len()), (1, 0));
    replaced.all(["state"]);
    operator.call("channel.create", scenario.channel("second", "sim0", 16));
    // A policy that would not have allowed what is there is told of before it is brought in.
    std::fs::write(&quota, "[tenants.nobody]\n").expect("a file of our own");
    let tried = operator.call("plugin.replace", json!({ "name": "quota", "dry_run": true }));
    let difference = &tried.get("differences").items()[0];
    assert_ne!(difference.get("before").text(), difference.get("after").text());
    difference.all(["channel"]);
    operator.call("plugin.unload", json!({ "name": "quota" }));

    // Nothing is promised any more, and nothing held back.
    let freed = operator.call("channel.tune", json!({ "name": "busy", "guarantees": {} }));
    assert!(freed.get("guarantees").is_null());
    work(50);
    drop(vm);
    scenario.held();
}
