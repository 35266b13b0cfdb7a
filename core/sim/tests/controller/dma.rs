//! The oracle for C1 and D2: a driver's mistakes, made here on purpose, must be noticed. Each test of this file is the seeded bug
//! of a check that the driver's tests make by asking for no violations.

use std::ptr::NonNull;

use vfiomux_hw::{Function, Iommu, Iova, Rights};
use vfiomux_sim::{Access, DeviceSpec, Refusal, Violation};
use vfiomux_spec::nvme::queue::{CommandFlags, PSDT_SGL};
use vfiomux_spec::nvme::sgl::SglDescriptor;
use vfiomux_spec::nvme::{NvmOpcode, Status, SubmissionEntry};

use crate::host::{Host, PAGE, bytes, pattern, small, transfer};

fn only_dma(host: &Host) -> (Option<u16>, Access, Iova, u64, bool, Refusal) {
    let violations = host.sim.take_violations();
    let [Violation::Dma { command, access, iova, len, write, refusal, .. }] = &violations[..] else {
        panic!("expected one violation: {violations:?}");
    };
    (command.map(|command| command.cid), *access, *iova, *len, *write, *refusal)
}

/// C1, seeded bug: length overflow. One block more than the buffer has.
#[test]
fn data_past_the_end_of_a_mapping_is_refused_and_named() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(PAGE);
    let completion = host.io((&mut sq, &mut cq), transfer(NvmOpcode::READ, 0, 9, &data));
    assert_eq!(completion.status(), Status::DATA_TRANSFER_ERROR);
    let past = Iova(data.iova().raw() + PAGE as u64);
    let expected = (Some(completion.cid.get()), Access::Data, past, 512, true, Refusal::NotMapped);
    assert_eq!(only_dma(&host), expected);
}

/// C1, seeded bug: off by one page.
#[test]
fn the_page_after_the_last_is_refused() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(PAGE);
    let entry = SubmissionEntry::block_range(NvmOpcode::WRITE, 1, 0, 7);
    let completion = host.io((&mut sq, &mut cq), entry.with_prps(data.iova().raw() + PAGE as u64, 0));
    assert_eq!(completion.status(), Status::DATA_TRANSFER_ERROR);
    let (_, access, _, len, write, refusal) = only_dma(&host);
    assert_eq!((access, len, write, refusal), (Access::Data, PAGE as u64, false, Refusal::NotMapped));
    let mut back = [1; 512];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    assert_eq!(back, [0; 512], "nothing was written");
}

/// C1: a read writes memory; a mapping that only gives the right to read does not allow it.
#[test]
fn writing_memory_that_may_only_be_read_is_refused() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.pattern(PAGE, 1);
    let at = Iova(0x4000_0000);
    host.sim.iommu().map(at, data.base(), PAGE as u64, Rights::READ).unwrap();
    let entry = |opcode| SubmissionEntry::block_range(opcode, 1, 0, 7).with_prps(at.raw(), 0);
    assert_eq!(host.io((&mut sq, &mut cq), entry(NvmOpcode::WRITE)).status(), Status::SUCCESS);
    assert_eq!(host.sim.violations(), []);
    let read = host.io((&mut sq, &mut cq), entry(NvmOpcode::READ));
    assert_eq!(read.status(), Status::DATA_TRANSFER_ERROR);
    assert_eq!(only_dma(&host).5, Refusal::NoRight { rights: Rights::READ });
    assert_eq!(bytes(&data, PAGE), pattern(PAGE, 1));
    host.sim.iommu().unmap(at, PAGE as u64).unwrap();
}

/// D2, seeded bug: unmap while a command is in flight, as on session loss without a barrier.
#[test]
fn memory_unmapped_under_a_command_is_noticed() {
    let mut host = Host::boot(DeviceSpec { service_ns: 1000, ..small() });
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(PAGE);
    let cid = host.submit(&mut sq, transfer(NvmOpcode::READ, 0, 8, &data));
    host.sim.step(8);
    assert_eq!(host.sim.outstanding(), 1);
    drop(data);
    host.sim.run_until_idle();
    assert_eq!(host.poll(&mut cq).unwrap().status(), Status::DATA_TRANSFER_ERROR);
    let (command, access, .., refusal) = only_dma(&host);
    assert_eq!((command, access, refusal), (Some(cid), Access::Data, Refusal::Unmapped { changes_ago: 0 }));
}

/// C1: a list outside granted memory is as bad as data outside it.
#[test]
fn lists_and_segments_outside_mappings_are_noticed() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(PAGE);
    let nowhere = 0x7000_0000;
    let list = SubmissionEntry::block_range(NvmOpcode::READ, 1, 0, 23).with_prps(data.iova().raw(), nowhere);
    assert_eq!(host.io((&mut sq, &mut cq), list).status(), Status::DATA_TRANSFER_ERROR);
    assert_eq!((only_dma(&host).1, host.sim.violation_count()), (Access::PrpList, 0));
    let mut segment = SubmissionEntry::block_range(NvmOpcode::READ, 1, 0, 0);
    segment.flags = CommandFlags::new().with_psdt(PSDT_SGL).into_bits();
    SglDescriptor::last_segment(nowhere, 32).put_into(&mut segment);
    assert_eq!(host.io((&mut sq, &mut cq), segment).status(), Status::DATA_TRANSFER_ERROR);
    assert_eq!(only_dma(&host).1, Access::SglSegment);
}

