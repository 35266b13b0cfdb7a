//! Replacing a plugin while questions go on.

use vfiomux_policy::{ChainError, Create, PluginHost, PluginStatus, StateOffer, Verdict};

use crate::world::{begun, chain, create, denial, faulty, library_of, spec, state};

#[test]
fn a_dry_run_tells_the_differences_and_keeps_the_present_plugin() {
    let mut chain = chain(faulty("p", ""));
    let pid = state(&chain).pid;
    let replaced =
        chain.replace("p", begun(faulty("p", "create deny enough")), &[create()], true, || Ok(())).unwrap();
    let [difference] = replaced.differences.as_slice() else { panic!("{replaced:?}") };
    assert_eq!((&difference.before, &difference.after), (&Verdict::Allow, &Verdict::deny("enough")));
    assert_eq!(difference.channel, "disk-a");
    assert_eq!(state(&chain).pid, pid);
    assert!(chain.ask(create()).outcome.is_ok());
}

#[test]
fn the_new_plugin_answers_from_the_next_question_on() {
    let mut chain = chain(faulty("p", "create deny the old"));
    let before = state(&chain).pid;
    chain.replace("p", begun(faulty("p", "create deny the new")), &[create()], false, || Ok(())).unwrap();
    assert_eq!(denial(&mut chain), "p: the new");
    assert_ne!(state(&chain).pid, before);
}

/// ISO2: a plugin that fails in the comparison takes nobody's place.
#[test]
fn a_new_plugin_that_crashes_when_it_is_compared_is_not_taken() {
    let mut chain = chain(faulty("p", ""));
    let refused =
        chain.replace("p", begun(faulty("p", "create crash")), &[create()], false, || Ok(())).unwrap_err();
    assert!(matches!(&refused, ChainError::Unanswered { why, .. } if why.contains("SIGABRT")), "{refused}");
    assert!(chain.ask(create()).outcome.is_ok());
}

/// A plugin that is down can be replaced, and the new one is not asked to take its place in the comparison.
#[test]
fn a_plugin_that_is_down_can_be_replaced() {
    let mut chain = vfiomux_policy::Chain::default();
    let mut down = PluginHost::new(faulty("p", "create dance"));
    assert!(down.begin().is_err());
    chain.load(0, Box::new(down)).unwrap();
    let replaced = chain.replace("p", begun(faulty("p", "")), &[create()], false, || Ok(())).unwrap();
    assert!(matches!(replaced.differences[0].before, Verdict::Unanswered { .. }));
    assert_eq!(state(&chain).status, PluginStatus::Running);
    assert!(chain.ask(create()).outcome.is_ok());
}

/// A plugin that counts creations, denies with the count, and leaves it to its successor.
const COUNTER: &str = r#"
    #include "vfiomux_policy.h"
    #include <stdio.h>
    #include <string.h>

    static unsigned count;

    static vfiomux_verdict create(void *self, const struct vfiomux_create_request *request,
                                  const struct vfiomux_answer_sink *sink) {
        char text[32];
        if (!request->dry_run) count++;
        snprintf(text, sizeof text, "count %u", count);
        sink->reason(sink->context, (struct vfiomux_text){text, strlen(text)});
        return VFIOMUX_VERDICT_DENY;
    }

    static uint32_t save(void *self, const struct vfiomux_state_sink *sink) {
        sink->write(sink->context, (struct vfiomux_text){(const char *)&count, sizeof count});
        return 0;
    }

    static vfiomux_verdict restore(void *self, struct vfiomux_text state,
                                   const struct vfiomux_answer_sink *sink) {
        if (state.len_bytes != sizeof count) return VFIOMUX_VERDICT_DENY;
        memcpy(&count, state.data, sizeof count);
        return VFIOMUX_VERDICT_ALLOW;
    }

    const struct vfiomux_policy vfiomux_policy_v1 = {
        .magic = VFIOMUX_MAGIC, .major = VFIOMUX_MAJOR, .minor = VFIOMUX_MINOR,
        .struct_size = sizeof(struct vfiomux_policy), .name = {"counter", 7}, .version = {"1", 1},
        .create = create, .save = save, .restore = restore,
    };
"#;

#[test]
fn state_goes_from_the_old_to_the_new() {
    let (_directory, library) = library_of(COUNTER);
    let mut chain = chain(spec("p", &library));
    assert_eq!(denial(&mut chain), "p: count 1");
    assert_eq!(denial(&mut chain), "p: count 2");
    let live = [Create { dry_run: true, ..create() }];
    let replaced = chain.replace("p", begun(spec("p", &library)), &live, false, || Ok(())).unwrap();
    assert_eq!(replaced.state, StateOffer::Taken { bytes: 4 });
    assert_eq!((replaced.differences, replaced.channels), (vec![], 1));
    assert_eq!(denial(&mut chain), "p: count 3");
}

#[test]
fn state_that_the_new_one_cannot_use_is_told_and_done_without() {
    let (_directory, library) = library_of(COUNTER);
    let mut chain = chain(spec("p", &library));
    assert_eq!(denial(&mut chain), "p: count 1");
    let replaced =
        chain.replace("p", begun(faulty("p", "restore deny not mine")), &[], false, || Ok(())).unwrap();
    assert!(matches!(&replaced.state, StateOffer::Refused { .. }), "{replaced:?}");
    assert!(chain.ask(create()).outcome.is_ok());
}
