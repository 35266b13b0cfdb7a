use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueHint};

use crate::units::{parse_count, parse_duration, parse_rate, parse_size};
use crate::{Arrivals, Pattern, Wait};

const AFTER_HELP: &str = "\
Examples:
  vfiomux-load /run/disk0.sock                               4 KiB random reads, depth 32, 10 s
  vfiomux-load --pattern randrw --verify --size 1G SOCK      write and read, and check every byte
  vfiomux-load --pattern write --block-size 128K SOCK        in order, in large requests
  vfiomux-load --guests 16 '/run/disk{}.sock'                16 guests: disk0.sock … disk15.sock
  vfiomux-load --rate 50k --arrivals poisson SOCK            latency under 50 000 requests a second
  vfiomux-load --depth 1 --cpu 1 --json SOCK >depth1.json    for a program to read
  vfiomux-load --calibrate                                   what the load generator itself costs

Sizes take K, M, G, T (powers of 1024), rates and numbers of requests k and M (powers of 1000), times us, ms, s, m.

Exit codes: 0 all went well; 1 the run could not be done; 2 wrong usage; 3 requests failed, or --verify found wrong data.";

/// Drives vhost-user disks, and says how fast they were.
///
/// Connects to each SOCKET as a VMM would, with a memory and rings of its own, and sends reads and writes. Works with the sockets of
/// vfiomuxd and with those of any other vhost-user-blk back-end. A socket must not be in use by a VMM at the same time.
///
/// With a pattern that writes, WHAT IS ON THE DISK IS OVERWRITTEN. The default only reads.
#[derive(Debug, Clone, Parser)]
#[command(name = "vfiomux-load", version, after_help = AFTER_HELP, max_term_width = 120)]
pub struct Arguments {
    /// Sockets of vhost-user-blk back-ends; `{}` stands for the number of a guest, from 0.
    #[arg(value_name = "SOCKET", required_unless_present = "calibrate", value_hint = ValueHint::FilePath)]
    pub sockets: Vec<String>,

    /// The order of requests, in fio's words.
    #[arg(long, visible_alias = "rw", value_enum, default_value_t = Pattern::RandRead)]
    pub pattern: Pattern,
    /// Reads among a hundred requests of `rw` and `randrw` [default: 50].
    #[arg(long, visible_alias = "rwmixread", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub read_percent: Option<u8>,
    /// Bytes of a request.
    #[arg(short, long, visible_alias = "bs", value_name = "SIZE", default_value = "4K", value_parser = parse_size)]
    pub block_size: u64,
    /// Requests in flight on each queue.
    #[arg(short, long, visible_alias = "iodepth", value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub depth: u16,
    /// Queues of each guest.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub queues: u16,
    /// Guests, one session each [default: one for each SOCKET].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub guests: Option<u32>,

    /// How long to measure [default: 10s, or until all --requests are done].
    #[arg(short = 't', long, visible_alias = "runtime", value_name = "TIME", value_parser = parse_duration, help_heading = "How long and where")]
    pub duration: Option<Duration>,
    /// How long to drive before measuring [default: 1s; 0 with --requests].
    #[arg(long, visible_alias = "ramp-time", value_name = "TIME", value_parser = parse_duration, help_heading = "How long and where")]
    pub ramp: Option<Duration>,
    /// Requests of each guest after which it ends.
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count, help_heading = "How long and where")]
    pub requests: Option<u64>,
    /// Where on the disk to begin.
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size, help_heading = "How long and where")]
    pub offset: u64,
    /// How much of the disk to use [default: the rest; 256M of it with --verify].
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "How long and where")]
    pub size: Option<u64>,
    /// What places, mix and arrivals follow from: the same seed makes the same requests.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "How long and where")]
    pub seed: u64,

    /// Requests a second of all guests together, sent when they are due whether or not earlier ones were answered; latencies are
    /// measured from when a request was due.
    #[arg(short, long, value_name = "RATE", value_parser = parse_rate, help_heading = "What is sent when")]
    pub rate: Option<f64>,
    /// How the requests of --rate are spread over time.
    #[arg(long, value_enum, default_value_t = Arrivals::Constant, requires = "rate", help_heading = "What is sent when")]
    pub arrivals: Arrivals,
    /// A flush after every N requests of a guest.
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "What is sent when")]
    pub flush_every: Option<u64>,
    /// Check all that is read against what was written. Mixes that write nothing are preceded by one writing of the region: it is
    /// overwritten in any case.
    #[arg(long, help_heading = "What is sent when")]
    pub verify: bool,

    /// How to wait for completions: look at the rings without rest, or sleep until called.
    #[arg(long, value_enum, default_value_t = Wait::Poll, help_heading = "This program")]
    pub wait: Wait,
    /// Threads that drive the guests, so cores that the client takes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "This program")]
    pub threads: u32,
    /// Pin the threads to these cores, in this order (`1` or `1,3,4-7`).
    #[arg(long, value_name = "LIST", value_parser = crate::units::parse_cpus, help_heading = "This program")]
    pub cpu: Option<Cpus>,
    /// Take the guests' memory from huge pages of 2 MiB, which must have been reserved (vm.nr_hugepages).
    #[arg(long, help_heading = "This program")]
    pub hugepages: bool,
    /// Drive a null ring inside this process, for 2 s unless told otherwise, to see what the load generator itself costs.
    #[arg(long, conflicts_with_all = ["sockets", "verify"], help_heading = "This program")]
    pub calibrate: bool,

    /// Print the report as JSON.
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Write a plot of the latencies to this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output")]
    pub svg: Option<PathBuf>,
    /// No table and no picture; errors only.
    #[arg(long, conflicts_with = "json", action = ArgAction::SetTrue, help_heading = "Output")]
    pub quiet: bool,
}

/// Cores, in the order that they are given to threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(pub Vec<u32>);
