//! How long a process has run, and a core, from `/proc`.

use std::fs;
use std::time::Duration;

/// Nanoseconds in a clock tick of `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that Linux gives us.
const TICK_NS: u64 = 10_000_000;

/// What all threads of a process have run so far, user and system. `None` when it is gone.
///
/// `schedstat` counts nanoseconds; `stat`, where the kernel has no `schedstat`, hundredths of a second.
pub(crate) fn of(pid: u32) -> Option<Duration> {
    let mut total_ns = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let directory = thread.ok()?.path();
        // A thread may end between being listed and being read.
        let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
        let run_ns = read("schedstat").and_then(|text| parse_schedstat(&text));
        total_ns += run_ns.or_else(|| read("stat").and_then(|text| parse_stat(&text))).unwrap_or(0);
    }
    Some(Duration::from_nanos(total_ns))
}

/// How long a core has been busy so far, whoever ran there, the hypervisor's other guests included.
pub(crate) fn of_core(cpu: u32) -> Option<Duration> {
    parse_core(&fs::read_to_string("/proc/stat").ok()?, cpu).map(Duration::from_nanos)
}

/// `cpuN user nice system idle iowait irq softirq steal …`, ticks.
fn parse_core(text: &str, cpu: u32) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let line = text.lines().find(|line| line.split(' ').next() == Some(&name))?;
    let fields = line.split_whitespace().skip(1).take(8);
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = ticks.try_into().ok()?;
    Some((user + nice + system + irq + softirq + steal) * TICK_NS)
}

/// Time on a core: the first of three numbers.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// `utime` and `stime`, the 14th and 15th field. The second is a name in parentheses, which may hold spaces and
/// parentheses itself.
fn parse_stat(text: &str) -> Option<u64> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_schedstat_is_the_time_on_a_core() {
        assert_eq!(parse_schedstat("123456789 42 7\n"), Some(123_456_789));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "17 (a (b) c) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 12345 1000 10";
        assert_eq!(parse_stat(stat), Some(300 * TICK_NS));
    }

    #[test]
    fn a_truncated_stat_is_no_time() {
        assert_eq!(parse_stat("17 (a) S 1"), None);
        assert_eq!(parse_stat("17"), None);
    }

    #[test]
    fn a_core_is_busy_when_it_is_neither_idle_nor_waiting_for_io() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 3 1000 2000 4 5 6 0 0\ncpu11 7 7 7 7 7 7 7 7 0 0\nintr 1\n";
        assert_eq!(parse_core(stat, 1), Some(21 * TICK_NS));
        assert_eq!(parse_core(stat, 2), None);
    }

    #[test]
    fn this_process_has_run_and_one_that_is_not_there_has_not() {
        assert!(of(std::process::id()).is_some());
        assert_eq!(of(u32::MAX), None);
    }
}
