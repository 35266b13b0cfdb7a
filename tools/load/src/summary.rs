//! From what was recorded to what is reported.

use hdrhistogram::Histogram;

use crate::drive::Measured;
use crate::error::LoadError;
use crate::recorder::Recorder;
use crate::report::{Client, Fairness, Latency, OpenLoop, Percentile, Tally, Verify};
use crate::{cost::Cost, guest::Work};

/// The points of a distribution that are reported; beyond the median each step halves what is left, or nearly so.
const PERCENTS: [f64; 27] = [
    0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 97.5,
    99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 99.995, 99.999, 100.0,
];

/// A histogram's distribution.
pub(crate) fn latency(histogram: &Histogram<u64>) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    let at = |percent| histogram.value_at_percentile(percent).min(histogram.max());
    // A point that no request lies beyond says nothing that the longest one does not.
    let told = |percent: f64| percent == 100.0 || (100.0 - percent) / 100.0 * histogram.len() as f64 >= 1.0;
    Latency {
        count: histogram.len(),
        min_ns: histogram.min(),
        mean_ns: rounded(histogram.mean()),
        stdev_ns: rounded(histogram.stdev()),
        p50_ns: at(50.0),
        p90_ns: at(90.0),
        p99_ns: at(99.0),
        p99_9_ns: at(99.9),
        max_ns: histogram.max(),
        percentiles: PERCENTS
            .into_iter()
            .filter(|&percent| told(percent))
            .map(|percent| Percentile { percent, latency_ns: at(percent) })
            .collect(),
    }
}

/// What one guest, or all, did in this time.
pub(crate) fn tally(
    recorder: &Recorder,
    block_bytes: u32,
    elapsed_ns: u64,
    kicks: u64,
    calls: u64,
) -> Result<Tally, LoadError> {
    let (reads, writes) = (recorder.reads.len(), recorder.writes.len());
    let requests = recorder.requests();
    let bytes = (reads + writes) * u64::from(block_bytes);
    let seconds = elapsed_ns as f64 / 1e9;
    let mut both = recorder.reads.clone();
    both.add(&recorder.writes).map_err(LoadError::Merge)?;
    Ok(Tally {
        requests,
        reads,
        writes,
        flushes: recorder.flushes,
        bytes,
        iops: per(reads + writes, seconds),
        mb_per_s: per(bytes, seconds * 1e6),
        latency: latency(&both),
        read_latency: (reads > 0).then(|| latency(&recorder.reads)),
        write_latency: (writes > 0).then(|| latency(&recorder.writes)),
        failed: recorder.failed.clone(),
        kicks,
        calls,
        kicks_per_request: per(kicks, requests as f64),
        calls_per_request: per(calls, requests as f64),
    })
}

/// How evenly guests with these rates were served.
pub(crate) fn fairness(iops: &[f64]) -> Option<Fairness> {
    if iops.len() < 2 {
        return None;
    }
    let (sum, squares) =
        iops.iter().fold((0.0, 0.0), |(sum, squares), iops| (sum + iops, squares + iops * iops));
    Some(Fairness {
        min_iops: iops.iter().copied().fold(f64::INFINITY, f64::min),
        max_iops: iops.iter().copied().fold(0.0, f64::max),
        jain: rounded(if squares > 0.0 { sum * sum / (iops.len() as f64 * squares) } else { 1.0 }),
    })
}

/// What became of all guests' arrivals.
pub(crate) fn open_loop(guests: &[Measured]) -> Option<OpenLoop> {
    let mut sum: Option<OpenLoop> = None;
    for (tally, backlog) in guests.iter().filter_map(|measured| measured.guest.arrivals()) {
        let sum = sum.get_or_insert(OpenLoop { due: 0, submitted: 0, backlog_max: 0, backlog_end: 0 });
        sum.due += tally.due;
        sum.submitted += tally.sent;
        sum.backlog_max = sum.backlog_max.max(tally.backlog_max);
        sum.backlog_end += backlog;
    }
    sum
}

/// What all guests verified.
pub(crate) fn verified(guests: &[Measured]) -> Option<Verify> {
    let mut sum: Option<Verify> = None;
    for measured in guests {
        let Some(one) = measured.guest.oracle().map(|oracle| oracle.verdict()) else { continue };
        let sum = sum.get_or_insert_default();
        sum.blocks_checked += one.blocks_checked;
        sum.blocks_written += one.blocks_written;
        sum.stale += one.stale;
        sum.misplaced += one.misplaced;
        sum.torn += one.torn;
        sum.foreign += one.foreign;
        if let Some(first) = one.first {
            sum.first.get_or_insert_with(|| format!("{}: {first}", measured.guest.link.name()));
        }
    }
    sum
}

/// What the client's threads used.
pub(crate) fn client(cost: &Cost, work: &[Work], requests: u64) -> Client {
    let sum = |of: fn(&Work) -> u64| work.iter().map(of).sum::<u64>();
    let timed = sum(|work| work.timed_completions) as f64;
    let cpu_ns = cost.user_ns + cost.system_ns;
    Client {
        cpu_ns,
        cpu_system_ns: cost.system_ns,
        cpu_ns_per_request: per(cpu_ns, requests as f64),
        busy_ns_per_request: per(sum(|work| work.timed_ns), timed),
        requests_per_look: per(sum(|work| work.completions), sum(|work| work.batches) as f64),
        latency_error_ns: per(sum(|work| work.late_ns), timed),
        preemptions: cost.preemptions,
    }
}

/// A ratio that is zero when there was nothing.
fn per(what: u64, of: f64) -> f64 {
    if of > 0.0 { rounded(what as f64 / of) } else { 0.0 }
}

/// As many decimals as anybody reads; such numbers also come back from JSON as what they were.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guest_that_has_all_is_as_unfair_as_can_be() {
        let all = |iops: &[f64]| fairness(iops).unwrap().jain;
        assert!((all(&[5.0, 5.0, 5.0, 5.0]) - 1.0).abs() < 1e-9);
        assert!((all(&[8.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
        assert_eq!(fairness(&[1.0]), None);
    }

    #[test]
    fn a_distribution_rises_and_ends_with_the_longest() {
        let mut histogram = Histogram::new(3).unwrap();
        for ns in 1..=1000 {
            histogram.record(ns * 1000).unwrap();
        }
        let latency = latency(&histogram);
        assert_eq!((latency.p50_ns / 1000, latency.p99_ns / 1000), (500, 990));
        assert!(latency.percentiles.is_sorted_by_key(|point| point.latency_ns));
        assert_eq!(latency.percentiles.last().unwrap().latency_ns, latency.max_ns);
        assert!(latency.percentiles.iter().all(|point| point.percent <= 99.9 || point.percent == 100.0));
    }

    #[test]
    fn nothing_recorded_is_nothing_and_not_a_division_by_it() {
        let tally = tally(&Recorder::new().unwrap(), 4096, 1, 0, 0).unwrap();
        assert_eq!((tally.iops, tally.kicks_per_request, tally.latency.count), (0.0, 0.0, 0));
        assert!(client(&Cost::default(), &[], 0).busy_ns_per_request == 0.0);
    }
}
