//! Channels at work, once a second.

use std::collections::HashMap;
use std::io::{IsTerminal, stdout};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vfiomux_rpc::{ChannelInfo, Counters, Status, call};

use crate::channel::oper;
use crate::failure::Failure;
use crate::session::{Session, print};
use crate::sidecore::busy;
use crate::table::{Cell, Paint, Table};
use crate::units;

const INTERVAL: Duration = Duration::from_secs(1);
/// Puts a terminal's cursor into its first place, and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// What a channel had done when it was last looked at.
type Past = HashMap<String, Counters>;

pub(crate) fn run(mut session: Session) -> Result<(), Failure> {
    let paint = Paint::for_stdout();
    let clear = if stdout().is_terminal() { CLEAR } else { "" };
    let mut past = Past::new();
    let mut last = Instant::now();
    loop {
        let status = session.call(&call::StatusShow {})?;
        let channels = session.call(&call::ChannelList::default())?;
        let elapsed = last.elapsed();
        last = Instant::now();
        let view = frame(&status, &channels, &past, elapsed, paint);
        print(&format!("{clear}{view}"))?;
        past = channels.into_iter().map(|channel| (channel.id, channel.counters)).collect();
        sleep(INTERVAL);
    }
}

fn frame(status: &Status, channels: &[ChannelInfo], past: &Past, elapsed: Duration, paint: Paint) -> String {
    let busy: Vec<String> = status.sidecores.iter().map(|sidecore| busy(sidecore.busy_permille)).collect();
    let up = units::duration_ms(status.uptime_ms);
    let mut text = format!("up {up}, {} sessions, sidecores busy {}\n\n", status.sessions, busy.join(" "));
    let head = ["CHANNEL", "TENANT", "STATE", "IOPS", "BYTES/S", "WAIT P50", "P99", "DEVICE P50", "P99"];
    let mut table = Table::new(&head, &[3, 4, 5, 6, 7, 8]);
    for channel in channels {
        let (now, latency) = (&channel.counters, &channel.latency);
        // Seen for the first time: there is no rate yet.
        let rate = |of: fn(&Counters) -> u64| {
            let before = past.get(&channel.id)?;
            Some(units::count(per_second(of(now).saturating_sub(of(before)), elapsed)))
        };
        let time = |count: u64, value: u64| Cell::optional((count > 0).then(|| units::nanoseconds(value)));
        table.row([
            Cell::from(&channel.name),
            Cell::from(&channel.tenant),
            oper(channel.oper),
            Cell::optional(rate(|counters| counters.read_ops.saturating_add(counters.write_ops))),
            Cell::optional(rate(|counters| counters.read_bytes.saturating_add(counters.write_bytes))),
            time(latency.ring_wait.count, latency.ring_wait.p50_ns),
            time(latency.ring_wait.count, latency.ring_wait.p99_ns),
            time(latency.device.count, latency.device.p50_ns),
            time(latency.device.count, latency.device.p99_ns),
        ]);
    }
    text.push_str(&table.text(paint));
    text
}

fn per_second(count: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000_000 / elapsed.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_over_the_time_it_took() {
        assert_eq!(per_second(300, Duration::from_millis(1500)), 200);
        assert_eq!(per_second(u64::MAX, Duration::ZERO), u64::MAX);
    }
}
