use vfiomux_plugin::Guarantees;
use vfiomux_plugin::harness::{Harness, HarnessError};

use super::*;

const GIB: u64 = 1 << 30;

fn quota() -> Harness {
    Harness::start::<TenantQuota>(
        "[default]\nchannels = 1\ncapacity = \"1GiB\"\nreservation_ops = 0\n\
         [tenants.acme]\nchannels = 3\ncapacity = \"10GiB\"\nreservation_ops = 5000\n\
         [tenants.house]\n",
    )
    .expect("the configuration is right")
}

fn channel(tenant: &str, gib: u64, reservation_ops: u64) -> Channel {
    let guarantees = Guarantees { reservation_ops, ..Guarantees::default() };
    Channel { tenant: tenant.to_owned(), size_bytes: gib * GIB, guarantees, ..Channel::default() }
}

fn has(channels: u32, gib: u64, reservation_ops: u64) -> Tenant {
    Tenant { channels, size_bytes: gib * GIB, reservation_ops, ..Tenant::default() }
}

fn create(channel: Channel, tenant: Tenant) -> Verdict {
    quota().create(&CreateRequest { channel, tenant, ..CreateRequest::default() })
}

fn tune(channel: Channel, wanted: Channel, tenant: Tenant) -> Verdict {
    quota().tune(&TuneRequest { channel, wanted, tenant, ..TuneRequest::default() })
}

fn reason(verdict: Verdict) -> String {
    match verdict {
        Verdict::Deny(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tenant_has_up_to_its_quota_and_no_more() {
    assert_eq!(create(channel("acme", 4, 2000), has(2, 6, 3000)), Verdict::Allow);
    assert_eq!(
        reason(create(channel("acme", 1, 0), has(3, 3, 0))),
        "tenant acme may have 3 channels and has them"
    );
    assert_eq!(
        reason(create(channel("acme", 5, 0), has(1, 6, 0))),
        format!("tenant acme may have {} bytes and has {} of them left", 10 * GIB, 4 * GIB)
    );
    assert_eq!(
        reason(create(channel("acme", 1, 2001), has(1, 1, 3000))),
        "tenant acme may reserve 5000 operations a second and has 2000 of them left"
    );
}

#[test]
fn who_has_no_quota_of_its_own_gets_the_default() {
    assert_eq!(create(channel("other", 1, 0), has(0, 0, 0)), Verdict::Allow);
    assert!(reason(create(channel("other", 1, 1), has(0, 0, 0))).contains("may reserve 0"));
    assert_eq!(create(channel("house", 9999, 1 << 40), has(999, 9999, 1 << 40)), Verdict::Allow);
}

#[test]
fn without_a_default_others_have_nothing() {
    let mut harness = Harness::start::<TenantQuota>("[tenants.acme]").expect("the configuration is right");
    let request = CreateRequest { channel: channel("other", 1, 0), ..CreateRequest::default() };
    assert_eq!(reason(harness.create(&request)), "tenant other has no quota, and there is none for others");
}

#[test]
fn growing_is_held_against_the_quota_and_shrinking_never() {
    assert_eq!(tune(channel("acme", 1, 0), channel("acme", 4, 0), has(2, 6, 0)), Verdict::Allow);
    assert!(reason(tune(channel("acme", 1, 0), channel("acme", 5, 0), has(2, 6, 0))).contains("bytes"));
    assert_eq!(
        tune(channel("acme", 9, 9000), channel("acme", 8, 8000), has(7, 90, 90_000)),
        Verdict::Allow,
        "above a quota that has shrunk, smaller is still allowed"
    );
}

#[test]
fn sums_do_not_wrap() {
    let verdict = create(channel("acme", 1, u64::MAX), has(1, 1, 10));
    assert!(reason(verdict).contains("may reserve"));
}

#[test]
fn a_configuration_that_is_not_understood_is_refused() {
    for wrong in ["[default]\nchanels = 1", "[default]\ncapacity = \"1GB\"", "what?"] {
        assert!(matches!(Harness::start::<TenantQuota>(wrong), Err(HarnessError::Configuration { .. })));
    }
}
