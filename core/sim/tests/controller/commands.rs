use vfiomux_sim::DeviceSpec;
use vfiomux_spec::nvme::command::{DSM_DEALLOCATE, DsmRange, RwDword12};
use vfiomux_spec::nvme::identify::{
    CNS_ACTIVE_NAMESPACES, CNS_CONTROLLER, CNS_NAMESPACE, CNS_NAMESPACE_DESCRIPTORS, DEALLOCATED_ZEROES,
    IdentifyController, IdentifyNamespace, NamespaceList, SGL_DWORD_ALIGNED,
};
use vfiomux_spec::nvme::queue::CommandFlags;
use vfiomux_spec::nvme::{AdminOpcode, NSID_ALL, NvmOpcode, Status, SubmissionEntry};
use zerocopy::{FromBytes, IntoBytes};

use crate::host::{Host, PAGE, bytes, pattern, small, transfer};

fn identify(host: &mut Host, cns: u8, nsid: u32) -> Result<Vec<u8>, Status> {
    let page = host.buffer(PAGE);
    match host.admin_status(SubmissionEntry::identify(cns, nsid, page.iova().raw())) {
        Status::SUCCESS => Ok(bytes(&page, PAGE)),
        status => Err(status),
    }
}

#[test]
fn the_controller_describes_itself() {
    let mut host = Host::boot(DeviceSpec { mdts: 5, serial: Some("ABC123".into()), ..small() });
    let id = IdentifyController::read_from_bytes(&identify(&mut host, CNS_CONTROLLER, 0).unwrap()).unwrap();
    assert_eq!((id.serial(), id.model()), ("ABC123", "vfiomux simulated NVMe"));
    assert_eq!(id.max_transfer_bytes(0), Some(128 << 10));
    assert_eq!((id.nn.get(), id.sqes, id.cqes), (1, 0x66, 0x44));
    assert!(id.optional_nvm().write_zeroes() && id.optional_nvm().dataset_management());
    assert!(id.optional_admin().format() && id.sanitize().block_erase());
    assert_eq!(id.sgl_support().support(), SGL_DWORD_ALIGNED);
    assert!(!id.write_cache().present());
    assert_eq!(id.version().major(), 2);
}

#[test]
fn what_is_switched_off_is_not_claimed_and_not_done() {
    let spec = DeviceSpec { sgl: false, format: false, sanitize: false, ..small() };
    let mut host = Host::boot(spec);
    let id = IdentifyController::read_from_bytes(&identify(&mut host, CNS_CONTROLLER, 0).unwrap()).unwrap();
    assert_eq!(id.sgl_support().support(), 0);
    assert!(!id.optional_admin().format() && !id.sanitize().block_erase());
    assert_eq!(host.admin_status(SubmissionEntry::format_nvm(1, 0, 0)), Status::INVALID_OPCODE);
    assert_eq!(host.admin_status(SubmissionEntry::sanitize(2)), Status::INVALID_OPCODE);
}

#[test]
fn namespaces_are_listed_described_and_told_apart() {
    let mut host = Host::boot(DeviceSpec { namespaces: 3, lba_bytes: 4096, ..small() });
    let list = |host: &mut Host, after| {
        let page = identify(host, CNS_ACTIVE_NAMESPACES, after).unwrap();
        NamespaceList::read_from_bytes(&page).unwrap().iter().collect::<Vec<_>>()
    };
    assert_eq!(list(&mut host, 0), [1, 2, 3]);
    assert_eq!(list(&mut host, 2), [3]);
    assert_eq!(identify(&mut host, CNS_ACTIVE_NAMESPACES, NSID_ALL), Err(Status::INVALID_NAMESPACE));
    let ids: Vec<IdentifyNamespace> = (1..=3)
        .map(|nsid| {
            IdentifyNamespace::read_from_bytes(&identify(&mut host, CNS_NAMESPACE, nsid).unwrap()).unwrap()
        })
        .collect();
    for id in &ids {
        assert_eq!(id.plain_block_shift(), Some(12));
        assert_eq!(id.nsze.get(), (16 << 20) / 3 / 4096);
        assert_eq!(id.deallocation().reads_as(), DEALLOCATED_ZEROES);
    }
    assert_ne!(ids[0].eui64, ids[1].eui64);
    let descriptors = identify(&mut host, CNS_NAMESPACE_DESCRIPTORS, 2).unwrap();
    assert_eq!(descriptors[..4], [1, 8, 0, 0]);
    assert_eq!(descriptors[4..12], ids[1].eui64);
    assert_eq!(identify(&mut host, CNS_NAMESPACE, 4).unwrap_err(), Status::INVALID_NAMESPACE);
    assert_eq!(identify(&mut host, 0x7f, 1), Err(Status::INVALID_FIELD));
    let all =
        IdentifyNamespace::read_from_bytes(&identify(&mut host, CNS_NAMESPACE, NSID_ALL).unwrap()).unwrap();
    assert_eq!(all.nlbaf, 1);
}

