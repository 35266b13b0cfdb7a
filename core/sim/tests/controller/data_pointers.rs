use proptest::prelude::*;
use vfiomux_sim::DeviceSpec;
use vfiomux_spec::nvme::queue::{CommandFlags, PSDT_SGL};
use vfiomux_spec::nvme::sgl::SglDescriptor;
use vfiomux_spec::nvme::{NvmOpcode, Status, SubmissionEntry};
use zerocopy::IntoBytes;

use crate::host::{Host, PAGE, pattern, small};

fn read(blocks: u16) -> SubmissionEntry {
    SubmissionEntry::block_range(NvmOpcode::READ, 1, 0, blocks - 1)
}

fn with_sgl(mut entry: SubmissionEntry, descriptor: SglDescriptor) -> SubmissionEntry {
    entry.flags = CommandFlags::new().with_psdt(PSDT_SGL).into_bits();
    descriptor.put_into(&mut entry);
    entry
}

/// Builds a PRP list over `pages` in a buffer, from `offset` in its first page, chained page by page.
fn list(host: &Host, pages: &[u64], offset: usize) -> vfiomux_hw::DmaBuffer {
    let mut buffer = host.buffer(PAGE * (pages.len() / 511 + 2));
    let mut at = offset;
    for (index, page) in pages.iter().enumerate() {
        let last_slot = at % PAGE == PAGE - 8;
        if last_slot && index + 1 < pages.len() {
            let next = at + 8;
            buffer.write(at, &(buffer.iova().raw() + next as u64).to_le_bytes());
            at = next;
        }
        buffer.write(at, &page.to_le_bytes());
        at += 8;
    }
    buffer
}

