use std::collections::BTreeMap;

use vfiomux_plugin::harness::{Harness, HarnessError};
use vfiomux_plugin::{Amendments, Setting};

use super::*;

fn create(harness: &mut Harness, labels: &[(&str, &str)]) -> Verdict {
    let labels: BTreeMap<_, _> =
        labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let channel = Channel { labels, ..Channel::default() };
    harness.create(&CreateRequest { channel, ..CreateRequest::default() })
}

fn faulty(configuration: &str) -> Harness {
    Harness::start::<Faulty>(configuration).expect("the orders are understood")
}

#[test]
fn what_fits_no_line_is_allowed() {
    assert_eq!(create(&mut faulty("tune deny"), &[]), Verdict::Allow);
}

#[test]
fn the_first_line_that_fits_is_done_and_after_counts_calls() {
    let mut harness = faulty("# twice\ncreate deny enough after 2\nany amend share 7");
    let amended = Verdict::Amend(Amendments::none().share(7));
    assert_eq!(create(&mut harness, &[]), amended);
    assert_eq!(create(&mut harness, &[]), amended);
    assert_eq!(create(&mut harness, &[]), Verdict::deny("enough"));
}

#[test]
fn labels_go_before_the_configuration() {
    let mut harness = faulty("create deny");
    assert_eq!(create(&mut harness, &[("faulty", "allow")]), Verdict::Allow);
    assert_eq!(create(&mut harness, &[("faulty-create", "deny-not-so")]), Verdict::deny("not so"));
    assert_eq!(create(&mut harness, &[("faulty-tune", "allow")]), Verdict::deny("faulty was told to deny"));
}

#[test]
fn orders_that_are_not_understood_are_refused() {
    for wrong in ["create", "nowhere hang", "create dance", "create hang after noon", "create amend colour 3"]
    {
        assert!(
            matches!(Harness::start::<Faulty>(wrong), Err(HarnessError::Configuration { .. })),
            "{wrong}"
        );
    }
    assert!(Harness::start::<Faulty>("init deny today").is_err());
}

#[test]
fn a_panic_is_caught() {
    assert_eq!(
        create(&mut faulty("create panic"), &[]),
        Verdict::deny("the policy panicked: faulty was told to panic")
    );
}

#[test]
fn it_retunes_what_it_should_and_what_it_should_not() {
    let channel = Channel { id: "a".to_owned(), generation: 5, ..Channel::default() };
    let channels = vec![ChannelTelemetry { channel, ..ChannelTelemetry::default() }];
    let request = TickRequest { unix_seconds: 1, period_ns: 1, channels };
    let one = |order: &str| {
        let [retune] = &faulty(order).tick(&request)[..] else { panic!("one retune") };
        (retune.channel_id.clone(), retune.generation, retune.amendments.get(Setting::SHARE))
    };
    assert_eq!(one("tick retune share 7"), ("a".to_owned(), 5, Some(7)));
    assert_eq!(one("tick stale share 7"), ("a".to_owned(), 4, Some(7)));
    assert_ne!(one("tick stranger share 7").0, "a");
}

#[test]
fn the_calls_that_were_counted_go_to_the_successor() {
    let mut old = faulty("create deny after 1");
    assert_eq!(create(&mut old, &[]), Verdict::Allow);
    let mut new = faulty("create deny after 1");
    new.restore(&old.save().expect("it has counts")).expect("they are its own");
    assert_eq!(create(&mut new, &[]), Verdict::deny("faulty was told to deny"));
    assert!(new.restore(b"short").is_err());
}

#[test]
fn outside_a_sandbox_a_probe_gets_somewhere() {
    let Verdict::Deny(what) = create(&mut faulty("create probe"), &[]) else { panic!("it denies") };
    assert!(what.starts_with("probe: a file was read"), "{what}");
}
