//! Instruction counts against the baseline: what `benches/instructions` counts, compared with what it counted when somebody
//! last said that it was well.
//!
//! Counts do not depend on the machine or on who else uses it, only on our code, the compiler and a little on the C library.
//! So a change of a few percent is a change of the code, and is either won back or blessed, in a commit that says why.

mod baseline;
mod compare;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use baseline::Baseline;
use compare::{Tolerance, compare};

/// What is counted: instructions an operation, by bench.
type Counts = BTreeMap<String, f64>;

/// How often each bench does its operation: `OPERATIONS` of the crate vfiomux-instructions.
const OPERATIONS: f64 = 1000.0;

/// The version of the summaries that gungraun prints, a line a bench.
const SUMMARY_VERSION: &str = "7";

const BASELINE: &str = "benches/instructions/baseline.json";

/// Counts, and gives what is out of bounds; with `bless` the counts become the baseline, whatever they are.
pub(crate) fn check(bless: bool) -> Result<Vec<String>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(BASELINE);
    let rustc = first_line(Command::new("rustc").arg("--version").current_dir(&root))?;
    let counts = count(&root)?;
    if bless {
        let baseline = Baseline { rustc, instructions: counts };
        std::fs::write(&path, baseline.to_json()).map_err(|error| format!("{BASELINE}: {error}"))?;
        println!("{BASELINE}: {} benches blessed", baseline.instructions.len());
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{BASELINE}: {error}"))?;
    let baseline = Baseline::from_json(&text).map_err(|error| format!("{BASELINE}: {error}"))?;
    let tolerance = if baseline.rustc == rustc {
        Tolerance::SAME_COMPILER
    } else {
        println!(
            "the baseline was made with {}, this is {rustc}: another compiler writes other code,",
            baseline.rustc
        );
        println!("so the bounds are wider; bless the counts when the compiler is changed for good");
        Tolerance::OTHER_COMPILER
    };
    println!("instructions an operation may be {tolerance} above the baseline");
    let comparison = compare(&baseline.instructions, &counts, tolerance);
    comparison.rows.iter().chain(&comparison.notes).for_each(|line| println!("{line}"));
    Ok(comparison.violations)
}

/// Installs the runner of gungraun's, unless the one that fits is there.
pub(crate) fn install() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let version = runner_version(&root)?;
    if has_runner(&version) {
        return Ok(());
    }
    // Unoptimised, without debug information: it takes half as long to build, and most of its work is waiting for valgrind.
    let status = Command::new(env!("CARGO"))
        .args(["install", "--locked", "--debug", "gungraun-runner", "--version", &version])
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .status()
        .map_err(|error| format!("cargo install: {error}"))?;
    if status.success() { Ok(()) } else { Err("cargo install gungraun-runner failed; see above".into()) }
}

/// Runs every bench.
fn count(root: &Path) -> Result<Counts, String> {
    let version = runner_version(root)?;
    if !has_runner(&version) {
        return Err(format!(
            "gungraun-runner {version} is not installed; run cargo xtask instructions --install"
        ));
    }
    first_line(Command::new("valgrind").arg("--version"))
        .map_err(|error| format!("{error}; install valgrind (apt-get install valgrind)"))?;
    let bench = ["bench", "--quiet", "--package", "vfiomux-instructions", "--bench", "data_path", "--"];
    let output = Command::new(env!("CARGO"))
        .args(bench)
        .args(["--output-format=json", "--nosummary=true", "--parallel=auto"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo bench: {error}"))?;
    if !output.status.success() {
        return Err("a bench failed; see above".into());
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The counts in gungraun's summaries.
fn parse(summaries: &str) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for line in summaries.lines().filter(|line| !line.trim().is_empty()) {
        let summary: Value = serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))?;
        if summary["version"] != SUMMARY_VERSION {
            return Err(format!("a summary of version {}, not {SUMMARY_VERSION}", summary["version"]));
        }
        let (Some(path), Some(count)) = (
            summary["module_path"].as_str(),
            summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"].as_f64(),
        ) else {
            return Err(format!("no instructions in {line}"));
        };
        // The bench file, which is always the same, says nothing.
        let path = path.split_once("::").map_or(path, |(_, rest)| rest);
        let name = summary["id"].as_str().map_or_else(|| path.to_owned(), |id| format!("{path}::{id}"));
        if count == 0.0 {
            return Err(format!("{name} counted nothing: callgrind did not find `counted`"));
        }
        counts.insert(name, count / OPERATIONS);
    }
    if counts.is_empty() { Err("no bench was run".into()) } else { Ok(counts) }
}

fn has_runner(version: &str) -> bool {
    first_line(Command::new("gungraun-runner").arg("--version"))
        .is_ok_and(|line| line == format!("gungraun-runner {version}"))
}

/// The runner must be of the very version that the benches are linked with.
fn runner_version(root: &Path) -> Result<String, String> {
    let path: PathBuf = root.join("Cargo.lock");
    let lock = std::fs::read_to_string(&path).map_err(|error| format!("Cargo.lock: {error}"))?;
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"gungraun-runner\"");
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).ok_or_else(|| "Cargo.lock does not name gungraun-runner".into())
}

fn first_line(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned()).ok_or_else(|| format!("{name} says nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(path: &str, id: &str, count: u64) -> String {
        let values = format!(r#"{{"Ir":{{"values":{{"new":{count}}}}}}}"#);
        let profiles =
            format!(r#"[{{"data":{{"parts":[],"total":{{"metrics":{values},"regressions":[]}}}}}}]"#);
        format!(r#"{{"id":"{id}","module_path":"{path}","profiles":{profiles},"version":"7"}}"#)
    }

    #[test]
    fn summaries_become_instructions_an_operation() {
        let lines =
            [summary("data_path::ring::chain", "direct", 362_128), summary("data_path::idle::x", "one", 5)];
        let counts = parse(&lines.join("\n")).unwrap();
        assert_eq!(
            counts.into_iter().collect::<Vec<_>>(),
            [("idle::x::one".to_owned(), 0.005), ("ring::chain::direct".to_owned(), 362.128)]
        );
    }

    #[test]
    fn a_count_that_is_missing_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse(r#"{"version":"7","module_path":"a::b","profiles":[]}"#).is_err());
        assert!(
            parse(&summary("data_path::ring::chain", "direct", 0)).unwrap_err().contains("counted nothing")
        );
        assert!(parse(&summary("a::b", "c", 1).replace(r#""7""#, r#""8""#)).unwrap_err().contains("version"));
    }
}
