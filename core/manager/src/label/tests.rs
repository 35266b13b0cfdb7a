use proptest::prelude::*;

use super::*;

fn label(generation: u64) -> Label {
    let channel = LabelledChannel {
        id: "01".into(),
        name: "disk0".into(),
        tenant: "acme".into(),
        size_bytes: 1 << 20,
        queues: 2,
        read_only: false,
        extents: vec![Extent { start: 8192, blocks: 2048 }],
    };
    Label {
        generation,
        pool: "p".into(),
        block_bytes: 512,
        blocks: 1 << 20,
        channels: vec![channel],
        unscrubbed: vec![],
    }
}

/// The two areas after writing these labels in turn.
fn written(labels: &[Label]) -> Vec<u8> {
    let mut areas = vec![0; 2 * COPY_BYTES];
    for label in labels {
        let bytes = label.encode().unwrap();
        areas[label.offset_bytes()..][..bytes.len()].copy_from_slice(&bytes);
    }
    areas
}

#[test]
fn the_newest_copy_is_read_back() {
    assert_eq!(Label::decode(&written(&[label(1), label(2), label(3)])), Ok(label(3)));
}

#[test]
fn a_blank_device_has_no_label() {
    assert_eq!(Label::decode(&vec![0; 2 * COPY_BYTES]), Err(LabelError::None));
    assert_eq!(Label::decode(&[]), Err(LabelError::None));
}

#[test]
fn a_write_torn_anywhere_leaves_the_label_before() {
    let before = written(&[label(1), label(2)]);
    let bytes = label(3).encode().unwrap();
    for torn in (0..bytes.len()).step_by(512) {
        let mut areas = before.clone();
        areas[COPY_BYTES..][..torn].copy_from_slice(&bytes[..torn]);
        let read = Label::decode(&areas).unwrap().generation;
        assert!(read == 2 || read == 3, "torn at {torn} gave generation {read}");
    }
}

#[test]
fn damage_in_both_copies_is_an_error_not_a_blank_device() {
    let mut areas = written(&[label(1), label(2)]);
    areas[HEADER_BYTES] ^= 1;
    areas[COPY_BYTES + HEADER_BYTES] ^= 1;
    assert!(matches!(Label::decode(&areas), Err(LabelError::Damaged(_))));
}

#[test]
fn a_later_version_is_not_taken_for_blank() {
    let mut areas = written(&[label(2)]);
    areas[15] = 2;
    assert!(matches!(Label::decode(&areas), Err(LabelError::Damaged(what)) if what.contains("version 2")));
}

#[test]
fn a_label_that_does_not_fit_is_refused() {
    let mut large = label(1);
    large.channels = vec![large.channels[0].clone(); 10_000];
    assert!(matches!(large.encode(), Err(LabelError::TooLarge(_))));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..9000), ours: bool) {
        if ours && bytes.len() >= 16 { bytes[..16].copy_from_slice(&MAGIC); }
        let _ = Label::decode(&bytes);
    }
}
