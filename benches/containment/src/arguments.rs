use std::env;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

const AFTER_HELP: &str = "\
Examples:
  cargo build --release -p vfiomux-plugin-host -p vfiomux-plugin-faulty
  cargo run --release -p vfiomux-containment              all of it, about five minutes
  cargo run --release -p vfiomux-containment -- --quick   one round, about a minute

The plugin's host and the test plugin are looked for beside this program.";

/// Measures what a busy sidecore notices of a plugin that hangs, crashes, swells, lies, floods or is replaced.
///
/// A client keeps a disk busy, and the plugin is provoked again and again. Reported is how long the sidecore's rounds of everything took
/// meanwhile, against the same in quiet just before.
#[derive(Debug, Clone, Parser)]
#[command(name = "containment", version, after_help = AFTER_HELP, max_term_width = 120)]
pub(crate) struct Arguments {
    /// Requests in flight.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) depth: u16,
    /// How often each measurement is made [default: 5; 1 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,
    /// How long one measurement is [default: 4; 3 with --quick].
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) seconds: Option<Duration>,
    /// One round, of short measurements.
    #[arg(long)]
    pub(crate) quick: bool,
    /// The processor of the sidecore.
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    pub(crate) sidecore_cpu: u32,
    /// The processor of the client.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    pub(crate) client_cpu: u32,
    /// The program that runs plugins [default: vfiomux-plugin-host beside this one].
    #[arg(long, value_name = "PATH")]
    plugin_host: Option<PathBuf>,
    /// The test plugin [default: libvfiomux_plugin_faulty.so beside this program].
    #[arg(long, value_name = "PATH")]
    plugin: Option<PathBuf>,
    /// Directory for report.json and the pictures.
    #[arg(long, value_name = "DIR", default_value = "target/containment")]
    pub(crate) output: PathBuf,
}

impl Arguments {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    pub(crate) fn duration(&self) -> Duration {
        self.seconds.unwrap_or(Duration::from_secs(if self.quick { 3 } else { 4 }))
    }

    pub(crate) fn plugin_host(&self) -> PathBuf {
        self.plugin_host.clone().unwrap_or_else(|| beside("vfiomux-plugin-host"))
    }

    pub(crate) fn plugin(&self) -> PathBuf {
        self.plugin.clone().unwrap_or_else(|| beside("libvfiomux_plugin_faulty.so"))
    }
}

fn beside(name: &str) -> PathBuf {
    env::current_exe().map_or_else(|_| PathBuf::from(name), |program| program.with_file_name(name))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.5..=3600.0).contains(&seconds) {
        return Err("from 0.5 to 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}
