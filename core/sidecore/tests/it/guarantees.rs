//! What a channel was promised, and what it is held to.

use vfiomux_block::FaultPlan;
use vfiomux_qos::{CostModel, Guarantees, Io, Limits, Program, Rate};
use vfiomux_sidecore::{Answer, Budgets, Order};
use vfiomux_spec::virtio::blk::RequestType;

use crate::world::{Plan, World};

/// Commands that the device ends in a breath, of a microsecond.
const COMPLETIONS: usize = 4;

fn program(guarantees: Guarantees) -> Program {
    Program::compile(&guarantees, CostModel::default()).unwrap()
}

fn limited(ops: Rate) -> Program {
    let limits = Limits { ops: Some(ops), ..Limits::default() };
    program(Guarantees { limits, ..Guarantees::default() })
}

/// Guests on a device that does [`COMPLETIONS`] commands a breath.
fn world(guests: u16) -> World {
    let budgets = Budgets { completions: COMPLETIONS, ..Budgets::default() };
    World::new(Plan {
        guests,
        budgets,
        ring_size: 256,
        requests: 256,
        lane_depth: 256,
        faults: FaultPlan::default(),
        ..Plan::default()
    })
}

fn promise(world: &mut World, guest: usize, program: Program) {
    let order = Order::SetProgram { channel: world.guests[guest].id, program: Box::new(program) };
    assert!(matches!(world.ask(order), Answer::Done));
}

/// Keeps so many requests of a guest on its ring.
fn fill(world: &mut World, guest: usize, depth: usize) {
    let guest = &mut world.guests[guest];
    guest.returned();
    while guest.drivers[0].in_flight() < depth {
        guest.request(RequestType::In, 0, 0, 512);
    }
}

fn taken(world: &World, guest: usize) -> u64 {
    world.guests[guest].counters.ring_wait.snapshot().count()
}

/// Breathes with every guest at a depth. Gives how many requests of each were taken.
fn run(world: &mut World, depths: &[usize], breaths: u32) -> Vec<u64> {
    let before: Vec<u64> = (0..depths.len()).map(|guest| taken(world, guest)).collect();
    for _ in 0..breaths {
        for (guest, &depth) in depths.iter().enumerate() {
            fill(world, guest, depth);
        }
        world.breath();
    }
    before.iter().enumerate().map(|(guest, before)| taken(world, guest) - before).collect()
}

/// Q1: counted, not timed: a thousand breaths of a microsecond each are a burst and a millisecond's worth.
#[test]
fn a_limited_channel_gets_its_rate_and_its_burst_to_the_request() {
    let mut world = world(2);
    promise(&mut world, 0, limited(Rate { per_second: 500_000, burst: 30 }));
    let served = run(&mut world, &[64, 16], 1000);
    assert!((529..=530).contains(&served[0]), "{served:?}");
    assert!(served[1] > 3000, "{served:?}: the neighbour has what is left");
    let snapshot = world.guests[0].counters.snapshot();
    assert!(snapshot.limited > 0 && snapshot.limited_ns > 400_000, "{snapshot:?}");
}

/// Q1, of bytes: a request is weighed before it goes, and one above the burst goes when the bucket is full.
#[test]
fn bytes_are_counted_as_the_guest_asked_for_them() {
    let mut world = world(1);
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let limits = Limits { write_bytes: rate(1_000_000_000, 4096), ..Limits::default() };
    promise(&mut world, 0, program(Guarantees { limits, ..Guarantees::default() }));
    for at in 0..4 {
        world.guests[0].request(RequestType::Out, 0, at, 8192);
    }
    world.breathe(1);
    assert_eq!(taken(&world, 0), 1);
    // 8192 bytes at 1000 a breath: the debt of 4096, and a full bucket.
    world.breathe(7);
    assert_eq!(taken(&world, 0), 1);
    world.breathe(2);
    assert_eq!(taken(&world, 0), 2);
    // Reads are not held to it, but wait behind the write that is.
    world.guests[0].request(RequestType::In, 0, 9, 512);
    world.breathe(8);
    assert!(taken(&world, 0) < 5);
    world.breathe(30);
    assert_eq!(taken(&world, 0), 5);
}

#[test]
fn what_is_not_affordable_stays_on_the_ring_and_stops_with_it() {
    let mut world = world(1);
    promise(&mut world, 0, limited(Rate { per_second: 1, burst: 2 }));
    for at in 0..8 {
        world.guests[0].request(RequestType::In, 0, at, 512);
    }
    world.breathe(20);
    assert_eq!(world.guests[0].returned().len(), 2);
    let order = Order::StopRing { channel: world.guests[0].id, index: 0 };
    let Answer::RingStopped { ring } = world.ask(order) else { panic!() };
    assert_eq!(ring.base, 2, "the rest is the guest's");
    world.start_ring(0, 0, ring.base);
    promise(&mut world, 0, Program::default());
    world.breathe(20);
    assert_eq!(world.guests[0].returned().len(), 6);
}

#[test]
fn a_channel_that_only_waits_for_its_limit_keeps_nobody_awake() {
    let mut world = world(1);
    promise(&mut world, 0, limited(Rate { per_second: 1000, burst: 1 }));
    for at in 0..3 {
        world.guests[0].request(RequestType::In, 0, at, 512);
    }
    world.breathe(20);
    let busy = (0..900).filter(|_| !world.breath().is_idle()).count();
    assert_eq!((busy, taken(&world, 0)), (0, 1));
    world.breathe(100);
    assert_eq!(taken(&world, 0), 2);
}

