use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use vfiomux_tests::frontend::{Driver, Request, STATUS_OK};
use vfiomux_tests::scenario::Scenario;

/// Slow enough that what was asked for is in flight when the connection ends.
const DEVICES: [&str; 1] = ["sim:nvme,size=128M,file=@DIR@/image,service-ns=800000000"];
/// Writes that are under way at once.
const WRITES: u16 = 8;
/// Bytes of each.
const BYTES: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(60);

fn content(round: u8, slot: u16) -> Vec<u8> {
    (0..BYTES).map(|byte| (byte as u8).wrapping_mul(7) ^ round ^ (slot as u8) << 3).collect()
}

fn sector(slot: u16) -> u64 {
    u64::from(slot) * (BYTES as u64 / 512)
}

/// Asks for all the writes, and waits until the daemon has them in hand. Gives the heads of their chains.
#[track_caller]
fn begin_writes(vm: &mut Driver, round: u8) -> BTreeSet<u32> {
    let before = vm.used_index(0);
    let heads: Vec<u16> =
        (0..WRITES).map(|slot| vm.begin_write(slot, sector(slot), &content(round, slot))).collect();
    let deadline = Instant::now() + PATIENCE;
    let in_flight = |vm: &Driver| heads.iter().filter(|head| vm.is_in_flight(**head)).count();
    while in_flight(vm) < heads.len() && vm.used_index(0) == before {
        assert!(Instant::now() < deadline, "the daemon takes them in hand");
    }
    assert!(in_flight(vm) > 0, "the device is slow enough");
    heads.into_iter().map(u32::from).collect()
}

/// Over a new connection each of them is returned once and no more, done, and the disk holds what they wrote.
#[track_caller]
fn finish_writes(vm: Driver, socket: &Path, round: u8, mut heads: BTreeSet<u32>) -> Driver {
    let taken = vm.taken_index(0);
    let mut vm = vm.reconnect(socket).expect("the endpoint listens again");
    vm.start_ring(0).expect("the ring starts");
    while !heads.is_empty() {
        let (head, _) = vm.wait_for_used(0, PATIENCE).expect("each is answered");
        assert!(heads.remove(&head), "chain {head} is returned twice, or was never asked for (I2)");
    }
    assert!((0..WRITES).all(|slot| vm.status(slot) == Some(STATUS_OK)));
    let mut held = vec![0; BYTES * usize::from(WRITES)];
    assert_eq!(vm.request(0, Request::Read, 0, &mut held, false), Some(STATUS_OK));
    assert!(held == (0..WRITES).flat_map(|slot| content(round, slot)).collect::<Vec<_>>(), "round {round}");
    assert_eq!(vm.used_index(0), taken.wrapping_add(WRITES + 1), "nothing but the read came after them (I2)");
    assert!((0..WRITES).all(|slot| !vm.is_in_flight(slot * 3)));
    vm
}

/// S10, I2: a front-end that connects again with requests in flight, to another daemon after a crash or to the same one, has each
/// of them answered exactly once, and none lost.
#[test]
fn s10_requests_in_flight_outlive_a_crash_and_a_connection() {
    let mut scenario = Scenario::begin("S10", &DEVICES);
    let mut operator = scenario.operator();
    let made = operator.call("channel.create", scenario.channel("disk", "sim0", 16));
    let socket = scenario.socket("disk");
    let mut vm = Driver::connect(&socket, 1).expect("the endpoint listens");
    vm.keep_in_flight().expect("the daemon remembers what is in flight");
    vm.start_ring(0).expect("the ring starts");

    scenario.assert_trace();
    let heads = begin_writes(&mut vm, 1);
    scenario.kill();
    scenario.start(&DEVICES, "");
    let mut vm = finish_writes(vm, &socket, 1, heads);

    // The connection alone is lost, and the daemon goes on.
    let mut operator = scenario.operator();
    let before = operator.call("channel.show", json!({ "name": "disk" }));
    assert!(before.get("oper").is("active") && before.get("id").text() == made.get("id").text());
    let heads = begin_writes(&mut vm, 2);
    let vm = finish_writes(vm, &socket, 2, heads);
    let after = operator.call("channel.show", json!({ "name": "disk" }));
    assert!(after.get("oper").is("active") && after.get("health").is("ok"));
    assert!(after.get("counters").get("error_ops").number() == 0);
    drop(vm);
    scenario.held();
}
