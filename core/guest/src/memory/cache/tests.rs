use rustix::fs::{Mode, OFlags, ftruncate};
use vfiomux_hw::{Epoch, Quiesced, Unmapped};

use super::*;
use crate::fixture::{domain, memfd};
use crate::memory::{Hint, MapRegion, MemoryMap};

fn quiesced(grant: Grant) -> Quiesced<Grant> {
    Epoch::open(grant).close().expect("nothing is in flight")
}

#[test]
fn a_file_lent_twice_is_mapped_once() {
    let (cache, file) = (RegionCache::new(), memfd(8192));
    let first = cache.open(file.try_clone().unwrap(), 0, 8192).unwrap();
    let second = cache.open(file.try_clone().unwrap(), 0, 8192).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let part = cache.open(file, 4096, 4096).unwrap();
    let other = cache.open(memfd(8192), 0, 8192).unwrap();
    assert!(!Arc::ptr_eq(&first, &part) && !Arc::ptr_eq(&first, &other));
}

#[test]
fn the_cache_keeps_nothing_mapped() {
    let (cache, file) = (RegionCache::new(), memfd(4096));
    let region = Arc::downgrade(&cache.open(file, 0, 4096).unwrap());
    assert!(region.upgrade().is_none());
}

#[test]
fn a_reader_of_a_file_does_not_find_the_mapping_of_its_writer() {
    use std::os::fd::AsRawFd;
    let (cache, file) = (RegionCache::new(), memfd(4096));
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let reader = rustix::fs::open(path, OFlags::RDONLY, Mode::empty()).unwrap();
    let _region = cache.open(file, 0, 4096).unwrap();
    assert!(matches!(cache.open(reader, 0, 4096), Err(GuestError::ReadOnly)));
}

#[test]
fn a_poisoned_region_is_not_found_again() {
    let (cache, file) = (RegionCache::new(), memfd(4096));
    let region = cache.open(file.try_clone().unwrap(), 0, 4096).unwrap();
    let placed = MapRegion { guest_addr: 0, user_addr: 0, file: region.clone(), grant: None };
    let map = MemoryMap::new(vec![placed]).unwrap();
    ftruncate(&file, 0).unwrap();
    assert!(!map.poisoned());
    map.read(0, &mut [0], &mut Hint::default()).unwrap();
    assert!(map.poisoned() && map.poisoned());
    ftruncate(&file, 4096).unwrap();
    assert!(!Arc::ptr_eq(&region, &cache.open(file, 0, 4096).unwrap()));
}

/// D1, D2: the channels of a VM share one mapping, which goes when the last of them lets go.
#[test]
fn channels_on_one_function_share_a_mapping_until_the_last_unmaps_it() {
    let (cache, domain) = (RegionCache::new(), domain());
    let region = cache.open(memfd(8192), 0, 8192).unwrap();
    let first = cache.grant(&region, &domain).unwrap();
    let second = cache.grant(&region, &domain).unwrap();
    assert!(first.is_same(&second) && domain.mappings().len() == 1);
    assert_eq!(DmaDomain::unmap(quiesced(first)).unwrap(), Unmapped::StillShared);
    assert_eq!(domain.mappings().len(), 1);
    assert_eq!(DmaDomain::unmap(quiesced(second)).unwrap(), Unmapped::Gone);
    assert!(domain.mappings().is_empty());
    let again = cache.grant(&region, &domain).unwrap();
    assert_eq!(DmaDomain::unmap(quiesced(again)).unwrap(), Unmapped::Gone);
}

#[test]
fn functions_have_mappings_of_their_own() {
    let (cache, one, two) = (RegionCache::new(), domain(), domain());
    let region = cache.open(memfd(4096), 0, 4096).unwrap();
    let grants = [cache.grant(&region, &one).unwrap(), cache.grant(&region, &two).unwrap()];
    assert!(!grants[0].is_same(&grants[1]));
    for grant in grants {
        assert_eq!(DmaDomain::unmap(quiesced(grant)).unwrap(), Unmapped::Gone);
    }
}

/// D1: whichever of two holders is last, when both let go at the same instant, one of them takes the mapping out.
#[test]
fn holders_that_let_go_together_leave_no_mapping() {
    let (cache, domain) = (RegionCache::new(), domain());
    let region = cache.open(memfd(4096), 0, 4096).unwrap();
    for _ in 0..200 {
        let grants: Vec<Grant> = (0..2).map(|_| cache.grant(&region, &domain).unwrap()).collect();
        std::thread::scope(|scope| {
            for grant in grants {
                scope.spawn(|| DmaDomain::unmap(quiesced(grant)).unwrap());
            }
        });
        assert!(domain.mappings().is_empty());
    }
}
