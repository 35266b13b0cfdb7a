use super::*;
use crate::{
    Amendment, Attach, Channel, Create, Destroy, Device, Hook, Session, Setting, Tenant, Tune, tests::channel,
};

/// A policy that answers every creation by a function of the question.
struct Rule(&'static str, fn(&Create) -> Verdict);

impl Policy for Rule {
    fn name(&self) -> &str {
        self.0
    }

    fn create(&mut self, question: &Create) -> Verdict {
        (self.1)(question)
    }
}

/// A policy that never answers.
struct Mute;

impl Policy for Mute {
    fn name(&self) -> &str {
        "mute"
    }

    fn create(&mut self, _: &Create) -> Verdict {
        silence()
    }

    fn tune(&mut self, _: &Tune) -> Verdict {
        silence()
    }

    fn attach(&mut self, _: &Attach) -> Verdict {
        silence()
    }

    fn session(&mut self, _: &Session) -> Verdict {
        silence()
    }

    fn destroy(&mut self, _: &Destroy) -> Verdict {
        silence()
    }
}

fn silence() -> Verdict {
    Verdict::Unanswered { why: "no answer within 100 ms".to_owned() }
}

fn create() -> Create {
    Create {
        channel: Channel { size_bytes: 100, generation: 7, ..channel() },
        device: Device { free_bytes: 1 << 30, queues_max: 4, ..Device::default() },
        tenant: Tenant::default(),
        caller_uid: 0,
        dry_run: false,
    }
}

fn amend(setting: Setting, value: u64) -> Verdict {
    Verdict::Amend(vec![Amendment { setting, value }])
}

fn chain(rules: impl IntoIterator<Item = Rule>) -> Chain {
    let mut chain = Chain::default();
    rules.into_iter().for_each(|rule| chain.push(Box::new(rule)));
    chain
}

fn denial<Q: fmt::Debug>(ruling: Ruling<Q>) -> (String, String) {
    let Denial { policy, reason } = ruling.outcome.unwrap_err();
    (policy, reason)
}

#[test]
fn what_all_allow_is_allowed_as_it_was() {
    let ruling = chain([Rule("yes", |_| Verdict::Allow)]).ask(create());
    assert_eq!(ruling.amended_by().count(), 0);
    assert_eq!(ruling.outcome, Ok(create()));
}

#[test]
fn one_denial_suffices_and_is_named() {
    let mut chain = chain([
        Rule("yes", |_| Verdict::Allow),
        Rule("no", |_| Verdict::deny("enough")),
        Rule("never", |_| unreachable!("nobody is asked after a denial")),
    ]);
    assert_eq!(denial(chain.ask(create())), ("no".to_owned(), "enough".to_owned()));
}

#[test]
fn the_next_policy_is_asked_about_what_the_last_one_amended() {
    let rules = [
        Rule("round", |question| {
            amend(Setting::SIZE_BYTES, question.channel.size_bytes.next_multiple_of(64))
        }),
        Rule("protect", |question| {
            assert_eq!(question.channel.size_bytes, 128);
            amend(Setting::READ_ONLY, 1)
        }),
    ];
    let ruling = chain(rules).ask(create());
    assert_eq!(ruling.amended_by().collect::<Vec<_>>(), ["round", "protect"]);
    let channel = ruling.outcome.unwrap().channel;
    assert_eq!((channel.size_bytes, channel.read_only), (128, true));
}

/// P1: a ruling carries the generation that it was asked about, whatever policies amend.
#[test]
fn a_ruling_names_the_generation_that_it_was_asked_about() {
    let ruling = chain([Rule("more", |_| amend(Setting::QUEUES, 4))]).ask(create());
    assert_eq!((ruling.generation, ruling.outcome.unwrap().channel.generation), (7, 7));
    let ruling = chain([Rule("no", |_| Verdict::deny("enough"))]).ask(create());
    assert_eq!(ruling.generation, 7);
}

#[test]
fn a_ruling_tells_who_was_asked_and_what_each_answered() {
    let rules = [Rule("yes", |_| Verdict::Allow), Rule("more", |_| amend(Setting::QUEUES, 4))];
    let ruling = chain(rules).ask(create());
    let asked: Vec<_> = ruling
        .answers
        .iter()
        .map(|answer| (answer.policy.as_str(), answer.verdict.name(), answer.confirming))
        .collect();
    assert_eq!(
        asked,
        [
            ("default", "allow", false),
            ("yes", "allow", false),
            ("more", "amend", false),
            ("default", "allow", true),
            ("yes", "allow", true),
            ("more", "amend", true),
        ]
    );
}

#[test]
fn no_amendment_gets_past_an_earlier_rule() {
    let (policy, reason) = denial(chain([Rule("greedy", |_| amend(Setting::QUEUES, 64))]).ask(create()));
    assert_eq!(policy, "default");
    assert!(reason.contains("can serve 4"), "{reason}");
}

#[test]
fn policies_that_undo_each_other_deny() {
    let rules = [Rule("one", |_| amend(Setting::QUEUES, 1)), Rule("two", |_| amend(Setting::QUEUES, 2))];
    assert_eq!(denial(chain(rules).ask(create())).0, "one");
}

#[test]
fn an_amendment_that_makes_no_sense_denies() {
    let (policy, reason) = denial(chain([Rule("odd", |_| amend(Setting(99), 0))]).ask(create()));
    assert_eq!((policy.as_str(), reason.contains("setting 99")), ("odd", true));
}

#[test]
fn an_endpoint_has_no_settings_to_amend() {
    let mut question = attach();
    assert!(question.amend(Amendment { setting: Setting::QUEUES, value: 1 }).is_err());
    assert!(Chain::default().ask(question).outcome.is_ok());
}

fn attach() -> Attach {
    Attach {
        channel: channel(),
        endpoint: "/run/a.sock".to_owned(),
        client: false,
        caller_uid: 0,
        dry_run: false,
    }
}

#[test]
fn the_built_in_policy_comes_first_and_the_others_by_their_order() {
    let mut chain = Chain::default();
    for (order, name) in [(20, "c"), (i32::MIN, "a"), (20, "d"), (10, "b"), (i32::MAX, "e")] {
        chain.insert(order, Box::new(Rule(name, |_| Verdict::Allow)));
    }
    assert_eq!(chain.names().collect::<Vec<_>>(), ["default", "a", "b", "c", "d", "e"]);
    assert!(chain.remove("default").is_none());
    assert_eq!(chain.remove("c").unwrap().name(), "c");
    assert_eq!(chain.names().collect::<Vec<_>>(), ["default", "a", "b", "d", "e"]);
}

/// ISO2: what a policy that does not answer can bring about is that nothing new comes to be.
#[test]
fn where_a_policy_does_not_answer_what_is_new_is_denied_and_what_exists_goes_on() {
    let mut chain = Chain::default();
    chain.push(Box::new(Mute));
    let (policy, reason) = denial(chain.ask(create()));
    assert_eq!((policy.as_str(), reason.contains("mute does not answer")), ("mute", true), "{reason}");
    let Create { channel, device, tenant, .. } = create();
    let wanted = channel.clone();
    let tune = Tune { channel: channel.clone(), wanted, device, tenant, caller_uid: 0, dry_run: false };
    assert!(chain.ask(tune).outcome.is_err());
    assert!(chain.ask(attach()).outcome.is_err());
    let session = Session {
        channel: channel.clone(),
        features_offered: 0,
        features_taken: 0,
        memory_regions: 1,
        memory_bytes: 1 << 20,
        peer_pid: 0,
        peer_uid: 0,
    };
    let ruling = chain.ask(session);
    assert_eq!(ruling.unanswered().map(|(policy, _)| policy).collect::<Vec<_>>(), ["mute"]);
    assert!(ruling.outcome.is_ok());
    assert!(chain.ask(Destroy { channel, force: false, caller_uid: 0, dry_run: false }).outcome.is_ok());
}

#[test]
fn every_question_has_a_name_of_its_own() {
    let hooks = [
        Hook::Discover,
        Hook::Claim,
        Hook::Create,
        Hook::Attach,
        Hook::Session,
        Hook::Tune,
        Hook::Migrate,
        Hook::Destroy,
        Hook::Tick,
        Hook::Pressure,
        Hook::Fault,
    ];
    for hook in hooks {
        let named = serde_json::to_string(&hook).unwrap();
        assert_eq!(named, format!("\"{}\"", hook.name()));
    }
}

#[test]
fn what_policies_want_unasked_is_proposed_in_their_names() {
    struct Eager(&'static str);
    impl Policy for Eager {
        fn name(&self) -> &str {
            self.0
        }

        fn tick(&mut self, tick: &Tick) -> Vec<Retune> {
            let amendments = vec![Amendment { setting: Setting::SHARE, value: 200 }];
            let sample = &tick.channels[0].channel;
            vec![Retune { channel_id: sample.id.clone(), generation: sample.generation, amendments }]
        }
    }
    let mut chain = Chain::default();
    chain.push(Box::new(Eager("one")));
    chain.push(Box::new(Eager("two")));
    let sample = crate::Sample { channel: channel(), ..Default::default() };
    let proposals = chain.tick(&Tick { unix_seconds: 1, period_ns: 1, channels: vec![sample] });
    assert_eq!(proposals.iter().map(|proposal| proposal.policy.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let wanted = proposals[0].retune.applied(&channel()).unwrap();
    assert_eq!(wanted.guarantees.share, Some(200));
}
