//! Which parts of a channel have changed, for whoever copies it while its guest goes on.
//!
//! A channel that is being copied notes of each command that it submits which chunks it changes, and marks them when the
//! command **ends**, however it ends. That is what makes a copy right without holding the guest up:
//!
//! ```text
//!   copier    clear the mark ──────► read the chunk ──► write it elsewhere
//!   channel                    write lands … ends: mark
//! ```
//!
//! A write that landed before the copier's read is in the copy. One that lands later ends later still, so its mark comes after
//! the clearing, and the chunk is copied again. A command that is in flight when the noting begins is taken to change all. So
//! once nothing is in flight and nothing is marked, the copy is the channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::slot::SlotId;

/// A mark for each chunk of a channel. Shared by the channel, which marks, and the copier, which clears.
#[derive(Debug)]
pub struct DirtyMap {
    chunk_blocks: u64,
    chunks: u64,
    words: Box<[AtomicU64]>,
}

impl DirtyMap {
    /// A map of a channel of `blocks` blocks, all of it to be copied.
    #[must_use]
    pub fn all(blocks: u64, chunk_blocks: u64) -> Self {
        let chunk_blocks = chunk_blocks.max(1);
        let chunks = blocks.div_ceil(chunk_blocks);
        let words = (0..chunks.div_ceil(64)).map(|word| {
            let bits = (chunks - word * 64).min(64);
            AtomicU64::new(u64::MAX >> (64 - bits))
        });
        Self { chunk_blocks, chunks, words: words.collect() }
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Blocks of a chunk; the last may have fewer.
    #[must_use]
    pub fn chunk_blocks(&self) -> u64 {
        self.chunk_blocks
    }

    /// How many chunks are marked.
    #[must_use]
    pub fn marked(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// Marks chunks, from the first to the last.
    fn mark(&self, span: Span) {
        let Some(most) = self.chunks.checked_sub(1) else { return };
        let last = span.last.min(most);
        for chunk in span.first..=last {
            if let Some(word) = usize::try_from(chunk / 64).ok().and_then(|index| self.words.get(index)) {
                // Pairs with the clearing in `take_from`: what the command wrote has landed before this.
                word.fetch_or(1 << (chunk % 64), Ordering::Release);
            }
        }
    }

    /// Clears the first mark from a chunk on, in a circle, and gives the chunk. To be read only after this.
    #[must_use]
    pub fn take_from(&self, chunk: u64) -> Option<u64> {
        let words = self.words.len() as u64;
        let (first, behind) = (chunk / 64, chunk % 64);
        // The word that it begins in is looked at twice: from the chunk on, and in the end whole.
        for step in 0..=words {
            let index = (first + step) % words.max(1);
            let Some(word) = usize::try_from(index).ok().and_then(|index| self.words.get(index)) else {
                continue;
            };
            let wanted = if step == 0 { u64::MAX << behind } else { u64::MAX };
            let bits = word.load(Ordering::Relaxed) & wanted;
            if bits != 0 {
                let bit = bits.trailing_zeros();
                // Pairs with the marking in `mark`: whoever marked before has written before.
                word.fetch_and(!(1 << bit), Ordering::Acquire);
                return Some(index * 64 + u64::from(bit));
            }
        }
        None
    }
}

/// Chunks that a command changes, from the first to the last.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: u64,
    last: u64,
}

impl Span {
    const ALL: Self = Self { first: 0, last: u64::MAX };
    const NONE: Self = Self { first: 1, last: 0 };
}

/// What a channel that is being copied notes of its commands.
#[derive(Debug)]
pub(crate) struct Tracking {
    map: Arc<DirtyMap>,
    /// Of the command in each slot.
    spans: Box<[Span]>,
}

impl Tracking {
    pub(crate) fn new(map: Arc<DirtyMap>, slots: u16) -> Self {
        Self { map, spans: vec![Span::ALL; usize::from(slots)].into() }
    }

    /// Whether it is this map that is marked.
    pub(crate) fn marks(&self, map: &Arc<DirtyMap>) -> bool {
        Arc::ptr_eq(&self.map, map)
    }

    /// A command is about to be submitted.
    pub(crate) fn launched(&mut self, slot: SlotId, changes: bool, block: u64, blocks: u64) {
        let Some(span) = self.spans.get_mut(usize::from(slot.0)) else { return };
        let last = block.saturating_add(blocks.saturating_sub(1));
        *span = match changes {
            true => Span { first: block / self.map.chunk_blocks, last: last / self.map.chunk_blocks },
            false => Span::NONE,
        };
    }

