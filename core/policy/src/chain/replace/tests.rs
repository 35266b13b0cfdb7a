use std::sync::{Arc, Mutex};

use super::*;
use crate::{Amendment, Channel, Device, Setting, Tenant, Tune, tests::channel};

/// A policy that allows channels up to a size, remembers how often it was asked, and tells when it ends.
struct Cap {
    name: &'static str,
    size_bytes_max: u64,
    asked: u8,
    diary: Arc<Mutex<Vec<String>>>,
    answers: bool,
}

impl Policy for Cap {
    fn name(&self) -> &str {
        self.name
    }

    fn create(&mut self, question: &Create) -> Verdict {
        assert!(question.dry_run || self.answers, "a comparison changes nothing");
        self.asked += 1;
        match question.channel.size_bytes {
            _ if !self.answers => Verdict::Unanswered { why: "it sleeps".to_owned() },
            size if size > self.size_bytes_max => Verdict::deny("too large"),
            // Amends nothing.
            size => Verdict::Amend(vec![Amendment { setting: Setting::SIZE_BYTES, value: size }]),
        }
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        (self.asked > 0).then(|| vec![self.asked])
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let [asked] = state else { return Err("one byte is wanted".to_owned()) };
        self.asked = *asked;
        Ok(())
    }

    fn end(self: Box<Self>) {
        self.diary.lock().unwrap().push(format!("{} {} ends", self.name, self.size_bytes_max));
    }
}

fn question(size_bytes: u64) -> Create {
    let channel = Channel { name: format!("disk-{size_bytes}"), size_bytes, ..channel() };
    let device = Device { queues_max: 4, ..Device::default() };
    Create { channel, device, tenant: Tenant::default(), caller_uid: 0, dry_run: false }
}

struct World {
    chain: Chain,
    diary: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// A chain of the policies that caps at 100 and one that caps at 1000.
    fn new() -> Self {
        let mut world = Self { chain: Chain::default(), diary: Arc::default() };
        for (order, name, most) in [(1, "low", 100), (2, "high", 1000)] {
            let cap = world.cap(name, most, true);
            world.chain.load(order, cap).unwrap();
        }
        world
    }

    fn cap(&self, name: &'static str, size_bytes_max: u64, answers: bool) -> Box<Cap> {
        Box::new(Cap { name, size_bytes_max, asked: 0, diary: Arc::clone(&self.diary), answers })
    }

    fn denied_by(&mut self, size_bytes: u64) -> Option<String> {
        self.chain.ask(question(size_bytes)).outcome.err().map(|denial| denial.policy)
    }

    fn ended(&self) -> Vec<String> {
        self.diary.lock().unwrap().clone()
    }
}

/// Of what takes no place, nothing is recorded.
fn never() -> Result<(), String> {
    panic!("nothing is to be recorded")
}

#[test]
fn a_dry_run_tells_the_differences_and_changes_nothing() {
    let mut world = World::new();
    let successor = world.cap("low", 50, true);
    let replaced = world
        .chain
        .replace("low", successor, &[question(40), question(70), question(200)], true, never)
        .unwrap();
    let [difference] = replaced.differences.as_slice() else { panic!("{replaced:?}") };
    assert_eq!((difference.channel.as_str(), &difference.before), ("disk-70", &Verdict::Allow));
    assert_eq!((&difference.after, replaced.channels), (&Verdict::deny("too large"), 3));
    assert_eq!(world.ended(), ["low 50 ends"]);
    assert_eq!(world.denied_by(70), None);
}

#[test]
fn a_successor_takes_the_place_and_the_state() {
    let mut world = World::new();
    world.denied_by(70);
    let successor = world.cap("low", 50, true);
    let replaced = world.chain.replace("low", successor, &[], false, || Ok(())).unwrap();
    assert_eq!(replaced.state, StateOffer::Taken { bytes: 1 });
    assert_eq!(world.ended(), ["low 100 ends"]);
    assert_eq!(world.denied_by(70), Some("low".to_owned()));
    assert_eq!(world.chain.names().collect::<Vec<_>>(), ["default", "low", "high"]);
}

/// T3: who has the place is on record before it is given away.
#[test]
fn a_successor_is_put_on_record_before_it_takes_the_place() {
    let mut world = World::new();
    let (successor, diary) = (world.cap("low", 50, true), Arc::clone(&world.diary));
    let record = || {
        diary.lock().unwrap().push("on record".to_owned());
        Ok(())
    };
    world.chain.replace("low", successor, &[question(1)], false, record).unwrap();
    assert_eq!(world.ended(), ["on record", "low 100 ends"]);
}

#[test]
fn a_successor_that_cannot_be_put_on_record_takes_no_place() {
    let mut world = World::new();
    let successor = world.cap("low", 50, true);
    let refused =
        world.chain.replace("low", successor, &[], false, || Err("no space".to_owned())).unwrap_err();
    assert!(matches!(&refused, ChainError::Unrecorded { why, .. } if why == "no space"), "{refused}");
    assert_eq!(world.ended(), ["low 50 ends"]);
    assert_eq!(world.denied_by(70), None);
}

/// ISO2: a plugin that does not answer takes nobody's place.
#[test]
fn a_successor_that_does_not_answer_takes_no_place() {
    let mut world = World::new();
    let successor = world.cap("low", 50, false);
    let refused = world.chain.replace("low", successor, &[question(1)], false, never).unwrap_err();
    assert!(matches!(refused, ChainError::Unanswered { .. }));
    assert_eq!(world.ended(), ["low 50 ends"]);
    assert_eq!(world.denied_by(70), None);
}

#[test]
fn names_are_unique_and_the_built_in_policy_stays() {
    let mut world = World::new();
    let again = world.cap("high", 1, true);
    assert!(matches!(world.chain.load(9, again), Err(ChainError::Taken { .. })));
    assert!(matches!(world.chain.unload("default"), Err(ChainError::Unknown { .. })));
    let other = world.cap("default", 1, true);
    assert!(matches!(
        world.chain.replace("default", other, &[], false, never),
        Err(ChainError::Unknown { .. })
    ));
    world.chain.unload("low").unwrap();
    assert_eq!(world.chain.names().collect::<Vec<_>>(), ["default", "high"]);
    assert_eq!(world.denied_by(500), None);
}

#[test]
fn a_chain_without_plugins_needs_no_maintenance() {
    assert_eq!(Chain::default().maintenance_in(Instant::now()), None);
    let tune = Tune {
        channel: channel(),
        wanted: channel(),
        device: Device { queues_max: 4, ..Device::default() },
        tenant: Tenant::default(),
        caller_uid: 0,
        dry_run: false,
    };
    assert!(Chain::default().ask(tune).outcome.is_ok());
}
