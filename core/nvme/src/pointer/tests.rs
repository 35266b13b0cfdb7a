//! What lands in entries and lists, word by word. That a device can follow it is checked against the simulated one.

use std::io;
use std::ops::RangeInclusive;
use std::ptr::NonNull;

use vfiomux_hw::{DmaDomain, Iommu, Iova, Rights};

use super::*;

/// Everything can be mapped.
struct Open;

impl Iommu for Open {
    fn apertures(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=u64::MAX >> 16]
    }

    fn page_sizes(&self) -> u64 {
        4096
    }

    fn map(&self, _: Iova, _: NonNull<u8>, _: u64, _: Rights) -> io::Result<()> {
        Ok(())
    }

    fn unmap(&self, _: Iova, _: u64) -> io::Result<()> {
        Ok(())
    }
}

struct Bench {
    words: DmaWords,
    buffer: vfiomux_hw::DmaBuffer,
}

const SGL_ALIGN_BYTES: Option<u32> = Some(4);

impl Bench {
    fn new() -> Self {
        let domain = DmaDomain::new(Box::new(Open));
        let mut words = DmaWords::allocate(&domain, 512).unwrap();
        // What another command left behind.
        words.write(0, [0xdead_f000; 512]);
        Self { words, buffer: domain.allocate(64 * 4096).unwrap() }
    }

    fn describe(&mut self, layout: &[(usize, u32)]) -> Option<DataPointer> {
        self.describe_as(SGL_ALIGN_BYTES, layout)
    }

    fn describe_as(&mut self, sgl_align_bytes: Option<u32>, layout: &[(usize, u32)]) -> Option<DataPointer> {
        let data: Vec<Segment> = layout.iter().map(|&(at, len)| self.buffer.segment(at, len)).collect();
        describe(sgl_align_bytes, &data, &mut ListArea { words: &mut self.words, first: 8, len: 16 })
    }

    fn page(&self, index: u64) -> u64 {
        self.buffer.iova().plus(index * 4096).raw()
    }
}

#[test]
fn two_pages_need_no_list() {
    let mut bench = Bench::new();
    let pointer = bench.describe(&[(512, 4096)]).unwrap();
    let expected = DataPointer { flags: 0, first: bench.page(0) + 512, second: bench.page(1), bytes: 4096 };
    assert_eq!(pointer, expected);
    assert_eq!(bench.words.read(8), 0xdead_f000);
}

#[test]
fn one_page_has_no_second_entry() {
    let mut bench = Bench::new();
    assert_eq!(bench.describe(&[(0, 4096)]).unwrap().second, 0);
    assert_eq!(bench.describe(&[(0, 2048), (2048, 2048)]).unwrap().second, 0);
}

/// C1: whatever another command left in the area, a walk beyond the list meets no page of it.
#[test]
fn a_list_is_ended_by_a_zero() {
    let mut bench = Bench::new();
    let pointer = bench.describe(&[(0, 3 * 4096), (5 * 4096, 100)]).unwrap();
    assert_eq!(pointer.second, bench.words.iova().plus(8 * 8).raw());
    let list: Vec<u64> = (8..12).map(|index| bench.words.read(index)).collect();
    assert_eq!(list, [bench.page(1), bench.page(2), bench.page(5), 0]);
}

#[test]
fn a_list_longer_than_its_area_is_refused() {
    let mut bench = Bench::new();
    assert!(bench.describe_as(None, &[(0, 17 * 4096)]).is_some());
    assert!(bench.describe_as(None, &[(0, 18 * 4096)]).is_none());
    let scattered: Vec<_> = (0..9).map(|index| (index * 8192 + 4, 8)).collect();
    assert!(bench.describe(&scattered[..8]).is_some());
    assert!(bench.describe(&scattered).is_none());
    assert_eq!((bench.words.read(7), bench.words.read(24)), (0xdead_f000, 0xdead_f000));
}

#[test]
fn what_pages_cannot_say_becomes_a_list_of_runs() {
    let mut bench = Bench::new();
    let pointer = bench.describe(&[(4, 100), (104, 24), (8192, 8)]).unwrap();
    assert_eq!((pointer.flags, pointer.bytes), (0x40, 132));
    assert_eq!(pointer.first, bench.words.iova().plus(8 * 8).raw());
    assert_eq!(pointer.second, 0x30 << 56 | 32);
    let list: Vec<u64> = (8..12).map(|index| bench.words.read(index)).collect();
    assert_eq!(list, [bench.page(0) + 4, 124, bench.page(2), 8]);
}

#[test]
fn neither_can_say_an_odd_address() {
    let mut bench = Bench::new();
    assert!(bench.describe(&[(2, 512)]).is_none());
    assert!(bench.describe(&[(4, 510), (1000, 2)]).is_none());
    assert!(bench.describe(&[]).is_none());
    assert!(bench.describe(&[(0, 0)]).is_none());
}

#[test]
fn empty_segments_between_others_do_not_matter() {
    let mut bench = Bench::new();
    let with = bench.describe(&[(0, 4096), (77, 0), (8192, 512)]);
    assert_eq!(with, bench.describe(&[(0, 4096), (8192, 512)]));
    assert!(with.is_some());
}

/// The short way gives what the long way gives, or leaves it to that.
#[test]
fn two_pages_are_named_alike_with_and_without_a_list_at_hand() {
    let mut bench = Bench::new();
    for at in [0, 2, 4, 512, 4092, 4096, 5000] {
        for len in [0, 1, 4, 512, 4096 - 512, 4096, 2 * 4096 - 512, 2 * 4096, 2 * 4096 + 4] {
            let short = DataPointer::of_two_pages(&bench.buffer.segment(at, len));
            let long = bench.describe_as(None, &[(at, len)]);
            let listed = at % 4096 + len as usize > 2 * 4096;
            assert_eq!(short, long.filter(|_| !listed), "{len} bytes at {at}");
        }
    }
}
