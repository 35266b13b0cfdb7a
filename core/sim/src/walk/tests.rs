use std::cell::Cell;

use proptest::prelude::*;
use vfiomux_spec::nvme::sgl::SglDescriptor;
use zerocopy::IntoBytes;

use super::*;

const PAGE: u64 = 4096;

/// Memory that holds lists at its own addresses, and counts what is read.
#[derive(Default)]
struct Memory {
    parts: Vec<(u64, Vec<u8>)>,
    read_bytes: Cell<usize>,
}

impl Memory {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.parts.push((at, bytes.to_vec()));
    }
}

impl ListMemory for Memory {
    fn read(&self, iova: u64, into: &mut [u8], _: Access) -> Result<(), DmaRefused> {
        self.read_bytes.set(self.read_bytes.get() + into.len());
        for (offset, byte) in into.iter_mut().enumerate() {
            let at = iova + offset as u64;
            let part =
                self.parts.iter().rev().find(|(start, bytes)| at.wrapping_sub(*start) < bytes.len() as u64);
            let (start, bytes) = part.ok_or(DmaRefused)?;
            *byte = bytes[(at - start) as usize];
        }
        Ok(())
    }
}

/// Puts a chained PRP list of `entries` into memory, from `at`; further pages follow at `pages`.
fn put_list(memory: &mut Memory, page_bytes: u64, at: u64, entries: &[u64], pages: u64) {
    let slots = ((page_bytes - at % page_bytes) / 8) as usize;
    if entries.len() <= slots {
        memory.put(at, entries.as_bytes());
    } else {
        let (here, rest) = entries.split_at(slots - 1);
        memory.put(at, here.as_bytes());
        memory.put(at + (slots as u64 - 1) * 8, pages.as_bytes());
        put_list(memory, page_bytes, pages, rest, pages + page_bytes);
    }
}

fn walk(memory: &Memory, page_bytes: u64, prps: (u64, u64), len: u64) -> Result<Vec<Run>, Status> {
    let mut runs = Vec::new();
    walk_prps(memory, page_bytes, prps, len, &mut runs).map(|()| runs).map_err(|WalkError(status)| status)
}

/// What runs name, byte by byte, in order.
fn flat(runs: &[Run]) -> Vec<u64> {
    runs.iter().flat_map(|run| (0..run.len).map(|offset| run.iova + offset)).collect()
}

#[test]
fn one_page_needs_no_second_entry() {
    let memory = Memory::default();
    assert_eq!(walk(&memory, PAGE, (0x1000, 0xbad), 4096), Ok(vec![Run { iova: 0x1000, len: 4096 }]));
    assert_eq!(walk(&memory, PAGE, (0x1ffc, 0xbad), 4), Ok(vec![Run { iova: 0x1ffc, len: 4 }]));
}

#[test]
fn contiguous_pages_are_one_run() {
    let memory = Memory::default();
    assert_eq!(walk(&memory, PAGE, (0x1800, 0x2000), 4096), Ok(vec![Run { iova: 0x1800, len: 4096 }]));
}

#[test]
fn a_list_exactly_to_the_end_of_its_page_is_not_chained() {
    let mut memory = Memory::default();
    let entries: Vec<u64> = (0..512).map(|page| 0x100_0000 + page * 2 * PAGE).collect();
    memory.put(0x8000, entries.as_bytes());
    let runs = walk(&memory, PAGE, (0x1000, 0x8000), 513 * PAGE).unwrap();
    assert_eq!(runs.len(), 513);
    assert_eq!(memory.read_bytes.get(), 4096);
}

#[test]
fn a_list_outside_memory_is_a_transfer_error() {
    assert_eq!(walk(&Memory::default(), PAGE, (0, 0x8000), 3 * PAGE), Err(Status::DATA_TRANSFER_ERROR));
}

#[test]
fn a_list_pointer_with_an_offset_is_refused_in_a_chain() {
    let mut memory = Memory::default();
    memory.put(0x8ff8, 0x9008u64.as_bytes());
    assert_eq!(walk(&memory, PAGE, (0x1000, 0x8ff8), 4 * PAGE), Err(Status::PRP_OFFSET_INVALID));
}

