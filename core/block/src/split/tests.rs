#![expect(unsafe_code, reason = "segments are made up here")]

use std::ptr::NonNull;

use proptest::prelude::*;
use vfiomux_hw::Iova;

use super::*;

fn limits(addressing: Addressing) -> Limits {
    Limits {
        block_bytes: 512,
        blocks: 1 << 20,
        transfer_bytes_max: 128 << 10,
        segments_max: 64,
        boundary_blocks: 0,
        addressing,
        write_zeroes_blocks_max: 0,
        deallocate_blocks_max: 0,
        deallocate_zeroes: false,
        volatile_cache: false,
    }
}

fn segment(iova: u64, len: u32) -> Segment {
    // SAFETY: the tests look at addresses only; nothing reaches into the memory.
    unsafe { Segment::new(NonNull::dangling(), Iova(iova), len) }
}

const PRP: Addressing = Addressing::Prp { page_bytes: 4096 };
const SGL: Addressing = Addressing::Sgl { align_bytes: 4 };

fn cut(limits: &Limits, lba: u64, data: &[Segment]) -> Vec<(u32, bool)> {
    let (mut pieces, mut cursor, mut at) = (Vec::new(), Cursor::default(), lba);
    while let Some(piece) = next_piece(limits, at, data, cursor, 64 << 10) {
        pieces.push((piece.blocks, piece.bounce));
        cursor = piece.next;
        at += u64::from(piece.blocks);
    }
    pieces
}

#[test]
fn one_page_is_one_piece() {
    assert_eq!(cut(&limits(PRP), 0, &[segment(0x1000, 4096)]), [(8, false)]);
}

#[test]
fn a_large_transfer_is_cut_at_the_maximum() {
    assert_eq!(
        cut(&limits(PRP), 0, &[segment(0x1000, 300 << 10)]),
        [(256, false), (256, false), (88, false)]
    );
}

#[test]
fn no_piece_crosses_the_boundary() {
    let limits = Limits { boundary_blocks: 8, ..limits(PRP) };
    assert_eq!(cut(&limits, 5, &[segment(0x1000, 12 * 512)]), [(3, false), (8, false), (1, false)]);
}

#[test]
fn prp_cuts_where_a_segment_begins_inside_a_page() {
    let data = [segment(0x1200, 512), segment(0x3200, 1024), segment(0x5000, 4096)];
    assert_eq!(cut(&limits(PRP), 0, &data), [(1, false), (2, false), (8, false)]);
    assert_eq!(cut(&limits(SGL), 0, &data), [(11, false)]);
}

#[test]
fn segments_that_touch_count_as_one() {
    let limits = Limits { segments_max: 1, ..limits(SGL) };
    assert_eq!(
        cut(&limits, 0, &[segment(0x1200, 512), segment(0x1400, 512), segment(0x9000, 512)]),
        [(2, false), (1, false)]
    );
}

#[test]
fn what_cannot_be_named_is_bounced_one_block_at_a_time() {
    // A block in two halves of which neither begins a page, then a whole page.
    let data = [segment(0x1101, 256), segment(0x3205, 256), segment(0x5000, 4096)];
    assert_eq!(cut(&limits(PRP), 0, &data), [(1, true), (8, false)]);
    assert_eq!(cut(&limits(SGL), 0, &data), [(1, true), (8, false)]);
}

#[test]
fn less_than_a_block_is_nothing() {
    assert_eq!(cut(&limits(PRP), 0, &[segment(0x1000, 511)]), []);
}

fn any_segments() -> impl Strategy<Value = Vec<Segment>> {
    proptest::collection::vec((0u64..64, 0u64..16, 1u32..40), 1..20).prop_map(|parts| {
        let mut data: Vec<_> = parts
            .into_iter()
            .map(|(page, offset, len)| segment((page << 12) + offset * 256 + 0x10_0000, len * 256))
            .collect();
        let total: u32 = data.iter().map(|s| s.len()).sum();
        if !total.is_multiple_of(512) {
            data.push(segment(0x8000, 512 - total % 512));
        }
        data
    })
}

proptest! {
    /// C1, the splitter's half: pieces cover the data once, in order, and each can be named by the device.
    #[test]
    fn pieces_cover_the_data_and_keep_every_limit(data in any_segments(), prp: bool, lba in 0u64..1000, boundary in 0u32..40) {
        let addressing = if prp { PRP } else { SGL };
        let limits = Limits { boundary_blocks: boundary, segments_max: 5, transfer_bytes_max: 16 << 10, ..limits(addressing) };
        let total: u32 = data.iter().map(|s| s.len()).sum();
        let (mut cursor, mut at, mut covered) = (Cursor::default(), lba, 0u32);
        while let Some(piece) = next_piece(&limits, at, &data, cursor, 4096) {
            prop_assert!(piece.blocks > 0 && piece.blocks * 512 <= limits.transfer_bytes_max);
            if boundary != 0 {
                prop_assert_eq!(at / u64::from(boundary), (at + u64::from(piece.blocks) - 1) / u64::from(boundary));
            }
            let parts = parts_between(&data, cursor, piece.next);
            prop_assert_eq!(parts.iter().map(|s| s.len()).sum::<u32>(), piece.blocks * 512);
            if !piece.bounce && prp {
                for pair in parts.windows(2) {
                    let end = pair[0].iova().0 + u64::from(pair[0].len());
                    prop_assert!(end == pair[1].iova().0 || (end % 4096 == 0 && pair[1].iova().0 % 4096 == 0));
                }
            }
            covered += piece.blocks * 512;
            at += u64::from(piece.blocks);
            cursor = piece.next;
        }
        prop_assert_eq!(covered, total);
    }
}

proptest! {
    /// The short way and the long way agree on what needs no cutting.
    #[test]
    fn what_fits_whole_is_one_piece(start in 0u64..40_000, blocks in 1u32..80, addressing in 0usize..3, lba in 0u64..100, boundary in 0u32..100) {
        let addressing = [PRP, SGL, Addressing::Any][addressing];
        let limits = Limits { boundary_blocks: boundary, transfer_bytes_max: 16 << 10, ..limits(addressing) };
        let whole = segment(start, blocks * 512);
        prop_assert_eq!(fits_whole(&limits, lba, &whole), cut(&limits, lba, &[whole]) == [(blocks, false)]);
    }
}

fn parts_between(data: &[Segment], from: Cursor, to: Cursor) -> Vec<Segment> {
    let mut parts = Vec::new();
    for (index, segment) in data.iter().enumerate() {
        let start = if index < from.segment {
            segment.len()
        } else if index == from.segment {
            from.offset
        } else {
            0
        };
        let end = if index < to.segment {
            segment.len()
        } else if index == to.segment {
            to.offset
        } else {
            0
        };
        if start < end {
            parts.push(segment.part(start, end - start));
        }
    }
    parts
}
