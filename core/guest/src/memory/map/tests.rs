use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use vfiomux_hw::{DmaDomain, Epoch};

use super::*;
use crate::fixture::{domain, map_of, placed, region};
use crate::memory::RegionCache;

fn refused(regions: Vec<MapRegion>) -> GuestError {
    MemoryMap::new(regions).expect_err("a wrong memory table was taken")
}

#[test]
fn regions_that_share_addresses_are_refused() {
    let overlap = refused(vec![placed(0x2000, 0x1000), placed(0x1000, 0x1001)]);
    assert!(matches!(overlap, GuestError::Overlap { first: 0x1000, second: 0x2000 }), "{overlap:?}");
    let user = MapRegion { user_addr: (1 << 40) + 0x1000, ..placed(0x9000, 0x1000) };
    assert!(matches!(refused(vec![placed(0x1000, 0x1000), user]), GuestError::Overlap { .. }));
    assert!(MemoryMap::new(vec![placed(0x2000, 0x1000), placed(0x1000, 0x1000)]).is_ok());
}

#[test]
fn a_region_that_wraps_around_is_refused() {
    let last = u64::MAX - 0xfff;
    let wraps = MapRegion { guest_addr: last, user_addr: 0, file: region(0x2000), grant: None };
    assert!(matches!(refused(vec![wraps.clone()]), GuestError::BadRange { start, .. } if start == last));
    let wraps = MapRegion { guest_addr: 0, user_addr: last, ..wraps };
    assert!(matches!(refused(vec![wraps]), GuestError::BadRange { start, .. } if start == last));
}

#[test]
fn a_region_placed_differently_within_its_pages_is_refused() {
    for (guest_addr, user_addr) in [(0x1200, 0x5000), (0x1000, 0x5200)] {
        let region = MapRegion { guest_addr, user_addr, file: region(0x1000), grant: None };
        assert!(matches!(refused(vec![region]), GuestError::Misaligned { .. }));
    }
}

#[test]
fn the_509th_region_is_taken_and_the_510th_is_not() {
    let file = region(0x1000);
    let many = |count| -> Vec<MapRegion> {
        let place =
            |n: u64| MapRegion { guest_addr: n << 13, user_addr: n << 13, file: file.clone(), grant: None };
        (0..count).map(place).collect()
    };
    let map = MemoryMap::new(many(509)).unwrap();
    assert!((0..509).all(|n| map.segment(n << 13, 0x1000, &mut Hint::default()).is_some()));
    assert!(matches!(refused(many(510)), GuestError::TooManyRegions { count: 510, max: 509 }));
}

#[test]
fn grants_of_several_domains_or_for_some_regions_only_are_refused() {
    let (cache, one, two) = (RegionCache::new(), domain(), domain());
    let granted = |at, domain| {
        let region = placed(at, 0x1000);
        MapRegion { grant: Some(cache.grant(&region.file, domain).unwrap()), ..region }
    };
    let (a, b, bare) = (granted(0x1000, &one), granted(0x2000, &two), placed(0x3000, 0x1000));
    assert!(matches!(refused(vec![a.clone(), b.clone()]), GuestError::MixedGrants));
    assert!(matches!(refused(vec![a.clone(), bare.clone()]), GuestError::MixedGrants));
    let foreign = MapRegion { grant: a.grant.clone(), ..bare };
    assert!(matches!(refused(vec![foreign]), GuestError::MixedGrants));
    for region in [a, b] {
        unmap(MemoryMap::new(vec![region]).unwrap());
    }
}

fn unmap(map: MemoryMap) {
    let grants = Epoch::open(map).close().expect("nothing is in flight").map(MemoryMap::into_grants);
    grants.into_each().for_each(|grant| {
        DmaDomain::unmap(grant).unwrap();
    });
}

#[test]
fn a_segment_has_the_address_that_the_device_sees() {
    let (cache, domain) = (RegionCache::new(), domain());
    let file = cache.open(crate::fixture::memfd(0x3000), 0x1200, 0x1000).unwrap();
    let grant = cache.grant(&file, &domain).unwrap();
    let base = grant.iova();
    let map =
        MemoryMap::new(vec![MapRegion { guest_addr: 0x8200, user_addr: 0x8200, file, grant: Some(grant) }]);
    let map = map.unwrap();
    let segment = map.segment(0x8210, 16, &mut Hint::default()).unwrap();
    assert_eq!(segment.iova(), base.plus(0x210));
    unmap(map);
    assert!(domain.mappings().is_empty());
}

