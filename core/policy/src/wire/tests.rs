use proptest::prelude::*;

use super::*;
use crate::{Amendment, Device, Setting, Tenant, tests::channel};

fn asked(id: u64) -> Asked {
    let create = Create {
        channel: channel(),
        device: Device::default(),
        tenant: Tenant::default(),
        caller_uid: 1,
        dry_run: false,
    };
    Asked { id, call: Call::Create(create) }
}

fn told(id: u64) -> Told {
    let amendments = vec![Amendment { setting: Setting::SHARE, value: u64::MAX }];
    Told { id, reply: Reply::Verdict(Verdict::Amend(amendments)), log: Vec::new(), log_dropped: 0 }
}

#[test]
fn a_message_comes_back_as_it_was() {
    let bytes = encode(&asked(7), b"state", QUESTION_BYTES_MAX).unwrap();
    let mut decoder = Decoder::new(QUESTION_BYTES_MAX);
    decoder.feed(&bytes);
    assert_eq!(decoder.message().unwrap(), Some((asked(7), b"state".to_vec())));
    assert!(decoder.is_empty());
}

#[test]
fn a_message_that_is_too_long_is_refused_before_it_is_waited_for() {
    let mut decoder = Decoder::new(ANSWER_BYTES_MAX);
    decoder.feed(&u32::MAX.to_le_bytes());
    assert!(decoder.message::<Told>().unwrap().is_none(), "half a header says nothing");
    decoder.feed(&0u32.to_le_bytes());
    assert!(matches!(decoder.message::<Told>(), Err(WireError::TooLong { .. })));
    assert!(encode(&told(1), &[], 8).is_err());
    assert!(encode(&told(1), &vec![0; ATTACHMENT_BYTES_MAX + 1], ANSWER_BYTES_MAX).is_err());
}

#[test]
fn a_phrase_is_one_line_of_bounded_length() {
    assert_eq!(phrase("no\nmore\x1b[31m "), "no more [31m");
    assert_eq!(phrase(&"ü".repeat(2000)).len(), PHRASE_BYTES_MAX);
}

proptest! {
    #[test]
    fn messages_survive_any_cutting(cuts in proptest::collection::vec(1usize..64, 1..64), count in 1u64..4) {
        let stream: Vec<u8> =
            (0..count).flat_map(|id| encode(&told(id), b"x", ANSWER_BYTES_MAX).unwrap()).collect();
        let mut decoder = Decoder::new(ANSWER_BYTES_MAX);
        let (mut rest, mut seen) = (stream.as_slice(), 0);
        for &cut in cuts.iter().cycle() {
            let (piece, left) = rest.split_at(cut.min(rest.len()));
            decoder.feed(piece);
            while let Some((message, _)) = decoder.message::<Told>().unwrap() {
                prop_assert_eq!(message, told(seen));
                seen += 1;
            }
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(seen, count);
        prop_assert!(decoder.is_empty());
    }

    #[test]
    fn no_bytes_at_all_upset_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let mut decoder = Decoder::new(ANSWER_BYTES_MAX);
        decoder.feed(&bytes);
        while let Ok(Some((Told { .. }, _))) = decoder.message() {}
    }
}
