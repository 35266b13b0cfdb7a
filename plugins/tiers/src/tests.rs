use vfiomux_plugin::harness::Harness;
use vfiomux_plugin::{Amendments, ChannelTelemetry, Guarantees, Objective, RateLimit};

use super::*;

const CONFIGURATION: &str = r#"
default = ["bronze"]

[tiers.gold]
reservation_ops = 20000
share = 400
objective = { latency_ns = 500000 }

[tiers.silver]
reservation_ops = 5000

[tiers.bronze]
reservation_ops = 0
ops = { per_second = 2000, burst = 4000 }

[tenants]
acme = ["silver", "gold"]
"#;

fn tiers() -> Harness {
    Harness::start::<Tiers>(CONFIGURATION).expect("the configuration is right")
}

fn channel(tenant: &str, tier: Option<&str>) -> Channel {
    let labels = tier.map(|tier| (LABEL.to_owned(), tier.to_owned())).into_iter().collect();
    Channel { id: "a".to_owned(), generation: 2, tenant: tenant.to_owned(), labels, ..Channel::default() }
}

/// The guarantees that a channel comes to have.
fn created(channel: Channel) -> Guarantees {
    match tiers().create(&CreateRequest { channel: channel.clone(), ..CreateRequest::default() }) {
        Verdict::Allow => channel.guarantees,
        Verdict::Amend(amendments) => amendments.applied_to(&channel).expect("they make sense").guarantees,
        Verdict::Deny(reason) => panic!("{reason}"),
    }
}

fn denied(channel: Channel) -> String {
    match tiers().create(&CreateRequest { channel, ..CreateRequest::default() }) {
        Verdict::Deny(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn gold() -> Guarantees {
    let objective = Some(Objective { permille: 990, latency_ns: 500_000 });
    Guarantees { reservation_ops: 20_000, share: Some(400), objective, ..Guarantees::default() }
}

#[test]
fn a_label_chooses_among_what_the_tenant_may_have() {
    assert_eq!(created(channel("acme", Some("gold"))), gold());
    assert_eq!(created(channel("acme", None)).reservation_ops, 5000);
    let bronze =
        Guarantees { ops: Some(RateLimit { per_second: 2000, burst: Some(4000) }), ..Guarantees::default() };
    assert_eq!(created(channel("other", None)), bronze);
}

#[test]
fn a_tier_that_the_tenant_may_not_have_is_denied() {
    assert_eq!(denied(channel("other", Some("gold"))), "tenant other may not have tier gold, but bronze");
    assert_eq!(
        denied(channel("acme", Some("bronze"))),
        "tenant acme may not have tier bronze, but silver or gold"
    );
}

#[test]
fn without_a_default_others_have_no_tier() {
    let mut harness = Harness::start::<Tiers>("[tiers.gold]\nshare = 1").expect("the configuration is right");
    let request = CreateRequest { channel: channel("other", None), ..CreateRequest::default() };
    assert_eq!(harness.create(&request), Verdict::deny("tenant other may have no tier"));
}

#[test]
fn what_is_asked_for_gives_way_to_what_the_tier_names_and_the_rest_is_free() {
    let guarantees = Guarantees { reservation_ops: 1 << 40, share: Some(9), ..Guarantees::default() };
    let silver = created(Channel { guarantees, ..channel("acme", None) });
    assert_eq!((silver.reservation_ops, silver.share), (5000, Some(9)));
}

#[test]
fn tuning_away_from_the_tier_is_amended_back() {
    let wanted =
        Channel { guarantees: Guarantees { reservation_ops: 1, ..gold() }, ..channel("acme", Some("gold")) };
    let verdict = tiers().tune(&TuneRequest { wanted, ..TuneRequest::default() });
    assert_eq!(verdict, Verdict::Amend(Amendments::none().reservation_ops(20_000)));
}

#[test]
fn a_tick_brings_channels_in_line_that_were_made_under_another_file() {
    let did = |guarantees| {
        let channel = Channel { guarantees, ..channel("acme", Some("gold")) };
        vec![ChannelTelemetry { channel, ..ChannelTelemetry::default() }]
    };
    let tick = |channels| tiers().tick(&TickRequest { channels, ..TickRequest::default() });
    assert!(tick(did(gold())).is_empty());
    let [retune] = &tick(did(Guarantees { share: Some(1), ..gold() }))[..] else { panic!("one retune") };
    assert_eq!((retune.generation, &retune.amendments), (2, &Amendments::none().share(400)));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    for (wrong, why) in [
        ("default = [\"gold\"]\n[tiers]", "there is no tier gold"),
        ("[tiers.gold]\nshare = 10001", "tier gold: a share is at most 10000"),
        ("[tiers.gold]\nspeed = 1", "speed"),
    ] {
        let error = Harness::start::<Tiers>(wrong).expect_err(wrong).to_string();
        assert!(error.contains(why), "{error}");
    }
}
