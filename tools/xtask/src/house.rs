//! House rules that no lint knows.

use std::path::{Path, PathBuf};
use std::process::Command;

/// No Rust file is longer.
const LINES_MAX: usize = 900;

/// Words that say that something is not done, in two halves so that this file does not break its own rule.
const UNFINISHED: &[(&str, &str)] =
    &[("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("to", "do!("), ("unimple", "mented!(")];

/// Names that say nothing about what is inside.
const VAGUE: &[&str] = &["common", "util", "utils", "helper", "helpers", "misc"];

/// Every file that breaks a rule, with the rule.
pub(crate) fn check() -> Result<Vec<String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "*.rs"])
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    let files = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for path in files.lines().map(PathBuf::from).filter(|path| path.exists()) {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        found.extend(broken(&path, &text).into_iter().map(|rule| format!("{}: {rule}", path.display())));
    }
    Ok(found)
}

fn broken(path: &Path, text: &str) -> Vec<String> {
    let mut rules = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        rules.push(format!("{lines} lines; split it by what it speaks of (at most {LINES_MAX})"));
    }
    for (first, second) in UNFINISHED {
        let word = format!("{first}{second}");
        if text.contains(&word) {
            rules.push(format!("{word}: finish it, or write an issue"));
        }
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if VAGUE.contains(&stem) {
        rules.push(format!("{stem} says nothing; name it for what it holds"));
    }
    if path.starts_with("core") || path.starts_with("plugins") {
        rules.extend(unsafe_without_reason(text));
    }
    rules
}

/// Every `unsafe` block or impl has a `SAFETY:` comment within the five lines above it.
fn unsafe_without_reason(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let opens = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        code.contains("unsafe {") || code.trim_start().starts_with("unsafe impl")
    };
    let reasoned =
        |index: usize| lines[index.saturating_sub(5)..=index].iter().any(|line| line.contains("SAFETY"));
    let bare = lines.iter().enumerate().filter(|&(index, line)| opens(line) && !reasoned(index));
    bare.map(|(index, _)| format!("line {}: unsafe without a SAFETY comment", index + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_catches_what_it_is_for() {
        let path = Path::new("core/x/src/ring.rs");
        assert!(broken(path, "fn main() {}").is_empty());
        assert_eq!(broken(path, &"\n".repeat(901)).len(), 1);
        assert_eq!(broken(path, &["// TO", "DO"].concat()).len(), 1);
        assert_eq!(broken(Path::new("core/x/src/util.rs"), "").len(), 1);
        assert_eq!(broken(path, "let x = unsafe { y() };").len(), 1);
        assert!(broken(path, "// SAFETY: y has no conditions.\nlet x = unsafe { y() };").is_empty());
    }
}
