//! Which scenario uses which function and which item of information.
//!
//! The scenarios' tests note what they call and what they read, in `target/scenarios`. This makes `docs/coverage.md` of the notes, and
//! holds it against the protocol's document: a function or an item that no scenario uses is not needed, or not tested, and either
//! way fails. So the management model's own question, whether its functions and items suffice and none is idle, is answered by running it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The scenarios that are played, with what must be true after each.
const SCENARIOS: &[(&str, &str)] = &[
    ("S1", "the host takes stock"),
    ("S2", "a VM starts with virtual I/O"),
    ("S3", "a running VM gains or loses a channel"),
    ("S4", "a VM stops or is deleted"),
    ("S5", "a VM is paused, suspended, resumed"),
    ("S8", "load shifts, an operator or a policy retunes"),
    ("S9", "a device fails or is serviced"),
    ("S10", "the daemon restarts, crashes or is upgraded"),
    ("S11", "the same request on other hardware"),
    ("S12", "a channel is one hop of a path"),
];

const PAGE: &str = "docs/coverage.md";

/// Who uses what, by its name.
type Users = BTreeMap<String, BTreeSet<usize>>;

/// What is wrong; with `write`, the page is put right first.
pub(crate) fn check(write: bool) -> Result<Vec<String>, String> {
    let document =
        std::fs::read_to_string("docs/rpc.json").map_err(|error| format!("docs/rpc.json: {error}"))?;
    let document: Value =
        serde_json::from_str(&document).map_err(|error| format!("docs/rpc.json: {error}"))?;
    let mut functions = functions(&document);
    let mut items = items(&document);
    let notes = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let notes = notes.join("scenarios");
    let mut wrong = Vec::new();
    for (index, (id, _)) in SCENARIOS.iter().enumerate() {
        let kept = notes_of(id, &notes)?;
        if kept.is_empty() {
            wrong.push(format!(
                "{id} has left no notes; run cargo nextest run -p vfiomux-tests --test scenarios first"
            ));
        }
        for used in kept {
            for (kind, users) in [("functions", &mut functions), ("items", &mut items)] {
                for name in used[kind].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    // What the protocol had when the notes were taken and has no more is no use of anything.
                    if let Some(users) = users.get_mut(name) {
                        users.insert(index);
                    }
                }
            }
        }
    }
    let idle = |users: &Users| {
        users.iter().filter(|(_, users)| users.is_empty()).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    wrong.extend(idle(&functions).iter().map(|name| format!("function {name} is used by no scenario")));
    wrong.extend(idle(&items).iter().map(|name| format!("item {name} is read by no scenario")));
    let page = page(&functions, &items);
    if write {
        std::fs::write(PAGE, page).map_err(|error| format!("{PAGE}: {error}"))?;
    } else if std::fs::read_to_string(PAGE).unwrap_or_default() != page {
        wrong.push(format!("{PAGE} is not what the scenarios use; run cargo xtask coverage --write"));
    }
    Ok(wrong)
}

/// What the tests of a scenario have noted, one file each: `ID.TEST.json`.
fn notes_of(id: &str, directory: &Path) -> Result<Vec<Value>, String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(Vec::new()) };
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        matches!(name.split('.').collect::<Vec<_>>()[..], [scenario, _, "json"] if scenario == id)
    };
    let read = |path: PathBuf| {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
        serde_json::from_str(&text).map_err(|error| failed(&error))
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(ours).map(read).collect()
}

/// Every function of the protocol but the one that tells of the protocol.
fn functions(document: &Value) -> Users {
    let names =
        document["methods"].as_array().into_iter().flatten().filter_map(|method| method["name"].as_str());
    names.filter(|name| *name != "rpc.discover").map(|name| (name.to_owned(), BTreeSet::new())).collect()
}

/// Every field of every type that an answer, an event or an error can hold.
fn items(document: &Value) -> Users {
    let types = &document["components"]["schemas"];
    let mut found = BTreeSet::new();
    for method in document["methods"].as_array().into_iter().flatten() {
        reach(types, &method["result"]["schema"], &mut found);
    }
    for name in ["Event", "ErrorData"] {
        reach(types, &serde_json::json!({ "$ref": name }), &mut found);
    }
    let fields = found.iter().flat_map(|name| {
        let fields = types[name]["properties"].as_object().into_iter().flatten();
        fields.map(move |(field, _)| (format!("{name}.{field}"), BTreeSet::new()))
    });
    fields.collect()
}

/// The types that a schema names, and those that they name.
fn reach(types: &Value, schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            let named = members.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
            if let Some(name) = named.filter(|name| found.insert((*name).to_owned())) {
                reach(types, &types[name], found);
            }
            members.values().for_each(|member| reach(types, member, found));
        }
        Value::Array(entries) => entries.iter().for_each(|entry| reach(types, entry, found)),
        _ => {}
    }
}

fn page(functions: &Users, items: &Users) -> String {
    let mut page = String::from(
        "# What each scenario uses\n\nMade by `cargo xtask coverage --write` from what the scenarios' tests (`tests/tests/scenarios`) called and read when they were\nrun; do not edit. A function or an item that no scenario uses fails the build.\n\n| scenario | functions | items |\n|---|---|---|\n",
    );
    for (index, (id, what)) in SCENARIOS.iter().enumerate() {
        let count = |users: &Users| users.values().filter(|users| users.contains(&index)).count();
        let _ = writeln!(page, "| {id}: {what} | {} | {} |", count(functions), count(items));
    }
    let _ = writeln!(page, "| in all | {} | {} |", functions.len(), items.len());
    for (title, users) in [("Functions", functions), ("Items", items)] {
        let _ = writeln!(page, "\n## {title}\n");
        let heads: Vec<&str> = SCENARIOS.iter().map(|(id, _)| *id).collect();
        let _ = writeln!(page, "| | {} |\n|---|{}", heads.join(" | "), ":-:|".repeat(heads.len()));
        for (name, users) in users {
            let marks: Vec<&str> =
                (0..heads.len()).map(|index| if users.contains(&index) { "●" } else { "" }).collect();
            let _ = writeln!(page, "| `{name}` | {} |", marks.join(" | "));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_the_fields_of_all_that_can_be_reached() {
        let document = json!({
            "methods": [{ "name": "a", "result": { "schema": { "type": "array", "items": { "$ref": "#/x/A" } } } }],
            "components": { "schemas": {
                "A": { "properties": { "b": { "anyOf": [{ "$ref": "#/x/B" }, { "type": "null" }] } } },
                "B": { "properties": { "again": { "$ref": "#/x/A" } } },
                "Unused": { "properties": { "never": {} } },
            } },
        });
        assert_eq!(items(&document).keys().collect::<Vec<_>>(), ["A.b", "B.again"]);
    }
}
