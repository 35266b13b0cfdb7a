use serde_json::{Value, json};
use vfiomux_tests::frontend::{Driver, Request, STATUS_OK};
use vfiomux_tests::scenario::{Answer, Scenario};

/// S2: the channel exists before the first I/O, or was refused with a reason. A tenant sees what is its own while it starts it.
#[test]
fn s2_a_vm_starts_with_virtual_io() {
    let config = "[roles.tenants.acme]\nendpoints = \"@DIR@\"\n";
    let scenario = Scenario::begin_with("S2", &["sim:nvme,size=256M"], config);
    let mut operator = scenario.operator();
    let mut watcher = scenario.operator();
    let from = watcher.subscribe(0);
    assert!(from.get("gap").is_null() && from.get("last_seq").number() > 0);

    // Refused with a reason: by the pool, by the policy, by the caller's own word.
    operator.refused("channel.create", scenario.channel("boot", "sim0", 4096), "ask for less");
    let denial =
        operator.refused("channel.create", scenario.channel("Boot Disk", "sim0", 16), "small letters");
    assert!(denial.get("what").is("channel Boot Disk"));
    let denied = watcher.wait_for("denied");
    assert!(denied.get("reason").text().contains("small letters") && !denied.get("uid").is_null());

    // Tried first, then asked for as a tenant, with a name for the request: asked twice it is made once.
    let mut tenant = scenario.operator();
    let confined = tenant.call("caller.confine", json!({ "tenant": "acme" }));
    assert!(confined.get("role").is("none"));
    let with = |extra: Value| {
        let mut params = scenario.channel("acme.boot", "sim0", 16);
        let all = params.as_object_mut().expect("an object");
        all.extend(extra.as_object().expect("an object").clone());
        params
    };
    let tried = tenant.call("channel.create", with(json!({ "dry_run": true })));
    assert_eq!(tried.get("size_bytes").number(), 16 << 20);
    let once = json!({ "request_id": "start-1", "labels": { "tier": "gold" } });
    let made = tenant.call("channel.create", with(once.clone()));
    assert_eq!(tenant.call("channel.create", with(once)).get("id").text(), made.get("id").text());
    assert!(made.get("kind").is("block") && made.get("tenant").is("acme") && made.get("device").is("sim0"));
    assert_eq!(made.get("labels").raw(), &json!({ "tier": "gold" }));
    assert_eq!((made.get("queues").number(), made.get("namespace").number()), (2, 1));
    assert_eq!((made.get("block_bytes").number(), made.get("read_only").flag()), (512, false));
    assert_eq!((made.get("generation").number(), made.get("epoch").number()), (1, 1));
    assert!(
        made.get("admin").is("enabled") && made.get("oper").is("listening") && made.get("health").is("ok")
    );
    let endpoint = made.get("endpoint");
    assert!(endpoint.get("mode").is("server"));
    assert_eq!(endpoint.get("path").text(), scenario.socket("acme.boot").to_string_lossy());
    let blocks: u64 = made.get("extents").items().iter().map(|extent| extent.get("blocks").number()).sum();
    assert_eq!(blocks * 512, 16 << 20);
    assert!(made.get("extents").items()[0].get("first_block").number() > 0);
    assert!(made.get("session").is_null());

    // The VM comes, and finds its disk.
    let mut vm = Driver::connect(&scenario.socket("acme.boot"), 1).expect("the endpoint listens");
    vm.start_ring(0).expect("the ring starts");
    assert_eq!(vm.request(0, Request::Write, 8, &mut [7; 4096], false), Some(STATUS_OK));
    let active = watcher.wait_until("acme.boot", "active");
    assert!(active.get("kind").is("oper") && active.get("from").is("listening"));
    assert!(active.get("object").get("kind").is("channel") && active.get("tenant").is("acme"));
    assert!(active.get("seq").number() > denied.get("seq").number());
    active.all(["time_unix_ns"]);
    let shown = tenant.call("channel.show", json!({ "name": "acme.boot" }));
    assert_session(&shown.get("session"));
    assert_eq!(shown.get("counters").get("write_bytes").number(), 4096);

    // Who asked for it is on record.
    let audit = tenant.call("audit.list", json!({}));
    assert_eq!(audit.get("oldest_serial").number(), 1);
    let entries = audit.get("entries").items();
    let first = entries.iter().find(|entry| entry.get("request_id").is("start-1")).expect("it is on record");
    assert!(first.get("method").is("channel.create") && first.get("object").is("channel acme.boot"));
    assert!(first.get("tenant").is("acme") && first.get("role").is("operate"));
    assert_eq!(first.get("confined_to").raw(), &json!(["acme"]));
    assert!(first.get("dry_run").is_null() && first.get("generation_before").is_null());
    first.all(["serial", "asked_unix_ns", "uid", "gid", "pid"]);
    let answer = first.get("answer");
    assert!(answer.get("error").is_null());
    assert_eq!(answer.get("generation_after").number(), 1);
    answer.all(["answered_unix_ns"]);
    let ruling = &first.get("rulings").items()[0];
    assert!(ruling.get("policy").is("default") && ruling.get("verdict").is("allow"));
    assert!(ruling.get("reason").is_null());
    ruling.all(["took_ns"]);
    drop(vm);
    scenario.held();
}

/// The front-end's connection as the channel tells of it.
fn assert_session(session: &Answer) {
    assert_eq!(session.get("peer_pid").number(), u64::from(std::process::id()));
    let features = session.get("features").items();
    assert!(features.iter().any(|feature| feature.is("version-1")));
    let protocol = session.get("protocol_features").items();
    assert!(protocol.iter().any(|feature| feature.is("inflight-shmfd")));
    let region = &session.get("regions").items()[0];
    assert!(region.get("mapped").flag());
    assert!(region.sum(["guest_address", "size_bytes"]) > 0);
    let ring = &session.get("virtqueues").items()[0];
    assert!(ring.get("enabled").flag());
    assert_eq!((ring.get("index").number(), ring.get("entries").number()), (0, 64));
}
