//! Data between memory and blocks, by pages and by lists, against the blocks as the device sees them.

use crate::support::{Rig, flush, pattern, poll, read, spec, write};
use proptest::prelude::*;
use vfiomux_block::split::{Cursor, next_piece};
use vfiomux_block::{BlockQueue, Command, LaneId, Operation, Segment, Status, SubmitError, Tag};
use vfiomux_hw::DmaBuffer;
use vfiomux_nvme::sync::BlockIo;
use vfiomux_nvme::{IoError, Options, Queue};
use vfiomux_sim::DeviceSpec;

const PAGE: u32 = 4096;

/// Segments of `buffer` as (offset, length).
fn segments(buffer: &DmaBuffer, layout: &[(u32, u32)]) -> Vec<Segment> {
    layout.iter().map(|&(offset, len)| buffer.segment(offset as usize, len)).collect()
}

fn gather(bytes: &[u8], layout: &[(u32, u32)]) -> Vec<u8> {
    layout.iter().flat_map(|&(offset, len)| &bytes[offset as usize..][..len as usize]).copied().collect()
}

/// Writes what `layout` names to the blocks from `lba` on, and reads it back to the same places; both are checked.
fn write_and_read(rig: &Rig, queue: &mut Queue, lane: LaneId, lba: u64, layout: &[(u32, u32)]) {
    let len = layout.iter().map(|&(offset, len)| offset + len).max().unwrap() as usize;
    let total: u32 = layout.iter().map(|&(_, len)| len).sum();
    let blocks = total / rig.namespace().limits.block_bytes;
    let mut buffer = rig.buffer(len);
    let bytes = pattern(lba + 1, len);
    buffer.write(0, &bytes);
    let data = segments(&buffer, layout);
    assert_eq!(rig.command(queue, lane, &write(lba, blocks), &data), Status::Success, "{layout:?}");
    let mut stored = vec![0; total as usize];
    rig.sim.read_blocks(1, lba, &mut stored).unwrap();
    assert_eq!(stored, gather(&bytes, layout), "written from {layout:?}");

    buffer.write(0, &vec![0xaa; len]);
    assert_eq!(rig.command(queue, lane, &read(lba, blocks), &data), Status::Success);
    let mut back = vec![0; len];
    buffer.read(0, &mut back);
    assert_eq!(gather(&back, layout), gather(&bytes, layout), "read into {layout:?}");
    let named = |at: u32| layout.iter().any(|&(offset, len)| (offset..offset + len).contains(&at));
    assert!((0..len as u32).all(|at| named(at) || back[at as usize] == 0xaa), "read beside {layout:?}");
}

#[test]
fn pages_are_named_one_by_one_and_in_lists() {
    let mut rig = Rig::new(DeviceSpec { sgl: false, mdts: 0, ..spec() });
    let (mut queue, lane) = rig.queue(16);
    let layouts: &[&[(u32, u32)]] = &[
        &[(0, 512)],
        &[(4096 - 512, 512)],
        &[(0, PAGE)],
        &[(512, PAGE)],
        &[(0, 2 * PAGE)],
        &[(512, 2 * PAGE)],
        &[(512, 16 * PAGE)],
        &[(4, 512)],
        &[(0, 512), (512, 512)],
        &[(2048, 2048), (2 * PAGE, PAGE), (5 * PAGE, 512)],
        &[(0, PAGE), (2 * PAGE, PAGE), (4 * PAGE, PAGE), (6 * PAGE, 1024)],
        &[(0, PAGE), (PAGE, 100), (PAGE + 100, PAGE - 100), (3 * PAGE, 512)],
        &[(0, 512 << 10)],
        &[(508, 512 << 10)],
    ];
    for (layout, lba) in layouts.iter().zip((0..).step_by(2000)) {
        write_and_read(&rig, &mut queue, lane, lba, layout);
    }
    rig.assert_clean();
}

#[test]
fn what_pages_cannot_say_goes_by_list_where_there_is_one() {
    let layout = [(100, 512), (PAGE + 4, 1020), (3 * PAGE + 8, 4), (9 * PAGE, 2 * PAGE), (20, 1536 - 1024)];
    let mut rig = Rig::new(DeviceSpec { sgl: true, ..spec() });
    let (mut queue, lane) = rig.queue(16);
    write_and_read(&rig, &mut queue, lane, 64, &layout);
    write_and_read(&rig, &mut queue, lane, 64, &[(8, 256), (264, 256)]);
    rig.assert_clean();

    let mut rig = Rig::new(DeviceSpec { sgl: false, ..spec() });
    let (mut queue, lane) = rig.queue(16);
    let buffer = rig.buffer(16 * PAGE as usize);
    let data = segments(&buffer, &layout);
    assert_eq!(queue.submit(lane, Tag(0), &write(64, 20), &data), Err(SubmitError::Unsplit));
    assert_eq!((queue.in_flight(lane), queue.room(lane)), (0, 16));
}