#[test]
fn orders_do_not_wait_for_a_limit() {
    let mut world = world(1);
    promise(&mut world, 0, limited(Rate { per_second: 1, burst: 1 }));
    for at in 0..3 {
        world.guests[0].request(RequestType::In, 0, at, 512);
    }
    world.breathe(10);
    let (channel, map) = (world.guests[0].id, world.guests[0].map());
    assert!(matches!(world.ask(Order::SetMemory { channel, map }), Answer::MemoryReplaced { .. }));
    assert!(matches!(world.ask(Order::Suspend { channel }), Answer::Done));
    assert!(matches!(world.ask(Order::Resume { channel }), Answer::Done));
    assert!(matches!(world.ask(Order::RemoveChannel { channel }), Answer::ChannelRemoved { .. }));
    assert_eq!(taken(&world, 0), 1);
}

/// Q3: a tune is in force with the breath that takes it, both ways, and forgets no debt.
#[test]
fn a_tune_is_in_force_at_once() {
    let mut world = world(1);
    promise(&mut world, 0, limited(Rate { per_second: 1, burst: 1 }));
    run(&mut world, &[32], 50);
    assert_eq!(taken(&world, 0), 1);
    promise(&mut world, 0, limited(Rate { per_second: 1_000_000, burst: 1 }));
    let served = run(&mut world, &[32], 100);
    assert!((98..=101).contains(&served[0]), "{served:?}");
    promise(&mut world, 0, limited(Rate { per_second: 1, burst: 1 }));
    assert!(run(&mut world, &[32], 1000)[0] <= 1);
}

#[test]
fn shares_divide_a_device_that_more_is_asked_of_than_it_does() {
    let mut world = world(3);
    for (guest, share) in [100, 300, 600].into_iter().enumerate() {
        promise(&mut world, guest, program(Guarantees { share, ..Guarantees::default() }));
    }
    run(&mut world, &[100; 3], 500);
    let served = run(&mut world, &[100; 3], 5000);
    let total: u64 = served.iter().sum();
    assert!(total >= 5000 * COMPLETIONS as u64 * 99 / 100, "{served:?}: the device waits");
    for (guest, tenths) in [1, 3, 6].into_iter().enumerate() {
        let due = total * tenths / 10;
        assert!(served[guest].abs_diff(due) * 50 <= due, "{served:?}: {due} were due to guest {guest}");
    }
}

/// Q2: a reservation goes before the shares of the others, and what the channel has beyond it is its share.
#[test]
fn a_reservation_is_kept_among_greedy_neighbours() {
    let mut world = world(3);
    let read = u64::from(CostModel::default().cost(Io::read(512)));
    // Half of the device: two commands a microsecond.
    let reservation = read * 2_000_000;
    promise(&mut world, 0, program(Guarantees { reservation, share: 1, ..Guarantees::default() }));
    promise(&mut world, 1, program(Guarantees { share: 10_000, ..Guarantees::default() }));
    run(&mut world, &[100; 3], 500);
    let served = run(&mut world, &[100; 3], 5000);
    assert!(served[0] >= 9_990, "{served:?}");
    assert!(served[1] > served[2] * 50, "{served:?}");
    assert!(served[2] > 0, "{served:?}");
}

/// V4: nobody is shut out, whatever the others were promised.
#[test]
fn a_channel_that_was_promised_nothing_is_served_beside_reservations_of_everything() {
    let mut world = world(3);
    for guest in 0..2 {
        promise(
            &mut world,
            guest,
            program(Guarantees { reservation: 1 << 40, share: 1, ..Guarantees::default() }),
        );
    }
    run(&mut world, &[100; 3], 500);
    let served = run(&mut world, &[100; 3], 5000);
    assert!(served[2] >= 5000 * COMPLETIONS as u64 / 33, "{served:?}");
}

#[test]
fn a_guest_at_low_depth_does_not_wait_behind_what_a_greedy_one_has_at_the_device() {
    let waits = |promised: bool| {
        let mut world = world(2);
        if promised {
            let reservation = 1 << 30;
            promise(&mut world, 0, program(Guarantees { reservation, ..Guarantees::default() }));
        }
        run(&mut world, &[0, 240], 300);
        run(&mut world, &[1, 240], 3000)[0]
    };
    let (with, without) = (waits(true), waits(false));
    assert!(with * 10 > without * 14, "{with} requests served with a reservation, {without} without");
}

#[test]
fn a_device_without_promises_is_served_as_if_there_were_no_schedule() {
    let mut world = world(2);
    promise(&mut world, 0, limited(Rate { per_second: 1, burst: 1 }));
    promise(&mut world, 0, Program::default());
    let served = run(&mut world, &[100; 2], 1000);
    assert!(served[0].abs_diff(served[1]) <= 64, "{served:?}");
    for guest in 0..2 {
        let id = world.guests[guest].id;
        let program = world.sidecore.with_channel(id, |channel| channel.program().copied()).unwrap();
        assert_eq!(program, None);
    }
}
