//! What the client does, and how long for.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use serde::Serialize;
use vfiomux_load::Pattern;

/// The part of a run in which servers and caches settle.
const RAMP: Duration = Duration::from_millis(250);
/// More of it for each guest that has to connect.
const RAMP_A_GUEST: Duration = Duration::from_millis(8);

/// What the client does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Workload {
    /// Its name in every table.
    pub(crate) name: String,
    pub(crate) pattern: Pattern,
    /// Reads among a hundred requests of a mixed pattern.
    pub(crate) read_percent: u8,
    pub(crate) block_bytes: u32,
    pub(crate) depth: u16,
    pub(crate) guests: usize,
    /// Requests a second, sent when they are due; `None` keeps `depth` requests in flight.
    pub(crate) rate_per_s: Option<u32>,
}

impl Workload {
    /// Random requests of 4 KiB by one guest.
    pub(crate) fn random(pattern: Pattern, depth: u16) -> Self {
        let word = match pattern {
            Pattern::RandWrite => "randwrite-4k",
            Pattern::RandRw => "rand70read-4k",
            _ => "randread-4k",
        };
        Self {
            name: format!("{word}-qd{depth}"),
            pattern,
            read_percent: 70,
            block_bytes: 4096,
            depth,
            guests: 1,
            rate_per_s: None,
        }
    }

    /// Requests of 128 KiB in order.
    pub(crate) fn sequential(pattern: Pattern) -> Self {
        let word = if pattern == Pattern::Write { "write" } else { "read" };
        Self {
            name: format!("{word}-128k-qd8"),
            block_bytes: 128 << 10,
            depth: 8,
            ..Self::random(pattern, 8)
        }
    }

    /// As many guests, each with random reads of 4 KiB at depth 32.
    pub(crate) fn guests(guests: usize) -> Self {
        Self { name: format!("guests-{guests}"), guests, ..Self::random(Pattern::RandRead, 32) }
    }

    /// One request now and then, so that a server which sleeps sleeps before each.
    pub(crate) fn now_and_then(rate_per_s: u32) -> Self {
        let name = format!("rate-{rate_per_s}");
        Self { name, rate_per_s: Some(rate_per_s), ..Self::random(Pattern::RandRead, 1) }
    }

    /// What precedes the measurement.
    pub(crate) fn ramp(&self) -> Duration {
        RAMP + RAMP_A_GUEST * u32::try_from(self.guests).unwrap_or(u32::MAX)
    }

    /// The client's options for this.
    pub(crate) fn arguments(
        &self,
        sockets: &[impl AsRef<Path>],
        clients: &[u32],
        duration: Duration,
        seed: u64,
    ) -> Result<vfiomux_load::Arguments, clap::Error> {
        let mut words: Vec<String> = ["vfiomux-load", "--json", "--pattern"].map(str::to_owned).into();
        words.push(format!("{:?}", self.pattern).to_lowercase());
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        if matches!(self.pattern, Pattern::RandRw | Pattern::Rw) {
            option("--read-percent", self.read_percent.to_string());
        }
        option("--block-size", self.block_bytes.to_string());
        option("--depth", self.depth.to_string());
        option("--duration", format!("{}us", duration.as_micros()));
        option("--ramp", format!("{}us", self.ramp().as_micros()));
        option("--seed", seed.to_string());
        let threads = clients.len().min(self.guests).max(1);
        option("--threads", threads.to_string());
        let cpus: Vec<String> = clients.iter().take(threads).map(u32::to_string).collect();
        option("--cpu", cpus.join(","));
        if let Some(rate) = self.rate_per_s {
            option("--rate", rate.to_string());
        }
        words.extend(sockets.iter().take(self.guests).map(|socket| socket.as_ref().display().to_string()));
        vfiomux_load::Arguments::try_parse_from(words)
    }
}

/// The client's options for writing a whole disk once.
pub(crate) fn fill(
    socket: &Path,
    client: u32,
    disk_bytes: u64,
) -> Result<vfiomux_load::Arguments, clap::Error> {
    const BLOCK_BYTES: u64 = 128 << 10;
    vfiomux_load::Arguments::try_parse_from([
        "vfiomux-load".to_owned(),
        "--pattern=write".to_owned(),
        format!("--block-size={BLOCK_BYTES}"),
        "--depth=8".to_owned(),
        format!("--requests={}", disk_bytes.div_ceil(BLOCK_BYTES)),
        format!("--cpu={client}"),
        socket.display().to_string(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_understands_every_workload() {
        let sockets: Vec<String> = (0..200).map(|guest| format!("/s/{guest}.sock")).collect();
        let workloads = [
            Workload::random(Pattern::RandRead, 1),
            Workload::random(Pattern::RandRw, 32),
            Workload::sequential(Pattern::Write),
            Workload::guests(200),
            Workload::now_and_then(500),
        ];
        for workload in workloads {
            let arguments = workload.arguments(&sockets, &[0], Duration::from_millis(400), 7).unwrap();
            assert_eq!(arguments.sockets.len(), workload.guests);
            assert_eq!(arguments.block_size, u64::from(workload.block_bytes));
            assert_eq!(arguments.pattern, workload.pattern);
            assert_eq!(arguments.rate.is_some(), workload.rate_per_s.is_some());
        }
        assert_eq!(fill(Path::new("/s/0.sock"), 0, 256 << 20).unwrap().requests, Some(2048));
    }
}