#[test]
fn the_longest_list_that_the_limits_allow_is_carried_out() {
    let mut rig = Rig::new(DeviceSpec { sgl: true, mdts: 0, ..spec() });
    let (mut queue, lane) = rig.queue(4);
    let limits = rig.namespace().limits;
    let layout: Vec<(u32, u32)> = (0..limits.segments_max).map(|index| (index * 1024 + 4, 512)).collect();
    write_and_read(&rig, &mut queue, lane, 0, &layout);
    let buffer = rig.buffer((limits.segments_max as usize + 1) * 1024);
    let longer: Vec<_> = (0..=limits.segments_max).map(|index| (index * 1024 + 4, 512)).collect();
    let command = write(0, limits.segments_max + 1);
    assert_eq!(queue.submit(lane, Tag(0), &command, &segments(&buffer, &longer)), Err(SubmitError::Unsplit));
    rig.assert_clean();
}

/// C1: a command whose segments are shorter or longer than its blocks would make the device walk beyond them.
#[test]
fn segments_that_do_not_sum_to_the_blocks_are_refused() {
    let mut rig = Rig::new(spec());
    let (mut queue, lane) = rig.queue(4);
    let buffer = rig.buffer(4 * PAGE as usize);
    for (len, blocks) in [(512, 2), (1024, 1), (PAGE, 9), (PAGE, 7), (512, 0), (0, 0), (0, 1), (512, 65537)] {
        for command in [read(0, blocks), write(0, blocks)] {
            let data = [buffer.segment(0, len)];
            assert_eq!(
                queue.submit(lane, Tag(0), &command, &data),
                Err(SubmitError::Unsplit),
                "{len} {blocks}"
            );
            assert_eq!(queue.submit(lane, Tag(0), &command, &[]), Err(SubmitError::Unsplit));
        }
    }
    let elsewhere = Command { namespace: 2, ..read(0, 1) };
    let data = [buffer.segment(0, 512)];
    assert_eq!(queue.submit(lane, Tag(0), &elsewhere, &data), Err(SubmitError::Unsplit));
    assert_eq!(rig.command(&mut queue, lane, &read(0, 1), &data), Status::Success);
}

#[test]
fn zeroes_are_written_and_blocks_deallocated() {
    let mut rig = Rig::new(spec());
    let (mut queue, lane) = rig.queue(4);
    for operation in [
        Operation::WriteZeroes { deallocate: false },
        Operation::WriteZeroes { deallocate: true },
        Operation::Deallocate,
    ] {
        rig.sim.write_blocks(1, 100, &[9; 4 * 512]).unwrap();
        let command = Command { operation, namespace: 1, lba: 101, blocks: 2 };
        assert_eq!(rig.command(&mut queue, lane, &command, &[]), Status::Success);
        let mut stored = [1; 4 * 512];
        rig.sim.read_blocks(1, 100, &mut stored).unwrap();
        assert_eq!(stored, *[[9; 512], [0; 512], [0; 512], [9; 512]].as_flattened(), "{operation:?}");
        let none = Command { blocks: 0, ..command };
        assert_eq!(queue.submit(lane, Tag(0), &none, &[]), Err(SubmitError::Unsplit));
    }
}

#[test]
fn a_blocking_transfer_is_cut_at_the_limits() {
    let mut rig = Rig::new(DeviceSpec { mdts: 2, lba_bytes: 4096, ..spec() });
    let (mut queue, lane) = rig.queue(4);
    let (limits, clock) = (rig.namespace().limits, rig.clock.clone());
    let timeout = std::time::Duration::from_secs(1);
    let mut io = BlockIo::new(&mut queue, lane, 1, limits, &clock, timeout);
    let mut buffer = rig.buffer(40 * 4096);
    let bytes = pattern(3, 40 * 4096);
    buffer.write(0, &bytes);
    io.write(5, 40, &buffer, 0).unwrap();
    io.flush().unwrap();
    let mut stored = vec![0; bytes.len()];
    rig.sim.read_blocks(1, 5, &mut stored).unwrap();
    assert_eq!(stored, bytes);
    io.read(6, 39, &buffer, 0).unwrap();
    let mut back = vec![0; 39 * 4096];
    buffer.read(0, &mut back);
    assert_eq!(back, bytes[4096..]);
    io.write_zeroes(5, 40, false).unwrap();
    rig.sim.read_blocks(1, 5, &mut stored).unwrap();
    assert!(stored.iter().all(|&byte| byte == 0));
    let range = io.read(limits.blocks - 1, 2, &buffer, 0).unwrap_err();
    assert!(matches!(range, IoError::Range { .. }), "{range}");
    assert!(matches!(io.read(0, 41, &buffer, 0), Err(IoError::Range { .. })));
    assert!(matches!(io.write_zeroes(u64::MAX, 2, true), Err(IoError::Range { .. })));
    rig.assert_clean();
}

