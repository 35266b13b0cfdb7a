use serde_json::json;
use vfiomux_tests::scenario::Scenario;

/// S1: every function listed with capabilities, owner, IOMMU group; the unknown is an error, not an omission.
#[test]
fn s1_the_host_takes_stock() {
    let devices = ["sim:nvme,size=256M,serial=stock-1,namespaces=2", "0000:fe:1f.7"];
    let scenario = Scenario::begin("S1", &devices);
    let mut operator = scenario.operator();

    let listed = operator.call("device.list", json!({}));
    let device = listed.find("name", "sim0");
    assert!(device.get("state").is("ready") && device.get("class").is("nvme"));
    assert!(device.get("serial").is("stock-1"));
    device.all(["model", "firmware", "generation"]);
    // What only a function of a bus has, a simulated one does not claim to have.
    for field in ["address", "pci_id", "driver", "iommu_group", "numa_node", "reason"] {
        assert!(device.get(field).is_null(), "{field}");
    }
    assert!(device.get("group_members").items().is_empty() && device.get("holders").items().is_empty());
    assert!(device.get("channels").items().is_empty());

    let nvme = device.get("nvme");
    assert!(nvme.get("version").text().starts_with('1') || nvme.get("version").text().starts_with('2'));
    assert!(nvme.sum(["transfer_bytes_max", "queue_entries_max"]) > 4096);
    assert!(nvme.get("addressing").is("sgl"));
    for ability in ["deallocate", "write_zeroes", "volatile_cache"] {
        nvme.get(ability).flag();
    }
    let pools = device.get("pools");
    let (bytes, pairs) = (pools.get("bytes"), pools.get("queue_pairs"));
    assert_eq!(bytes.get("used").number(), 0);
    // The daemon has a queue pair itself, for labels and scrubbing.
    assert!(pairs.get("used").number() < pairs.get("capacity").number());
    let namespaces = device.get("namespaces").items();
    assert_eq!(namespaces.len(), 2);
    let mut free = 0;
    for (index, namespace) in (1..).zip(&namespaces) {
        assert_eq!(namespace.get("id").number(), index);
        assert!(namespace.get("formatted").flag() && namespace.get("reason").is_null());
        let size = namespace.get("blocks").number() * namespace.get("block_bytes").number();
        assert!(namespace.get("capacity_bytes").number() < size, "the label needs room");
        assert_eq!(namespace.get("free_run_bytes").number(), namespace.get("free_bytes").number());
        free += namespace.get("free_bytes").number();
    }
    assert_eq!(bytes.get("capacity").number(), free);

    // The unknown is told, with the reason and what to do.
    let absent = operator.call("device.show", json!({ "device": "0000:fe:1f.7" }));
    assert!(absent.get("state").is("failed") && absent.get("reason").text().contains("0000:fe:1f.7"));
    let refusal = operator.refused("device.show", json!({ "device": "sim9" }), "does not exist");
    assert!(refusal.get("what").is("device sim9") && refusal.get("next").text().contains("device list"));
    operator.refused("device.claim", json!({ "device": "0000:fe:1f.6" }), "0000:fe:1f.6");

    // What it can promise is measured, and what is promised of it is told.
    let measured = operator.call("device.calibrate", json!({ "device": "sim0", "duration_ms": 300 }));
    let calibration = measured.get("calibration");
    assert!(calibration.sum(["read_ops", "write_ops", "read_bytes", "write_bytes"]) > 0);
    assert!(calibration.sum(["time_unix_ns", "read_latency_ns", "window_commands", "capacity_units"]) > 0);
    assert!(calibration.get("cost").sum(["read_op", "read_kib", "write_op", "write_kib"]) > 0);
    let mut promised = scenario.channel("promised", "sim0", 16);
    promised["guarantees"] = json!({ "reservation_ops": 1 });
    operator.call("channel.create", promised);
    let reservations = operator.call("device.show", json!({ "device": "sim0" })).get("reservations");
    assert_eq!(reservations.get("reserved_ops").number(), 1);
    assert!(reservations.sum(["capacity_ops", "overcommit_permille"]) >= 1000);
    assert!(reservations.get("reason").is_null());
    let holder = &reservations.get("holders").items()[0];
    assert!(holder.get("channel").is("promised") && holder.get("tenant").is("acme"));
    assert!(holder.get("ops").number() == 1 && holder.get("pending").is_null());
    operator.call("channel.destroy", json!({ "name": "promised" }));

    // A device that holds a label is not formatted unasked, and one that nobody uses is given back.
    operator.refused("device.format", json!({ "device": "sim0" }), "--erase");
    let formatted = operator.call("device.format", json!({ "device": "sim0", "erase": true }));
    assert!(formatted.get("state").is("ready"));
    operator.call("device.release", json!({ "device": "sim0" }));
    operator.refused("device.show", json!({ "device": "sim0" }), "does not exist");

    // Who asks, and what serves.
    let caller = operator.call("caller.show", json!({}));
    assert!(caller.get("role").is("admin"));
    caller.all(["uid", "gid", "tenants"]);
    let status = operator.call("status", json!({}));
    status.all(["version", "pid", "uptime_ms"]);
    assert_eq!((status.get("channels").number(), status.get("sessions").number()), (0, 0));
    assert_eq!(status.get("devices").number(), 1);
    assert_eq!(status.get("sidecores").items().len(), 1);
    let events = status.get("events");
    assert!(events.get("next_seq").number() > events.get("oldest_seq").number());
    assert_eq!(events.get("dropped").number(), 0);
    scenario.held();
}
