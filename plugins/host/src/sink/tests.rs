use std::ptr::null_mut;

use super::*;

#[test]
fn what_is_given_is_copied_and_kept_in_order() {
    let ((), given) = Sinks::for_answer(|sinks| {
        let (reason, amend) = (sinks.answer.reason.unwrap(), sinks.answer.amend.unwrap());
        // SAFETY: the texts outlive the calls.
        unsafe {
            assert_eq!(reason(null_mut(), Text::new("first")), Refused::TAKEN);
            assert_eq!(reason(null_mut(), Text::from_bytes(b"no \xff more")), Refused::TAKEN);
            assert_eq!(amend(null_mut(), abi::Setting::SHARE, 7), Refused::TAKEN);
            assert_eq!(amend(null_mut(), abi::Setting(9999), 8), Refused::TAKEN);
        }
    });
    assert_eq!((given.reason.as_str(), given.overflowed), ("no", false));
    let amendment = |setting, value| Amendment { setting, value };
    assert_eq!(given.amendments, [amendment(abi::Setting::SHARE, 7), amendment(abi::Setting(9999), 8)]);
}

#[test]
fn a_sink_that_is_full_says_so_and_the_answer_is_known_to_be_cut() {
    let ((), given) = Sinks::for_answer(|sinks| {
        let amend = sinks.answer.amend.unwrap();
        // SAFETY: no pointer is used.
        let taken =
            (0..1000).filter(|&value| unsafe { amend(null_mut(), abi::Setting::SHARE, value) }.0 == 0);
        assert_eq!(taken.count(), AMENDMENTS_MAX);
    });
    assert!(given.overflowed);
}

#[test]
fn a_sink_of_yesterday_takes_nothing() {
    let (sink, _) = Sinks::for_answer(|sinks| sinks.answer);
    // SAFETY: no pointer is used.
    assert_eq!(unsafe { sink.amend.unwrap()(null_mut(), abi::Setting::SHARE, 1) }, Refused::SENSELESS);
    let ((), given) = Sinks::for_state(|sinks| {
        // SAFETY: no pointer is used.
        let refused = unsafe { sinks.answer.amend.unwrap()(null_mut(), abi::Setting::SHARE, 1) };
        assert_eq!(refused, Refused::SENSELESS, "a hook without a verdict has nothing to amend");
    });
    assert!(given.amendments.is_empty());
}

#[test]
fn a_retune_is_of_a_channel_that_was_named() {
    let ((), given) = Sinks::for_retunes(["b".to_owned(), "a".to_owned()], |sinks| {
        let retune = sinks.retune.retune.unwrap();
        let share = [abi::Amendment::new(abi::Setting::SHARE, 200)];
        // SAFETY: what is pointed to outlives the calls, or is refused before it is looked at.
        unsafe {
            assert_eq!(retune(null_mut(), Text::new("a"), 3, share.as_ptr(), 1), Refused::TAKEN);
            assert_eq!(retune(null_mut(), Text::new("c"), 3, share.as_ptr(), 1), Refused::SENSELESS);
            assert_eq!(retune(null_mut(), Text::new("a"), 3, ptr::null(), 1), Refused::SENSELESS);
            assert_eq!(retune(null_mut(), Text::new("a"), 3, share.as_ptr(), usize::MAX), Refused::FULL);
        }
    });
    let [Retune { channel_id, generation: 3, amendments }] = given.retunes.as_slice() else {
        panic!("{given:?}")
    };
    assert_eq!((channel_id.as_str(), amendments.len(), given.overflowed), ("a", 1, true));
}

#[test]
fn too_much_log_is_counted_and_dropped() {
    for _ in 0..100 {
        // SAFETY: the text outlives the call.
        unsafe { log(null_mut(), RawLevel(99), Text::new("a line\nand more")) };
    }
    let log = take_log();
    assert_eq!((log.lines.len(), log.dropped), (LOG_LINES_MAX, 100 - LOG_LINES_MAX as u64));
    assert_eq!(log.lines[0], LogLine { level: LogLevel::Info, line: "a line and more".to_owned() });
    assert!(take_log().lines.is_empty());
}

#[test]
fn state_grows_up_to_its_greatest_size() {
    let ((), given) = Sinks::for_state(|sinks| {
        let write = sinks.state.write.unwrap();
        let half = vec![7; ATTACHMENT_BYTES_MAX / 2 + 1];
        // SAFETY: the bytes outlive the calls.
        unsafe {
            assert_eq!(write(null_mut(), Text::from_bytes(&half)), Refused::TAKEN);
            assert_eq!(write(null_mut(), Text::from_bytes(&half)), Refused::FULL);
        }
    });
    assert_eq!((given.state.len(), given.overflowed), (ATTACHMENT_BYTES_MAX / 2 + 1, true));
}
