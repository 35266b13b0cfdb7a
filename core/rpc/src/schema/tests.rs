use std::collections::BTreeSet;

use super::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rpc.json");

/// Rewrites the file when `VFIOMUX_BLESS` is set.
#[test]
fn the_kept_document_is_the_one_that_the_types_make() {
    if std::env::var_os("VFIOMUX_BLESS").is_some() {
        std::fs::write(FILE, text()).unwrap();
    }
    let kept: Value =
        serde_json::from_str(&std::fs::read_to_string(FILE).unwrap_or_default()).unwrap_or_default();
    assert!(
        kept == document(),
        "docs/rpc.json is stale; run VFIOMUX_BLESS=1 cargo test -p vfiomux-rpc the_kept_document and review the difference"
    );
}

#[test]
fn every_method_is_in_the_document() {
    let document = document();
    let names: Vec<&str> = document["methods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|method| method["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), Method::TABLE.len() + 1);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a name is used twice");
    assert!(names.contains(&"rpc.discover") && names.contains(&"channel.create"));
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(document: &Value, value: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                    let pointer = target.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
                }
                members.values().for_each(|member| check(document, member));
            }
            Value::Array(items) => items.iter().for_each(|item| check(document, item)),
            _ => {}
        }
    }
    let document = document();
    check(&document, &document);
}

#[test]
fn what_changes_something_takes_what_every_change_may_say() {
    let document = document();
    for method in document["methods"].as_array().unwrap() {
        let params: Vec<_> =
            method["params"].as_array().unwrap().iter().filter_map(|param| param["name"].as_str()).collect();
        let takes = Change::FIELDS.iter().all(|field| params.contains(field));
        assert_eq!(takes, method["x-changes"] == true, "{}", method["name"]);
    }
}

#[test]
fn the_names_of_what_every_change_may_say_are_complete() {
    let all = Change {
        request_id: Some("a".to_owned()),
        expected_generation: Some(1),
        dry_run: true,
        background: true,
    };
    let value = serde_json::to_value(all).unwrap();
    let names: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(Change::FIELDS));
}

/// The functions of the model that change something, by their RPC. Those of tenants and plugins are held here as they come.
const CHANGES: [&str; 18] = [
    "device.claim",
    "device.release",
    "device.format",
    "channel.create",
    "channel.destroy",
    "channel.attach",
    "channel.detach",
    "channel.suspend",
    "channel.resume",
    "channel.resize",
    "channel.set",
    "channel.tune",
    "channel.move",
    "channel.migrate",
    "channel.snapshot",
    "channel.clone",
    "job.cancel",
    "sidecore.set",
];

/// Every function that changes something is there, and takes a request id, an expected generation and a dry run; nothing that
/// only asks does.
#[test]
fn every_function_that_changes_something_takes_request_id_generation_and_dry_run() {
    for name in CHANGES {
        assert_eq!(Method::changes(name), Some(true), "{name}");
    }
    for row in Method::TABLE {
        let asks = [".list", ".show", ".path", ".explain", ".subscribe", ".confine", ".record", "status"];
        let only_asks = asks.iter().any(|end| row.name.ends_with(end));
        assert_eq!(row.is_change, !only_asks, "{}", row.name);
        assert!(row.is_change || !row.is_long, "{} lasts, and changes nothing", row.name);
    }
}