#[test]
fn many_lanes_complete_on_one_queue() {
    let mut rig = Rig::new(DeviceSpec { queue_entries: 32, ..spec() });
    let mut queue = rig.controller.create_queue(31, None).unwrap();
    let lanes: Vec<LaneId> = (0..8).map(|_| rig.lane(&mut queue, 16)).collect();
    let mut ended = std::collections::HashMap::new();
    for round in 0..200u64 {
        let mut taken = 0;
        for (index, &lane) in lanes.iter().enumerate() {
            for number in 0..(round * 7 + index as u64) % 9 {
                let tag = Tag(round << 32 | (index as u64) << 16 | number);
                match queue.submit(lane, tag, &flush(), &[]) {
                    Ok(()) => {
                        taken += 1;
                        ended.insert(tag, false);
                    }
                    // 8 lanes of 16 are more than the 31 that the queue holds.
                    Err(error) => assert_eq!((error, queue.room(lane)), (SubmitError::Full, 0)),
                }
            }
        }
        let done = rig.run(&mut queue);
        assert_eq!(done.len(), taken);
        for completion in done {
            assert_eq!(completion.status, Status::Success);
            assert_eq!(ended.insert(completion.tag, true), Some(false));
        }
    }
    assert_eq!((queue.stray_completions(), ended.values().all(|&ended| ended)), (0, true));
    rig.assert_clean();
}

#[test]
fn one_doorbell_rings_for_all_that_was_submitted() {
    let mut rig = Rig::new(spec());
    let (mut queue, lane) = rig.queue(16);
    for tag in 0..5 {
        queue.submit(lane, Tag(tag), &flush(), &[]).unwrap();
    }
    rig.sim.run_until_idle();
    assert_eq!(poll(&mut queue), [], "the device heard of commands before the doorbell");
    assert_eq!(rig.run(&mut queue).len(), 5);
}

#[test]
fn a_poll_takes_no_more_than_its_budget() {
    let mut rig = Rig::new(spec());
    let (mut queue, lane) = rig.queue(16);
    for tag in 0..5 {
        queue.submit(lane, Tag(tag), &flush(), &[]).unwrap();
    }
    queue.ring();
    rig.sim.run_until_idle();
    let mut tags = Vec::new();
    assert_eq!(queue.poll(3, &mut |completion| tags.push(completion.tag.0)), 3);
    assert_eq!(queue.poll(3, &mut |completion| tags.push(completion.tag.0)), 2);
    assert_eq!(tags, [0, 1, 2, 3, 4]);
}

#[test]
fn the_descriptor_wakes_for_what_comes_after_arming_and_not_for_what_was_taken() {
    let mut rig = Rig::with(spec(), Options { vectors: 2, ..Options::default() });
    let mut queue = rig.controller.create_queue(16, Some(1)).unwrap();
    let lane = rig.lane(&mut queue, 16);
    let vector = rig.controller.vectors()[1].clone();
    assert!(queue.wake_fd().is_some());
    assert_eq!(rig.command(&mut queue, lane, &flush(), &[]), Status::Success);
    // V3: arming says when a completion waits, disarming clears what was signalled for those already taken.
    assert!(!queue.arm());
    queue.disarm();
    assert!(vector.read().is_err(), "still signalled for a completion that was taken");
    queue.submit(lane, Tag(1), &flush(), &[]).unwrap();
    queue.ring();
    rig.sim.run_until_idle();
    assert!(queue.arm(), "a completion waits, yet it may sleep");
    assert_eq!(poll(&mut queue).len(), 1);
    queue.disarm();
    assert!(!queue.arm());
    queue.submit(lane, Tag(2), &flush(), &[]).unwrap();
    queue.ring();
    rig.sim.run_until_idle();
    assert!(vector.read().is_ok(), "armed, a completion came, and nobody was woken");
    queue.disarm();
    assert_eq!(poll(&mut queue).len(), 1);
}

