//! The hooks that are not about one channel: a function that is found, one that is to be taken, and what runs short.

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use vfiomux_policy::{
    Amendment, Claim, Discover, Policy, Pressure, PressureKind, Retune, Sample, Setting, Tick, Verdict,
};
use vfiomux_rpc::{Change, Client, DeviceInfo, ErrorCode, EventKind, FunctionState, ObjectKind, call};
use vfiomux_sim::{Action, Fault, Match, QueueMatch};

use super::guest::{Guest, OK, Session, pattern};
use super::world::{Device, PATIENCE, World, assert_refused, refusal, wait};

const SPEC: &str = "sim:nvme,size=64M";
const ADDRESS: &str = "0000:3f:00.0";
const READ: u8 = 0x02;

/// A policy about functions.
struct Gate {
    discover: fn(&Discover) -> Verdict,
    claim: fn(&Claim) -> Verdict,
}

/// It allows everything.
const OPEN: Gate = Gate { discover: |_| Verdict::Allow, claim: |_| Verdict::Allow };

impl Policy for Gate {
    fn name(&self) -> &str {
        "gate"
    }

    fn discover(&mut self, question: &Discover) -> Verdict {
        (self.discover)(question)
    }

    fn claim(&mut self, question: &Claim) -> Verdict {
        (self.claim)(question)
    }
}

/// A daemon on one device, with another in the host that is nobody's yet.
fn guarded(gate: Gate) -> World {
    let mut world = World::idle(&[SPEC]);
    let found = Device::made("found", Device::spec(SPEC));
    world.plug(ADDRESS, &found);
    world.devices.push(found);
    world.policies.get_mut().unwrap().push(Box::new(gate));
    let first = ("sim0".to_owned(), world.devices[0].sim.clone());
    world.start_on(vec![first]);
    world
}

fn claim(world: &World, change: &Change) -> Result<DeviceInfo, vfiomux_rpc::RpcError> {
    world.call_with(&call::DeviceClaim { device: ADDRESS.to_owned() }, change)
}

/// Claims what has left, as soon as its end is over.
fn claim_again(world: &World) -> DeviceInfo {
    wait("it can be had", || match claim(world, &Change::default()) {
        Ok(device) => Some(device),
        Err(error) => {
            assert_eq!(error.code, ErrorCode::Busy, "{error}");
            None
        }
    })
}

fn denied(world: &World, device: &str) -> String {
    let told = world.wait_event("the denial", |event| {
        event.kind == EventKind::Denied
            && event.object.kind == ObjectKind::Device
            && event.object.name == device
    });
    told.reason.unwrap_or_default()
}

#[test]
fn a_device_that_a_policy_denies_at_the_start_is_listed_with_the_reason_and_never_opened() {
    let mut world = World::idle(&[SPEC, SPEC]);
    let discover: fn(&Discover) -> Verdict = |question| match question.function.name.as_str() {
        "sim1" => Verdict::deny("sim1 is kept for the backup"),
        _ => Verdict::Allow,
    };
    world.policies.get_mut().unwrap().push(Box::new(Gate { discover, ..OPEN }));
    world.start();
    assert_eq!(world.device("sim0").unwrap().state, FunctionState::Ready);
    let listed = world.call(&call::DeviceList {}).unwrap();
    let barred = listed.iter().find(|device| device.name == "sim1").expect("it is listed (S1)");
    assert_eq!(barred.state, FunctionState::Discovered);
    assert!(barred.reason.as_ref().is_some_and(|why| why.contains("kept for the backup")), "{barred:#?}");
    assert_eq!(&world.device("sim1").unwrap(), barred);
    assert_eq!(denied(&world, "sim1"), "gate: sim1 is kept for the backup");
    let there = call::ChannelCreate { device: "sim1".to_owned(), ..world.creation("disk", 8) };
    assert_refused(world.call(&there), ErrorCode::Denied, "plugin list");
    assert_eq!(world.devices[1].mappings(), 0, "nobody drives it");
    world.create("disk", 8);
}

#[test]
fn a_function_of_the_host_that_a_policy_denies_is_listed_with_the_reason_and_cannot_be_claimed() {
    let discover: fn(&Discover) -> Verdict = |question| match question.function.class_code {
        0x01_0802 => Verdict::deny(format!("{:04x} is no vendor of ours", question.function.vendor_id)),
        _ => Verdict::Allow,
    };
    let world = guarded(Gate { discover, claim: |_| Verdict::deny("it was asked all the same") });
    assert_eq!(denied(&world, ADDRESS), "gate: 1b36 is no vendor of ours");
    let shown = world.device(ADDRESS).unwrap();
    assert_eq!(shown.state, FunctionState::Discovered);
    assert!(shown.reason.as_ref().is_some_and(|why| why.contains("no vendor of ours")), "{shown:#?}");
    let refused = claim(&world, &Change::default()).unwrap_err();
    assert!(refused.message.contains("no vendor of ours"), "{refused:?}");
    assert_refused::<DeviceInfo>(Err(refused), ErrorCode::Denied, "plugin list");
}

