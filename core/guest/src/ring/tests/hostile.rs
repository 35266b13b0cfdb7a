//! Rings full of anything: nothing panics, nothing leaves the map.

use proptest::prelude::*;

use super::*;

/// Half plausible, half arbitrary: pure noise would seldom get past the first check.
fn descriptor() -> impl Strategy<Value = [u64; 2]> {
    let end = RING_ADDR + ARENA_BYTES;
    let addr = prop_oneof![
        4 => RING_ADDR..end,
        2 => TABLES..TABLES + 0x1000,
        1 => (end - 64)..=end,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![4 => 0u32..0x2000, 2 => (0u32..64).prop_map(|n| n * 16), 1 => any::<u32>()];
    let flags = prop_oneof![8 => 0u16..8, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0u16..10, 1 => any::<u16>()];
    (addr, len, flags, next).prop_map(|(addr, len, flags, next)| {
        [addr, u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// C1, ISO2.
    #[test]
    fn no_ring_panics_or_leads_out_of_the_map(
        table in proptest::collection::vec(descriptor(), 8),
        indirect in proptest::collection::vec(descriptor(), 0..64),
        heads in proptest::collection::vec(prop_oneof![8 => 0u16..8, 1 => any::<u16>()], 8),
        jump in prop_oneof![8 => 1u16..=8, 1 => any::<u16>()],
        features in prop_oneof![Just(0), Just(ALL)],
    ) {
        let mut bench = Bench::new(8, features);
        bench.chain = Chain::with_room_for(32);
        bench.arena.write(RING_ADDR, table.as_bytes()).unwrap();
        bench.arena.write(TABLES, indirect.as_bytes()).unwrap();
        (0..8).zip(heads).for_each(|(nth, head)| bench.offer(nth, head));
        bench.offer(jump.wrapping_sub(1), 0);
        let mut out = Vec::new();
        // Every pop takes a chain, finds none or finds a fault; there are no more than eight to take.
        for _ in 0..9 {
            match bench.pop() {
                Ok(Some(head)) => out.push(head),
                Ok(None) => break,
                Err(fault) => { prop_assert_eq!(bench.pop(), Err(fault)); break }
            }
            check_inside(&bench)?;
            let mut header = [0; 16];
            if bench.chain.take_readable(bench.arena.map(), &mut header).is_ok() {
                check_inside(&bench)?;
            }
            if bench.chain.take_last_byte().is_ok() {
                check_inside(&bench)?;
            }
        }
        prop_assert!(out.len() <= 8);
        out.into_iter().for_each(|head| bench.ring.push_used(head, 1));
        bench.ring.publish();
        let _ = (bench.ring.should_call(), bench.ring.arm(), bench.ring.pending());
        prop_assert_eq!(bench.ring.strays(), 0);
    }
}

fn check_inside(bench: &Bench) -> Result<(), TestCaseError> {
    let sum = |segments: &[vfiomux_hw::Segment]| {
        segments.iter().map(|segment| u64::from(segment.len())).sum::<u64>()
    };
    let end = RING_ADDR + ARENA_BYTES;
    for buffer in bench.buffers() {
        let inside = buffer.guest_addr >= RING_ADDR && buffer.guest_addr + u64::from(buffer.len) <= end;
        prop_assert!(inside && buffer.len != 0, "{:?}", buffer);
    }
    prop_assert_eq!(sum(bench.chain.readable()), u64::from(bench.chain.readable_bytes()));
    prop_assert_eq!(sum(bench.chain.writable()), u64::from(bench.chain.writable_bytes()));
    prop_assert!(bench.chain.readable().len() + bench.chain.writable().len() <= 32);
    Ok(())
}
