//! Which test checks which property.
//!
//! A test says in its doc comment, or in a comment right above its assertion, which properties it holds; this gathers
//! them into `docs/properties.md`. A property that no test names, or a page that is not what the tests say, fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A property: its id, what it says, and whether it has a seeded bug that a test must be shown to catch.
struct Property {
    id: &'static str,
    says: &'static str,
    seeded: bool,
}

const fn property(id: &'static str, says: &'static str, seeded: bool) -> Property {
    Property { id, says, seeded }
}

/// What must hold. A property joins this list with the first check of it.
const PROPERTIES: &[Property] = &[
    property(
        "C1",
        "every in-flight command names only pages granted to its channel, with the right that the transfer needs",
        true,
    ),
    property("C2", "a channel's I/O stays in its extents; the arithmetic cannot wrap", true),
    property(
        "C3",
        "an extent given to another channel was scrubbed after the last write of the first, also on forced destroy",
        true,
    ),
    property("C4", "bounce buffers carry no bytes of another channel", true),
    property("C5", "what a tenant is shown names only its own objects", true),
    property(
        "I1",
        "a completion reaches the channel and epoch that submitted it; any other is dropped and counted",
        true,
    ),
    property("I2", "each descriptor is returned exactly once, also across reconnect", true),
    property("I3", "a field that the guest can change is read once", true),
    property("ISO1", "extents of two channels never overlap, under any race of creates", true),
    property("ISO2", "whatever one guest or front-end does, the others' state and data hold", false),
    property("D1", "what is mapped is what channels that may hold memory were granted, and our own", true),
    property("D2", "an IOVA is not reused while a command names it", true),
    property("D3", "memory goes back to the front-end only after unmap has completed", true),
    property("D4", "a function without IOMMU protection is refused unless a flag says otherwise", false),
    property(
        "T1",
        "after DESTROYED nothing refers to the channel's memory, queue pair, extents, endpoint",
        true,
    ),
    property(
        "T3",
        "a crash at any step of create or destroy, then recovery, leaves exactly the live channels' resources",
        false,
    ),
    property("L1", "only the arcs of the table of transitions happen", true),
    property("V1", "every transient state is left by its deadline", false),
    property("V3", "no lost wake-up between arming a ring and sleeping", true),
    property("V4", "a backlogged channel is served within the sum of the others' budgets", true),
    property("Q1", "bytes and operations admitted in any window ≤ limit × window + burst", true),
    property("Q2", "a backlogged channel gets at least its reservation", true),
    property(
        "Q3",
        "a retune has no instant at which the old guarantee is gone and the new not yet there",
        false,
    ),
    property("W1", "replaying the journal gives the present state", false),
];

/// Where the page is kept.
const PAGE: &str = "docs/properties.md";

/// A test, and whether it shows a seeded bug being caught.
struct Check {
    place: String,
    seeded: bool,
}

/// What is wrong; with `write`, the page is put right instead.
pub(crate) fn check(write: bool) -> Result<Vec<String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    let files = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    let mut checks: BTreeMap<&str, Vec<Check>> = BTreeMap::new();
    for path in files.lines().filter(|path| Path::new(path).exists() && !path.starts_with("tools/xtask")) {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        gather(path, &text, &mut checks);
    }
    let mut wrong = Vec::new();
    for Property { id, seeded, .. } in PROPERTIES {
        let found = checks.get(id).map(Vec::as_slice).unwrap_or_default();
        if found.is_empty() {
            wrong.push(format!("{id} is checked by no test"));
        } else if *seeded && !found.iter().any(|check| check.seeded) {
            wrong.push(format!("{id}: no test shows its seeded bug being caught"));
        }
    }
    let page = page(&checks);
    if write {
        std::fs::write(PAGE, page).map_err(|error| format!("{PAGE}: {error}"))?;
    } else if std::fs::read_to_string(PAGE).unwrap_or_default() != page {
        wrong.push(format!("{PAGE} is not what the tests say; run cargo xtask properties --write"));
    }
    Ok(wrong)
}

/// Finds the tests of a file, and the properties that the comments before or in each name.
fn gather(path: &str, text: &str, checks: &mut BTreeMap<&'static str, Vec<Check>>) {
    let mut comments: Vec<&str> = Vec::new();
    let mut is_test = false;
    let mut current: Option<String> = None;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" || line.starts_with("#[test]") {
            is_test = true;
        } else if let Some(comment) = line.strip_prefix("//") {
            match &current {
                Some(name) if !line.starts_with("///") => note(path, name, &[comment], checks),
                _ => comments.push(comment),
            }
        } else if line.starts_with("#[") || line.starts_with("#![") {
        } else if let Some(name) = function_name(line) {
            if is_test {
                note(path, name, &comments, checks);
                current = Some(name.to_owned());
            } else if !name.is_empty() {
                current = None;
            }
            is_test = false;
            comments.clear();
        } else {
            comments.clear();
        }
    }
}

fn function_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("fn ").or_else(|| line.strip_prefix("pub fn "))?;
    rest.split(['(', '<']).next()
}

fn note(path: &str, name: &str, comments: &[&str], checks: &mut BTreeMap<&'static str, Vec<Check>>) {
    let said = comments.join(" ");
    let words: Vec<&str> = said.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let seeded = said.contains("eeded")
        || name.contains("seeded")
        || name.contains("catches")
        || name.contains("caught");
    for Property { id, .. } in PROPERTIES {
        if words.contains(id) {
            let of_it = checks.entry(id).or_default();
            let place = format!("`{}` {}", path, name.replace('_', " "));
            if !of_it.iter().any(|check| check.place == place) {
                of_it.push(Check { place, seeded });
            }
        }
    }
}

fn page(checks: &BTreeMap<&str, Vec<Check>>) -> String {
    let mut page = "# Properties and their checks\n\n\
        Generated from the tests by `cargo xtask properties --write`; CI fails when it is stale. A check marked with ● shows\n\
        that a bug, put in on purpose, is caught.\n"
        .to_owned();
    for Property { id, says, .. } in PROPERTIES {
        page.push_str(&format!("\n## {id}: {says}\n\n"));
        for check in checks.get(id).map(Vec::as_slice).unwrap_or_default() {
            page.push_str(&format!("- {}{}\n", if check.seeded { "● " } else { "" }, check.place));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_found_above_and_inside_tests_only() {
        let text = "/// C1, seeded bug: off by one.\n#[test]\nfn a_page_too_far() {\n    // D2: later.\n}\n/// I1\nfn no_test() {}\n";
        let mut checks = BTreeMap::new();
        gather("x.rs", text, &mut checks);
        assert_eq!(checks.keys().copied().collect::<Vec<_>>(), ["C1", "D2"]);
        assert!(checks["C1"][0].seeded && !checks["D2"][0].seeded);
    }
}
