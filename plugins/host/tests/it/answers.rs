//! What decent plugins say reaches the daemon as they said it.

use std::time::Instant;

use vfiomux_policy::{Amendment, Chain, Claim, Function, Hook, Setting, Verdict};

use crate::world::{begun, chain, create, denial, faulty, library_of, spec, state, tick};

#[test]
fn a_plugin_is_known_by_what_it_says_of_itself() {
    let chain = chain(faulty("p", ""));
    let state = state(&chain);
    assert_eq!((state.name.as_str(), state.plugin.as_str()), ("p", "vfiomux-plugin-faulty"));
    assert_eq!(state.abi.0, 1);
    assert!(state.hooks.contains(&Hook::Create) && state.hooks.contains(&Hook::Tick));
}

#[test]
fn a_denial_comes_with_its_reason() {
    assert_eq!(denial(&mut chain(faulty("p", "create deny not on a Sunday"))), "p: not on a Sunday");
}

#[test]
fn plugins_amend_in_their_order() {
    let mut chain = Chain::default();
    chain.load(20, begun(faulty("second", "create amend queues 4"))).unwrap();
    chain.load(10, begun(faulty("first", "create amend share 700"))).unwrap();
    let ruling = chain.ask(create());
    assert_eq!(ruling.amended_by().collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(ruling.generation, 3);
    let channel = ruling.outcome.unwrap().channel;
    assert_eq!((channel.queues, channel.guarantees.share), (4, Some(700)));
}

#[test]
fn plugins_that_undo_each_other_deny() {
    let mut chain = Chain::default();
    chain.load(1, begun(faulty("one", "create amend share 1"))).unwrap();
    chain.load(2, begun(faulty("two", "create amend share 2"))).unwrap();
    assert!(denial(&mut chain).starts_with("one: it does not agree with what one, two amended"));
}

#[test]
fn a_tick_brings_retunes_of_the_channels_that_it_named() {
    let mut chain = chain(faulty("p", "tick retune share 700"));
    let proposals = chain.tick(&tick());
    let [proposal] = proposals.as_slice() else { panic!("{proposals:?}") };
    assert_eq!((proposal.policy.as_str(), proposal.retune.channel_id.as_str()), ("p", "8f0c"));
    assert_eq!(proposal.retune.amendments, [Amendment { setting: Setting::SHARE, value: 700 }]);
    assert_eq!(proposal.retune.generation, 3);
}

/// P1
#[test]
fn a_retune_of_a_channel_that_was_not_named_goes_nowhere() {
    assert!(chain(faulty("p", "tick stranger share 700")).tick(&tick()).is_empty());
}

#[test]
fn what_each_answered_is_counted() {
    let mut chain = chain(faulty("p", "create deny"));
    denial(&mut chain);
    let ruling = chain.ask(crate::world::destroy());
    assert_eq!(ruling.answers[1].verdict, Verdict::Allow);
    let verdicts = state(&chain).verdicts;
    assert_eq!((verdicts.allowed, verdicts.denied), (1, 1));
}

/// A plugin is told that nothing would protect the host from a function that is to be claimed.
#[test]
fn a_claim_without_protection_is_told_as_one() {
    let (_directory, library) = library_of(
        r#"
        #include "vfiomux_policy.h"

        static vfiomux_verdict claim(void *self, const struct vfiomux_claim_request *request,
                                     const struct vfiomux_answer_sink *sink) {
            return request->unprotected ? VFIOMUX_VERDICT_DENY : VFIOMUX_VERDICT_ALLOW;
        }

        const struct vfiomux_policy vfiomux_policy_v1 = {
            .magic = VFIOMUX_MAGIC, .major = VFIOMUX_MAJOR, .minor = VFIOMUX_MINOR,
            .struct_size = sizeof(struct vfiomux_policy),
            .name = {"careful", 7}, .version = {"1", 1}, .claim = claim,
        };
        "#,
    );
    let mut chain = chain(spec("p", &library));
    let claim =
        |unprotected| Claim { function: Function::default(), unprotected, caller_uid: 0, dry_run: false };
    assert!(chain.ask(claim(false)).outcome.is_ok());
    assert!(chain.ask(claim(true)).outcome.is_err());
}

#[test]
fn who_listens_to_a_plugin_listens_to_its_successor_too() {
    let mut chain = chain(faulty("p", "create deny the old"));
    let mut since = chain.recording("p", None, Instant::now()).unwrap().last;
    let mut heard = |chain: &mut Chain| {
        let noted = chain.recording("p", Some(since), Instant::now()).unwrap();
        since = noted.last;
        noted.lines
    };
    denial(&mut chain);
    assert_eq!(heard(&mut chain)[1], "# deny: the old");
    chain.replace("p", begun(faulty("p", "create deny the new")), &[], false, || Ok(())).unwrap();
    denial(&mut chain);
    let lines = heard(&mut chain);
    assert!(lines[0].starts_with("{\"create\":{\"caller_uid\":0,\"channel\":{"), "{lines:?}");
    assert_eq!(lines[1], "# deny: the new");
    assert!(chain.recording("q", None, Instant::now()).is_err());
}
