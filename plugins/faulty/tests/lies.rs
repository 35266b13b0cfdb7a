//! Lies are in the table that the library exports, so the library is loaded as the plugin host does it.
#![expect(unsafe_code, reason = "loads the library")]

use vfiomux_plugin::abi::{AMENDMENTS_MAX, REASON_BYTES_MAX, RETUNES_MAX};
use vfiomux_plugin::harness::{Harness, built_beside_this};
use vfiomux_plugin::{Amendments, CreateRequest, InitRequest, Setting, TickRequest, TuneRequest, Verdict};

fn loaded(configuration: &str) -> Harness {
    let path = built_beside_this("vfiomux-plugin-faulty").expect("cargo builds the library with its tests");
    let request = InitRequest { configuration: configuration.to_owned(), ..InitRequest::default() };
    // SAFETY: the library is of this crate.
    unsafe { Harness::load(&path, &request) }.expect("it is a plugin")
}

fn create(harness: &mut Harness) -> Verdict {
    harness.create(&CreateRequest::default())
}

#[test]
fn a_lie_arrives_as_one_and_ends_with_its_hook() {
    let mut harness = loaded("create lie after 1");
    assert_eq!(create(&mut harness), Verdict::Allow);
    assert_eq!(create(&mut harness), Verdict::deny("the policy answered 77, which is no verdict"));
    assert_eq!(harness.tune(&TuneRequest::default()), Verdict::Allow);
}

#[test]
fn each_lie_is_bounded_by_the_sink() {
    let verdict = create(&mut loaded("create lie-settings"));
    assert_eq!(verdict, Verdict::Amend(Amendments::none().set(Setting(9999), 1)));
    let Verdict::Amend(flood) = create(&mut loaded("create flood")) else { panic!("it amends") };
    assert_eq!(flood.as_slice().len(), AMENDMENTS_MAX);
    let Verdict::Deny(reason) = create(&mut loaded("create lie-reason")) else { panic!("it denies") };
    assert!(reason.len() <= 3 * REASON_BYTES_MAX);
    assert_eq!(create(&mut loaded("create lie-silent")), Verdict::deny("no reason given"));
    assert_eq!(create(&mut loaded("create lie-empty")), Verdict::Allow);
}

#[test]
fn a_flood_of_retunes_is_bounded_too() {
    let retunes = loaded("tick flood").tick(&TickRequest::default());
    assert_eq!(retunes.len(), RETUNES_MAX);
}
