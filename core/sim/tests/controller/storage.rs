use vfiomux_sim::{DeviceSpec, SimError, SimNvme};
use vfiomux_spec::nvme::command::RwDword12;
use vfiomux_spec::nvme::feature::VOLATILE_WRITE_CACHE;
use vfiomux_spec::nvme::{NvmOpcode, Status, SubmissionEntry};

use crate::host::{Host, PAGE, pattern, small, transfer};

#[test]
fn a_file_keeps_its_contents_and_its_holes() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let spec = DeviceSpec { size_bytes: 4 << 30, file: Some(path.clone()), namespaces: 2, ..small() };
    {
        let mut host = Host::boot(spec.clone());
        let (mut sq, mut cq) = host.pair();
        let data = host.pattern(PAGE, 4);
        for lba in [0, 800] {
            host.io((&mut sq, &mut cq), transfer(NvmOpcode::WRITE, lba, 8, &data));
        }
        host.sim.write_blocks(2, 0, &pattern(512, 5)).unwrap();
        let zeroes = SubmissionEntry::block_range(NvmOpcode::WRITE_ZEROES, 1, 800, 7);
        assert_eq!(host.io((&mut sq, &mut cq), zeroes).status(), Status::SUCCESS);
        assert_eq!(host.io((&mut sq, &mut cq), SubmissionEntry::flush(1)).status(), Status::SUCCESS);
    }
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 4 << 30);
    assert!(metadata.blocks() * 512 < 1 << 20, "the file is sparse");
    let sim = SimNvme::new(spec, "sim0").unwrap();
    let mut back = vec![0; PAGE];
    sim.read_blocks(1, 0, &mut back).unwrap();
    assert_eq!(back, pattern(PAGE, 4));
    sim.read_blocks(1, 800, &mut back).unwrap();
    assert_eq!(back, [0; PAGE]);
    sim.read_blocks(2, 0, &mut back[..512]).unwrap();
    assert_eq!(back[..512], pattern(512, 5));
}

#[test]
fn a_file_belongs_to_one_device_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let spec = DeviceSpec { file: Some(dir.path().join("disk.img")), ..small() };
    let first = SimNvme::new(spec.clone(), "sim0").unwrap();
    assert!(matches!(SimNvme::new(spec.clone(), "sim1"), Err(SimError::FileBusy { .. })));
    drop(first);
    SimNvme::new(spec, "sim1").unwrap();
}

#[test]
fn a_file_that_cannot_be_opened_says_which() {
    let spec = DeviceSpec { file: Some("/nonexistent/disk.img".into()), ..small() };
    let error = SimNvme::new(spec, "sim0").unwrap_err().to_string();
    assert!(error.contains("/nonexistent/disk.img") && error.contains("check the directory"), "{error}");
}

#[test]
fn a_file_cut_short_is_an_error_and_not_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let mut host = Host::boot(DeviceSpec { file: Some(path.clone()), ..small() });
    let (mut sq, mut cq) = host.pair();
    std::fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
    let data = host.buffer(PAGE);
    let completion = host.io((&mut sq, &mut cq), transfer(NvmOpcode::READ, 0, 8, &data));
    assert_eq!(completion.status(), Status::UNRECOVERED_READ);
    assert!(!completion.status_field().dnr());
}

#[test]
fn memory_costs_nothing_until_it_is_written() {
    let sim = SimNvme::new(DeviceSpec { size_bytes: 1 << 40, ..small() }, "sim0").unwrap();
    assert_eq!(sim.blocks(1).unwrap(), (1 << 40) / 512);
    sim.write_blocks(1, (1 << 31) - 1, &[7; 512]).unwrap();
    let mut back = [0; 512];
    sim.read_blocks(1, (1 << 31) - 1, &mut back).unwrap();
    assert_eq!(back, [7; 512]);
    assert!(matches!(sim.read_blocks(1, 1 << 31, &mut back), Err(SimError::NoSuchBlocks { .. })));
    assert!(matches!(sim.read_blocks(2, 0, &mut back), Err(SimError::NoSuchBlocks { .. })));
}

const BLOCKS: u64 = 64;

/// Writes ones to every block, flushes, then writes twos; power fails. What each block then holds.
fn after_crash(
    spec: DeviceSpec,
    end: impl FnOnce(&mut Host, &mut crate::host::Sq, &mut crate::host::Cq),
) -> Vec<u8> {
    let mut host = Host::boot(spec);
    let (mut sq, mut cq) = host.pair();
    let mut data = host.buffer(PAGE);
    for value in [1, 2] {
        data.write(0, &[value; PAGE]);
        for lba in 0..BLOCKS {
            host.io((&mut sq, &mut cq), transfer(NvmOpcode::WRITE, lba, 1, &data));
        }
        if value == 1 {
            host.io((&mut sq, &mut cq), SubmissionEntry::flush(1));
        }
    }
    end(&mut host, &mut sq, &mut cq);
    host.sim.crash();
    assert!(!host.csts().rdy());
    let mut back = vec![0; BLOCKS as usize * 512];
    host.sim.read_blocks(1, 0, &mut back).unwrap();
    back.chunks_exact(512)
        .map(|block| {
            assert!(block.iter().all(|&byte| byte == block[0]), "a block is never torn");
            block[0]
        })
        .collect()
}

fn cached() -> DeviceSpec {
    DeviceSpec { cache: true, ..small() }
}

#[test]
fn a_crash_loses_some_unflushed_blocks_and_no_flushed_ones() {
    let blocks = after_crash(cached(), |_, _, _| ());
    assert!(blocks.iter().all(|&value| value == 1 || value == 2));
    assert!(blocks.contains(&1) && blocks.contains(&2));
}

#[test]
fn a_flush_makes_writes_survive() {
    let blocks = after_crash(cached(), |host, sq, cq| {
        assert_eq!(host.io((sq, cq), SubmissionEntry::flush(1)).status(), Status::SUCCESS);
    });
    assert!(blocks.iter().all(|&value| value == 2));
}

#[test]
fn forced_unit_access_makes_just_that_write_survive() {
    let blocks = after_crash(cached(), |host, sq, cq| {
        let mut data = host.buffer(PAGE);
        data.write(0, &[3; PAGE]);
        let mut forced = transfer(NvmOpcode::WRITE, 10, 2, &data);
        forced.cdw12.set(RwDword12::new().with_nlb(1).with_fua(true).into_bits());
        assert_eq!(host.io((sq, cq), forced).status(), Status::SUCCESS);
    });
    assert_eq!(blocks[10..12], [3, 3]);
    assert!(blocks.contains(&1));
}

#[test]
fn without_the_cache_nothing_is_lost() {
    assert!(after_crash(small(), |_, _, _| ()).iter().all(|&value| value == 2));
    let blocks = after_crash(cached(), |host, _, _| {
        let off = SubmissionEntry::set_features(VOLATILE_WRITE_CACHE, 0, 0);
        assert_eq!(host.admin_status(off), Status::SUCCESS);
    });
    assert!(blocks.iter().all(|&value| value == 2), "turning the cache off is a flush");
}

#[test]
fn a_file_keeps_its_serial_number_under_any_device_name() {
    let dir = tempfile::tempdir().unwrap();
    let serial = |path: std::path::PathBuf, name: &str| {
        let spec = DeviceSpec { file: Some(path), ..small() };
        SimNvme::new(spec, name).unwrap().spec().serial.clone()
    };
    let plain = serial(dir.path().join("disk.img"), "sim0");
    assert_eq!(serial(dir.path().join("./disk.img"), "sim7"), plain);
    assert_ne!(serial(dir.path().join("other.img"), "sim0"), plain);
}
