use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::seeded::with;

/// What was admitted: at which furthest point of the clock, and how many tokens.
type Log = Vec<(u64, u32)>;

/// Asks for each size at its reading of the clock.
fn admit(rate: Rate, start_ns: u64, asked: &[(u64, u32)]) -> Log {
    let mut bucket = Bucket::new(rate, start_ns);
    let (mut log, mut furthest_ns) = (Log::new(), start_ns);
    for &(now_ns, tokens) in asked {
        furthest_ns = furthest_ns.max(now_ns);
        bucket.refill(now_ns);
        if bucket.affords(tokens) {
            bucket.take(tokens.into());
            log.push((furthest_ns, tokens));
        }
    }
    log
}

/// Q1, of every window that begins and ends with something admitted; all others are smaller within the same bound.
fn q1(rate: Rate, log: &[(u64, u32)]) -> Result<(), String> {
    for (first, &(from_ns, _)) in log.iter().enumerate() {
        let (mut sum, mut largest) = (0u128, u128::from(rate.burst));
        for &(to_ns, tokens) in &log[first..] {
            sum += u128::from(tokens);
            largest = largest.max(u128::from(tokens));
            let earned = u128::from(rate.per_second) * u128::from(to_ns - from_ns);
            if sum * 1_000_000_000 > earned + largest * 1_000_000_000 {
                return Err(std::format!("{sum} admitted from {from_ns} ns to {to_ns} ns at {rate:?}"));
            }
        }
    }
    Ok(())
}

/// A clock's readings: mostly small steps, also none, back, and very far.
fn readings(count: usize) -> impl Strategy<Value = (u64, Vec<u64>)> {
    let step = prop_oneof![
        6 => 0i128..50_000_000,
        2 => Just(0i128),
        2 => -100_000_000i128..0,
        1 => 0i128..20_000_000_000,
        1 => Just(i128::from(u64::MAX) / 3),
    ];
    let start = prop_oneof![Just(0u64), Just(u64::MAX - 1_000_000_000), any::<u64>()];
    (start, prop::collection::vec(step, count)).prop_map(|(start_ns, steps)| {
        let mut at = i128::from(start_ns);
        let readings = steps.into_iter().map(|step| {
            at = (at + step).clamp(0, i128::from(u64::MAX));
            u64::try_from(at).unwrap()
        });
        (start_ns, readings.collect())
    })
}

fn rates() -> impl Strategy<Value = Rate> {
    let number = || prop_oneof![1u64..100, 1u64..5_000_000, Just(Rate::MAX), Just(Rate::MAX - 1)];
    (number(), number()).prop_map(|(per_second, burst)| Rate { per_second, burst })
}

fn sizes() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(1u32), 4 => 1u32..200_000, 1 => any::<u32>().prop_map(|size| size.max(1))]
}

proptest! {
    /// Q1, also when the clock stands still or steps back, and at the edges of 64 bits.
    #[test]
    fn no_window_admits_more_than_its_rate_and_a_burst(
        rate in rates(),
        (start_ns, times) in readings(80),
        sizes in prop::collection::vec(sizes(), 80),
    ) {
        let asked: Vec<_> = times.into_iter().zip(sizes).collect();
        let log = admit(rate, start_ns, &asked);
        prop_assert_eq!(q1(rate, &log), Ok(()));
    }

    /// Neither sooner, which would break the limit, nor later, which would waste it.
    #[test]
    fn the_time_at_which_a_request_is_affordable_is_exact_to_the_nanosecond(
        rate in rates(),
        taken in prop::collection::vec(sizes(), 1..5),
        size in sizes(),
        start_ns in 0u64..1 << 62,
    ) {
        let mut bucket = Bucket::new(rate, start_ns);
        for taken in taken {
            bucket.take(taken.into());
        }
        let at_ns = bucket.affordable_at_ns(size);
        if at_ns > start_ns && at_ns < u64::MAX {
            bucket.refill(at_ns - 1);
            prop_assert!(!bucket.affords(size));
        }
        if at_ns < u64::MAX {
            bucket.refill(at_ns);
            prop_assert!(bucket.affords(size));
        }
    }
}

/// Q1: a rate of milliseconds taken for one of nanoseconds admits a million times as much, and the check says so.
#[test]
fn the_check_catches_milliseconds_taken_for_nanoseconds() {
    let rate = Rate { per_second: 1000, burst: 10 };
    let asked: Vec<_> = (0..2000).map(|step| (step * 10_000, 1)).collect();
    assert_eq!(q1(rate, &admit(rate, 0, &asked)), Ok(()));
    with(Bug::MillisecondsForNanoseconds, || assert!(q1(rate, &admit(rate, 0, &asked)).is_err()));
}

#[test]
fn a_rate_that_divides_nothing_is_exact_over_an_hour_of_odd_steps() {
    let rate = Rate { per_second: 999_983, burst: 50_000 };
    let mut bucket = Bucket::new(rate, 0);
    bucket.take(50_000);
    let (mut now_ns, mut taken) = (0u64, 0u128);
    while now_ns < 3_600 * SECOND_NS {
        now_ns += 7_654_321;
        bucket.refill(now_ns);
        let whole = u64::try_from(bucket.tokens()).unwrap();
        bucket.take(whole);
        taken += u128::from(whole);
        assert!(!bucket.affords(1));
    }
    assert_eq!(taken, u128::from(now_ns) * 999_983 / 1_000_000_000);
}

#[test]
fn a_request_above_the_burst_goes_when_the_bucket_is_full_and_is_repaid() {
    let mut bucket = Bucket::new(Rate { per_second: 1000, burst: 10 }, 0);
    assert!(bucket.affords(100));
    bucket.take(100);
    assert_eq!(bucket.tokens(), -90);
    // 91 tokens at a thousand a second.
    assert_eq!(bucket.affordable_at_ns(1), 91_000_000);
    // The next one as large needs a full bucket again.
    assert_eq!(bucket.affordable_at_ns(100), 100_000_000);
}

#[test]
fn time_that_steps_back_earns_nothing_until_it_has_caught_up() {
    let mut bucket = Bucket::new(Rate { per_second: 1_000_000_000, burst: 100 }, 1000);
    bucket.take(100);
    bucket.refill(500);
    bucket.refill(1000);
    assert_eq!(bucket.tokens(), 0);
    bucket.refill(1007);
    assert_eq!(bucket.tokens(), 7);
}

#[test]
fn the_largest_numbers_neither_overflow_nor_overfill() {
    let rate = Rate { per_second: Rate::MAX, burst: Rate::MAX };
    let mut bucket = Bucket::new(rate, 0);
    for _ in 0..1000 {
        bucket.take(u32::MAX.into());
    }
    bucket.refill(u64::MAX);
    assert_eq!(bucket.tokens(), Rate::MAX.cast_signed());
    let mut slowest = Bucket::new(Rate { per_second: 1, burst: 1 }, u64::MAX - 5);
    slowest.take(u32::MAX.into());
    assert_eq!(slowest.affordable_at_ns(1), u64::MAX);
}

#[test]
fn another_rate_keeps_the_debt_and_gives_no_new_burst() {
    let mut bucket = Bucket::new(Rate { per_second: 10, burst: 100 }, 0);
    bucket.take(150);
    bucket.retune(Rate { per_second: 1_000_000, burst: 1000 }, 1_000_000_000);
    assert_eq!(bucket.tokens(), -40);
    bucket.refill(2_000_000_000);
    bucket.retune(Rate { per_second: 10, burst: 20 }, 2_000_000_000);
    assert_eq!(bucket.tokens(), 20);
}
