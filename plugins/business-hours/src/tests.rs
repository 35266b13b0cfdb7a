use vfiomux_plugin::harness::Harness;
use vfiomux_plugin::{ChannelTelemetry, Guarantees, RateLimit};

use super::*;

const CONFIGURATION: &str = r#"
utc_offset = "+01:00"

[[rules]]
labels = { use = "batch" }

[[rules.windows]]
days = ["mon", "tue", "wed", "thu", "fri"]
from = "08:00"
to = "18:00"
terms = { share = 20, bytes = { per_second = 1000 } }

[[rules.windows]]
days = ["fri"]
from = "22:00"
to = "06:00"
terms = { share = 5 }

[rules.otherwise]
share = 100
bytes = { per_second = 0 }
"#;

/// 2024-02-26 00:00 UTC, a Monday.
const MONDAY: u64 = 1_708_905_600;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn channel(guarantees: Guarantees) -> Channel {
    let labels = BTreeMap::from([("use".to_owned(), "batch".to_owned())]);
    Channel { id: "a".to_owned(), labels, guarantees, ..Channel::default() }
}

/// What a channel has after a tick at a time of UTC.
fn after(harness: &mut Harness, channel: &Channel, unix_seconds: u64) -> Channel {
    let telemetry = ChannelTelemetry { channel: channel.clone(), ..ChannelTelemetry::default() };
    let request = TickRequest { unix_seconds, channels: vec![telemetry], ..TickRequest::default() };
    match &harness.tick(&request)[..] {
        [] => channel.clone(),
        [retune] => retune.amendments.applied_to(channel).expect("they make sense"),
        more => panic!("{more:?}"),
    }
}

fn share_at(unix_seconds: u64) -> Option<u32> {
    let mut harness = Harness::start::<BusinessHours>(CONFIGURATION).expect("the configuration is right");
    after(&mut harness, &channel(Guarantees::default()), unix_seconds).guarantees.share
}

#[test]
fn a_window_begins_and_ends_on_the_minute_where_the_offset_holds() {
    assert_eq!(share_at(MONDAY + 7 * HOUR - 1), Some(100));
    assert_eq!(share_at(MONDAY + 7 * HOUR), Some(20), "08:00 there");
    assert_eq!(share_at(MONDAY + 17 * HOUR - 1), Some(20));
    assert_eq!(share_at(MONDAY + 17 * HOUR), Some(100));
    assert_eq!(share_at(MONDAY + 5 * DAY + 9 * HOUR), Some(100), "on a Saturday");
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
    let friday = MONDAY + 4 * DAY;
    assert_eq!(share_at(friday + 21 * HOUR), Some(5), "22:00 there");
    assert_eq!(share_at(friday + DAY + 4 * HOUR), Some(5), "05:00 on Saturday there");
    assert_eq!(share_at(friday + DAY + 5 * HOUR), Some(100));
    assert_eq!(share_at(friday + 4 * HOUR), Some(100), "the night before");
}

#[test]
fn a_day_leaves_a_channel_as_it_found_it_and_changes_it_twice() {
    let mut harness = Harness::start::<BusinessHours>(CONFIGURATION).expect("the configuration is right");
    let evening = after(&mut harness, &channel(Guarantees::default()), MONDAY);
    let (mut now, mut changes, mut limited) = (evening.clone(), 0, 0);
    for minute in 0..24 * 60 {
        let next = after(&mut harness, &now, MONDAY + minute * 60);
        changes += u32::from(next != now);
        let limit = Some(RateLimit { per_second: 1000, burst: None });
        limited += u32::from(next.guarantees.bytes == limit);
        now = next;
    }
    assert_eq!((now, changes, limited), (evening, 2, 600));
}

#[test]
fn who_fits_no_rule_is_left_alone() {
    let mut harness = Harness::start::<BusinessHours>(CONFIGURATION).expect("the configuration is right");
    let other = Channel { labels: BTreeMap::new(), ..channel(Guarantees::default()) };
    assert_eq!(after(&mut harness, &other, MONDAY + 9 * HOUR), other);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let window = "[[rules]]\n[[rules.windows]]\nfrom = \"08:00\"\nto = \"18:00\"\n";
    for (wrong, why) in [
        (format!("{window}terms = {{ share = 1 }}\n[rules.otherwise]"), "rule 1: otherwise must name all"),
        (format!("{window}terms = {{ share = 99999 }}\n[rules.otherwise]\nshare = 1"), "a share is at most"),
        (window.replace("08:00", "8 am"), "is no time"),
        ("utc_offset = \"CET\"\nrules = []".to_owned(), "is no offset"),
    ] {
        let error = Harness::start::<BusinessHours>(&wrong).expect_err(&wrong).to_string();
        assert!(error.contains(why), "{error}");
    }
}