#[test]
fn what_was_written_is_read_and_nothing_else_changes() {
    for lba_bytes in [512, 4096] {
        let mut host = Host::boot(DeviceSpec { lba_bytes, ..small() });
        let (mut sq, mut cq) = host.pair();
        let blocks = u16::try_from(PAGE as u32 / lba_bytes).unwrap() * 2;
        let (from, into) = (host.pattern(2 * PAGE, 7), host.buffer(2 * PAGE));
        let write = transfer(NvmOpcode::WRITE, 8, blocks, &from);
        assert_eq!(host.io((&mut sq, &mut cq), write).status(), Status::SUCCESS);
        let read = transfer(NvmOpcode::READ, 8, blocks, &into);
        assert_eq!(host.io((&mut sq, &mut cq), read).status(), Status::SUCCESS);
        assert_eq!(bytes(&into, 2 * PAGE), pattern(2 * PAGE, 7));
        let mut around = vec![1; lba_bytes as usize];
        for lba in [7, 8 + u64::from(blocks)] {
            host.sim.read_blocks(1, lba, &mut around).unwrap();
            assert!(around.iter().all(|&byte| byte == 0));
        }
        assert_eq!(host.sim.violations(), []);
    }
}

/// C2: the device's own check, which the driver must never come to lean on.
#[test]
fn blocks_outside_the_namespace_are_refused_without_wrapping() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(2 * PAGE);
    let end = (16 << 20) / 512;
    for (lba, blocks) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 3, 8), (u64::MAX / 512, 16)] {
        for opcode in [NvmOpcode::READ, NvmOpcode::WRITE, NvmOpcode::WRITE_ZEROES] {
            let completion = host.io((&mut sq, &mut cq), transfer(opcode, lba, blocks, &data));
            assert_eq!(completion.status(), Status::LBA_OUT_OF_RANGE);
            assert!(completion.status_field().dnr());
        }
    }
    let last = host.io((&mut sq, &mut cq), transfer(NvmOpcode::READ, end - 1, 1, &data));
    assert_eq!(last.status(), Status::SUCCESS);
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(PAGE);
    let mut fused = SubmissionEntry::flush(1);
    fused.flags = CommandFlags::new().with_fuse(1).into_bits();
    let mut protected = transfer(NvmOpcode::READ, 0, 1, &data);
    protected.cdw12.set(RwDword12::new().with_prinfo(1).into_bits());
    let cases = [
        (SubmissionEntry::nvm(NvmOpcode(0x7f), 1), Status::INVALID_OPCODE),
        (SubmissionEntry::nvm(NvmOpcode::COMPARE, 1), Status::INVALID_OPCODE),
        (SubmissionEntry::flush(2), Status::INVALID_NAMESPACE),
        (SubmissionEntry::flush(0), Status::INVALID_NAMESPACE),
        (SubmissionEntry::block_range(NvmOpcode::READ, NSID_ALL, 0, 0), Status::INVALID_NAMESPACE),
        (fused, Status::INVALID_FIELD),
        (protected, Status::INVALID_FIELD),
    ];
    for (entry, status) in cases {
        assert_eq!(host.io((&mut sq, &mut cq), entry).status(), status);
    }
    assert_eq!(host.admin_status(SubmissionEntry::admin(AdminOpcode(0x7e))), Status::INVALID_OPCODE);
    assert_eq!(host.io((&mut sq, &mut cq), SubmissionEntry::flush(NSID_ALL)).status(), Status::SUCCESS);
}

