//! Which crate may depend on which.
//!
//! The table is the design: a crate that is not in it, or an arrow that is not in it, fails. Dependencies that only
//! tests have are not held against it.

use std::process::Command;

use serde_json::Value;

/// A crate of the workspace and the crates of the workspace that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("vfiomux-spec", &[]),
    ("vfiomux-rpc", &[]),
    ("vfiomux-plugin-abi", &[]),
    ("vfiomux-plugin", &["vfiomux-plugin-abi"]),
    ("vfiomux-plugin-business-hours", &["vfiomux-plugin"]),
    ("vfiomux-plugin-faulty", &["vfiomux-plugin"]),
    ("vfiomux-plugin-slo-guard", &["vfiomux-plugin"]),
    ("vfiomux-plugin-tiers", &["vfiomux-plugin"]),
    ("vfiomux-plugin-tenant-quota", &["vfiomux-plugin"]),
    ("vfiomux-policy", &["vfiomux-plugin-abi"]),
    ("vfiomux-plugin-host", &["vfiomux-plugin-abi", "vfiomux-policy"]),
    ("vfiomux-qos", &[]),
    ("vfiomux-hw", &["vfiomux-spec"]),
    ("vfiomux-block", &["vfiomux-hw"]),
    ("vfiomux-guest", &["vfiomux-spec", "vfiomux-hw"]),
    ("vfiomux-vhost", &["vfiomux-spec"]),
    ("vfiomux-nvme", &["vfiomux-spec", "vfiomux-hw", "vfiomux-block"]),
    ("vfiomux-sim", &["vfiomux-spec", "vfiomux-hw"]),
    ("vfiomux-channel", &["vfiomux-spec", "vfiomux-hw", "vfiomux-block", "vfiomux-guest", "vfiomux-qos"]),
    ("vfiomux-sidecore", &["vfiomux-hw", "vfiomux-block", "vfiomux-guest", "vfiomux-qos", "vfiomux-channel"]),
    (
        "vfiomux-manager",
        &[
            "vfiomux-spec",
            "vfiomux-rpc",
            "vfiomux-policy",
            "vfiomux-qos",
            "vfiomux-hw",
            "vfiomux-block",
            "vfiomux-guest",
            "vfiomux-vhost",
            "vfiomux-nvme",
            "vfiomux-channel",
            "vfiomux-sidecore",
        ],
    ),
    (
        "vfiomux-daemon",
        &["vfiomux-manager", "vfiomux-rpc", "vfiomux-hw", "vfiomux-sim", "vfiomux-guest", "vfiomux-spec"],
    ),
    ("vfiomuxctl", &["vfiomux-rpc"]),
    ("vfiomux-frontend", &["vfiomux-guest", "vfiomux-spec"]),
    ("vfiomux-plot", &[]),
    ("vfiomux-load", &["vfiomux-frontend", "vfiomux-guest", "vfiomux-plot", "vfiomux-spec"]),
    (
        "vfiomux-side-by-side",
        &["vfiomux-bench-daemon", "vfiomux-frontend", "vfiomux-load", "vfiomux-plot", "vfiomux-rpc"],
    ),
    ("vfiomux-isolation", &["vfiomux-bench-daemon", "vfiomux-load", "vfiomux-plot", "vfiomux-rpc"]),
    ("vfiomux-containment", &["vfiomux-bench-daemon", "vfiomux-load", "vfiomux-plot", "vfiomux-rpc"]),
    ("vfiomux-bench-daemon", &["vfiomux-daemon", "vfiomux-rpc"]),
    ("vfiomux-demo", &["vfiomux-daemon", "vfiomux-rpc", "vfiomux-guest", "vfiomux-spec", "vfiomux-frontend"]),
    ("xtask", &[]),
    // The benches hold both ends of each part of the data path.
    (
        "vfiomux-instructions",
        &[
            "vfiomux-spec",
            "vfiomux-hw",
            "vfiomux-block",
            "vfiomux-guest",
            "vfiomux-qos",
            "vfiomux-vhost",
            "vfiomux-nvme",
            "vfiomux-channel",
            "vfiomux-sidecore",
            "vfiomux-sim",
        ],
    ),
    // The programs that try a crate on a real kernel are among the tests, and so is the seeded world.
    (
        "vfiomux-tests",
        &[
            // The monitor that every daemon's events are held against.
            "vfiomux-manager",
            "vfiomux-rpc",
            "vfiomux-guest",
            "vfiomux-spec",
            "vfiomux-hw",
            "vfiomux-block",
            "vfiomux-nvme",
            "vfiomux-channel",
            "vfiomux-sidecore",
            "vfiomux-sim",
        ],
    ),
];

/// Every arrow that the table does not have.
pub(crate) fn check() -> Result<Vec<String>, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    Ok(packages.iter().flat_map(violations).collect())
}

fn violations(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        return vec![format!(
            "{name} is in no layer; add it to tools/xtask/src/layers.rs with what it may depend on"
        )];
    };
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    dependencies
        .iter()
        // Kind is null for a normal dependency; `path` is there for a crate of this workspace.
        .filter(|dependency| dependency["kind"].is_null() && dependency["path"].is_string())
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|dependency| !allowed.contains(dependency))
        .map(|dependency| format!("{name} depends on {dependency}, against the layers"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_arrow_that_turns_round_is_caught() {
        let package = |kind: Value| json!({"name": "vfiomux-hw", "dependencies": [{"name": "vfiomux-nvme", "kind": kind, "path": "x"}]});
        assert_eq!(violations(&package(Value::Null)).len(), 1);
        assert!(violations(&package(json!("dev"))).is_empty());
    }

    #[test]
    fn a_crate_without_a_layer_is_caught() {
        assert_eq!(violations(&json!({"name": "vfiomux-other", "dependencies": []})).len(), 1);
    }

    #[test]
    fn the_table_itself_has_no_circle() {
        let mut placed: Vec<&str> = Vec::new();
        while let Some((name, _)) = ALLOWED
            .iter()
            .find(|(name, uses)| !placed.contains(name) && uses.iter().all(|used| placed.contains(used)))
        {
            placed.push(name);
        }
        assert_eq!(placed.len(), ALLOWED.len());
    }
}
