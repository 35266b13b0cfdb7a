//! What policies say, and what it counts for.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde_json::json;
use vfiomux_policy::{
    Amendment, Create, Fault, Policy, Retune, Sample, Session, Setting, Tick, Tune, Verdict,
};
use vfiomux_rpc::{AuditEntry, Change, ErrorCode, EventKind, Guarantees, RpcError, call};

use super::guest::Guest;
use super::world::{MIB, PATIENCE, World, assert_refused};
use crate::lifecycle::Oper;
use crate::seeded::Bug;

const SPEC: &str = "sim:nvme,size=64M";

/// A policy that takes as long over a tune as a test wants.
struct Slow {
    asked: Sender<()>,
    answer: Receiver<Verdict>,
}

impl Policy for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn tune(&mut self, _: &Tune) -> Verdict {
        self.asked.send(()).unwrap();
        self.answer.recv_timeout(PATIENCE).unwrap()
    }
}

/// A daemon whose policy is asked about a tune of `disk`, what is made `ready` before, and what has `meanwhile` happened when
/// it answers.
fn tune_while<T>(
    bug: Option<Bug>,
    ready: impl FnOnce(&World) -> T,
    meanwhile: impl FnOnce(&World, T),
) -> (World, Result<(), RpcError>) {
    let mut world = World::idle(&[SPEC]);
    let ((asked, was_asked), (answers, answer)) = (mpsc::channel(), mpsc::channel());
    world.policies.get_mut().unwrap().push(Box::new(Slow { asked, answer }));
    world.bug = bug;
    world.start();
    world.create("disk", 8);
    let prepared = ready(&world);
    let tune = call::ChannelTune {
        name: "disk".to_owned(),
        guarantees: Guarantees { share: Some(300), ..Guarantees::default() },
    };
    let tuned = std::thread::scope(|scope| {
        let tuned = scope.spawn(|| world.call(&tune));
        was_asked.recv_timeout(PATIENCE).unwrap();
        meanwhile(&world, prepared);
        answers.send(Verdict::Allow).unwrap();
        tuned.join().unwrap()
    });
    (world, tuned.map(|_| ()))
}

fn tune_of_what_has_changed(bug: Option<Bug>) {
    let changed = |world: &World, ()| assert_eq!(world.suspend("disk").unwrap().generation, 2);
    let (world, tuned) = tune_while(bug, |_| (), changed);
    let refused = tuned.expect_err("a verdict on generation 1 was acted on at generation 2 (P1)");
    assert_eq!(refused.code, ErrorCode::Conflict, "{refused:?}");
    assert!(refused.message.contains("asked about generation 1: it has generation 2"), "{refused:?}");
    let shown = world.show("disk");
    assert_eq!((shown.generation, shown.guarantees), (2, Guarantees::default()));
}

/// P1: a verdict applies only to the generation it was asked about.
#[test]
fn a_verdict_on_what_has_changed_since_is_a_conflict() {
    tune_of_what_has_changed(None);
}

/// P1's seeded bug.
#[test]
#[should_panic(expected = "was acted on at generation 2 (P1)")]
fn a_verdict_that_is_acted_on_after_a_change_is_caught() {
    tune_of_what_has_changed(Some(Bug::AmendAfterChange));
}

/// ISO2: while a policy thinks, everything that it is not asked about goes on.
#[test]
fn a_slow_policy_holds_nobody_up_who_does_not_ask_it() {
    let (world, tuned) = tune_while(
        None,
        |_| (),
        |world, ()| {
            assert_eq!(world.show("disk").oper, Oper::Listening);
            world.call(&call::StatusShow {}).unwrap();
            world.device("sim0").unwrap();
        },
    );
    tuned.unwrap();
    assert_eq!(world.show("disk").guarantees.share, Some(300));
}

/// A guest's write while a policy is asked about its own channel.
fn write_while_asked(bug: Option<Bug>, patience: Duration) {
    let connected = |world: &World| {
        let mut guest = Guest::new();
        let session = guest.connect(&world.endpoint("disk").path);
        assert_eq!(guest.write(0, &[1; 512]), 0);
        (guest, session)
    };
    let mut unanswered = 0;
    let (_world, tuned) = tune_while(bug, connected, |_, (mut guest, _session)| {
        guest.submit_write(1, &[2; 512]);
        let end = Instant::now() + patience;
        while guest.in_flight() > 0 && Instant::now() < end {
            guest.take_returned();
            std::thread::yield_now();
        }
        unanswered = guest.in_flight();
    });
    tuned.unwrap();
    assert_eq!(unanswered, 0, "a sidecore waited for a policy (P2)");
}

/// P2, ISO2: no sidecore waits for a policy, whatever that does.
#[test]
fn a_guest_is_served_while_a_policy_thinks_about_its_channel() {
    write_while_asked(None, PATIENCE);
}

