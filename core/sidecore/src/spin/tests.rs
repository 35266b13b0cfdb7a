//! The judge over patterns of arrivals, in virtual time: what it spends, and how often it sleeps.

use proptest::prelude::*;

use super::*;

const COST_NS: u64 = 5_000;
const CEILING_NS: u64 = 50_000;
const ADAPTIVE: Mode = Mode::Adaptive { spin_ns: CEILING_NS };
const BREATH_NS: u64 = 150;
const SERVICE_NS: u64 = 500;
const SECOND_NS: u64 = 1_000_000_000;

/// Tells when the next thing happens, given when the last one was served, and what is waited for until then.
type Arrivals<'a> = &'a mut dyn FnMut(u64) -> (u64, Awaited);

/// What a run has cost.
#[derive(Debug, Default)]
struct Spent {
    served: u64,
    spun_ns: u64,
    asleep_ns: u64,
    naps: u64,
    short_naps: u64,
    /// From when each thing happened to when it was found.
    delay_ns: u64,
    total_ns: u64,
}

impl Spent {
    /// Thousandths of the time that were spun.
    fn spun_permille(&self) -> u64 {
        self.spun_ns * 1000 / self.total_ns
    }

    fn delay_mean_ns(&self) -> u64 {
        self.delay_ns / self.served
    }
}

/// The thread's loop, with a clock that it sets itself.
fn run(mode: Mode, duration_ns: u64, arrivals: Arrivals<'_>) -> Spent {
    let (mut spin, mut spent, mut now_ns) = (Spin::new(COST_NS), Spent::default(), 0);
    let (mut due_ns, mut awaited) = arrivals(0);
    while now_ns < duration_ns {
        if due_ns <= now_ns {
            spent.short_naps += u64::from(spin.busy(now_ns));
            spent.served += 1;
            spent.delay_ns += now_ns - due_ns;
            now_ns += SERVICE_NS;
            (due_ns, awaited) = arrivals(now_ns);
            continue;
        }
        match spin.idle(now_ns, mode, || awaited) {
            Verdict::Spin => {
                spent.spun_ns += BREATH_NS;
                now_ns += BREATH_NS;
            }
            Verdict::Sleep => {
                spin.slept();
                spent.naps += 1;
                let woken_ns = now_ns.max(due_ns) + COST_NS;
                spent.asleep_ns += woken_ns - now_ns;
                now_ns = woken_ns;
            }
        }
    }
    spent.total_ns = now_ns;
    spent
}

/// Something happens every so often, whatever we do.
fn periodic(gap_ns: u64) -> impl FnMut(u64) -> (u64, Awaited) {
    let mut next_ns = 0;
    move |_| {
        next_ns += gap_ns;
        (next_ns, Awaited::Request)
    }
}

/// Many who know nothing of each other.
fn poisson(mean_ns: u64) -> impl FnMut(u64) -> (u64, Awaited) {
    let (mut next_ns, mut state) = (0, 0x9e37_79b9_7f4a_7c15u64);
    move |_| {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let uniform = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64;
        next_ns += (-(1.0 - uniform).ln() * mean_ns as f64) as u64;
        (next_ns, Awaited::Request)
    }
}

/// `count` with `gap_ns` between them, then none for `pause_ns`.
fn bursts(count: u64, gap_ns: u64, pause_ns: u64) -> impl FnMut(u64) -> (u64, Awaited) {
    let (mut next_ns, mut place) = (0, 0);
    move |_| {
        place = (place + 1) % count;
        next_ns += if place == 0 { pause_ns } else { gap_ns };
        (next_ns, Awaited::Request)
    }
}

/// One guest that waits for each answer, and a device.
fn in_turns(device_ns: u64, think_ns: u64) -> impl FnMut(u64) -> (u64, Awaited) {
    let mut at_device = false;
    move |served_ns| {
        at_device = !at_device;
        if at_device {
            (served_ns + think_ns, Awaited::Request)
        } else {
            (served_ns + device_ns, Awaited::Completion)
        }
    }
}

#[test]
fn what_comes_seldom_is_slept_for_and_costs_nothing() {
    let spent = run(ADAPTIVE, SECOND_NS, &mut periodic(1_000_000));
    assert_eq!((spent.spun_permille(), spent.short_naps), (0, 0), "{spent:?}");
    assert!(spent.naps >= 990, "{spent:?}");
}

#[test]
fn what_comes_often_is_never_slept_for() {
    for gap_ns in [1_000, 4_000, 9_500] {
        let spent = run(ADAPTIVE, SECOND_NS, &mut periodic(gap_ns));
        assert_eq!(spent.naps, 0, "every {gap_ns} ns: {spent:?}");
        assert!(spent.delay_mean_ns() <= BREATH_NS, "{spent:?}");
    }
}

#[test]
fn what_comes_just_too_seldom_is_not_spun_for_either() {
    let spent = run(ADAPTIVE, SECOND_NS, &mut periodic(25_000));
    assert!(spent.spun_permille() < 5, "{spent:?}");
    assert_eq!(spent.short_naps, 0, "{spent:?}");
}

#[test]
fn a_busy_crowd_is_hardly_ever_slept_for() {
    for mean_ns in [500, 2_000, 5_000] {
        let spent = run(ADAPTIVE, SECOND_NS, &mut poisson(mean_ns));
        assert!(spent.naps * 80 < spent.served, "every {mean_ns} ns: {spent:?}");
    }
}

#[test]
fn a_sparse_crowd_costs_little() {
    for (mean_ns, permille) in [(50_000, 150), (100_000, 50), (1_000_000, 5)] {
        let spent = run(ADAPTIVE, 10 * SECOND_NS, &mut poisson(mean_ns));
        assert!(spent.spun_permille() <= permille, "every {mean_ns} ns: {spent:?}");
    }
}