#[test]
fn a_transfer_beyond_mdts_is_refused() {
    let mut host = Host::boot(DeviceSpec { mdts: 1, ..small() });
    let (mut sq, mut cq) = host.pair();
    let data = host.buffer(2 * PAGE);
    let fits = transfer(NvmOpcode::READ, 0, 16, &data);
    assert_eq!(host.io((&mut sq, &mut cq), fits).status(), Status::SUCCESS);
    let too_long = transfer(NvmOpcode::READ, 0, 17, &data);
    assert_eq!(host.io((&mut sq, &mut cq), too_long).status(), Status::INVALID_FIELD);
    let zeroes = SubmissionEntry::block_range(NvmOpcode::WRITE_ZEROES, 1, 0, 999);
    assert_eq!(host.io((&mut sq, &mut cq), zeroes).status(), Status::SUCCESS, "it moves no data");
}

#[test]
fn write_zeroes_leaves_zeroes_and_the_neighbours_alone() {
    let mut host = Host::boot(small());
    let (mut sq, mut cq) = host.pair();
    host.sim.write_blocks(1, 0, &[0xaa; 100 * 512]).unwrap();
    let zeroes = SubmissionEntry::block_range(NvmOpcode::WRITE_ZEROES, 1, 3, 63);
    assert_eq!(host.io((&mut sq, &mut cq), zeroes).status(), Status::SUCCESS);
    let mut back = vec![1; 100 * 512];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    let expected: Vec<u8> =
        (0..100).flat_map(|lba| [if (3..67).contains(&lba) { 0 } else { 0xaa }; 512]).collect();
    assert_eq!(back, expected);
}

fn deallocate(host: &mut Host, ranges: &[(u64, u32)]) -> Status {
    let (mut sq, mut cq) = host.pair();
    let mut list = host.buffer(PAGE);
    let entries: Vec<DsmRange> = ranges
        .iter()
        .map(|&(lba, blocks)| DsmRange {
            blocks: blocks.into(),
            start_lba: lba.into(),
            ..DsmRange::default()
        })
        .collect();
    list.write(0, entries.as_bytes());
    let count = u16::try_from(ranges.len()).unwrap();
    let entry = SubmissionEntry::deallocate(1, count).with_prps(list.iova().raw(), 0);
    assert_eq!(entry.cdw11.get(), DSM_DEALLOCATE);
    host.io((&mut sq, &mut cq), entry).status()
}

#[test]
fn deallocated_blocks_read_as_zeroes_where_that_is_promised() {
    let mut host = Host::boot(small());
    host.sim.write_blocks(1, 0, &[0xaa; 64 * 512]).unwrap();
    assert_eq!(deallocate(&mut host, &[(0, 8), (16, 1), (40, 0)]), Status::SUCCESS);
    let mut back = vec![1; 64 * 512];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    let zero = |lba: usize| back[lba * 512..(lba + 1) * 512].iter().all(|&byte| byte == 0);
    assert!((0..64).all(|lba| zero(lba) == (lba < 8 || lba == 16)));
}

/// C3: a scrub that leans on Deallocate without the promise would show the old owner's bytes.
#[test]
fn deallocated_blocks_keep_their_contents_where_nothing_is_promised() {
    let mut host = Host::boot(DeviceSpec { deallocate_zeroes: false, ..small() });
    host.sim.write_blocks(1, 0, &[0xaa; 512]).unwrap();
    assert_eq!(deallocate(&mut host, &[(0, 8)]), Status::SUCCESS);
    let mut back = [0; 512];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    assert_eq!(back, [0xaa; 512]);
    let page = identify(&mut host, CNS_NAMESPACE, 1).unwrap();
    assert_eq!(IdentifyNamespace::read_from_bytes(&page).unwrap().deallocation().reads_as(), 0);
}