/// ISO2's seeded bug: a policy is called on the sidecore.
#[test]
#[should_panic(expected = "a sidecore waited for a policy (P2)")]
fn a_policy_that_is_called_on_the_sidecore_is_caught() {
    write_while_asked(Some(Bug::PolicyOnSidecore), Duration::from_millis(500));
}

/// A policy that answers creations and tunes by functions.
struct Rule(fn(&Create) -> Verdict, fn(&Tune) -> Verdict);

impl Policy for Rule {
    fn name(&self) -> &str {
        "rule"
    }

    fn create(&mut self, question: &Create) -> Verdict {
        (self.0)(question)
    }

    fn tune(&mut self, question: &Tune) -> Verdict {
        (self.1)(question)
    }
}

fn ruled(create: fn(&Create) -> Verdict, tune: fn(&Tune) -> Verdict) -> World {
    let mut world = World::idle(&[SPEC]);
    world.policies.get_mut().unwrap().push(Box::new(Rule(create, tune)));
    world.start();
    world
}

#[test]
fn what_a_policy_denies_leaves_nothing_but_an_event() {
    let world = ruled(|_| Verdict::deny("not today"), |_| Verdict::Allow);
    let free = world.free_bytes();
    assert_refused(world.call(&world.creation("disk", 8)), ErrorCode::Denied, "");
    assert_eq!(world.free_bytes(), free);
    assert!(!world.endpoint("disk").path.exists());
    let told = world.wait_event("the denial", |event| event.kind == EventKind::Denied);
    assert_eq!(told.reason.as_deref(), Some("rule: not today"));
    assert_eq!(told.object.name, "disk");
}

#[test]
fn what_a_policy_amends_is_what_comes_to_be() {
    let world = ruled(
        |_| Verdict::Amend(vec![Amendment { setting: Setting::QUEUES, value: 1 }]),
        |question| {
            let value = question.wanted.size_bytes.min(16 * MIB);
            Verdict::Amend(vec![Amendment { setting: Setting::SIZE_BYTES, value }])
        },
    );
    assert_eq!(world.create("disk", 8).queues, 1);
    assert_eq!(world.resize("disk", 32).unwrap().size_bytes, 16 * MIB);
    world.assert_whole();
}

#[test]
fn a_policy_is_told_what_is_only_tried() {
    let world = ruled(
        |question| if question.dry_run { Verdict::deny("tried") } else { Verdict::Allow },
        |_| Verdict::Allow,
    );
    let dry = Change { dry_run: true, ..Change::default() };
    assert_eq!(world.call_with(&world.creation("disk", 8), &dry).unwrap_err().code, ErrorCode::Denied);
    world.create("disk", 8);
}

/// A policy that wants another share for every channel, turns front-ends away from channels labelled `closed`, and holds what
/// is at fault.
struct Wishes {
    /// It believes a channel's generation to be what it was so many ago.
    late: u64,
    /// Said at each tick.
    ticks: Sender<()>,
}

impl Policy for Wishes {
    fn name(&self) -> &str {
        "wishes"
    }

    fn tick(&mut self, tick: &Tick) -> Vec<Retune> {
        // Nobody may listen.
        let _ = self.ticks.send(());
        let wish = |sample: &Sample| Retune {
            channel_id: sample.channel.id.clone(),
            generation: sample.channel.generation - self.late,
            amendments: vec![Amendment { setting: Setting::SHARE, value: 700 }],
        };
        tick.channels.iter().map(wish).collect()
    }

    fn session(&mut self, question: &Session) -> Verdict {
        if question.memory_bytes > 0 && question.channel.labels.contains_key("closed") {
            return Verdict::deny("it is closed");
        }
        Verdict::Allow
    }

    fn fault(&mut self, fault: &Fault) -> (Verdict, Vec<Retune>) {
        (Verdict::deny(format!("look at {} first", fault.device)), Vec::new())
    }
}

fn wishing(late: u64) -> (World, Receiver<()>) {
    let mut world = World::idle(&[SPEC]);
    let (ticks, ticked) = mpsc::channel();
    world.policies.get_mut().unwrap().push(Box::new(Wishes { late, ticks }));
    world.start();
    (world, ticked)
}

/// W1: what a policy wants unasked takes the way of a tune: journalled, with an event that names it, one generation more.
#[test]
fn what_a_policy_wants_for_a_tick_is_a_tune() {
    let (mut world, _ticked) = wishing(0);
    let made = world.create("disk", 8);
    let told = world.wait_event("the amendment", |event| event.kind == EventKind::Amended);
    assert_eq!(told.reason.as_deref(), Some("wishes, unasked: share=700"));
    let shown = world.show("disk");
    assert_eq!((shown.guarantees.share, shown.generation), (Some(700), made.generation + 1));
    world.assert_journal_tells_the_same();
}