#[test]
fn a_burst_is_spun_through_and_the_pause_after_it_slept() {
    let spent = run(ADAPTIVE, SECOND_NS, &mut bursts(32, 2_000, 1_000_000));
    let count = SECOND_NS / 1_062_000;
    assert!((count..=count + count / 20).contains(&spent.naps), "{spent:?}");
    // Within a burst, and for what a sleep is worth at its end.
    assert!(spent.spun_permille() <= 70, "{spent:?}");
}

#[test]
fn a_load_that_comes_and_goes_is_followed_within_a_few_gaps() {
    let spent = run(ADAPTIVE, SECOND_NS, &mut bursts(3_000, 3_000, 10_000_000));
    let count = SECOND_NS / 19_000_000;
    assert!(spent.naps <= 2 * (count + 1), "{spent:?}");
    let in_bursts_permille = 450 * 2_500 / 3_000;
    assert!(spent.spun_permille() <= in_bursts_permille + 30, "{spent:?}");
}

#[test]
fn a_slow_device_is_slept_through_and_the_guest_behind_it_is_not() {
    let spent = run(ADAPTIVE, SECOND_NS, &mut in_turns(80_000, 5_000));
    let naps_expected = spent.served / 2;
    assert!(spent.naps.abs_diff(naps_expected) <= 8, "{spent:?}");
    assert!(spent.spun_permille() <= 65, "{spent:?}");
}

#[test]
fn a_fast_device_is_spun_for() {
    let spent = run(ADAPTIVE, SECOND_NS, &mut in_turns(9_000, 5_000));
    assert_eq!(spent.naps, 0, "{spent:?}");
}

#[test]
fn what_mostly_comes_soon_is_spun_for_though_the_rest_comes_very_late() {
    // Three in four within 4 us, the fourth a millisecond later.
    let spent = run(ADAPTIVE, SECOND_NS, &mut bursts(4, 4_000, 1_000_000));
    assert!(spent.naps <= spent.served / 4 + 8, "{spent:?}");
    // One in four: not worth it.
    let (mut inner, mut place) = (bursts(2, 4_000, 1_000_000), 0);
    let mut seldom = |served_ns| {
        place = (place + 1) % 2;
        let (next_ns, awaited) = inner(served_ns);
        (next_ns + place * 1_000_000, awaited)
    };
    let spent = run(ADAPTIVE, SECOND_NS, &mut seldom);
    assert!(spent.spun_permille() < 5, "{spent:?}");
}

#[test]
fn one_pause_does_not_end_a_stream_and_five_do() {
    let mut spin = Spin::new(COST_NS);
    let mut verdict_after = |gap_ns: u64, from_ns: u64| {
        spin.busy(from_ns + gap_ns);
        spin.idle(from_ns + gap_ns, ADAPTIVE, || Awaited::Request)
    };
    let mut now_ns = 0;
    let mut step = |gap_ns| {
        let verdict = verdict_after(gap_ns, now_ns);
        now_ns += gap_ns;
        verdict
    };
    for _ in 0..50 {
        assert_eq!(step(2_000), Verdict::Spin);
    }
    assert_eq!(step(SECOND_NS), Verdict::Spin);
    let ends = (1..20).position(|_| step(SECOND_NS) == Verdict::Sleep);
    assert!(ends.is_some_and(|pauses| pauses < 5), "{ends:?}");
    // And it comes back soon after the stream does.
    let back = (0..20).position(|_| step(2_000) == Verdict::Spin);
    assert!(back.is_some_and(|steps| steps < 5), "{back:?}");
}

#[test]
fn modes_without_a_judge_never_ask_it() {
    let spent = run(Mode::Poll, SECOND_NS / 100, &mut periodic(1_000_000));
    assert_eq!(spent.naps, 0);
    let spent = run(Mode::Event, SECOND_NS / 100, &mut periodic(12_000));
    // The last is still slept for, and the first came after a longer while.
    assert_eq!((spent.spun_ns, spent.naps, spent.short_naps), (0, spent.served + 1, spent.served - 1));
}

#[test]
fn who_cannot_sleep_tries_again_after_a_while() {
    let mut spin = Spin::new(COST_NS);
    let ask = |spin: &mut Spin, now_ns| spin.idle(now_ns, Mode::Event, || Awaited::Completion);
    assert_eq!(ask(&mut spin, 0), Verdict::Sleep);
    spin.kept_awake(100);
    assert_eq!(ask(&mut spin, 100), Verdict::Spin);
    assert_eq!(ask(&mut spin, 99 + COST_NS), Verdict::Spin);
    assert_eq!(ask(&mut spin, 100 + COST_NS), Verdict::Sleep);
}

proptest! {
    /// Whatever comes, and whenever: it spins no longer than it may, and sleeps in the end.
    #[test]
    fn the_ceiling_holds_for_any_arrivals(
        gaps in prop::collection::vec((0u64..200_000, any::<bool>()), 1..200),
        ceiling_ns in 0u64..100_000,
        cost_ns in 0u64..100_000,
    ) {
        let mut spin = Spin::new(cost_ns);
        let mut now_ns = 0u64;
        for (gap_ns, device) in gaps {
            let mode = Mode::Adaptive { spin_ns: ceiling_ns };
            let awaited = || if device { Awaited::Completion } else { Awaited::Request };
            spin.idle(now_ns, mode, awaited);
            prop_assert_eq!(spin.idle(now_ns + ceiling_ns, mode, awaited), Verdict::Sleep);
            now_ns += gap_ns;
            spin.busy(now_ns);
        }
    }
}
