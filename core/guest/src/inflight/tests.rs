//! A ring killed at every store, and its successor.

use super::*;
use crate::driver::Used;
use crate::memory::watch::killed_after;
use crate::ring::tests::{ALL, Bench, DATA, reads, writes};
use crate::{Chain, Head, SplitRing};

fn successor(bench: &Bench, inflight: &Inflight) -> Result<SplitRing, GuestError> {
    // What QEMU says after a crash: the used index, since nobody answered GET_VRING_BASE. The region knows better.
    SplitRing::new(bench.arena.map(), &bench.driver.setup(), inflight.queue(0))
}

fn start(size: u16) -> (Bench, Inflight) {
    let (mut bench, inflight) = (Bench::new(size, ALL), Inflight::create(1, size).unwrap());
    bench.ring = successor(&bench, &inflight).unwrap();
    (bench, inflight)
}

fn send(bench: &mut Bench, count: u64) -> Vec<u16> {
    let sent =
        (0..count).map(|n| bench.driver.add(&[reads(DATA + n * 64, 64), writes(DATA, 1)]).unwrap()).collect();
    let _ = bench.driver.publish();
    sent
}

fn poll_all(bench: &mut Bench) -> Vec<u16> {
    std::iter::from_fn(|| bench.driver.poll().expect("a chain came back twice"))
        .map(|Used { head, .. }| head)
        .collect()
}

#[test]
fn the_layout_is_that_of_the_document() {
    assert_eq!(Inflight::size_bytes(1, 128), 2112);
    assert_eq!(Inflight::size_bytes(4, 128), 4 * 2112);
    let (mut bench, inflight) = start(8);
    send(&mut bench, 2);
    let heads = [bench.popped(), bench.popped()];
    let [first, second] = heads.each_ref().map(Head::index);
    let look = || {
        let mut bytes = [0u8; 16 + 8 * 16];
        rustix::io::pread(inflight.file().unwrap(), &mut bytes, 0).unwrap();
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let state = |head: u16| 16 + 16 * usize::from(head);
        let state = |head| (bytes[state(head)], u16_at(state(head) + 6), bytes[state(head) + 8]);
        ([8, 10, 12, 14].map(u16_at), [first, second].map(state))
    };
    // Version, desc_num, last_batch_head, used_idx; then inflight, next, counter of each.
    assert_eq!(look(), ([1, 8, 0, 0], [(1, 0, 0), (1, 0, 1)]));
    heads.into_iter().rev().for_each(|head| bench.ring.push_used(head, 0));
    bench.ring.publish();
    assert_eq!(look(), ([1, 8, first, 2], [(0, second, 0), (0, 0, 1)]));
}

#[test]
fn a_successor_gets_what_was_out_in_the_order_in_which_it_was_taken() {
    let (mut bench, inflight) = start(8);
    let sent = send(&mut bench, 4);
    let heads: Vec<Head> = (0..3).map(|_| bench.popped()).collect();
    let [first, second, third] = <[Head; 3]>::try_from(heads).unwrap();
    bench.ring.push_used(second, 0);
    bench.ring.publish();
    assert_eq!(poll_all(&mut bench), [sent[1]]);
    // Killed here.
    drop((first, third));
    bench.ring = successor(&bench, &inflight).unwrap();
    assert_eq!(bench.ring.pending(), 3);
    let again: Vec<Head> = std::iter::from_fn(|| bench.pop().unwrap()).collect();
    assert_eq!(again.iter().map(Head::index).collect::<Vec<_>>(), [sent[0], sent[2], sent[3]]);
    again.into_iter().for_each(|head| bench.ring.push_used(head, 0));
    bench.ring.publish();
    assert_eq!(poll_all(&mut bench), [sent[0], sent[2], sent[3]]);
}

#[test]
fn a_chain_that_was_left_on_the_ring_is_not_a_successors_debt() {
    let (mut bench, inflight) = start(8);
    let sent = send(&mut bench, 3);
    let (first, second) = (bench.popped(), bench.popped());
    bench.ring.leave(second);
    // Killed here.
    drop(first);
    bench.ring = successor(&bench, &inflight).unwrap();
    assert_eq!((bench.ring.resubmits(), bench.ring.next_avail(), bench.ring.pending()), (1, 1, 3));
    let again: Vec<Head> = std::iter::from_fn(|| bench.pop().unwrap()).collect();
    assert_eq!(again.iter().map(Head::index).collect::<Vec<_>>(), sent);
}

#[test]
fn a_ring_that_was_drained_goes_on_where_it_was() {
    let (mut bench, inflight) = start(8);
    send(&mut bench, 3);
    for _ in 0..2 {
        let head = bench.popped();
        bench.ring.push_used(head, 0);
    }
    bench.ring.publish();
    poll_all(&mut bench);
    bench.ring = successor(&bench, &inflight).unwrap();
    assert_eq!((bench.ring.next_avail(), bench.ring.pending()), (2, 1));
}

