use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{CostModel, Guarantees, Rate};

fn program(limits: Limits) -> Program {
    Program::compile(&Guarantees { limits, ..Guarantees::default() }, CostModel::default()).unwrap()
}

fn rate(per_second: u64, burst: u64) -> Option<Rate> {
    Some(Rate { per_second, burst })
}

#[test]
fn reads_and_writes_are_held_to_their_own_limits() {
    let limits = Limits { read_ops: rate(1000, 2), write_bytes: rate(4096, 8192), ..Limits::default() };
    let mut account = Account::new(program(limits), 0);
    assert!(account.admit(Io::read(4096)).is_ok());
    assert!(account.admit(Io::read(1 << 20)).is_ok());
    assert_eq!(account.admit(Io::read(1)), Err(NotBefore(1_000_000)));
    assert!(account.admit(Io::write(4096)).is_ok());
    assert!(account.admit(Io::write(4096)).is_ok());
    assert_eq!(account.admit(Io::write(2048)), Err(NotBefore(500_000_000)));
    // No bytes, so nothing that a limit of bytes could stop.
    assert!(account.admit(Io::write(0)).is_ok());
}

#[test]
fn a_request_that_one_limit_refuses_is_charged_to_none() {
    let limits = Limits { ops: rate(10, 10), bytes: rate(1000, 1000), ..Limits::default() };
    let mut account = Account::new(program(limits), 0);
    assert!(account.admit(Io::read(1000)).is_ok());
    for _ in 0..20 {
        assert_eq!(account.admit(Io::read(500)), Err(NotBefore(500_000_000)));
    }
    account.refill(500_000_000);
    assert!(account.admit(Io::read(500)).is_ok());
}

#[test]
fn what_is_not_limited_is_always_affordable() {
    let mut account = Account::new(Program::default(), 0);
    assert!(!account.is_limited());
    for _ in 0..1000 {
        assert!(account.admit(Io::write(u32::MAX)).is_ok());
    }
}

#[test]
fn a_limit_that_both_programs_have_keeps_what_is_owed() {
    let mut account = Account::new(program(Limits { bytes: rate(1000, 10), ..Limits::default() }), 0);
    account.charge(Io::read(1010));
    let both = Limits { ops: rate(5, 5), bytes: rate(2000, 10), ..Limits::default() };
    account.retune(program(both), 0);
    // 1001 bytes at the new rate.
    assert_eq!(account.affords(Io::read(1)), Err(NotBefore(500_500_000)));
}

#[test]
fn a_number_that_cannot_be_is_refused_by_name() {
    let limits = Limits { write_ops: rate(0, 1), ..Limits::default() };
    let refused = Program::compile(&Guarantees { limits, ..Guarantees::default() }, CostModel::default());
    let message = std::string::ToString::to_string(&refused.unwrap_err());
    assert_eq!(
        message,
        "the limit of writes cannot be 0; give a number from 1 to 281474976710656, or leave it out"
    );
}

proptest! {
    /// Q3: whenever the limit is changed, what is admitted follows the rate of the moment: never more than it and a burst, and
    /// never a token less, as long as there is always a request.
    #[test]
    fn a_retune_is_neither_a_gap_in_the_limit_nor_in_the_service(
        rates in prop::collection::vec((1u64..1_000_000, 0u64..400), 1..12),
    ) {
        const STEP_NS: u64 = 50_000;
        const BURST: u64 = 64;
        let limits = |per_second| Limits { ops: rate(per_second, BURST), ..Limits::default() };
        let (mut now_ns, mut earned, mut log) = (0u64, 0u128, Vec::new());
        let mut account = Account::new(program(limits(rates[0].0)), 0);
        let mut admitted = 0u128;
        for (per_second, steps) in rates {
            account.retune(program(limits(per_second)), now_ns);
            for _ in 0..steps {
                account.refill(now_ns);
                while account.admit(Io::read(512)).is_ok() {
                    admitted += 1;
                }
                log.push((earned, admitted));
                now_ns += STEP_NS;
                earned += u128::from(per_second) * u128::from(STEP_NS);
            }
        }
        for (first, &(from, before)) in log.iter().enumerate() {
            for &(to, after) in &log[first..] {
                let (sum, due) = ((after - before) * 1_000_000_000, to - from);
                prop_assert!(sum <= due + u128::from(BURST) * 1_000_000_000);
                prop_assert!(sum + 1_000_000_000 > due);
            }
        }
    }
}

proptest! {
    /// Q1: what is noted down where buckets are full, and charged only when they are not again, changes nothing of what is let go, in
    /// whatever steps the clock goes.
    #[test]
    fn an_account_that_skims_lets_go_what_one_that_weighs_does(
        per_second in 1u64..5_000_000_000,
        burst in 1u64..100_000,
        ops_per_second in 1u64..1_000_000,
        ops_burst in 1u64..50,
        steps in prop::collection::vec(
            (prop_oneof![3 => 0i64..3_000, 3 => 0i64..3_000_000, 1 => -1_000_000i64..0], 0u32..100_000, any::<bool>()),
            1..300,
        ),
    ) {
        let limits = Limits {
            ops: rate(ops_per_second, ops_burst),
            bytes: rate(per_second, burst),
            write_bytes: rate(per_second / 2 + 1, burst),
            ..Limits::default()
        };
        let [mut skims, mut weighs] = [0; 2].map(|now_ns| Account::new(program(limits), now_ns));
        let mut now_ns = 0u64;
        for (step_ns, bytes, is_read) in steps {
            now_ns = now_ns.saturating_add_signed(step_ns);
            let io = if is_read { Io::read(bytes) } else { Io::write(bytes) };
            let admitted = if skims.is_full(now_ns) {
                skims.skim(io, now_ns);
                true
            } else {
                let affordable = skims.open(io, now_ns);
                if !affordable {
                    skims.give_back(io);
                }
                affordable
            };
            weighs.refill(now_ns);
            prop_assert_eq!(admitted, weighs.admit(io).is_ok());
        }
        skims.refill(now_ns);
        for (ours, theirs) in skims.running().iter().zip(weighs.running()) {
            prop_assert_eq!(ours.bucket.tokens(), theirs.bucket.tokens());
        }
    }
}
