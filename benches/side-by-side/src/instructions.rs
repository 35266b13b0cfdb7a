//! Instructions that a process executes, counted by `perf stat` where the machine has the counter.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Whether this machine counts instructions: many virtual ones do not, and `perf` may be missing or forbidden.
pub(crate) fn countable() -> bool {
    perf("true", &[]).ok().and_then(result).is_some()
}

/// Counts from now on, for this long, what a process executes.
pub(crate) fn count(pid: u32, duration: Duration) -> Option<Child> {
    let seconds = format!("{:.3}", duration.as_secs_f64());
    perf("sleep", &["-p", &pid.to_string(), "--", "sleep", &seconds]).ok()
}

/// What was counted, once it has ended.
pub(crate) fn result(perf: Child) -> Option<u64> {
    let output = perf.wait_with_output().ok()?;
    parse(&String::from_utf8_lossy(&output.stderr))
}

fn perf(alone: &str, arguments: &[&str]) -> std::io::Result<Child> {
    let arguments = if arguments.is_empty() { &[alone][..] } else { arguments };
    Command::new("perf")
        .args(["stat", "-x,", "-e", "instructions"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

/// The counter's line: `value,unit,event,…`; the value is a text where there is no counter.
fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(",instructions"))?;
    line.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_before_the_first_comma() {
        assert_eq!(parse("1234567,,instructions:u,100,100.00,,\n"), Some(1_234_567));
    }

    #[test]
    fn what_is_not_counted_is_nothing() {
        assert_eq!(parse("<not supported>,,instructions,0,100.00,,\n"), None);
        assert_eq!(parse("perf: command failed\n"), None);
    }
}
