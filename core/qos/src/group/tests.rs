use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn ops(per_second: u64, burst: u64) -> Limits {
    Limits { ops: Some(Rate { per_second, burst }), ..Limits::default() }
}

fn bytes(per_second: u64, burst: u64) -> Limits {
    Limits { bytes: Some(Rate { per_second, burst }), ..Limits::default() }
}

fn group(limits: &Limits, sidecores: u16, now_ns: u64) -> Arc<Group> {
    Arc::new(Group::new(limits, sidecores, now_ns).unwrap())
}

proptest! {
    /// Q1, of a limit that several sidecores lease from, however they come and go.
    #[test]
    fn all_sidecores_together_keep_within_rate_and_burst(
        per_second in 1_000u64..10_000_000_000,
        burst in 1_000_000u64..100_000_000,
        start_ns in prop_oneof![Just(0u64), 0u64..1 << 63],
        steps in prop::collection::vec((0u64..2_000_000, 0usize..3, prop_oneof![1u32..100_000, Just(200_000_000)], 0u8..8), 1..120),
    ) {
        let group = group(&bytes(per_second, burst), 3, start_ns);
        let mut leases: Vec<_> = (0..3).map(|_| Lease::new(group.clone())).collect();
        let (mut now_ns, mut log) = (start_ns, Vec::new());
        for (step_ns, sidecore, size, also) in steps {
            now_ns += step_ns;
            let lease = &mut leases[sidecore];
            lease.expire(now_ns);
            if lease.affords(Io::read(size), now_ns).is_ok() {
                lease.charge(Io::read(size));
                log.push((now_ns, u128::from(size)));
            }
            if also == 0 {
                lease.release();
            }
        }
        for (first, &(from_ns, _)) in log.iter().enumerate() {
            let (mut sum, mut largest) = (0, u128::from(burst));
            for &(to_ns, size) in &log[first..] {
                sum += size;
                if size > u128::from(burst) {
                    largest = largest.max(size + u128::from(burst) / 2);
                }
                let earned = u128::from(per_second) * u128::from(to_ns - from_ns);
                prop_assert!(sum * 1_000_000_000 <= earned + largest * 1_000_000_000);
            }
        }
    }
}

#[test]
fn a_sidecore_alone_has_the_whole_rate() {
    let group = group(&ops(100_003, 1000), 8, 0);
    let mut lease = Lease::new(group);
    let (mut now_ns, mut admitted) = (0, 0u64);
    while now_ns < 10 * SECOND_NS {
        lease.expire(now_ns);
        while lease.affords(Io::read(1), now_ns).is_ok() {
            lease.charge(Io::read(1));
            admitted += 1;
        }
        now_ns += 13_577;
    }
    assert!((1_000_030 - 2..1_000_030 + 1000).contains(&admitted), "{admitted}");
}

#[test]
fn what_one_does_not_use_is_there_for_the_others() {
    let group = group(&ops(1_000_000, 1000), 2, 0);
    let (mut first, mut second) = (Lease::new(group.clone()), Lease::new(group));
    // The first leases a slice, uses one token of it, and falls silent.
    assert!(first.affords(Io::read(1), 0).is_ok());
    first.charge(Io::read(1));
    let drain = |lease: &mut Lease, now_ns| {
        let mut taken = 0u32;
        while lease.affords(Io::read(1), now_ns).is_ok() {
            lease.charge(Io::read(1));
            taken += 1;
        }
        taken
    };
    let before = drain(&mut second, 0);
    first.expire(10_000_000);
    let after = drain(&mut second, 10_000_000);
    assert!(before < after, "{before} while the first held its slice, {after} after a full burst came back");
    assert!(after >= 1000 - 2 * 250 - 3, "{after}");
}

#[test]
fn a_request_above_the_burst_goes_once_and_is_repaid() {
    let group = group(&bytes(1_000_000, 100_000), 1, 0);
    let mut lease = Lease::new(group);
    assert!(lease.affords(Io::write(1_000_000), 0).is_ok());
    lease.charge(Io::write(1_000_000));
    let Err(NotBefore(later_ns)) = lease.affords(Io::write(4096), 0) else {
        panic!("the debt was forgotten")
    };
    assert!((900_000_000..910_000_000).contains(&later_ns), "{later_ns}");
    assert!(lease.affords(Io::write(4096), later_ns).is_ok());
}

#[test]
fn a_burst_that_cannot_be_divided_is_refused() {
    let refused = Group::new(&ops(2_000_000_000, 1000), 4, 0);
    assert!(matches!(refused, Err(QosError::SharedBurst { burst: 1000, .. })));
}

/// Q1, with the sidecores on threads: whatever the interleaving, a clock that stands still gives one burst.
#[test]
fn threads_that_lease_at_once_share_one_burst() {
    let group = group(&ops(1_000_000, 100_000), 4, SECOND_NS);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let mut lease = Lease::new(group.clone());
            std::thread::spawn(move || {
                let mut taken = 0u64;
                for round in 0..100_000 {
                    if lease.affords(Io::read(1), SECOND_NS).is_ok() {
                        lease.charge(Io::read(1));
                        taken += 1;
                    }
                    if round % 64 == 0 {
                        lease.release();
                    }
                }
                taken
            })
        })
        .collect();
    let taken: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!((90_000..=100_000).contains(&taken), "{taken}");
}