#[test]
fn a_range_across_adjacent_regions_is_cut_and_one_across_a_gap_is_refused() {
    let map = map_of(&[(0x1000, 0x1000), (0x2000, 0x1000), (0x4000, 0x1000)]);
    let lens = |at, len| {
        let mut lens = Vec::new();
        map.translate(at, len, &mut Hint::default(), |segment| lens.push(segment.len())).map(|()| lens)
    };
    assert_eq!(lens(0x1800, 0x1000), Ok(vec![0x800, 0x800]));
    assert_eq!(lens(0x1000, 0x2000), Ok(vec![0x1000, 0x1000]));
    assert_eq!(lens(0x1000, 0x2001), Err(OutsideMemory));
    assert_eq!(lens(0x2fff, 0x1002), Err(OutsideMemory));
    assert_eq!(lens(0x3000, 1), Err(OutsideMemory));
    assert_eq!(lens(0xfff, 2), Err(OutsideMemory));
    assert_eq!(lens(u64::MAX, u32::MAX), Err(OutsideMemory));
    assert_eq!(lens(u64::MAX, 0), Ok(vec![]));
}

#[test]
fn bytes_go_in_and_come_out_across_regions() {
    let map = map_of(&[(0x1000, 0x1000), (0x2000, 0x1000)]);
    let (mut hint, mut back) = (Hint::default(), [0; 9]);
    map.write(0x1ffb, b"guest mem", &mut hint).unwrap();
    map.read(0x1ffb, &mut back, &mut hint).unwrap();
    assert_eq!(&back, b"guest mem");
    assert_eq!(map.read(0x2ff8, &mut back, &mut hint), Err(OutsideMemory));
    assert_eq!(map.write(0xfff, b"xy", &mut hint), Err(OutsideMemory));
}

#[test]
fn a_segment_is_followed_only_by_a_map_that_holds_it() {
    let (map, other) = (map_of(&[(0x1000, 0x1000)]), map_of(&[(0x1000, 0x1000)]));
    let (mut hint, mut back) = (Hint::default(), [0; 4]);
    let segment = map.segment(0x1ffc, 4, &mut hint).unwrap();
    map.copy_to(&segment, b"abcd", &mut hint).unwrap();
    map.copy_from(&segment, &mut back, &mut hint).unwrap();
    assert_eq!(&back, b"abcd");
    assert_eq!(other.copy_from(&segment, &mut back, &mut hint), Err(OutsideMemory));
    assert_eq!(map.copy_to(&segment, b"abcde", &mut hint), Err(OutsideMemory));
}

#[test]
fn only_a_map_with_all_of_the_old_ones_mappings_is_a_superset() {
    let (low, high) = (placed(0x1000, 0x1000), placed(0x9000, 0x1000));
    let map = |regions: &[&MapRegion]| MemoryMap::new(regions.iter().copied().cloned().collect()).unwrap();
    let moved = MapRegion { guest_addr: 0x2000, ..low.clone() };
    let replaced = MapRegion { file: region(0x1000), ..low.clone() };
    assert!(map(&[&low, &high]).is_superset_of(&map(&[&low])));
    assert!(map(&[&low]).is_superset_of(&map(&[])));
    assert!(!map(&[&high]).is_superset_of(&map(&[&low])));
    assert!(!map(&[&moved, &high]).is_superset_of(&map(&[&low])));
    assert!(!map(&[&replaced, &high]).is_superset_of(&map(&[&low])));
}

#[test]
fn front_end_addresses_name_the_same_memory() {
    let map = map_of(&[(0x1000, 0x1000), (0x2000, 0x1000)]);
    let (host, _) = map.at_user((1 << 40) + 0x2010, 0xff0).unwrap();
    assert_eq!(host, map.segment(0x2010, 1, &mut Hint::default()).unwrap().host());
    assert!(map.at_user((1 << 40) + 0x2010, 0xff1).is_none());
    assert!(map.at_user(0x2010, 1).is_none());
}

