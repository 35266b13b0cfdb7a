use super::*;
use crate::{Amendment, Channel, Device, RawVerdict, Setting};

/// A policy that answers every creation by a function of the request.
struct Rule(&'static str, fn(&CreateRequest<'_>) -> Verdict);

impl Policy for Rule {
    fn name(&self) -> &str {
        self.0
    }

    fn create(&mut self, request: &CreateRequest<'_>) -> Verdict {
        (self.1)(request)
    }
}

const REQUEST: CreateRequest<'static> = CreateRequest {
    channel: Channel {
        name: "disk-a",
        tenant: "acme",
        device: "sim0",
        size_bytes: 100,
        queues: 2,
        read_only: false,
        generation: 7,
    },
    device: Device { free_bytes: 1 << 30, queues_max: 4 },
    caller_uid: 0,
    dry_run: false,
};

fn amend(setting: Setting, value: u64) -> Verdict {
    Verdict::Amend(vec![Amendment { setting, value }])
}

fn chain(rules: impl IntoIterator<Item = Rule>) -> Chain {
    let mut chain = Chain::default();
    rules.into_iter().for_each(|rule| chain.push(Box::new(rule)));
    chain
}

fn denial<R: fmt::Debug>(ruling: Ruling<R>) -> (String, String) {
    match ruling {
        Ruling::Deny { policy, reason } => (policy, reason),
        allowed => panic!("{allowed:?}"),
    }
}

#[test]
fn what_all_allow_is_allowed_as_it_was() {
    let ruling = chain([Rule("yes", |_| Verdict::Allow)]).create(REQUEST);
    assert_eq!(ruling, Ruling::Allow { request: REQUEST, amended_by: vec![] });
}

#[test]
fn one_denial_suffices_and_is_named() {
    let mut chain = chain([Rule("yes", |_| Verdict::Allow), Rule("no", |_| Verdict::deny("enough"))]);
    assert_eq!(denial(chain.create(REQUEST)), ("no".to_owned(), "enough".to_owned()));
}

#[test]
fn the_next_policy_is_asked_about_what_the_last_one_amended() {
    let rules = [
        Rule("round", |request| amend(Setting::SIZE_BYTES, request.channel.size_bytes.next_multiple_of(64))),
        Rule("protect", |request| {
            assert_eq!(request.channel.size_bytes, 128);
            amend(Setting::READ_ONLY, 1)
        }),
    ];
    let Ruling::Allow { request, amended_by } = chain(rules).create(REQUEST) else { panic!("denied") };
    assert_eq!((request.channel.size_bytes, request.channel.read_only), (128, true));
    assert_eq!(request.channel.generation, 7, "a ruling names the generation that it was asked about");
    assert_eq!(amended_by, ["round", "protect"]);
}

#[test]
fn no_amendment_gets_past_an_earlier_rule() {
    let (policy, reason) = denial(chain([Rule("greedy", |_| amend(Setting::QUEUES, 64))]).create(REQUEST));
    assert_eq!(policy, "default");
    assert!(reason.contains("can serve 4"), "{reason}");
}

#[test]
fn policies_that_undo_each_other_deny() {
    let rules = [Rule("one", |_| amend(Setting::QUEUES, 1)), Rule("two", |_| amend(Setting::QUEUES, 2))];
    assert_eq!(denial(chain(rules).create(REQUEST)).0, "one");
}

#[test]
fn an_amendment_that_makes_no_sense_denies() {
    for (setting, value) in [(Setting::QUEUES, 1 << 16), (Setting::READ_ONLY, 2), (Setting(99), 0)] {
        let mut request = REQUEST;
        assert!(request.amend(Amendment { setting, value }).is_err());
        assert_eq!(request, REQUEST);
    }
    let (policy, reason) = denial(chain([Rule("odd", |_| amend(Setting(99), 0))]).create(REQUEST));
    assert_eq!((policy.as_str(), reason.contains("setting 99")), ("odd", true));
}

#[test]
fn an_endpoint_has_no_settings_to_amend() {
    let channel = REQUEST.channel;
    let mut request =
        AttachRequest { channel, endpoint: "/run/a.sock", client: false, caller_uid: 0, dry_run: false };
    assert!(request.amend(Amendment { setting: Setting::QUEUES, value: 1 }).is_err());
    assert!(matches!(Chain::default().attach(request), Ruling::Allow { .. }));
}

#[test]
fn a_raw_verdict_that_means_nothing_denies() {
    assert_eq!(RawVerdict::ALLOW.interpret("ignored", &[]), Verdict::Allow);
    assert_eq!(RawVerdict::DENY.interpret("", &[]), Verdict::deny("no reason given"));
    let amendment = Amendment { setting: Setting::QUEUES, value: 1 };
    assert_eq!(RawVerdict::AMEND.interpret("", &[amendment]), Verdict::Amend(vec![amendment]));
    assert!(matches!(RawVerdict(3).interpret("", &[]), Verdict::Deny { .. }));
    assert!(matches!(RawVerdict(u32::MAX).interpret("", &[]), Verdict::Deny { .. }));
}
