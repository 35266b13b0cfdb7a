use vfiomux_spec::nvme::identify::{Oncs, Sgls, Vwc};

use super::*;

fn namespace(shift: u8, metadata: u16) -> IdentifyNamespace {
    let mut identify = IdentifyNamespace { nsze: 1000.into(), nlbaf: 2, ..IdentifyNamespace::default() };
    for (entry, (lbads, ms)) in identify.lbaf.iter_mut().zip([(shift, metadata), (9, 0), (12, 8)]) {
        *entry = LbaFormat::new().with_lbads(lbads).with_ms(ms).into_bits().into();
    }
    identify
}

fn controller() -> IdentifyController {
    IdentifyController {
        oncs: Oncs::new().with_write_zeroes(true).with_dataset_management(true).into_bits().into(),
        vwc: Vwc::new().with_present(true).into_bits(),
        ..IdentifyController::default()
    }
}

fn allowance(controller: &IdentifyController) -> Allowance {
    Allowance::new(Cap::new(), controller, None, 512 << 10, true)
}

fn limits(controller: &IdentifyController) -> Limits {
    allowance(controller).namespace(1, &namespace(9, 0), Names::default()).unwrap().limits
}

#[test]
fn a_transfer_is_what_both_sides_allow() {
    for (mdts, option, bytes) in
        [(0, 512 << 10, 512 << 10), (5, 512 << 10, 128 << 10), (9, 64 << 10, 64 << 10), (0, 1 << 30, 1 << 20)]
    {
        let controller = IdentifyController { mdts, ..controller() };
        let allowance = Allowance::new(Cap::new(), &controller, None, option, true);
        assert_eq!(allowance.transfer_bytes_max, bytes);
        // An entry for each page behind the first, and the zero at the end.
        assert!(allowance.list_bytes as u32 >= (bytes / PAGE_BYTES + 1) * 8);
        assert!(allowance.list_bytes.is_power_of_two() && allowance.list_bytes <= 4096);
    }
}

#[test]
fn write_zeroes_keeps_to_its_own_limit_else_to_that_of_transfers() {
    assert_eq!(limits(&controller()).write_zeroes_blocks_max, 65536);
    let narrow = IdentifyController { mdts: 5, ..controller() };
    assert_eq!(limits(&narrow).write_zeroes_blocks_max, 256);
    let nvm = IdentifyControllerNvm { wzsl: 6, dmrsl: 77.into(), ..IdentifyControllerNvm::default() };
    let allowance = Allowance::new(Cap::new(), &narrow, Some(&nvm), 512 << 10, true);
    let limits = allowance.namespace(1, &namespace(9, 0), Names::default()).unwrap().limits;
    assert_eq!((limits.write_zeroes_blocks_max, limits.deallocate_blocks_max), (512, 77));
}

#[test]
fn what_a_controller_lacks_is_not_offered() {
    let bare = limits(&IdentifyController::default());
    assert_eq!((bare.write_zeroes_blocks_max, bare.deallocate_blocks_max), (0, 0));
    assert!(!bare.volatile_cache && !bare.deallocate_zeroes);
    assert!(limits(&controller()).volatile_cache);
}

#[test]
fn lists_keep_to_what_the_controller_recommends() {
    let sgls = Sgls::new().with_support(SGL_BYTE_ALIGNED).with_descriptor_threshold(16);
    let limits = limits(&IdentifyController { sgls: sgls.into_bits().into(), ..controller() });
    assert_eq!((limits.addressing, limits.segments_max), (Addressing::Sgl { align_bytes: 1 }, 16));
}

#[test]
fn what_cannot_be_served_is_left_out_with_the_reason() {
    let allowance = allowance(&controller());
    let reason = |identify: &IdentifyNamespace, names| {
        let skipped = allowance.namespace(3, identify, names).unwrap_err();
        assert_eq!(skipped.id, 3);
        skipped.reason
    };
    assert!(reason(&namespace(9, 8), Names::default()).contains("8 bytes of metadata"));
    assert!(reason(&namespace(0, 0), Names::default()).contains("not one of those it lists"));
    assert!(reason(&namespace(30, 0), Names::default()).contains("2^30 bytes"));
    let mut identify = namespace(9, 0);
    identify.dps = 1;
    assert!(reason(&identify, Names::default()).contains("protection"));
    let mut identify = namespace(9, 0);
    identify.nsattr = 1;
    assert!(reason(&identify, Names::default()).contains("write protected"));
    let zoned = Names { command_set: Some(2), ..Names::default() };
    assert!(reason(&namespace(9, 0), zoned).contains("zoned"));
}

#[test]
fn a_namespace_that_cannot_be_served_lists_what_it_could_become() {
    let skipped = allowance(&controller()).namespace(1, &namespace(12, 16), Names::default()).unwrap_err();
    let sizes: Vec<_> = skipped.formats.iter().map(|format| (format.index, format.block_bytes)).collect();
    assert_eq!(sizes, [(1, 512)]);
}

#[test]
fn large_blocks_bound_the_transfer_to_whole_ones() {
    let allowance = Allowance::new(Cap::new(), &controller(), None, 100 << 10, true);
    let limits = allowance.namespace(1, &namespace(16, 0), Names::default()).unwrap().limits;
    assert_eq!((limits.block_bytes, limits.transfer_bytes_max), (65536, 65536));
    let narrow = IdentifyController { mdts: 1, ..controller() };
    let allowance = Allowance::new(Cap::new(), &narrow, None, 100 << 10, true);
    let skipped = allowance.namespace(1, &namespace(16, 0), Names::default()).unwrap_err();
    assert!(skipped.reason.contains("less than a block"), "{}", skipped.reason);
}

#[test]
fn names_are_read_from_descriptors_and_nonsense_ends_the_list() {
    let mut list = vec![1, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 1, 0, 0, 2, 99, 2, 0, 0, 7, 7];
    list.extend([3, 16, 0, 0]);
    list.extend([5; 16]);
    let names = Names::parse(&list);
    assert_eq!(names.eui64, Some([1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!((names.command_set, names.uuid, names.nguid), (Some(2), Some([5; 16]), None));
    assert_eq!(Names::parse(&[1, 200, 0, 0, 1]).eui64, None);
    assert_eq!(Names::parse(&[1, 7, 0, 0, 1, 2, 3, 4, 5, 6, 7]).eui64, None);
    assert!(Names::parse(&[]).command_set.is_none());
}