/// A map of up to four regions with gaps of up to two pages, low or at the very top, and ranges to ask it for.
#[derive(Debug, Clone)]
struct Question {
    gaps_and_pages: Vec<(u64, u64)>,
    at_top: bool,
    ranges: Vec<(u64, u32)>,
}

fn questions() -> impl Strategy<Value = Question> {
    let around =
        (0u64..14 * PAGE_BYTES, prop_oneof![0u32..3 * 4096, Just(u32::MAX), (u32::MAX - 0x3000)..u32::MAX]);
    let anywhere = (any::<u64>(), any::<u32>());
    let range = prop_oneof![9 => around, 1 => anywhere];
    (
        proptest::collection::vec((0u64..3, 1u64..3), 1..5),
        any::<bool>(),
        proptest::collection::vec(range, 1..40),
    )
        .prop_map(|(gaps_and_pages, at_top, ranges)| Question { gaps_and_pages, at_top, ranges })
}

/// C1: segments lie in the map's regions, name the bytes that were asked for in order, and all of them or none.
fn check_c1(question: &Question) -> Result<(), TestCaseError> {
    let low = if question.at_top { u64::MAX - 14 * PAGE_BYTES + 1 } else { 0x10_0000 };
    let mut at = low;
    let mut regions = Vec::new();
    for &(gap, pages) in &question.gaps_and_pages {
        at += gap * PAGE_BYTES;
        let file = region(pages * PAGE_BYTES);
        regions.push(MapRegion { guest_addr: at, user_addr: at, file, grant: None });
        at = at.wrapping_add(pages * PAGE_BYTES);
    }
    let Ok(map) = MemoryMap::new(regions) else { return Ok(()) };
    // The oracle: one byte at a time, in arithmetic that cannot wrap.
    let host_of = |address: u128| {
        map.regions().iter().find_map(|region| {
            let offset = address.checked_sub(region.guest_addr.into())?;
            (offset < region.file.size_bytes().into()).then(|| region.file.host().as_ptr() as u128 + offset)
        })
    };
    let mut hint = Hint::default();
    for &(offset, len) in &question.ranges {
        let addr = low.wrapping_add(offset);
        let mut segments = Vec::new();
        let found = map.translate(addr, len, &mut hint, |segment| segments.push(segment));
        let mut next = u128::from(addr);
        for segment in &segments {
            prop_assert!(!segment.is_empty());
            let host = segment.host().as_ptr() as u128;
            // The ends of a segment decide: regions have no holes, and adjacent ones are not adjacent in host memory by right.
            prop_assert_eq!(host_of(next), Some(host), "a segment begins elsewhere");
            next += u128::from(segment.len());
            prop_assert_eq!(
                host_of(next - 1),
                Some(host + u128::from(segment.len()) - 1),
                "a segment ends elsewhere"
            );
        }
        if found.is_ok() {
            prop_assert_eq!(next, u128::from(addr) + u128::from(len));
        } else {
            let end = u128::from(addr) + u128::from(len);
            // Pages suffice: whether two addresses of one page are lent is the same answer.
            let mut pages = (u128::from(addr)..end).step_by(4096).take(16).chain([end - 1]);
            prop_assert!(pages.any(|byte| host_of(byte).is_none()), "a range inside the map was refused");
        }
    }
    Ok(())
}

fn run_c1() -> Result<(), TestError<Question>> {
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, proptest::test_runner::TestRng::deterministic_rng(Default::default()))
        .run(&questions(), |question| check_c1(&question))
}

/// C1.
#[test]
fn no_translation_leaves_the_map() {
    run_c1().unwrap();
}

/// C1, seeded.
#[test]
fn a_length_that_overflows_is_caught() {
    seeded::with(Bug::LengthOverflow, || run_c1().expect_err("the check cannot fail"));
}

/// C1, seeded.
#[test]
fn a_bound_that_is_off_by_one_page_is_caught() {
    seeded::with(Bug::OffByOnePage, || run_c1().expect_err("the check cannot fail"));
}