/// Any list of segments in a buffer of 64 pages, aligned to `align`, each of whole multiples of it.
fn any_layout(align: u32) -> impl Strategy<Value = Vec<(u32, u32)>> {
    let whole = Just(PAGE / align).boxed();
    let odd = (1..3 * PAGE / align).boxed();
    let start = prop_oneof![Just(0u32), Just(0u32), 0..PAGE / align];
    proptest::collection::vec((start, prop_oneof![2 => whole, 1 => odd]), 1..20).prop_map(move |parts| {
        // Each segment in three or more pages of its own, so that none overlap; pages in an order that is not theirs.
        let place = |index: usize| (index as u32 * 7 % 20) * 4 * PAGE;
        parts
            .iter()
            .enumerate()
            .map(|(index, &(start, len))| (place(index) + start * align, len * align))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// C1, and the data itself: cut at the limits, whatever the segments, every byte goes where it should and nowhere else.
    #[test]
    fn any_segments_cut_at_the_limits_carry_their_data(
        layout in any_layout(4),
        sgl: bool,
        wide: bool,
        mdts in prop_oneof![Just(0u8), 1u8..6],
        lba in 0u64..1000,
    ) {
        let lba_bytes = if wide { 4096 } else { 512 };
        let mut rig = Rig::new(DeviceSpec { sgl, mdts, lba_bytes, ..spec() });
        let (mut queue, lane) = rig.queue(64);
        let limits = rig.namespace().limits;
        // The last segment is cut so that they sum to whole blocks.
        let mut layout = layout;
        let mut excess = layout.iter().map(|&(_, len)| len).sum::<u32>() % lba_bytes;
        while excess > 0 && let Some((_, len)) = layout.last_mut() {
            let cut = excess.min(*len);
            *len -= cut;
            excess -= cut;
            if *len == 0 { layout.pop(); }
        }
        prop_assume!(!layout.is_empty());
        let mut buffer = rig.buffer(80 * PAGE as usize);
        let bytes = pattern(lba, buffer.len());
        buffer.write(0, &bytes);
        let data = segments(&buffer, &layout);
        let expected = gather(&bytes, &layout);
        let (mut at, mut cursor, mut offset) = (lba, Cursor::default(), 0usize);
        let mut bounced = Vec::new();
        while let Some(piece) = next_piece(&limits, at, &data, cursor, lba_bytes) {
            let len = piece.blocks * lba_bytes;
            if piece.bounce {
                bounced.push(offset..offset + len as usize);
            } else {
                let mut part = Vec::new();
                let (mut index, mut from, mut left) = (cursor.segment, cursor.offset, len);
                while left > 0 {
                    let take = left.min(data[index].len() - from);
                    part.push(data[index].part(from, take));
                    (index, from, left) = (index + 1, 0, left - take);
                }
                part.retain(|segment| !segment.is_empty());
                let command = write(at, piece.blocks);
                prop_assert_eq!(queue.submit(lane, Tag(at), &command, &part), Ok(()));
                let done = rig.run(&mut queue);
                prop_assert_eq!(done.len(), 1);
                prop_assert_eq!(done[0].status, Status::Success);
            }
            at += u64::from(piece.blocks);
            offset += len as usize;
            cursor = piece.next;
        }
        prop_assert_eq!(offset, expected.len());
        prop_assert!(!sgl || bounced.is_empty());
        let mut stored = vec![0; expected.len()];
        rig.sim.read_blocks(1, lba, &mut stored).unwrap();
        for (at, (stored, expected)) in stored.iter().zip(&expected).enumerate() {
            prop_assert!(stored == expected || bounced.iter().any(|range| range.contains(&at)), "byte {}", at);
        }
        prop_assert_eq!(rig.sim.violations(), vec![]);
    }

    /// C1: whatever is submitted, cut or not, is refused here or carried out; the device never finds it wrong.
    #[test]
    fn what_is_taken_is_carried_out(
        layout in any_layout(1),
        sgl: bool,
        blocks in 0u32..400,
        exact: bool,
    ) {
        let mut rig = Rig::new(DeviceSpec { sgl, mdts: 0, ..spec() });
        let (mut queue, lane) = rig.queue(4);
        let total: u32 = layout.iter().map(|&(_, len)| len).sum();
        let blocks = if exact { total / 512 } else { blocks };
        let buffer = rig.buffer(80 * PAGE as usize);
        match queue.submit(lane, Tag(1), &read(0, blocks), &segments(&buffer, &layout)) {
            Err(error) => prop_assert_eq!(error, SubmitError::Unsplit),
            Ok(()) => {
                prop_assert_eq!(total, blocks * 512);
                let done = rig.run(&mut queue);
                prop_assert_eq!(done.len(), 1);
                prop_assert_eq!(done[0].status, Status::Success);
            }
        }
        prop_assert_eq!(rig.sim.violations(), vec![]);
    }
}
