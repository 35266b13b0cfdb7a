use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn it_gives_what_a_sorted_set_gives(
        steps in prop::collection::vec((0u16..20, prop::option::of(0u64..50)), 1..300),
    ) {
        let (mut heap, mut keys, mut sorted) = (Heap::new(20), [None; 20], BTreeSet::new());
        for (place, key) in steps {
            if let Some(old) = std::mem::replace(&mut keys[usize::from(place)], key) {
                sorted.remove(&(old, place));
            }
            match key {
                Some(key) => {
                    heap.set(place, key);
                    sorted.insert((key, place));
                }
                None => heap.remove(place),
            }
            prop_assert_eq!(heap.first().map(|node| (node.key, node.place)), sorted.first().copied());
            prop_assert_eq!(heap.len(), sorted.len());
        }
        heap.lower(20);
        let mut lowered: Vec<_> = sorted.iter().map(|&(key, place)| (key.saturating_sub(20), place)).collect();
        lowered.sort_unstable();
        for expected in lowered {
            prop_assert_eq!(heap.first().map(|node| (node.key, node.place)), Some(expected));
            heap.remove(expected.1);
        }
    }
}
