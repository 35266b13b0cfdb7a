use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const SIZE: u64 = 64 << 10;

fn media() -> [AnyMedium; 2] {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE + 4096).unwrap();
    [
        AnyMedium::Ram(RamMedium::new(SIZE).unwrap()),
        // Not at the beginning of the file: a second namespace.
        AnyMedium::File(FileMedium::new(Arc::new(file), 4096, SIZE)),
    ]
}

fn read(medium: &AnyMedium, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    medium.read(offset, HostMemory::of_mut(&mut bytes)).map(|()| bytes)
}

#[test]
fn nothing_outside_the_medium_is_reached() {
    for mut medium in media() {
        for (offset, len) in [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 4)] {
            assert!(read(&medium, offset, len).is_err());
            assert!(medium.write(offset, HostMemory::of(&vec![0; len])).is_err());
            assert!(medium.zero(offset, len as u64).is_err());
        }
        assert_eq!(read(&medium, SIZE - 1, 1).unwrap(), [0]);
        medium.zero(SIZE, 0).unwrap();
        medium.flush().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Both media behave as an array of bytes does, also where zeroing meets pages in part.
    #[test]
    fn a_medium_is_an_array(ops in prop::collection::vec((any::<bool>(), 0..SIZE, 0u64..20_000, 1u8..), 1..40)) {
        for mut medium in media() {
            let mut model = vec![0; SIZE as usize];
            for &(zero, offset, len, value) in &ops {
                let len = len.min(SIZE - offset);
                let range = offset as usize..(offset + len) as usize;
                if zero {
                    medium.zero(offset, len).unwrap();
                    model[range].fill(0);
                } else {
                    medium.write(offset, HostMemory::of(&vec![value; len as usize])).unwrap();
                    model[range].fill(value);
                }
            }
            prop_assert_eq!(read(&medium, 0, SIZE as usize).unwrap(), model);
        }
    }

    /// After a loss of power each block holds what it was last written, or anything it held since it was last made to stay.
    #[test]
    fn a_cache_loses_only_what_was_not_made_to_stay(
        ops in prop::collection::vec((0u8..4, 0u64..12, 1u64..5), 1..60), seed in any::<u64>(),
    ) {
        const BLOCK: usize = 512;
        let [mut medium, _] = media();
        let mut cache = VolatileCache::new(BLOCK, 6 * BLOCK);
        // For each block, what it was when it was last made to stay, and all that was written to it since.
        let mut history: Vec<Vec<u8>> = vec![vec![0]; 16];
        for (value, &(op, first, count)) in (1u8..).zip(&ops) {
            let blocks = first as usize..(first + count) as usize;
            match op {
                0 => {
                    cache.settle(first, count);
                    history[blocks].iter_mut().for_each(|values| *values = vec![*values.last().unwrap()]);
                }
                1 => {
                    cache.flush();
                    history.iter_mut().for_each(|values| *values = vec![*values.last().unwrap()]);
                }
                _ => {
                    cache.remember(&medium, first, count).unwrap();
                    medium.write(first * BLOCK as u64, HostMemory::of(&vec![value; count as usize * BLOCK])).unwrap();
                    history[blocks].iter_mut().for_each(|values| values.push(value));
                }
            }
        }
        cache.lose(&mut medium, &mut Rng::new(seed)).unwrap();
        for (block, values) in history.iter().enumerate() {
            let held = read(&medium, (block * BLOCK) as u64, BLOCK).unwrap();
            prop_assert!(held.iter().all(|byte| *byte == held[0]));
            prop_assert!(values.contains(&held[0]), "block {} holds {}, not of {:?}", block, held[0], values);
        }
    }
}