proptest! {
    /// PRPs built by the rules are walked to exactly the pages they were built from, whatever the page size, where the list
    /// begins and how it is chained.
    #[test]
    fn prps_name_the_pages_they_were_built_from(
        shift in 12u32..15,
        offset in (0u64..1024).prop_map(|dword| dword * 4),
        slot in 0u64..512,
        len in 1u64..600 * 1024,
        stride in 1u64..3,
    ) {
        let page_bytes = 1 << shift;
        let len = len * 4;
        let first = page_bytes * 7 + offset;
        let left = len.saturating_sub(page_bytes - offset);
        let pages: Vec<u64> =
            (0..left.div_ceil(page_bytes)).map(|page| (0x10_0000 + page * stride) * page_bytes).collect();
        let mut memory = Memory::default();
        let at = 0x4000_0000 + (page_bytes / 8 - 512 + slot) * 8;
        let second = match pages[..] {
            [] => 0,
            [only] => only,
            _ => {
                put_list(&mut memory, page_bytes, at, &pages, 0x5000_0000);
                at
            }
        };
        let runs = walk(&memory, page_bytes, (first, second), len).unwrap();
        let mut wanted: Vec<u64> = (0..len.min(page_bytes - offset)).map(|byte| first + byte).collect();
        for page in &pages {
            let rest = len - wanted.len() as u64;
            wanted.extend((0..rest.min(page_bytes)).map(|byte| page + byte));
        }
        prop_assert_eq!(flat(&runs), wanted);
        prop_assert!(runs.windows(2).all(|pair| pair[0].iova + pair[0].len != pair[1].iova));
    }

    /// An SGL cut into segments anywhere names exactly its data blocks, in order.
    #[test]
    fn sgls_name_the_blocks_they_were_built_from(
        blocks in prop::collection::vec((0u64..1 << 30, 0u32..2000), 1..200),
        cuts in prop::collection::vec(1usize..40, 1..40),
    ) {
        let blocks: Vec<(u64, u32)> = blocks.into_iter().map(|(at, len)| (at * 4, len * 4)).collect();
        let len = blocks.iter().map(|&(_, len)| u64::from(len)).sum();
        let mut memory = Memory::default();
        let mut rest = &blocks[..];
        let mut segments = Vec::new();
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            segments.push(part);
            rest = after;
        }
        segments.push(rest);
        segments.retain(|segment| !segment.is_empty());
        let at = |index: usize| 0x6000_0000 + index as u64 * 0x1_0000;
        let entries = |index: usize| segments[index].len() + usize::from(index + 1 < segments.len());
        let pointer = |index: usize| {
            let bytes = (entries(index) * 16) as u32;
            match index + 1 == segments.len() {
                true => SglDescriptor::last_segment(at(index), bytes),
                false => SglDescriptor::segment(at(index), bytes),
            }
        };
        for (index, segment) in segments.iter().enumerate() {
            let mut list: Vec<SglDescriptor> =
                segment.iter().map(|&(at, len)| SglDescriptor::data_block(at, len)).collect();
            if index + 1 < segments.len() {
                list.push(pointer(index + 1));
            }
            memory.put(at(index), list.as_bytes());
        }
        let mut runs = Vec::new();
        prop_assert_eq!(walk_sgl(&memory, pointer(0), len, &mut runs), Ok(()));
        let wanted: Vec<u64> =
            blocks.iter().flat_map(|&(at, len)| (0..u64::from(len)).map(move |byte| at + byte)).collect();
        prop_assert_eq!(flat(&runs), wanted);
        for wrong in [len + 4, len.saturating_sub(4)] {
            if wrong != len {
                let walked = walk_sgl(&memory, pointer(0), wrong, &mut Vec::new());
                prop_assert_eq!(walked, Err(WalkError(Status::DATA_SGL_LENGTH)));
            }
        }
    }

    /// No bytes that a guest could put anywhere make a walk go on for ever, or name more than was asked for.
    #[test]
    fn walks_of_anything_end(page in prop::collection::vec(any::<u8>(), 4096), prps in any::<(u64, u64)>(), len in 1u64..1 << 22) {
        struct Everywhere(Vec<u8>, Cell<usize>);
        impl ListMemory for Everywhere {
            fn read(&self, iova: u64, into: &mut [u8], _: Access) -> Result<(), DmaRefused> {
                self.1.set(self.1.get() + into.len());
                for (offset, byte) in into.iter_mut().enumerate() {
                    *byte = self.0[(iova as usize).wrapping_add(offset) % self.0.len()];
                }
                Ok(())
            }
        }
        let memory = Everywhere(page, Cell::new(0));
        let mut runs = Vec::new();
        let walked = walk_prps(&memory, PAGE, (prps.0 & !3, prps.1 & !7), len, &mut runs);
        prop_assert!(walked.is_err() || runs.iter().map(|run| run.len).sum::<u64>() == len);
        let descriptor = SglDescriptor { identifier: 0x20, ..SglDescriptor::data_block(prps.0 & !7, 4096) };
        let mut runs = Vec::new();
        let walked = walk_sgl(&memory, descriptor, len, &mut runs);
        prop_assert!(walked.is_err() || runs.iter().map(|run| run.len).sum::<u64>() == len);
        prop_assert!(memory.1.get() < 4 << 20);
    }
}