/// What is denied is denied for as long as it is there: another may come to its place.
#[test]
fn a_denied_function_that_leaves_the_bus_is_forgotten_and_asked_about_again_when_it_is_back() {
    let discover: fn(&Discover) -> Verdict = |question| match question.function.class_code {
        0x01_0802 => Verdict::deny("it is of no use"),
        _ => Verdict::Allow,
    };
    let mut world = guarded(Gate { discover, ..OPEN });
    assert_eq!(denied(&world, ADDRESS), "gate: it is of no use");
    let listed = |world: &World| {
        let list = world.call(&call::DeviceList {}).unwrap();
        list.into_iter().find(|device| device.name == ADDRESS)
    };
    world.unplug(ADDRESS);
    assert_refused(world.device(ADDRESS), ErrorCode::NotFound, "device list");
    assert_eq!(listed(&world), None);
    let found = world.devices.pop().unwrap();
    world.plug(ADDRESS, &found);
    let reason =
        wait("it is denied again", || listed(&world)?.reason.filter(|why| why.contains("of no use")));
    assert_eq!(world.device("3f:00.0").unwrap().reason, Some(reason));
}

#[test]
fn what_policies_allow_is_claimed_and_serves() {
    let world = guarded(OPEN);
    let dry = Change { dry_run: true, ..Change::default() };
    assert_eq!(claim(&world, &dry).unwrap().state, FunctionState::Discovered);
    assert_eq!(claim(&world, &Change::default()).unwrap().state, FunctionState::Ready);
    world.call(&call::DeviceFormat { device: ADDRESS.to_owned(), erase: false }).unwrap();
    let there = call::ChannelCreate { device: ADDRESS.to_owned(), ..world.creation("disk", 8) };
    assert_eq!(world.call(&there).unwrap().device, ADDRESS);
}

/// L1, S9: what is recorded of a function that was lost goes on when it is taken again.
#[test]
fn a_function_that_was_lost_and_is_back_is_claimed_again() {
    let world = guarded(OPEN);
    claim(&world, &Change::default()).unwrap();
    world.devices[1].sim.remove();
    wait("it is closed", || (world.devices[1].mappings() == 0).then_some(()));
    world.devices[1].sim.reinsert();
    assert_eq!(claim_again(&world).state, FunctionState::Ready);
    world.assert_lives_by_the_table();
}

/// A removal that is asked for while the function is being taken up ends at all sidecores too, and what takes it up next is served.
#[test]
fn a_function_whose_removal_is_requested_while_it_is_claimed_can_be_claimed_again_and_serves() {
    let world = guarded(OPEN);
    let when = Match { queue: QueueMatch::Io, opcode: Some(READ), ..Match::default() };
    world.devices[1].sim.inject(Fault { when, action: Action::Hang });
    let control = world.control();
    let claiming = std::thread::spawn(move || {
        let mut client = Client::connect(&control).unwrap();
        client.set_timeout(Some(PATIENCE)).unwrap();
        refusal(client.call_with(&call::DeviceClaim { device: ADDRESS.to_owned() }, &Change::default()))
    });
    wait("its label is being read", || (world.devices[1].sim.outstanding() > 0).then_some(()));
    world.devices[1].sim.request_removal();
    // Its thread looks whether it is to go as soon as it has taken the function up, having had no time for that for so long.
    let begun = Instant::now();
    wait("a look is due", || (begun.elapsed() > Duration::from_millis(100)).then_some(()));
    assert!(world.devices[1].sim.release_hung());
    // It may have been ready for a moment.
    if let Err(error) = claiming.join().unwrap() {
        assert_refused::<DeviceInfo>(Err(error), ErrorCode::DeviceFault, "its removal was requested");
    }
    wait("it is closed", || (world.devices[1].mappings() == 0).then_some(()));

    assert_eq!(claim_again(&world).state, FunctionState::Ready);
    world.call(&call::DeviceFormat { device: ADDRESS.to_owned(), erase: false }).unwrap();
    world.call(&call::ChannelCreate { device: ADDRESS.to_owned(), ..world.creation("disk", 8) }).unwrap();
    let mut guest = Guest::new();
    let _session = guest.connect(&world.endpoint("disk").path);
    assert_eq!(guest.write(0, &pattern(3, 4096)), OK);
    assert_eq!(guest.read(0, 4096), pattern(3, 4096));
    world.assert_lives_by_the_table();
}