#[test]
fn a_chained_prp_list_scatters_data_over_every_page() {
    let mut host = Host::boot(DeviceSpec { mdts: 0, ..small() });
    let (mut sq, mut cq) = host.pair();
    let pages = 1200;
    let data = host.buffer(pages * PAGE);
    // Pages in reverse: nothing is contiguous.
    let reversed: Vec<u64> = (1..pages).rev().map(|page| data.iova().raw() + (page * PAGE) as u64).collect();
    let list = list(&host, &reversed, 4096 - 16);
    let first = data.iova().raw();
    let len = pages * PAGE;
    host.sim.write_blocks(1, 0, &pattern(len, 9)).unwrap();
    let entry = read(u16::try_from(len / 512).unwrap()).with_prps(first, list.iova().raw() + 4096 - 16);
    assert_eq!(host.io((&mut sq, &mut cq), entry).status(), Status::SUCCESS);
    let mut wanted = pattern(len, 9);
    let (head, tail) = wanted.split_at_mut(PAGE);
    let mut got = vec![0; PAGE];
    data.read(0, &mut got);
    assert_eq!(got, head);
    for (index, chunk) in tail.chunks_exact(PAGE).enumerate() {
        data.read((pages - 1 - index) * PAGE, &mut got);
        assert_eq!(got, chunk, "page {index}");
    }
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn prps_that_break_the_rules_are_refused() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(4 * PAGE);
    let base = data.iova().raw();
    let bad_list = list(&host, &[base + PAGE as u64, base + 8], 0);
    let cases = [
        (read(1).with_prps(base + 2, 0), "an offset that is no dword"),
        (read(16).with_prps(base, base + 0x100), "a second page with an offset"),
        (read(24).with_prps(base, bad_list.iova().raw() + 4), "a list that is not on 8 bytes"),
        (read(24).with_prps(base, bad_list.iova().raw()), "an entry with an offset"),
    ];
    for (entry, why) in cases {
        let status = host.io((&mut sq, &mut cq), entry).status();
        assert_eq!(status, Status::PRP_OFFSET_INVALID, "{why}");
    }
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn sgl_segments_are_followed_to_the_last() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(2 * PAGE);
    let base = data.iova().raw();
    let mut segments = host.buffer(PAGE);
    let at = segments.iova().raw();
    segments.write(0, SglDescriptor::data_block(base + 12, 500).as_bytes());
    segments.write(16, SglDescriptor::data_block(base + 4, 0).as_bytes());
    segments.write(32, SglDescriptor::last_segment(at + 512, 32).as_bytes());
    segments.write(512, SglDescriptor::data_block(base + PAGE as u64 - 8, 512).as_bytes());
    segments.write(528, SglDescriptor::data_block(base + 1024, 12).as_bytes());
    host.sim.write_blocks(1, 0, &pattern(1024, 5)).unwrap();
    let entry = with_sgl(read(2), SglDescriptor::segment(at, 48));
    assert_eq!(host.io((&mut sq, &mut cq), entry).status(), Status::SUCCESS);
    let wanted = pattern(1024, 5);
    let got = |offset: usize, len: usize| {
        let mut bytes = vec![0; len];
        data.read(offset, &mut bytes);
        bytes
    };
    assert_eq!(got(12, 500), wanted[..500]);
    assert_eq!(got(PAGE - 8, 512), wanted[500..1012]);
    assert_eq!(got(1024, 12), wanted[1012..]);
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn sgls_that_break_the_rules_are_refused_for_the_right_reason() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(PAGE);
    let base = data.iova().raw();
    let mut segments = host.buffer(PAGE);
    let at = segments.iova().raw();
    segments.write(0, SglDescriptor::data_block(base, 512).as_bytes());
    segments.write(16, SglDescriptor::segment(at, 32).as_bytes());
    let bucket = SglDescriptor { identifier: 0x10, ..SglDescriptor::data_block(base, 512) };
    let cases = [
        (SglDescriptor::data_block(base, 508), Status::DATA_SGL_LENGTH),
        (SglDescriptor::data_block(base, 516), Status::DATA_SGL_LENGTH),
        (SglDescriptor::data_block(base + 1, 512), Status::SGL_GRANULARITY),
        (SglDescriptor::data_block(base, 510), Status::SGL_GRANULARITY),
        (SglDescriptor::last_segment(at, 0), Status::INVALID_SGL_SEGMENT),
        (SglDescriptor::last_segment(at, 20), Status::INVALID_SGL_SEGMENT),
        (SglDescriptor::last_segment(at + 4, 16), Status::INVALID_SGL_SEGMENT),
        (SglDescriptor::last_segment(at, 32), Status::INVALID_SGL_SEGMENT),
        (SglDescriptor::segment(at, 16), Status::INVALID_SGL_SEGMENT),
        (SglDescriptor::segment(at, 32), Status::DATA_SGL_LENGTH),
        (SglDescriptor::segment(at, 1 << 30), Status::INVALID_SGL_COUNT),
        (bucket, Status::SGL_TYPE_INVALID),
    ];
    for (descriptor, status) in cases {
        let entry = with_sgl(read(1), descriptor);
        assert_eq!(host.io((&mut sq, &mut cq), entry).status(), status, "{descriptor:?}");
    }
    // A segment that is its own successor ends by count, or by data; never by going round for ever.
    segments.write(0, SglDescriptor::segment(at, 16).as_bytes());
    let round = with_sgl(read(1), SglDescriptor::segment(at, 16));
    assert_eq!(host.io((&mut sq, &mut cq), round).status(), Status::INVALID_SGL_COUNT);
    assert_eq!(host.sim.violations(), []);
}

#[test]
fn sgls_are_refused_where_they_are_not_offered() {
    let mut host = Host::boot(DeviceSpec { sgl: false, ..small() });
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(PAGE);
    let entry = with_sgl(read(1), SglDescriptor::data_block(data.iova().raw(), 512));
    assert_eq!(host.io((&mut sq, &mut cq), entry).status(), Status::INVALID_FIELD);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever PRPs or SGL a command carries, the device answers, and touches only what was mapped.
    #[test]
    fn any_data_pointer_is_answered(
        prp1 in any::<u64>(), prp2 in any::<u64>(), flags in any::<u8>(), blocks in 1u16..300,
    ) {
        let mut host = Host::boot(small());
        let (mut sq, mut cq) = host.pair();
        let mut entry = read(blocks).with_prps(prp1, prp2);
        entry.flags = flags & 0xc0;
        let completion = host.io((&mut sq, &mut cq), entry);
        prop_assert!(!completion.status().is_success());
        prop_assert!(host.csts().rdy() && !host.csts().cfs());
    }
}