#[test]
fn a_queue_whose_memory_went_stops_the_controller() {
    let mut host = Host::boot(small());
    let (mut sq, cq) = host.pair();
    drop(cq);
    host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.run_until_idle();
    assert_eq!(only_dma(&host).1, Access::PostCompletion);
    assert!(host.csts().cfs());
}

#[test]
fn commands_in_memory_that_went_stop_the_controller() {
    let mut host = Host::boot(small());
    let (mut sq, _cq) = host.pair();
    host.submit(&mut sq, SubmissionEntry::flush(1));
    drop(sq);
    host.sim.run_until_idle();
    assert_eq!(only_dma(&host).1, Access::FetchCommand);
    assert!(host.csts().cfs());
}

#[test]
fn a_function_without_bus_mastering_reaches_nothing() {
    let mut host = Host::boot(small());
    host.function.reset().unwrap();
    host.program_admin_queue();
    host.enable();
    host.submit_admin(SubmissionEntry::get_features(7, 0));
    assert_eq!(only_dma(&host).5, Refusal::BusMasterOff);
}

#[test]
fn a_run_across_two_mappings_that_touch_is_one_run() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let (one, two) = (host.buffer(PAGE), host.buffer(PAGE));
    let iommu = host.sim.iommu().clone();
    // In the other order than in the host's memory, so that a copy that forgets the seam is wrong.
    iommu.map(Iova(0x4000_0000), two.base(), PAGE as u64, Rights::READ_WRITE).unwrap();
    iommu.map(Iova(0x4000_1000), one.base(), PAGE as u64, Rights::READ_WRITE).unwrap();
    host.sim.write_blocks(1, 0, &pattern(2 * PAGE, 3)).unwrap();
    let entry = SubmissionEntry::block_range(NvmOpcode::READ, 1, 0, 15).with_prps(0x4000_0000, 0x4000_1000);
    assert_eq!(host.io((&mut sq, &mut cq), entry).status(), Status::SUCCESS);
    assert_eq!(bytes(&two, PAGE), pattern(2 * PAGE, 3)[..PAGE]);
    assert_eq!(bytes(&one, PAGE), pattern(2 * PAGE, 3)[PAGE..]);
    assert_eq!(host.sim.violations(), []);
    iommu.unmap(Iova(0x4000_0000), PAGE as u64).unwrap();
    iommu.unmap(Iova(0x4000_1000), PAGE as u64).unwrap();
}

#[test]
fn the_iommu_maps_what_a_kernel_would_and_refuses_the_rest() {
    let host = Host::boot(DeviceSpec {
        iommu: vfiomux_sim::IommuSpec { address_bits: 39, mappings_max: 5, ..Default::default() },
        ..small()
    });
    let iommu = host.sim.iommu();
    let memory = NonNull::new(0x1000_0000 as *mut u8).unwrap();
    let map =
        |iova, len| iommu.map(Iova(iova), memory, len, Rights::READ).map_err(|e| e.raw_os_error().unwrap());
    assert_eq!(map(0x5000_0800, 0x1000), Err(libc::EINVAL), "not on a page");
    assert_eq!(map(0x5000_0000, 0), Err(libc::EINVAL), "empty");
    assert_eq!(map(0xfedf_f000, 0x2000), Err(libc::EINVAL), "into the interrupt window");
    assert_eq!(map(1 << 39, 0x1000), Err(libc::EINVAL), "beyond 39 bits");
    assert_eq!(map(u64::MAX - 0xfff, 0x1000), Err(libc::EINVAL), "at the end of everything");
    map(0x5000_0000, 0x3000).unwrap();
    assert_eq!(map(0x5000_2000, 0x1000), Err(libc::EEXIST));
    assert_eq!(map(0x4fff_f000, 0x2000), Err(libc::EEXIST));
    let unmap = |iova, len| iommu.unmap(Iova(iova), len).map_err(|e| e.raw_os_error().unwrap());
    assert_eq!(unmap(0x5000_0000, 0x1000), Err(libc::ENOENT), "a part only");
    assert_eq!(unmap(0x6000_0000, 0x1000), Err(libc::ENOENT));
    map(0x6000_0000, 0x1000).unwrap();
    map(0x6100_0000, 0x1000).unwrap();
    assert_eq!(map(0x6200_0000, 0x1000), Err(libc::ENOSPC));
    unmap(0x5000_0000, 0x3000).unwrap();
    iommu.fail_maps(1);
    assert_eq!(map(0x5000_0000, 0x1000), Err(libc::ENOMEM));
    map(0x5000_0000, 0x1000).unwrap();
    iommu.fail_unmaps(1);
    assert_eq!(unmap(0x5000_0000, 0x1000), Err(libc::EIO));
    assert_eq!(iommu.mappings().len(), 5, "what could not be taken out is still there");
    for iova in [0x5000_0000, 0x6000_0000, 0x6100_0000] {
        unmap(iova, 0x1000).unwrap();
    }
}

#[test]
fn a_violation_tells_the_whole_story() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let entry = SubmissionEntry::block_range(NvmOpcode::WRITE, 1, 0, 7).with_prps(0x7000_0000, 0);
    let cid = host.io((&mut sq, &mut cq), entry).cid.get();
    let text = host.sim.violations()[0].to_string();
    let expected = format!(
        "Write (sq 1, cid {cid:#06x}, nsid 0x1): moving data: read of 0x1000 bytes at 0x70000000 refused: not mapped; below: "
    );
    assert!(text.starts_with(&expected) && text.ends_with("; nothing mapped above"), "{text}");
}
