use super::*;
use crate::{CostModel, Guarantees};

fn program(reservation: u64, share: u32) -> Program {
    let guarantees = Guarantees { reservation, share, ..Guarantees::default() };
    Program::compile(&guarantees, CostModel::default()).unwrap()
}

/// Channels at places 0, 1, … with (reservation, share), all ready at 0.
fn scheduler(channels: &[(u64, u32)]) -> Scheduler {
    let mut scheduler = Scheduler::new(8);
    for (place, &(reservation, share)) in (0..).zip(channels) {
        scheduler.add(place, &program(reservation, share)).unwrap();
        scheduler.ready(place, 0);
    }
    scheduler
}

fn turn(scheduler: &mut Scheduler, now_ns: u64) -> Turn {
    match scheduler.next(now_ns) {
        Next::Turn(turn) => turn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_behind_its_reservation_goes_first() {
    let mut scheduler = scheduler(&[(0, 10_000), (1000, 1)]);
    let first = turn(&mut scheduler, 0);
    assert_eq!((first.place, first.phase), (1, Phase::Reserved));
    // A unit at a thousand a second: the next claim falls due in a millisecond.
    scheduler.charge(first, 1);
    let second = turn(&mut scheduler, 999_999);
    assert_eq!((second.place, second.phase), (0, Phase::Shared));
    assert_eq!(turn(&mut scheduler, 1_000_000).place, 1);
}

#[test]
fn a_turn_for_the_share_takes_nothing_off_the_reservation() {
    let mut scheduler = scheduler(&[(1000, 100)]);
    let first = turn(&mut scheduler, 0);
    scheduler.charge(first, 1);
    for _ in 0..100 {
        let shared = turn(&mut scheduler, 500_000);
        assert_eq!(shared.phase, Phase::Shared);
        scheduler.charge(shared, 1);
    }
    assert_eq!(turn(&mut scheduler, 1_000_000).phase, Phase::Reserved);
}

/// Q1, at the end of 64 bits: a clock that has come to its last reading does not make the picker ask for ever.
#[test]
fn who_is_refused_at_the_end_of_the_clock_is_not_asked_again() {
    let mut scheduler = scheduler(&[(1000, 100), (0, 100)]);
    scheduler.throttle(0, NotBefore(u64::MAX));
    assert_eq!(turn(&mut scheduler, u64::MAX).place, 1);
    scheduler.idle(1);
    assert_eq!(scheduler.next(u64::MAX), Next::NotBefore(u64::MAX));
    assert_eq!(scheduler.due(u64::MAX), None);
}

/// Q1: whoever refuses a request says when it may go. Where that lies behind, as it does beyond the time that a tenant's limits count,
/// the request is weighed again by a later reading, and not for ever by this one.
#[test]
fn who_is_refused_is_asked_again_by_a_later_reading_only() {
    let mut scheduler = scheduler(&[(0, 100)]);
    assert_eq!(turn(&mut scheduler, 1_000).place, 0);
    scheduler.throttle(0, NotBefore(7));
    assert_eq!(scheduler.next(1_000), Next::NotBefore(1_001));
    assert_eq!(turn(&mut scheduler, 1_001).place, 0);
}

#[test]
fn a_channel_that_waits_for_its_limit_has_no_turn_before() {
    let mut scheduler = scheduler(&[(1000, 100)]);
    scheduler.throttle(0, NotBefore(700));
    assert_eq!(scheduler.next(699), Next::NotBefore(700));
    assert_eq!(scheduler.next_due_ns(), Some(700));
    assert_eq!(turn(&mut scheduler, 700).place, 0);
    assert_eq!(scheduler.next_due_ns(), None);
}

#[test]
fn idle_and_blocked_channels_are_not_asked() {
    let mut scheduler = scheduler(&[(0, 100), (0, 100)]);
    scheduler.idle(0);
    scheduler.block(1);
    assert_eq!(scheduler.next(0), Next::Nobody);
    assert_eq!(scheduler.backlogged(), 0);
    scheduler.ready(1, 0);
    assert_eq!(turn(&mut scheduler, 0).place, 1);
    scheduler.remove(1);
    assert_eq!(scheduler.next(0), Next::Nobody);
    scheduler.ready(1, 0);
    assert_eq!(scheduler.next(0), Next::Nobody);
}

#[test]
fn a_place_beyond_the_table_is_refused_and_never_has_a_turn() {
    let mut scheduler = scheduler(&[]);
    assert_eq!(scheduler.add(8, &program(1, 1)), Err(QosError::NoPlace { place: 8, places: 8 }));
    scheduler.ready(8, 0);
    scheduler.throttle(8, NotBefore(0));
    assert_eq!(scheduler.next(0), Next::Nobody);
    scheduler.make_room(9);
    scheduler.add(8, &program(1, 1)).unwrap();
    scheduler.ready(8, 0);
    assert_eq!(turn(&mut scheduler, 0).place, 8);
}

/// Q3: a claim that is due in a second at the old reservation is due in a millisecond at one a thousand times as large.
#[test]
fn a_larger_reservation_is_in_force_at_once() {
    let mut scheduler = scheduler(&[(1000, 1), (0, 10_000)]);
    let first = turn(&mut scheduler, 0);
    scheduler.charge(first, 1000);
    scheduler.retune(0, &program(1_000_000, 1), 0);
    assert_eq!(turn(&mut scheduler, 999_999).place, 1);
    assert_eq!(turn(&mut scheduler, 1_000_000).place, 0);
}

#[test]
fn shares_go_on_through_the_rebase_of_what_was_had() {
    let mut scheduler = scheduler(&[(0, 1), (0, 3)]);
    let mut had = [0u64; 2];
    // Each turn costs so much that the counts are brought back several times.
    for _ in 0..400_000 {
        let turn = turn(&mut scheduler, 0);
        scheduler.charge(turn, 1 << 44);
        had[usize::from(turn.place)] += 1;
    }
    assert!((99_900..=100_100).contains(&had[0]), "{had:?}");
    assert!(scheduler.virtual_time < HAD_MAX);
}

#[test]
fn a_forced_turn_is_paid_for_by_as_many_reserved_ones() {
    // Reservations far beyond what there is: always somebody is behind.
    let mut scheduler = scheduler(&[(1 << 40, 1), (0, 1)]);
    let mut cost = [0u64; 2];
    for _ in 0..200_000 {
        let turn = turn(&mut scheduler, u64::MAX / 2);
        // The channel without a reservation takes sixteen times as much a turn.
        let turn_cost = [1024, 16 << 10][usize::from(turn.place)];
        scheduler.charge(turn, turn_cost);
        cost[usize::from(turn.place)] += turn_cost;
    }
    let part = (cost[0] + cost[1]) as f64 / cost[1] as f64;
    assert!((31.5..32.5).contains(&part), "{part}");
}
