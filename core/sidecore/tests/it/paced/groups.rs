//! Limits: a channel's own, and a tenant's over several sidecores.

use std::sync::Arc;

use proptest::prelude::*;
use vfiomux_qos::{CostModel, Group, Guarantees, Io, Limits, Rate};

use super::fluid::due_within;
use super::{Bench, Client, DeviceLog, Habit, MS, SECOND, Sent};

fn ops(per_second: u64, burst: u64) -> Limits {
    Limits { ops: Some(Rate { per_second, burst }), ..Limits::default() }
}

fn bytes(per_second: u64, burst: u64) -> Limits {
    Limits { bytes: Some(Rate { per_second, burst }), ..Limits::default() }
}

/// Q1: whatever some clients were given together lies within rate × window + `burst` in every window.
fn keeps_within(
    log: &DeviceLog,
    of: impl Fn(&Sent) -> Option<u64>,
    rate: u64,
    burst: u64,
) -> Result<(), String> {
    // The sum over a window is a difference of levels: the largest after the least before.
    let (mut level, mut least) = (0i128, i128::MAX);
    for sent in &log.0 {
        let Some(tokens) = of(sent) else { continue };
        let earned = i128::from(rate) * i128::from(sent.at_ns);
        least = least.min(level * i128::from(SECOND) - earned);
        level += i128::from(tokens);
        let over = level * i128::from(SECOND) - earned - least;
        if over > i128::from(burst) * i128::from(SECOND) {
            return Err(format!(
                "{} beyond the burst at {} ns",
                over / i128::from(SECOND) - i128::from(burst),
                sent.at_ns
            ));
        }
    }
    Ok(())
}

/// Two channels of a tenant, on a sidecore each, beside one of another tenant on each.
fn tenant(io: Io) -> [Client; 4] {
    let mut clients = [Client::reader(0, 100, 32); 4];
    clients[1].sidecore = 1;
    clients[3].sidecore = 1;
    (clients[0].io, clients[1].io) = (io, io);
    (clients[2].habit, clients[3].habit) = (Habit::backlogged(4), Habit::backlogged(4));
    clients
}

/// Q1, of a tenant over two sidecores: its limit is held to the request, and all of it is used.
#[test]
fn a_tenant_on_two_sidecores_has_its_limit_and_no_more() {
    let mut bench = Bench::new(2, &tenant(Io::read(4096)));
    let before = bench.log().0.len();
    let group = Arc::new(Group::new(&ops(4_000, 100), bench.now_ns).unwrap());
    bench.join(0, Some(&group));
    bench.join(1, Some(&group));
    let from_ns = bench.now_ns;
    bench.run_until(from_ns + 2 * SECOND);
    let mut log = bench.log();
    // From the time that both belong to it.
    log.0.drain(..before);
    log.0.retain(|sent| sent.at_ns > from_ns);
    assert_eq!(keeps_within(&log, |sent| (sent.client < 2).then_some(1), 4_000, 100), Ok(()));
    let [first, second] = [0, 1].map(|client| log.of(client).count() as u64);
    assert!(first + second >= 7_990, "{first} and {second}");
    assert!(first.abs_diff(second) <= 400, "{first} and {second}: they take turns");
    let seen = bench.counters[0].snapshot();
    assert!(seen.tenant_limited > 0 && seen.tenant_limited_ns > SECOND, "{seen:?}");
    assert_eq!((seen.limited, seen.limited_ns), (0, 0), "its own limits held nothing");
    // The device is never idle for it: the others have what the tenant may not have.
    let idle_ns = bench.server.lock().unwrap().idle_ns;
    assert!(idle_ns < bench.now_ns / 50, "{idle_ns} ns without work");
}

/// What one of them leaves, the other has; and one that goes to the other sidecore takes its part along.
#[test]
fn a_tenants_limit_is_where_its_work_is() {
    let mut bench = Bench::new(2, &tenant(Io::read(4096)));
    let group = Arc::new(Group::new(&ops(4_000, 40), bench.now_ns).unwrap());
    bench.join(0, Some(&group));
    bench.join(1, Some(&group));
    bench.guests[1].habit.depth = 0;
    bench.run_until(SECOND);
    let from_ns = bench.now_ns;
    bench.run_until(from_ns + SECOND);
    let alone = bench.log().of(0).filter(|sent| sent.at_ns > from_ns).count();
    assert!((3_990..=4_040).contains(&alone), "{alone}");
    bench.guests[1].habit.depth = 32;
    let from_ns = bench.now_ns;
    for round in 0..50 {
        bench.run_until(bench.now_ns + 10 * MS);
        bench.shift(0, (round + 1) % 2);
    }
    let to_ns = bench.now_ns;
    let mut log = bench.log();
    log.0.retain(|sent| sent.at_ns > from_ns);
    assert_eq!(keeps_within(&log, |sent| (sent.client < 2).then_some(1), 4_000, 40), Ok(()));
    let both = log.0.iter().filter(|sent| sent.client < 2).count() as u64;
    assert!(both >= (to_ns - from_ns) * 4_000 / SECOND * 98 / 100, "{both}");
}