#[test]
fn one_bad_range_spoils_the_whole_deallocation() {
    let mut host = Host::boot(small());
    host.sim.write_blocks(1, 0, &[0xaa; 512]).unwrap();
    let end = (16 << 20) / 512;
    assert_eq!(deallocate(&mut host, &[(0, 1), (end, 1)]), Status::LBA_OUT_OF_RANGE);
    let mut back = [0; 512];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    assert_eq!(back, [0xaa; 512]);
}

#[test]
fn format_changes_the_block_size_and_erases() {
    let mut host = Host::boot(small());
    host.sim.write_blocks(1, 0, &[0xaa; 4096]).unwrap();
    assert_eq!(host.admin_status(SubmissionEntry::format_nvm(1, 1, 1)), Status::SUCCESS);
    assert_eq!(host.sim.block_bytes(1).unwrap(), 4096);
    let mut back = [1; 4096];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    assert_eq!(back, [0; 4096]);
    let page = identify(&mut host, CNS_NAMESPACE, 1).unwrap();
    assert_eq!(IdentifyNamespace::read_from_bytes(&page).unwrap().plain_block_shift(), Some(12));
    assert_eq!(host.admin_status(SubmissionEntry::format_nvm(1, 2, 0)), Status::INVALID_FORMAT);
    assert_eq!(host.admin_status(SubmissionEntry::format_nvm(1, 0x10, 0)), Status::INVALID_FORMAT);
    assert_eq!(host.admin_status(SubmissionEntry::format_nvm(9, 0, 0)), Status::INVALID_NAMESPACE);
    assert_eq!(host.admin_status(SubmissionEntry::format_nvm(NSID_ALL, 0, 0)), Status::SUCCESS);
    assert_eq!(host.sim.block_bytes(1).unwrap(), 512);
}

#[test]
fn sanitize_erases_every_namespace() {
    let mut host = Host::boot(DeviceSpec { namespaces: 2, ..small() });
    for nsid in [1, 2] {
        host.sim.write_blocks(nsid, 5, &[0xaa; 512]).unwrap();
    }
    assert_eq!(host.admin_status(SubmissionEntry::sanitize(4)), Status::INVALID_FIELD);
    assert_eq!(host.admin_status(SubmissionEntry::sanitize(2)), Status::SUCCESS);
    for nsid in [1, 2] {
        let mut back = [1; 512];
        host.sim.read_blocks(nsid, 5, &mut back).unwrap();
        assert_eq!(back, [0; 512]);
    }
}

#[test]
fn a_feature_is_kept_until_reset_and_an_unknown_one_refused() {
    let mut host = Host::boot(small());
    assert_eq!(host.admin_status(SubmissionEntry::set_features(1, 0, 0x0102_0304)), Status::SUCCESS);
    assert_eq!(host.admin(SubmissionEntry::get_features(1, 0)).dw0.get(), 0x0102_0304);
    assert_eq!(host.admin_status(SubmissionEntry::get_features(0x7f, 0)), Status::INVALID_FIELD);
    assert_eq!(host.admin_status(SubmissionEntry::set_features(6, 0, 1)), Status::INVALID_FIELD, "no cache");
    let mut saved = SubmissionEntry::set_features(1, 0, 0);
    saved.cdw10.set(1 << 31 | 1);
    assert_eq!(host.admin_status(saved), Status::FEATURE_NOT_SAVEABLE);
    host.write_cc(vfiomux_spec::nvme::register::Cc::new());
    host.enable();
    assert_eq!(host.admin(SubmissionEntry::get_features(1, 0)).dw0.get(), 0);
}

#[test]
fn abort_ends_a_pending_command_and_says_when_there_is_none() {
    let mut host = Host::boot(DeviceSpec { service_ns: 1000, ..small() });
    let (mut sq, mut cq) = host.pair();
    let cid = host.submit(&mut sq, SubmissionEntry::flush(1));
    host.sim.step(1);
    assert_eq!(host.admin(SubmissionEntry::abort(1, cid)).dw0.get() & 1, 0);
    assert_eq!(host.poll(&mut cq).unwrap().status(), Status::ABORT_REQUESTED);
    assert_eq!(host.admin(SubmissionEntry::abort(1, cid)).dw0.get() & 1, 1);
    assert_eq!(host.admin(SubmissionEntry::abort(7, 1)).dw0.get() & 1, 1);
}