/// I2: killed at any store, the ring's successors return every chain once. The driver counts.
#[test]
fn a_kill_at_any_instant_loses_and_doubles_nothing() {
    // Two generations die, each at any of their stores; the third lives. Enough stores for the longest life below.
    let mut longest = 0;
    for first in 0..60 {
        for second in [0, 1, 2, 3, 5, 8, 13, 21, 34, u32::MAX] {
            let (mut bench, inflight) = start(16);
            let mut sent = send(&mut bench, 3);
            let mut back = Vec::new();
            for stores in [first, second] {
                let map_of = bench.arena.clone();
                let lived = killed_after(stores, || work(&mut bench.ring, &mut bench.chain, &map_of));
                longest = longest.max(if lived.is_none() { stores } else { 0 });
                back.extend(poll_all(&mut bench));
                sent.extend(send(&mut bench, 1));
                bench.ring = successor_at_last(&bench, &inflight);
            }
            let arena = bench.arena.clone();
            work(&mut bench.ring, &mut bench.chain, &arena);
            back.extend(poll_all(&mut bench));
            sent.sort_unstable();
            back.sort_unstable();
            assert_eq!(back, sent, "killed after {first}, then {second} stores");
            assert_eq!(bench.driver.in_flight(), 0);
        }
    }
    assert!((20..59).contains(&longest), "lives of {longest} stores: the kills above do not cover them");
}

/// A successor, after others that were killed at each store of their recovery.
fn successor_at_last(bench: &Bench, inflight: &Inflight) -> SplitRing {
    (0..).find_map(|stores| killed_after(stores, || successor(bench, inflight).unwrap())).unwrap()
}

/// Takes all there is, puts one back and takes it again, returns it in two batches and not in order.
fn work(ring: &mut SplitRing, chain: &mut Chain, arena: &crate::driver::Arena) {
    let mut pop_all = |ring: &mut SplitRing| -> Vec<Head> {
        std::iter::from_fn(|| ring.pop(arena.map(), chain).unwrap()).collect()
    };
    let mut out = pop_all(ring);
    out.drain(..out.len().min(1)).for_each(|head| ring.put_back(head));
    out.extend(pop_all(ring));
    if let Some(last) = out.pop() {
        ring.push_used(last, 1);
        ring.publish();
    }
    out.into_iter().for_each(|head| ring.push_used(head, 1));
    ring.publish();
}

#[test]
fn a_region_that_does_not_fit_is_refused() {
    let bench = Bench::new(16, ALL);
    let file = || Inflight::create(2, 8).unwrap().file().unwrap().try_clone_to_owned().unwrap();
    let size_bytes = Inflight::size_bytes(2, 8);
    let map = |offset, size_bytes, queues, size| Inflight::map(file(), offset, size_bytes, queues, size);
    assert!(map(0, size_bytes, 2, 8).is_ok());
    for wrong in [
        map(0, size_bytes, 2, 16),
        map(0, size_bytes, 3, 8),
        map(0, size_bytes, 2, 7),
        map(0, size_bytes, 0, 8),
    ] {
        assert!(matches!(wrong, Err(GuestError::Inflight { .. })));
    }
    assert!(matches!(map(4, size_bytes - 4, 1, 8), Err(GuestError::Inflight { .. })));
    assert!(matches!(map(8, size_bytes, 2, 8), Err(GuestError::BeyondFile { .. })));
    let region = map(0, size_bytes, 2, 8).unwrap();
    assert!(region.queue(1).is_some() && region.queue(2).is_none());
    let larger = SplitRing::new(bench.arena.map(), &bench.driver.setup(), region.queue(0));
    assert!(matches!(larger, Err(GuestError::Inflight { .. })));
}

#[test]
fn a_region_full_of_nonsense_is_refused_or_harmless() {
    let (bench, inflight) = start(8);
    let poke = |at: u64, bytes: &[u8]| rustix::io::pwrite(inflight.file().unwrap(), bytes, at).unwrap();
    poke(8, &7u16.to_le_bytes());
    assert!(matches!(successor(&bench, &inflight), Err(GuestError::Inflight { .. })), "unknown version");
    poke(8, &1u16.to_le_bytes());
    poke(14, &100u16.to_le_bytes());
    assert!(matches!(successor(&bench, &inflight), Err(GuestError::Inflight { .. })), "batch too long");
    poke(14, &(-3i16).to_le_bytes());
    poke(12, &8u16.to_le_bytes());
    assert!(matches!(successor(&bench, &inflight), Err(GuestError::Inflight { .. })), "head outside");
    poke(12, &0u16.to_le_bytes());
    poke(16 + 6, &0xffffu16.to_le_bytes());
    assert!(matches!(successor(&bench, &inflight), Err(GuestError::Inflight { .. })), "next outside");
    poke(14, &0u16.to_le_bytes());
    (0..8).for_each(|head| {
        poke(16 + 16 * head, &[0xff; 16]);
    });
    let ring = successor(&bench, &inflight).unwrap();
    assert_eq!(ring.next_avail(), 8);
}