/// Q3, of a tenant: other limits are in force for all its channels at once, and leave no gap.
#[test]
fn a_tenants_retune_is_in_force_at_once_on_all_sidecores() {
    let mut bench = Bench::new(2, &tenant(Io::read(4096)));
    let group = Arc::new(Group::new(&ops(1_000, 10), bench.now_ns).unwrap());
    bench.join(0, Some(&group));
    bench.join(1, Some(&group));
    bench.run_until(SECOND);
    // One whose next token is a minute away does not wait for it.
    group
        .retune(&Limits { ops: Some(Rate { per_second: 1, burst: 1 }), ..Limits::default() }, bench.now_ns)
        .unwrap();
    bench.run_until(bench.now_ns + SECOND / 10);
    for rate in [6_000, 500, 3_000, 3_001, 8_000, 1_000] {
        group.retune(&ops(rate, 10), bench.now_ns).unwrap();
        // Whoever waits by the old limits hears of the new within 10 ms.
        bench.run_until(bench.now_ns + 10 * MS);
        let from_ns = bench.now_ns;
        bench.run_until(from_ns + SECOND / 2);
        let got = bench.log().0.iter().filter(|sent| sent.client < 2 && sent.at_ns > from_ns).count() as u64;
        assert!(got <= rate / 2 + 10 && got + 12 >= rate / 2, "{got} of {rate} a second");
    }
    // And none at all.
    bench.join(0, None);
    bench.join(1, None);
    let (before, from_ns) = (bench.guests[0].done, bench.now_ns);
    bench.run_until(from_ns + SECOND / 10);
    assert!(bench.guests[0].done - before > 300, "{}", bench.guests[0].done - before);
}

/// A limit of its own under its tenant's: the narrower one holds, and what holds it is told apart.
#[test]
fn of_two_limits_the_narrower_holds_and_is_named() {
    let mut clients = tenant(Io::write(8192));
    clients[0].guarantees.limits = bytes(3_000_000, 100_000);
    let mut bench = Bench::new(2, &clients);
    let group = Arc::new(Group::new(&bytes(10_000_000, 200_000), bench.now_ns).unwrap());
    bench.join(0, Some(&group));
    bench.join(1, Some(&group));
    let from_ns = bench.now_ns;
    bench.run_until(from_ns + 2 * SECOND);
    let mut log = bench.log();
    log.0.retain(|sent| sent.at_ns > from_ns);
    let of = |client: usize| move |sent: &Sent| (sent.client == client).then_some(sent.bytes);
    assert_eq!(keeps_within(&log, of(0), 3_000_000, 100_000), Ok(()));
    assert_eq!(
        keeps_within(&log, |sent| (sent.client < 2).then_some(sent.bytes), 10_000_000, 200_000),
        Ok(())
    );
    let [first, second] = [0, 1].map(|client| bench.counters[client].snapshot());
    assert!(first.limited_ns > first.tenant_limited_ns, "{first:?}");
    assert!(second.tenant_limited_ns > SECOND && second.limited_ns == 0, "{second:?}");
}

/// Tokens that a cost unit of a client's requests comes to.
fn tokens_of_cost(io: Io, are_bytes: bool) -> f64 {
    let tokens = if are_bytes { f64::from(io.bytes) } else { 1.0 };
    tokens / f64::from(CostModel::default().cost(io))
}

