use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

const AFTER_HELP: &str = "\
Examples:
  cargo run --release -p vfiomux-isolation              all of it, about five minutes
  cargo run --release -p vfiomux-isolation -- --quick   one round, about a minute
  … -- --bullies 16 --rounds 9                          some of it, with more certainty

The device works on --parallel commands at once, each of which takes --service-us: by default 16 000 commands a second at most,
1 ms each. Everything sleeps when it has nothing to do, so that two cores are enough.";

/// Measures what guarantees are worth: a small client beside large ones on one device.
///
/// A victim with one request at a time shares a simulated NVMe device of a known rate with bullies that keep many, without guarantees,
/// with them, and with a static limit on the bullies. Reported is the victim's latency as a multiple of what it has alone, and how much
/// of the device's work was left undone.
#[derive(Debug, Clone, Parser)]
#[command(name = "isolation", version, after_help = AFTER_HELP, max_term_width = 120)]
pub(crate) struct Arguments {
    /// Numbers of bullies.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,4,16", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) bullies: Vec<u32>,
    /// Requests that each bully keeps in flight.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) depth: u16,
    /// How long the device takes for a command, microseconds.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) service_us: u32,
    /// Commands that the device works on at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) parallel: u32,
    /// How often each measurement is made [default: 5; 1 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,
    /// How long one measurement is [default: 5; 4 with --quick].
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) seconds: Option<Duration>,
    /// One round, of short measurements.
    #[arg(long)]
    pub(crate) quick: bool,
    /// What the daemon's sidecore does when there is nothing to do.
    #[arg(long, value_name = "poll|adaptive|event", default_value = "adaptive", value_parser = ["poll", "adaptive", "event"])]
    pub(crate) mode: String,
    /// Directory for report.json and the pictures.
    #[arg(long, value_name = "DIR", default_value = "target/isolation")]
    pub(crate) output: PathBuf,
}

impl Arguments {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    pub(crate) fn duration(&self) -> Duration {
        self.seconds.unwrap_or(Duration::from_secs(if self.quick { 4 } else { 5 }))
    }

    /// Commands that the device does in a second at most.
    pub(crate) fn device_iops(&self) -> u64 {
        u64::from(self.parallel) * 1_000_000 / u64::from(self.service_us.max(1))
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("from 0.1 to 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_does_what_its_width_and_time_come_to() {
        assert_eq!(Arguments::parse_from(["isolation"]).device_iops(), 16_000);
        let narrow = Arguments::parse_from(["isolation", "--parallel", "1", "--service-us", "250"]);
        assert_eq!(narrow.device_iops(), 4_000);
    }

    #[test]
    fn quick_is_shorter_unless_told_otherwise() {
        let quick = Arguments::parse_from(["isolation", "--quick"]);
        assert!(quick.rounds() < Arguments::parse_from(["isolation"]).rounds());
        assert_eq!(Arguments::parse_from(["isolation", "--quick", "--rounds", "7"]).rounds(), 7);
        assert!(parse_seconds("0").is_err() && parse_seconds("NaN").is_err());
    }
}
