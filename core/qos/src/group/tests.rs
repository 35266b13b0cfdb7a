use alloc::sync::Arc;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{Io, NotBefore};

fn ops(per_second: u64, burst: u64) -> Limits {
    Limits { ops: Some(Rate { per_second, burst }), ..Limits::default() }
}

fn bytes(per_second: u64, burst: u64) -> Limits {
    Limits { bytes: Some(Rate { per_second, burst }), ..Limits::default() }
}

fn group(limits: &Limits, now_ns: u64) -> Arc<Group> {
    Arc::new(Group::new(limits, now_ns).unwrap())
}

/// Takes all that there is now.
fn drain(lease: &mut Lease, io: Io, now_ns: u64) -> u64 {
    let mut taken = 0;
    while lease.affords(io, now_ns).is_ok() {
        lease.charge(io);
        taken += 1;
    }
    taken
}

/// What a step of the property test does.
type Step = (i64, usize, u32, u8);

fn step(size_max: u32) -> impl Strategy<Value = Step> {
    (prop_oneof![9 => 0i64..2_000_000, 1 => -3_000_000i64..0], 0usize..3, 1..size_max, 0u8..8)
}

proptest! {
    /// Q1, of a limit that several channels lease from, however they come and go, and whatever the clock does: also where it
    /// steps back, and near the end of what it can count.
    #[test]
    fn all_channels_together_keep_within_rate_and_burst(
        per_second in 1_000u64..10_000_000_000,
        burst_us in 1_000u64..200_000,
        start_ns in prop_oneof![Just(0u64), 0u64..1 << 60, Just((1 << 61) - 50_000_000), Just(u64::MAX - 1_000_000_000)],
        steps in prop::collection::vec(step(1_000_000), 1..160),
    ) {
        let burst = (u128::from(per_second) * u128::from(burst_us)).div_ceil(1_000_000);
        let burst = u64::try_from(burst).unwrap();
        let group = group(&bytes(per_second, burst), start_ns);
        let mut leases: Vec<_> = (0..3).map(|_| Lease::new(group.clone(), 100)).collect();
        let (mut now_ns, mut log) = (start_ns, Vec::new());
        for (step_ns, channel, size, also) in steps {
            now_ns = now_ns.saturating_add_signed(step_ns);
            let lease = &mut leases[channel];
            // Some at a glance, some by a look: in any order.
            let skimmed = also % 2 == 1 && lease.skim(Io::read(size), now_ns);
            if skimmed || lease.affords(Io::read(size), now_ns).is_ok() {
                if !skimmed {
                    lease.charge(Io::read(size));
                }
                log.push((now_ns, u128::from(size)));
            }
            if also == 0 {
                lease.release();
            }
        }
        for &(from_ns, _) in &log {
            for &(to_ns, _) in log.iter().filter(|one| one.0 >= from_ns) {
                let within = log.iter().filter(|one| (from_ns..=to_ns).contains(&one.0));
                let (mut sum, mut bound) = (0, u128::from(burst));
                for &(_, size) in within {
                    sum += size;
                    if size * 2 > u128::from(burst) {
                        bound = bound.max(size + u128::from(burst) / 2 + 1);
                    }
                }
                let earned = u128::from(per_second) * u128::from(to_ns - from_ns);
                prop_assert!(sum * 1_000_000_000 <= earned + bound * 1_000_000_000, "{sum} of {bound}");
            }
        }
    }

    /// Q1 and Q3, of retunes: what is used in any window is at most what the rates of its moments come to, and the largest burst.
    #[test]
    fn a_retune_is_neither_a_gift_nor_a_gap(
        terms in prop::collection::vec((1_000u64..1_000_000, 1_000u64..100_000, 1u64..40), 1..12),
        channels in 1usize..5,
    ) {
        let limits = |per_second: u64, burst_us: u64| ops(per_second, (per_second * burst_us).div_ceil(1_000_000));
        let (rate, burst_us, _) = terms[0];
        let group = group(&limits(rate, burst_us), 0);
        let mut leases: Vec<_> = (0..channels).map(|_| Lease::new(group.clone(), 100)).collect();
        let (mut now_ns, mut used, mut earned) = (0u64, 0i128, 0i128);
        // Used minus earned, of which no later value may exceed an earlier one by more than a burst.
        let (mut least, mut largest_burst, mut burst_sum) = (i128::MAX, 0, 0i128);
        for (per_second, burst_us, steps) in terms {
            let limits = limits(per_second, burst_us);
            group.retune(&limits, now_ns).unwrap();
            largest_burst = largest_burst.max(i128::from(limits.ops.unwrap().burst));
            burst_sum += i128::from(limits.ops.unwrap().burst);
            for _ in 0..steps {
                now_ns += 37_003;
                earned += i128::from(per_second) * 37_003;
                least = least.min(used * 1_000_000_000 - earned);
                for lease in &mut leases {
                    used += i128::from(drain(lease, Io::read(1), now_ns));
                }
                let over = used * 1_000_000_000 - earned - least;
                // A nanosecond's rounding for each that carries something over.
                let rounding = i128::from(per_second) * 16;
                prop_assert!(over <= largest_burst * 1_000_000_000 + rounding, "{over} of {largest_burst}");
            }
        }
        // Nobody was held back either: all that was earned is used, but for what each may hold and a burst that was shrunk.
        let behind = earned - used * 1_000_000_000;
        prop_assert!(behind <= (burst_sum + 200) * 1_000_000_000, "{behind}");
    }
}