fn wishes_on_record(world: &World) -> Vec<AuditEntry> {
    let audit = world.call(&call::AuditList { since: None, limit: None }).unwrap();
    audit.entries.into_iter().filter(|entry| entry.plugin.is_some()).collect()
}

/// Nobody asked for it, and yet it can be read who had it changed, from what to what, and what the others said to it.
#[test]
fn what_a_policy_had_changed_is_on_record() {
    let (world, _ticked) = wishing(0);
    let made = world.create("disk", 8);
    world.wait_event("the amendment", |event| event.kind == EventKind::Amended);
    let wishes = wishes_on_record(&world);
    let [wish] = &wishes[..] else { panic!("{wishes:#?}") };
    assert_eq!(wish.plugin.as_deref(), Some("wishes"));
    let wanted = wish.params.as_ref().expect("a wish is a request that is short");
    assert_eq!((&wanted["name"], &wanted["guarantees"]["share"]), (&json!("disk"), &json!(700)));
    assert_eq!((wish.method.as_str(), wish.object.as_deref()), ("channel.tune", Some("channel disk")));
    assert_eq!((wish.tenant.as_deref(), wish.generation_before), (Some("acme"), Some(made.generation)));
    let answered: Vec<_> = wish.rulings.iter().map(|ruling| (&*ruling.policy, &*ruling.verdict)).collect();
    assert_eq!(answered, [("default", "allow"), ("wishes", "allow")]);
    let answer = wish.answer.as_ref().unwrap();
    assert_eq!((&answer.error, answer.generation_after), (&None, Some(made.generation + 1)));
}

/// ISO2: who wants the same in vain every second does not fill the record.
#[test]
fn what_a_policy_wants_in_vain_is_on_record_once() {
    let mut world = World::idle(&[SPEC]);
    let (ticks, ticked) = mpsc::channel();
    let policies = world.policies.get_mut().unwrap();
    policies.push(Box::new(Wishes { late: 0, ticks }));
    policies.push(Box::new(Rule(|_| Verdict::Allow, |_| Verdict::deny("nobody gets more"))));
    world.start();
    world.create("disk", 8);
    world.wait_event("the denial", |event| event.kind == EventKind::Denied);
    ticked.try_iter().for_each(drop);
    for _ in 0..2 {
        ticked.recv_timeout(PATIENCE).unwrap();
    }
    let wishes = wishes_on_record(&world);
    let [wish] = &wishes[..] else { panic!("{wishes:#?}") };
    let error = wish.answer.as_ref().and_then(|answer| answer.error.as_deref()).unwrap();
    assert!(error.contains("nobody gets more"), "{error}");
    let denied =
        wish.rulings.iter().find(|ruling| ruling.verdict == "deny").expect("it is told who denied it");
    assert!(denied.reason.as_ref().is_some_and(|why| why.contains("nobody gets more")), "{denied:#?}");
}

/// P1: nor does a wish for a generation that has passed come to anything.
#[test]
fn a_wish_for_what_has_changed_since_comes_to_nothing() {
    let (world, ticked) = wishing(1);
    let generation = world.create("disk", 8).generation;
    ticked.try_iter().for_each(drop);
    // One that may have been begun before, one with the channel, and one that begins only after that was answered.
    for _ in 0..3 {
        ticked.recv_timeout(PATIENCE).unwrap();
    }
    let shown = world.show("disk");
    assert_eq!((shown.guarantees.share, shown.generation), (None, generation));
}

/// D1: a front-end that a policy turns away is granted nothing.
#[test]
fn a_session_that_a_policy_denies_maps_nothing() {
    let (world, _ticked) = wishing(0);
    let labels = vfiomux_rpc::Labels([("closed".to_owned(), "yes".to_owned())].into());
    world.call(&call::ChannelCreate { labels, ..world.creation("disk", 8) }).unwrap();
    let mappings = world.devices[0].mappings();
    let mut session = super::guest::Session::connect(&world.endpoint("disk").path).unwrap();
    assert!(Guest::new().begin(&mut session).is_err());
    let told = world.wait_event("the denial", |event| event.kind == EventKind::Denied);
    assert_eq!(told.reason.as_deref(), Some("wishes: it is closed"));
    assert_eq!(world.devices[0].mappings(), mappings, "nothing is mapped (D1)");
}

#[test]
fn policies_are_told_of_a_device_that_is_gone() {
    let (world, _ticked) = wishing(0);
    world.create("disk", 8);
    world.sim().remove();
    let told = world.wait_event("the hold", |event| {
        event.kind == EventKind::Plugin && event.reason.as_deref().is_some_and(|why| why.contains("hold"))
    });
    assert_eq!(told.reason.as_deref(), Some("wishes, told of the fault: hold: look at sim0 first"));
    world.pull_and_stop();
}