/// The reason is in the answer, in an event with who asked, and on record.
#[test]
fn a_claim_that_a_policy_denies_is_refused_with_its_reason_and_the_function_is_left_alone() {
    let world = guarded(Gate {
        claim: |question| match question.dry_run {
            true => Verdict::Allow,
            false => Verdict::deny(format!("not before noon, user {}", question.caller_uid)),
        },
        ..OPEN
    });
    let dry = Change { dry_run: true, ..Change::default() };
    claim(&world, &dry).expect("the policy is told that nothing will come of it");
    let refused = claim(&world, &Change::default()).unwrap_err();
    let me = rustix::process::geteuid().as_raw();
    assert_eq!(refused.code, ErrorCode::Denied);
    assert!(refused.message.contains(&format!("not before noon, user {me}")), "{refused:?}");
    assert_eq!(denied(&world, ADDRESS), format!("gate: not before noon, user {me}"));
    let audit = world.call(&call::AuditList { since: None, limit: None }).unwrap().entries;
    let asked = audit.iter().find(|entry| entry.method == "device.claim" && !entry.dry_run).unwrap();
    assert!(asked.rulings.iter().any(|ruling| ruling.policy == "gate" && ruling.verdict == "deny"));
    assert_eq!(world.device(ADDRESS).unwrap().state, FunctionState::Discovered);
    assert_eq!(world.devices[1].mappings(), 0, "nobody drives it");
}

/// There is nothing about a function that a policy could have otherwise: who tries has denied it, and nothing is taken.
#[test]
fn a_claim_cannot_be_amended() {
    let amended = |_: &Claim| Verdict::Amend(vec![Amendment { setting: Setting::SHARE, value: 7 }]);
    let world = guarded(Gate { claim: amended, ..OPEN });
    let refused = claim(&world, &Change::default()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Denied);
    assert!(refused.message.contains("which this request does not have"), "{refused:?}");
    assert!(denied(&world, ADDRESS).starts_with("gate: amended setting"));
    assert_eq!(world.device(ADDRESS).unwrap().state, FunctionState::Discovered);
}

/// A policy that gives every channel that draws on what runs short this share.
struct Relief {
    share: u64,
    ticks: mpsc::Sender<usize>,
    heard: mpsc::Sender<Pressure>,
}

impl Policy for Relief {
    fn name(&self) -> &str {
        "relief"
    }

    fn tick(&mut self, tick: &Tick) -> Vec<Retune> {
        // Nobody may listen.
        let _ = self.ticks.send(tick.channels.len());
        Vec::new()
    }

    fn pressure(&mut self, pressure: &Pressure) -> Vec<Retune> {
        let _ = self.heard.send(pressure.clone());
        let wish = |sample: &Sample| Retune {
            channel_id: sample.channel.id.clone(),
            generation: sample.channel.generation,
            amendments: vec![Amendment { setting: Setting::SHARE, value: self.share }],
        };
        pressure.channels.iter().map(wish).collect()
    }
}

/// A daemon with a channel, which its policy has been told of, and which a front-end cannot share memory with.
fn short_of_memory(share: u64) -> (World, Receiver<Pressure>) {
    let mut world = World::idle(&[SPEC]);
    let ((ticks, ticked), (heard, hear)) = (mpsc::channel(), mpsc::channel());
    world.policies.get_mut().unwrap().push(Box::new(Relief { share, ticks, heard }));
    world.start();
    world.create("disk", 8);
    while ticked.recv_timeout(PATIENCE).unwrap() == 0 {}
    world.sim().iommu().fail_maps(1);
    let mut session = Session::connect(&world.endpoint("disk").path).unwrap();
    assert!(Guest::new().begin(&mut session).is_err(), "there is no room for its memory");
    (world, hear)
}

/// What a policy wants when something runs short is a tune like any other, with an event that names it.
#[test]
fn what_a_policy_wants_under_pressure_is_a_tune() {
    let (world, heard) = short_of_memory(40);
    let pressure = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!((pressure.kind, pressure.level_permille), (PressureKind::Memory, 1000));
    assert_eq!(pressure.channels[0].channel.name, "disk");
    let told = world.wait_event("the amendment", |event| event.kind == EventKind::Amended);
    assert_eq!(told.reason.as_deref(), Some("relief, unasked: share=40"));
    let share = || Some(world.show("disk").guarantees.share?).filter(|&share| share == 40);
    assert_eq!(wait("it has the share", share), 40);
}

/// What cannot be is refused with a reason that reaches the operator, and the channel stays as it is.
#[test]
fn what_a_policy_wants_under_pressure_and_cannot_be_is_told() {
    let (world, _heard) = short_of_memory(1 << 40);
    let generation = world.show("disk").generation;
    let told = world.wait_event("the refusal", |event| event.kind == EventKind::Denied);
    assert!(told.reason.as_ref().is_some_and(|why| why.starts_with("relief wanted, unasked:")), "{told:?}");
    assert_eq!((world.show("disk").guarantees.share, world.show("disk").generation), (None, generation));
}