#[test]
fn a_channel_alone_has_the_whole_rate() {
    let mut lease = Lease::new(group(&ops(100_003, 1000), 0), 100);
    let (mut now_ns, mut admitted) = (0, 0);
    while now_ns < 10 * SECOND_NS {
        admitted += drain(&mut lease, Io::read(1), now_ns);
        now_ns += 13_577;
    }
    assert!((1_000_030 - 2..=1_001_030).contains(&admitted), "{admitted}");
}

#[test]
fn what_one_does_not_use_is_there_for_the_others() {
    let group = group(&ops(1_000_000, 1000), 0);
    let (mut first, mut second) = (Lease::new(group.clone(), 100), Lease::new(group, 100));
    // The first leases a slice, uses one token of it, and falls silent.
    assert_eq!(first.affords(Io::read(1), 0), Ok(()));
    first.charge(Io::read(1));
    let mut taken = drain(&mut second, Io::read(1), 0);
    for step in 1..=1000 {
        taken += drain(&mut second, Io::read(1), step * 100_000);
    }
    assert!(taken >= 100_000 + 1000 - 1000 / SLICE_PART - 1, "{taken}");
}

#[test]
fn channels_that_all_want_more_have_it_in_turn() {
    let group = group(&bytes(100_000_000, 10_000_000), 0);
    let mut leases: Vec<_> = (0..4).map(|_| Lease::new(group.clone(), 100)).collect();
    let sizes = [4096, 4096, 16_384, 65_536];
    let mut taken = [0; 4];
    for step in 0..10_000 {
        // The first always comes first, and the last is looked at seldom.
        for (index, lease) in leases.iter_mut().enumerate() {
            if index < 3 || step % 40 == 0 {
                taken[index] +=
                    drain(lease, Io::read(sizes[index]), step * 100_000) * u64::from(sizes[index]);
            }
        }
    }
    let total: u64 = taken.iter().sum();
    assert!((99_000_000..=110_000_000).contains(&total), "{taken:?}");
    // The burst at the beginning went to the first. Each has its turn, of a slice or a request; the last, one each time that it is
    // looked at.
    assert!(taken[1] >= total / 6 && taken[2] >= total / 6, "{taken:?}");
    assert!(taken[3] >= 240 * 65_536, "{taken:?}");
}

#[test]
fn a_request_above_the_burst_goes_once_and_is_repaid() {
    let mut lease = Lease::new(group(&bytes(1_000_000, 100_000), 0), 100);
    assert_eq!(lease.affords(Io::write(1_000_000), 0), Ok(()));
    lease.charge(Io::write(1_000_000));
    let Err(NotBefore(later_ns)) = lease.affords(Io::write(4096), 0) else {
        panic!("the debt was forgotten")
    };
    assert!((850_000_000..910_000_000).contains(&later_ns), "{later_ns}");
    assert_eq!(lease.affords(Io::write(4096), later_ns), Ok(()));
}

#[test]
fn whoever_is_late_for_its_place_has_another() {
    let group = group(&ops(1_000, 10), 0);
    let (mut first, mut second) = (Lease::new(group.clone(), 100), Lease::new(group, 100));
    drain(&mut first, Io::read(1), 0);
    let Err(NotBefore(at_ns)) = second.affords(Io::read(1), 0) else { panic!("there was nothing left") };
    // Half a burst and more after its time, its token is gone, and the next is there.
    assert_eq!(second.affords(Io::read(1), at_ns + 20_000_000), Ok(()));
}

#[test]
fn a_limit_that_is_taken_away_holds_nobody_and_one_that_comes_begins_full() {
    let group = group(&ops(10, 1), 0);
    let mut lease = Lease::new(group.clone(), 100);
    assert_eq!(drain(&mut lease, Io::read(1), 0), 1);
    group.retune(&Limits::default(), 1).unwrap();
    for _ in 0..100 {
        assert_eq!(lease.affords(Io::read(1), 1), Ok(()));
        lease.charge(Io::read(1));
    }
    group.retune(&ops(1_000, 100), 2).unwrap();
    assert_eq!(drain(&mut lease, Io::read(1), 2), 100);
}

#[test]
fn a_burst_that_cannot_be_shared_is_refused() {
    let refused = Group::new(&ops(2_000_000, 1000), 0);
    assert!(matches!(refused, Err(QosError::SharedBurst { burst: 1000, .. })));
}

/// Q1, with the channels on threads: whatever the interleaving, also with retunes between, a clock that stands still gives one
/// burst.
#[test]
fn threads_that_lease_at_once_share_one_burst() {
    for _ in 0..10 {
        let taken = taken_by_threads(64);
        assert!(taken <= 100_001, "{taken}");
    }
}

/// What a lease gives back after another has leased lapses, so that a burst is used up only by those who keep what they hold: here each
/// gives back six times, a slice of 250 tokens at most.
#[test]
fn threads_that_keep_what_they_lease_use_the_burst_up() {
    for _ in 0..10 {
        let taken = taken_by_threads(8_192);
        assert!((90_000..=100_001).contains(&taken), "{taken}");
    }
}

/// How much of a burst of 100 000 four threads get that lease at once, while its rate is changed, and give back every so many rounds.
fn taken_by_threads(give_back_every: u64) -> u64 {
    let group = group(&ops(1_000_000, 100_000), SECOND_NS);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut lease = Lease::new(group.clone(), 100);
            std::thread::spawn(move || {
                let mut taken = 0u64;
                for round in 1..50_000u64 {
                    if lease.affords(Io::read(1), SECOND_NS).is_ok() {
                        lease.charge(Io::read(1));
                        taken += 1;
                    }
                    if round.is_multiple_of(give_back_every) {
                        lease.release();
                    }
                }
                taken
            })
        })
        .collect();
    for turn in 0..200 {
        // The same burst and other rates.
        group.retune(&ops(1_000_000 + turn % 7, 100_000), SECOND_NS).unwrap();
    }
    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
}
