//! Measuring a device through the sidecore that serves it.

use vfiomux_block::{BlockQueue as _, FaultPlan, LaneId, Operation, Status};
use vfiomux_sidecore::{Answer, Measured, Order, Probe, ProbeError, Refusal};
use vfiomux_spec::virtio::blk::RequestType;

use crate::world::{DEVICE, Plan, World};

/// A probe of 100 us over the first eight blocks, which are control's own: a breath is a microsecond.
fn probe(world: &mut World, operation: Operation, in_sequence: bool) -> Box<Probe> {
    world.control = 0..8;
    Box::new(Probe {
        operation,
        namespace: 1,
        first_lba: 0,
        units: 4,
        blocks: 2,
        in_sequence,
        depth: 4,
        duration_ns: 100_000,
        buffer: world.domain.allocate(4096).unwrap(),
        data_bytes: 1024,
    })
}

fn measure(world: &mut World, lane: LaneId, probe: Box<Probe>) -> Result<Measured, ProbeError> {
    match world.ask(Order::Probe { device: DEVICE, lane, probe }) {
        Answer::Probed { result, .. } => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_ends_within_the_time_is_counted() {
    for (operation, in_sequence) in [(Operation::Read, false), (Operation::Write, true)] {
        let mut world = World::new(Plan::default());
        let lane = world.attach_lane();
        let wanted = probe(&mut world, operation, in_sequence);
        let measured = measure(&mut world, lane, wanted).unwrap();
        // Four commands a breath: what was submitted in one is polled in the next, and the first breath finds none.
        assert_eq!(measured, Measured { commands: 400, elapsed_ns: 100_000 });
        assert_eq!(world.queue(|queue| queue.in_flight(lane)), 0);
        if operation == Operation::Read {
            world.check_guard();
        }
    }
}

#[test]
fn channels_are_served_while_it_goes_on() {
    let mut world = World::new(Plan {
        faults: FaultPlan { delay_polls_max: 3, ..FaultPlan::default() },
        ..Plan::default()
    });
    let lane = world.attach_lane();
    let wanted = probe(&mut world, Operation::Read, false);
    let ticket = world.send(Order::Probe { device: DEVICE, lane, probe: wanted });
    world.guests[0].request(RequestType::In, 0, 0, 4096);
    world.breathe(20);
    assert_eq!(world.guests[0].returned().len(), 1);
    let Some(Answer::Probed { result: Ok(measured), .. }) = world.answer(ticket, 200) else { panic!() };
    assert!(measured.commands > 0 && measured.elapsed_ns >= 100_000, "{measured:?}");
}

#[test]
fn a_device_that_fails_ends_it() {
    let mut world = World::new(Plan {
        faults: FaultPlan { error_per_mille: 1000, ..FaultPlan::default() },
        ..Plan::default()
    });
    let lane = world.attach_lane();
    let wanted = probe(&mut world, Operation::Read, false);
    assert!(
        matches!(measure(&mut world, lane, wanted), Err(ProbeError::Command(status)) if status != Status::Success)
    );
}

#[test]
fn a_barrier_ends_what_is_stuck_and_the_buffer_comes_back_after_it() {
    let mut world = World::new(Plan::default());
    let lane = world.attach_lane();
    world.queue(|queue| queue.stuck = true);
    let wanted = probe(&mut world, Operation::Read, false);
    let ticket = world.send(Order::Probe { device: DEVICE, lane, probe: wanted });
    assert!(world.answer(ticket, 300).is_none(), "answered with commands at the device");
    world.ask(Order::Abandon { device: DEVICE, lane });
    let answer = world.answer(ticket, 5);
    assert!(matches!(answer, Some(Answer::Probed { .. })), "{answer:?}");
}

#[test]
fn a_second_one_and_one_that_its_buffer_does_not_hold_are_refused() {
    let mut world = World::new(Plan::default());
    let lane = world.attach_lane();
    let refusal = |answer| match answer {
        Answer::Refused { why, order } => {
            assert!(matches!(*order, Order::Probe { .. }));
            why
        }
        other => panic!("{other:?}"),
    };
    let large = Box::new(Probe { data_bytes: 2048, ..*probe(&mut world, Operation::Read, false) });
    let refused = world.ask(Order::Probe { device: DEVICE, lane, probe: large });
    assert_eq!(refusal(refused), Refusal::NotTaken);
    let (first, second) =
        (probe(&mut world, Operation::Read, false), probe(&mut world, Operation::Read, false));
    let ticket = world.send(Order::Probe { device: DEVICE, lane, probe: first });
    let refused = world.ask(Order::Probe { device: DEVICE, lane, probe: second });
    assert_eq!(refusal(refused), Refusal::Busy);
    assert!(matches!(world.answer(ticket, 200), Some(Answer::Probed { result: Ok(_), .. })));
}
