//! What a run says of itself: the shape of `vfiomux-load --json`.
//!
//! A unit ends each name: `_ns`, `_bytes`, `_per_s`. Rates and latencies are of the measured part of the run, after the
//! ramp. Fields are only ever added; [`SCHEMA`] grows when one changes its meaning.

use serde::{Deserialize, Serialize};

use crate::{Arrivals, Pattern, Wait};

/// What [`Report::schema`] is in this version.
pub const SCHEMA: u32 = 1;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Program and version.
    pub program: String,
    /// What was asked for, defaults filled in.
    pub run: Run,
    /// How long was measured.
    pub elapsed_ns: u64,
    /// All guests together.
    pub total: Tally,
    /// Each guest, in order.
    pub guests: Vec<Guest>,
    /// How evenly the guests were served; with several guests only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness: Option<Fairness>,
    /// What became of the arrivals; with a rate only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_loop: Option<OpenLoop>,
    /// What was checked; with `--verify` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// What the load generator itself cost.
    pub client: Client,
}

/// What was asked for, defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Sockets, as given, `{}` not filled in. Empty when it was a calibration.
    pub sockets: Vec<String>,
    /// Whether the back-end was the null ring inside the process.
    pub calibration: bool,
    /// The order of requests.
    pub pattern: Pattern,
    /// Reads among a hundred requests.
    pub read_percent: u8,
    /// Data of a request.
    pub block_bytes: u32,
    /// Requests in flight on each queue, at most.
    pub depth: u16,
    /// Queues of each guest.
    pub queues: u16,
    /// Guests: one session each.
    pub guests: u32,
    /// Threads that drive them.
    pub threads: u32,
    /// Cores that the threads are pinned to, in their order; empty when they float.
    pub cpus: Vec<u32>,
    /// Time before the measurement.
    pub ramp_ns: u64,
    /// Time of the measurement; absent when it ends by number of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ns: Option<u64>,
    /// Requests of each guest after which it ends, if it does by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Where on the disk the region begins.
    pub offset_bytes: u64,
    /// How long the region is, of the first guest's disk.
    pub size_bytes: u64,
    /// Requests of a guest from one flush to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush_every: Option<u64>,
    /// What the order of requests followed from.
    pub seed: u64,
    /// Arrivals of all guests together; absent in a closed loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// How arrivals are spread over time; absent in a closed loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Arrivals>,
    /// How completions are waited for.
    pub wait: Wait,
    /// Whether the guests' memory is of huge pages.
    pub hugepages: bool,
}

/// What was done, by one guest or by all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests answered, flushes and refused ones included.
    pub requests: u64,
    /// Reads that were done.
    pub reads: u64,
    /// Writes that were done.
    pub writes: u64,
    /// Flushes that were done.
    pub flushes: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Reads and writes done a second.
    pub iops: f64,
    /// Millions of bytes a second.
    pub mb_per_s: f64,
    /// Reads and writes that were done. In a closed loop from submission, in an open one from when the request was due.
    pub latency: Latency,
    /// The reads of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_latency: Option<Latency>,
    /// The writes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_latency: Option<Latency>,
    /// Requests that were refused, those before and after the measurement included.
    pub failed: Failed,
    /// Kicks sent: how often the back-end had to be woken.
    pub kicks: u64,
    /// Calls received.
    pub calls: u64,
    /// Kicks a request.
    pub kicks_per_request: f64,
    /// Calls a request.
    pub calls_per_request: f64,
}

/// One guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// Its socket, `{}` filled in.
    pub socket: String,
    /// Names of the features agreed on, such as `event-index`.
    pub features: Vec<String>,
    /// Its disk's size.
    pub disk_bytes: u64,
    /// What it did.
    pub tally: Tally,
}

/// A distribution of latencies. All zero when there was no request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Requests in it.
    pub count: u64,
    /// The shortest.
    pub min_ns: u64,
    /// Arithmetic mean.
    pub mean_ns: f64,
    /// Standard deviation.
    pub stdev_ns: f64,
    /// Half were no longer than this.
    pub p50_ns: u64,
    /// 90 % were.
    pub p90_ns: u64,
    /// 99 % were.
    pub p99_ns: u64,
    /// 99.9 % were.
    pub p99_9_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The distribution's course, rising, closer together towards its tail, for plots.
    pub percentiles: Vec<Percentile>,
}

/// A point of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// Of a hundred requests, this many…
    pub percent: f64,
    /// …took no longer than this.
    pub latency_ns: u64,
}

/// Requests that were refused, by the status they came back with (virtio 1.3 5.2.6).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// `VIRTIO_BLK_S_IOERR`.
    pub io_error: u64,
    /// `VIRTIO_BLK_S_UNSUPP`.
    pub unsupported: u64,
    /// A status that the standard does not have, or none written at all.
    pub other: u64,
    /// The first of them, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

impl Failed {
    /// All of them.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.io_error + self.unsupported + self.other
    }
}

/// How evenly the guests were served.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// Rate of the guest served least.
    pub min_iops: f64,
    /// Rate of the guest served most.
    pub max_iops: f64,
    /// Jain's index: 1 when all had the same, 1/n when one had all.
    pub jain: f64,
}

/// What became of the arrivals of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OpenLoop {
    /// Requests that became due.
    pub due: u64,
    /// Requests that were submitted.
    pub submitted: u64,
    /// The most that were due and not submitted at one time, of one guest.
    pub backlog_max: u64,
    /// Due and not submitted when time was up: what the back-end did not keep up with. Their latency is in no distribution.
    pub backlog_end: u64,
}

/// What was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// Blocks that were read and could be judged, the final reading of all that was written included.
    pub blocks_checked: u64,
    /// Blocks that the run had written at least once.
    pub blocks_written: u64,
    /// Blocks with an older content than the last write that had been answered.
    pub stale: u64,
    /// Blocks with the content of another place.
    pub misplaced: u64,
    /// Blocks with parts of several contents.
    pub torn: u64,
    /// Blocks with what this run never wrote.
    pub foreign: u64,
    /// The first of them, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

impl Verify {
    /// Blocks that were wrong.
    #[must_use]
    pub const fn wrong(&self) -> u64 {
        self.stale + self.misplaced + self.torn + self.foreign
    }
}

/// What the load generator itself cost, all its threads together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// CPU time of the threads that drive guests. While they poll this is as long as the run.
    pub cpu_ns: u64,
    /// The part of it spent in the kernel.
    pub cpu_system_ns: u64,
    /// CPU time a request. While polling this includes waiting; see `busy_ns_per_request`.
    pub cpu_ns_per_request: f64,
    /// Time a request in turns that found something to do: what a request costs the client. Calibration reports it without a back-end.
    pub busy_ns_per_request: f64,
    /// Completions found at one look, on average. The clock is read once a look.
    pub requests_per_look: f64,
    /// How much too long a latency can be on average, because the clock is read once a look: the time from that reading to when
    /// what was submitted then was published.
    pub latency_error_ns: f64,
    /// Involuntary context switches: not zero means that something else ran on the client's core.
    pub preemptions: u64,
}