    /// A command has ended, in whatever way.
    #[cold]
    pub(crate) fn landed(&mut self, slot: SlotId) {
        if let Some(span) = self.spans.get(usize::from(slot.0)) {
            self.map.mark(*span);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tracking(blocks: u64) -> (Arc<DirtyMap>, Tracking) {
        let map = Arc::new(DirtyMap::all(blocks, 8));
        (map.clone(), Tracking::new(map, 4))
    }

    fn drain(map: &DirtyMap) -> Vec<u64> {
        std::iter::from_fn(|| map.take_from(0)).collect()
    }

    #[test]
    fn all_of_a_channel_is_marked_first() {
        for blocks in [1, 8, 9, 64 * 8, 65 * 8 - 1, 1000] {
            let (map, _) = tracking(blocks);
            let chunks = blocks.div_ceil(8);
            assert_eq!((map.chunks(), map.marked()), (chunks, chunks));
            assert_eq!(drain(&map), (0..chunks).collect::<Vec<_>>());
        }
    }

    #[test]
    fn marks_are_taken_in_a_circle() {
        let (map, _) = tracking(200 * 8);
        assert_eq!(map.take_from(130), Some(130));
        let rest: Vec<u64> = std::iter::from_fn(|| map.take_from(130)).collect();
        assert_eq!((rest[0], rest[68], rest[69], rest.last()), (131, 199, 0, Some(&129)));
    }

    #[test]
    fn a_command_marks_when_it_ends_and_not_before() {
        let (map, mut tracking) = tracking(100);
        drain(&map);
        tracking.launched(SlotId(2), true, 7, 2);
        tracking.launched(SlotId(3), false, 50, 2);
        assert_eq!(map.marked(), 0);
        tracking.landed(SlotId(2));
        tracking.landed(SlotId(3));
        assert_eq!(drain(&map), [0, 1]);
    }

    #[test]
    fn what_was_in_flight_before_changes_all() {
        let (map, mut tracking) = tracking(100);
        drain(&map);
        tracking.landed(SlotId(0));
        assert_eq!(map.marked(), map.chunks());
    }

    proptest! {
        /// Whatever order writes are submitted, land and end in, and whenever the copier clears, reads and writes: when nothing
        /// is in flight and nothing is marked, the copy is the original.
        #[test]
        fn a_copy_is_complete_when_nothing_is_marked(steps in proptest::collection::vec((0u8..4, 0u16..4, 0u64..40, 1u64..12), 1..300)) {
            let (map, mut tracking) = tracking(48);
            let (mut original, mut copy) = (vec![0u32; 48], vec![u32::MAX; 48]);
            // Of each slot: what is being written, and whether it has landed.
            let mut slots: [Option<(u64, u64, u32, bool)>; 4] = [None; 4];
            // What the copier has cleared and not read.
            let mut held: Option<u64> = None;
            let read = |copy: &mut Vec<u32>, original: &[u32], chunk: u64| {
                let range = chunk as usize * 8..chunk as usize * 8 + 8;
                copy[range.clone()].copy_from_slice(&original[range]);
            };
            for (version, (what, slot, block, blocks)) in steps.into_iter().enumerate() {
                let place = &mut slots[usize::from(slot)];
                match (what, *place) {
                    (0, None) => {
                        let blocks = blocks.min(48 - block);
                        tracking.launched(SlotId(slot), true, block, blocks);
                        *place = Some((block, blocks, version as u32, false));
                    }
                    (1, Some((block, blocks, value, false))) => {
                        original[block as usize..(block + blocks) as usize].fill(value);
                        *place = Some((block, blocks, value, true));
                    }
                    (2, Some((.., true))) => {
                        tracking.landed(SlotId(slot));
                        *place = None;
                    }
                    (3, _) => match held.take() {
                        None => held = map.take_from(block % 6),
                        Some(chunk) => read(&mut copy, &original, chunk),
                    },
                    _ => {}
                }
            }
            for (slot, place) in slots.iter().enumerate() {
                if let Some((block, blocks, value, landed)) = *place {
                    if !landed {
                        original[block as usize..(block + blocks) as usize].fill(value);
                    }
                    tracking.landed(SlotId(slot as u16));
                }
            }
            for chunk in held.into_iter().chain(drain(&map)) {
                read(&mut copy, &original, chunk);
            }
            prop_assert_eq!(original, copy);
        }
    }
}