/// A tenant's channel: on one of two sidecores, with a limit of its own or without.
fn member() -> impl Strategy<Value = Client> {
    let io =
        prop_oneof![4 => Just(Io::read(4096)), 1 => Just(Io::write(4096)), 1 => Just(Io::read(16 << 10))];
    let habit = prop_oneof![
        3 => (16u16..64).prop_map(Habit::backlogged),
        1 => (16u16..64, 1u64..3, 1u64..3).prop_map(|(depth, on, off)| Habit {
            depth,
            on_ns: on * SECOND,
            off_ns: off * SECOND,
        }),
    ];
    let limit = prop_oneof![3 => Just(None), 1 => (100u64..1_000).prop_map(Some)];
    (io, habit, 20u32..500, limit, 0usize..2).prop_map(|(io, habit, share, limit, sidecore)| {
        let ops = limit.map(|per_second| Rate { per_second, burst: 16 });
        let limits = Limits { ops, ..Limits::default() };
        Client { guarantees: Guarantees { limits, share, ..Guarantees::default() }, io, habit, sidecore }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Shares within a tenant's limit that binds, of operations or of bytes, over two sidecores: over each second each channel has what
    /// the fluid reference gives it, within 2 % of the limit; what one leaves, since it is silent or a limit of its own keeps it below its
    /// part, the others have by their shares.
    #[test]
    fn channels_have_their_tenants_limit_by_their_shares(
        clients in prop::collection::vec(member(), 2..7),
        are_bytes in any::<bool>(),
        burst_ms in 20u64..100,
    ) {
        let mut bench = Bench::new(2, &clients);
        // A third of the device, so that nothing but the limit holds anybody: in operations of the mean size.
        let rate = if are_bytes { 20_000_000 } else { 2_000 };
        let burst = rate * burst_ms / 1_000;
        let limits = if are_bytes { bytes(rate, burst) } else { ops(rate, burst) };
        let group = Arc::new(Group::new(&limits, bench.now_ns).unwrap());
        for client in 0..clients.len() {
            bench.join(client, Some(&group));
        }
        bench.run_until(5 * SECOND);
        let log = bench.log();
        let takes = |client: &Client| tokens_of_cost(client.io, are_bytes);
        let due = |second: u64| {
            let asks: Vec<bool> = clients.iter().map(|client| client.habit.asks(second * SECOND)).collect();
            let due = due_within(&clients, &asks, &takes, rate as f64);
            clients.iter().zip(due).map(|(client, due)| due * takes(client)).collect::<Vec<f64>>()
        };
        for second in 1..5 {
            // What was left of the limit a second ago is there still, as far as the burst goes.
            let left = rate as f64 - due(second - 1).iter().sum::<f64>();
            // And what somebody asked for before it fell silent is given a little after.
            let fell_silent = |client: &&Client| {
                client.habit.asks((second - 1) * SECOND) && !client.habit.asks(second * SECOND)
            };
            let tokens = |io: Io| if are_bytes { f64::from(io.bytes) } else { 1.0 };
            let late: f64 = clients
                .iter()
                .filter(fell_silent)
                .map(|client| f64::from(client.habit.depth) * tokens(client.io))
                .sum();
            let slack = rate as f64 / 50.0 + left.clamp(0.0, burst as f64) + late;
            let due = due(second);
            let got: Vec<f64> = (0..clients.len())
                .map(|client| {
                    log.cost(client, second * SECOND, (second + 1) * SECOND) as f64 * takes(&clients[client])
                })
                .collect();
            let (all_got, all_due) = (got.iter().sum::<f64>(), due.iter().sum::<f64>());
            prop_assert!(
                (all_got - all_due).abs() <= slack,
                "all, second {second}: {all_got} of {all_due}\n{clients:#?}"
            );
            for (client, (got, due)) in got.into_iter().zip(due).enumerate() {
                prop_assert!(
                    (got - due).abs() <= slack,
                    "client {client}, second {second}: {got} of {due}\n{clients:#?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Q1, through rings, with a clock that stands still and steps back: by every reading of it that was ever furthest.
    #[test]
    fn limits_hold_by_a_clock_that_steps_back(
        steps in prop::collection::vec((1u64..40, 0u64..3_000), 50..200),
        rate in 1_000u64..15_000,
        burst in 8u64..200,
        start_ns in prop_oneof![Just(0u64), Just(1u64 << 60)],
    ) {
        // A millisecond's worth at least.
        let burst = burst.max(rate / 1_000 + 1);
        let mut clients = tenant(Io::read(4096));
        clients[2].guarantees.limits = ops(rate, burst);
        let mut bench = Bench::new(2, &clients);
        bench.now_ns += start_ns;
        let group = Arc::new(Group::new(&ops(rate, burst), bench.now_ns).unwrap());
        bench.join(0, Some(&group));
        bench.join(1, Some(&group));
        let from_ns = bench.now_ns;
        for (forward, back_us) in steps {
            for _ in 0..forward {
                bench.step(50_000);
            }
            // The sidecores read an earlier time, and the device's clock goes by the furthest.
            bench.breathe(bench.now_ns.saturating_sub(back_us * 1_000));
        }
        let mut log = bench.log();
        log.0.retain(|sent| sent.at_ns > from_ns);
        prop_assert_eq!(keeps_within(&log, |sent| (sent.client < 2).then_some(1), rate, burst), Ok(()));
        prop_assert_eq!(keeps_within(&log, |sent| (sent.client == 2).then_some(1), rate, burst), Ok(()));
    }
}
