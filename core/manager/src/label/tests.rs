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

/// The blocks that a label names.
fn named(label: &Label) -> std::collections::BTreeSet<u64> {
    let all = label.channels.iter().flat_map(|channel| &channel.extents).chain(&label.unscrubbed);
    all.flat_map(|extent| extent.start..extent.start + extent.blocks).collect()
}

fn entry(id: u8, extents: &[Extent]) -> LabelledChannel {
    let template = label(1).channels.remove(0);
    LabelledChannel { id: id.to_string(), extents: extents.to_vec(), ..template }
}

proptest! {
    /// C3: whatever happens to channels, a label goes on naming each block that it has named until that is clean, and names none
    /// twice.
    #[test]
    fn a_label_forgets_no_block_that_is_not_clean(changes in proptest::collection::vec((0u8..5, 0u8..3, 0u64..12, 1u64..5), 1..40)) {
        let mut label = Label { channels: Vec::new(), ..label(1) };
        for (change, id, start, blocks) in changes {
            let before = named(&label);
            let name = id.to_string();
            // What others have is given to nobody.
            let others: Vec<Extent> =
                label.channels.iter().filter(|entry| entry.id != name).flat_map(|entry| entry.extents.clone()).collect();
            let extents = crate::extent::minus(&[Extent { start, blocks }], &others);
            match change {
                0 => label.enter(entry(id, &extents)),
                1 => label.leave(&name),
                2 => {
                    let room = crate::extent::minus(&extents, &label.unscrubbed);
                    label.carve(&name, &room, 1);
                }
                3 => {
                    let own = label.extents_of(&name);
                    label.keep_back(&crate::extent::minus(&extents, &own));
                }
                _ => {
                    label.clean(&extents);
                    let left = named(&label);
                    prop_assert!(before.difference(&left).all(|&block| start <= block && block < start + blocks));
                    continue;
                }
            }
            let after = named(&label);
            prop_assert!(before.is_subset(&after), "{before:?} {after:?}");
            let counted = label.channels.iter().flat_map(|entry| &entry.extents).chain(&label.unscrubbed);
            prop_assert_eq!(counted.map(|extent| extent.blocks).sum::<u64>(), after.len() as u64);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..9000), ours: bool) {
        if ours && bytes.len() >= 16 { bytes[..16].copy_from_slice(&MAGIC); }
        let _ = Label::decode(&bytes);
    }
}
