use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

const AFTER_HELP: &str = "\
Examples:
  cargo run --release -p vfiomux-side-by-side                       everything, about an hour
  cargo run --release -p vfiomux-side-by-side -- --quick            the most important of it, about two minutes
  … -- --spdk /opt/spdk/build/bin/vhost                             with SPDK
  … -- --only randread-4k-qd32+null --only idle                     some of it; --list says what there is

Servers that are not installed are left out. SPDK takes its memory from huge pages when enough are free
(vm.nr_hugepages), else from ordinary ones, which may cost it some speed: the report says which.";

/// Measures vfiomuxd, qemu-storage-daemon and SPDK's vhost side by side.
///
/// Each is driven by the same client (vfiomux-load), server and client on cores of their own, in short runs that
/// alternate. The report compares runs that were made next to each other: medians of paired ratios, with quartiles.
#[derive(Debug, Clone, Parser)]
#[command(name = "side-by-side", version, after_help = AFTER_HELP, max_term_width = 120)]
pub(crate) struct Arguments {
    /// SPDK's `vhost`; without it, SPDK is left out.
    #[arg(long, value_name = "PATH")]
    pub(crate) spdk: Option<PathBuf>,
    /// Another build of vfiomuxd to measure in place of the one built with this program.
    #[arg(long, value_name = "PATH")]
    pub(crate) daemon: Option<PathBuf>,
    /// Core of the server [default: the last].
    #[arg(long, value_name = "CPU")]
    pub(crate) server_cpu: Option<u32>,
    /// Core of the client [default: the first].
    #[arg(long, value_name = "CPU")]
    pub(crate) client_cpu: Option<u32>,
    /// How often each measurement is made [default: 9; 3 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,
    /// How long one measurement is [default: 1; 0.4 with --quick].
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Only what decides about the targets, in short.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only measurements whose name (see --list) contains all of these words, joined by `+`. May be repeated.
    #[arg(long, value_name = "WORDS")]
    pub(crate) only: Vec<String>,
    /// Print the names of what would be measured, and end.
    #[arg(long)]
    pub(crate) list: bool,
    /// Directory for report.json and the pictures.
    #[arg(long, value_name = "DIR", default_value = "target/side-by-side")]
    pub(crate) output: PathBuf,
}

impl Arguments {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 9 })
    }

    pub(crate) fn duration(&self) -> Duration {
        self.seconds.unwrap_or(if self.quick { Duration::from_millis(400) } else { Duration::from_secs(1) })
    }

    /// Whether a measurement of this name is asked for.
    pub(crate) fn selects(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|words| words.split('+').all(|word| name.contains(word)))
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.05..=3600.0).contains(&seconds) {
        return Err("from 0.05 to 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Arguments {
        Arguments::try_parse_from([&["side-by-side"], words].concat()).unwrap()
    }

    #[test]
    fn words_joined_by_plus_must_all_be_in_the_name() {
        let some = arguments(&["--only", "qd32+null", "--only", "idle"]);
        assert!(some.selects("guest/randread-4k-qd32/spdk-null"));
        assert!(some.selects("idle/100-channels/qsd-null"));
        assert!(!some.selects("guest/randread-4k-qd32/spdk-ram"));
        assert!(arguments(&[]).selects("anything"));
    }

    #[test]
    fn quick_is_shorter_unless_told_otherwise() {
        assert!(arguments(&["--quick"]).rounds() < arguments(&[]).rounds());
        assert_eq!(arguments(&["--quick", "--rounds", "20"]).rounds(), 20);
        assert_eq!(arguments(&["--quick", "--seconds", "2.5"]).duration(), Duration::from_millis(2500));
    }

    #[test]
    fn a_duration_that_measures_nothing_is_refused() {
        assert!(parse_seconds("0").is_err());
        assert!(parse_seconds("NaN").is_err());
        assert!(parse_seconds("1e9").is_err());
    }
}
