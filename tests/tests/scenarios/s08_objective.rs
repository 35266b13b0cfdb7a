use std::fs;
use std::path::Path;

use serde_json::json;
use vfiomux_tests::check::{Load, Options};
use vfiomux_tests::lab::workspace_library;
use vfiomux_tests::scenario::Scenario;

/// One request at a time, each of 2 ms: an objective of 1 ms is missed by whatever share.
const DEVICE: &str = "sim:nvme,size=256M,service-ns=2000000,parallel=1";

const TIERS: &str = "default = [\"gold\", \"bronze\"]\n[tiers.bronze]\n\
    [tiers.gold]\nobjective = { permille = 990, latency_ns = 1000000 }\n";
const GUARD: &str = "raise_after = 1\nrequests_min = 1\nshare_max = 200\n";

/// S8: load shifts and a policy retunes, by itself: a channel that misses its objective beside busy neighbours has its share raised
/// step by step as far as the policy may, nobody else is touched, and who did it and why can be read everywhere.
#[test]
fn s8_a_policy_keeps_an_objective_as_far_as_it_can() {
    let scenario = Scenario::begin("S8", &[DEVICE]);
    let mut operator = scenario.operator();
    let mut watcher = scenario.operator();
    watcher.subscribe(0);
    for (name, library, text) in
        [("tiers", "vfiomux_plugin_tiers", TIERS), ("guard", "vfiomux_plugin_slo_guard", GUARD)]
    {
        let config = scenario.directory().join(name);
        fs::write(&config, text).expect("a file of our own");
        let library = workspace_library(library);
        let loaded =
            operator.call("plugin.load", json!({ "name": name, "library": library, "config": config }));
        let program = fs::read_link(format!("/proc/{}/exe", loaded.get("pid").number()));
        assert!(program.expect("it has a process").ends_with(Path::new("vfiomux-plugin-host")));
    }

    // Nobody names the objective: the label's tier does.
    for (name, tier) in [("db", "gold"), ("loud", "bronze"), ("louder", "bronze")] {
        let mut wanted = scenario.channel(name, "sim0", 16);
        wanted["labels"] = json!({ "tier": tier });
        let made = operator.call("channel.create", wanted);
        assert!(made.get("guarantees").is_null() == (tier == "bronze"), "{:#}", made.raw());
        assert_eq!(made.get("generation").number(), 1);
    }
    let amended = watcher.wait_for("amended");
    assert!(amended.get("object").get("name").is("db") && amended.get("reason").text().contains("objective"));

    let load = |name: &str, depth| {
        let small = Options {
            operations: 100,
            max_bytes: 4096,
            span_bytes: 64 << 10,
            ..Options::new(scenario.socket(name))
        };
        Load::begin(Options {
            depth,
            remember: Some(scenario.directory().join(format!("{name}.held"))),
            ..small
        })
    };
    let mut loads = [load("db", 2), load("loud", 16), load("louder", 16)];

    // Half as much again each time, and no more than it may.
    for (share, generation) in [(150, 2), (200, 3)] {
        let told = watcher.wait_for("amended");
        assert!(told.get("object").get("name").is("db") && told.get("tenant").is("acme"));
        assert_eq!(told.get("reason").text(), format!("guard, unasked: share={share}"));
        assert_eq!(told.get("generation").number(), generation);
        assert!(told.get("uid").is_null(), "nobody asked for it");
    }
    for load in &mut loads {
        load.wait_for_sessions(1, std::time::Duration::from_secs(60));
    }
    let tuned = operator.call("channel.show", json!({ "name": "db" }));
    let told = tuned.get("guarantees");
    assert_eq!((told.get("share").number(), tuned.get("generation").number()), (200, 3));
    assert_eq!(told.get("objective").sum(["permille", "latency_ns"]), 1_000_990);
    assert!(tuned.get("latency").get("device").get("p99_ns").number() > 1_000_000, "it is still missed");
    for name in ["loud", "louder"] {
        let neighbour = operator.call("channel.show", json!({ "name": name }));
        assert!(neighbour.get("guarantees").is_null() && neighbour.get("generation").number() == 1);
    }

    // Each is on record like anybody's change, with what the other policies said to it.
    let audit = operator.call("audit.list", json!({})).get("entries").items();
    let wishes: Vec<_> = audit.iter().filter(|entry| !entry.get("plugin").is_null()).collect();
    assert_eq!(wishes.len(), 2);
    for (wish, (share, before)) in wishes.iter().zip([(150, 1), (200, 2)]) {
        assert_eq!(wish.get("plugin").text(), "guard");
        assert_eq!(wish.get("params").raw()["guarantees"]["share"], share);
        assert!(wish.get("method").is("channel.tune") && wish.get("object").is("channel db"));
        assert_eq!(wish.get("generation_before").number(), before);
        assert_eq!(wish.get("answer").get("generation_after").number(), before + 1);
        let rulings = wish.get("rulings").items();
        let answers: Vec<_> = rulings
            .iter()
            .map(|ruling| (ruling.get("policy").text(), ruling.get("verdict").text()))
            .collect();
        for policy in ["default", "tiers", "guard"] {
            assert!(answers.iter().any(|(by, verdict)| by == policy && verdict == "allow"), "{answers:?}");
        }
    }
    let guard = operator.call("plugin.show", json!({ "name": "guard" }));
    assert!(guard.get("verdicts").get("retunes").number() >= 2 && guard.get("status").is("running"));
    let pace = operator.call("channel.explain", json!({ "name": "db" })).get("pace");
    assert!(pace.get("observed").get("ops").number() > 0, "{:#}", pace.raw());

    // What it gave stays when it goes.
    operator.call("plugin.unload", json!({ "name": "guard" }));
    let kept = operator.call("channel.show", json!({ "name": "db" }));
    assert_eq!(kept.get("guarantees").get("share").number(), 200);
    for done in loads.map(Load::end) {
        assert!(done.reads > 0 && done.writes > 0, "{done:?}");
    }
    scenario.held();
}
