use proptest::prelude::*;

use super::*;
use crate::inventory::tree::{NVME, Tree};

fn address() -> PciAddress {
    NVME.parse().unwrap()
}

#[test]
fn a_function_is_claimed_and_given_back() {
    let tree = Tree::with_nvme();
    let claim = claim(&tree.sysfs(), address()).unwrap();
    assert_eq!(claim.previous_driver.as_deref(), Some("nvme"));
    assert_eq!(tree.driver_of(NVME).as_deref(), Some("vfio-pci"));
    release(&tree.sysfs(), address(), claim.previous_driver.as_deref()).unwrap();
    assert_eq!(
        (tree.driver_of(NVME).as_deref(), tree.override_of(NVME)),
        (Some("nvme"), "(null)".to_owned())
    );
}

#[test]
fn a_function_without_a_driver_is_left_without_one_again() {
    let tree = Tree::new();
    tree.function(NVME, 0x01_0802, None, Some(12));
    assert_eq!(claim(&tree.sysfs(), address()).unwrap().previous_driver, None);
    release(&tree.sysfs(), address(), None).unwrap();
    assert_eq!((tree.driver_of(NVME), tree.override_of(NVME)), (None, "(null)".to_owned()));
}

#[test]
fn claiming_and_releasing_twice_changes_nothing() {
    let tree = Tree::with_nvme();
    claim(&tree.sysfs(), address()).unwrap();
    tree.written();
    assert_eq!(claim(&tree.sysfs(), address()).unwrap().previous_driver.as_deref(), Some("vfio-pci"));
    assert_eq!(tree.written(), [""; 0]);
    release(&tree.sysfs(), address(), Some("nvme")).unwrap();
    tree.written();
    release(&tree.sysfs(), address(), Some("nvme")).unwrap();
    assert_eq!(tree.written(), [""; 0]);
}

#[test]
fn what_somebody_else_bound_to_vfio_stays_there() {
    let tree = Tree::with_nvme();
    claim(&tree.sysfs(), address()).unwrap();
    let second = claim(&tree.sysfs(), address()).unwrap();
    release(&tree.sysfs(), address(), second.previous_driver.as_deref()).unwrap();
    assert_eq!(tree.driver_of(NVME).as_deref(), Some("vfio-pci"));
}

/// Each refusal says why, and nothing has been written.
#[test]
fn what_must_not_be_taken_is_refused_untouched() {
    type Spoil = fn(&Tree);
    let spoils: [(Spoil, &str); 5] = [
        (
            |tree| tree.append("proc/self/mountinfo", "36 35 259:2 / /srv rw - ext4 /dev/nvme0n1p2 rw"),
            "in use: nvme0n1p2 is mounted on /srv",
        ),
        (
            |tree| {
                tree.write("proc/7/comm", "qemu");
                std::fs::create_dir_all(tree.path("proc/7/fd")).unwrap();
                std::os::unix::fs::symlink("/dev/nvme0n1", tree.path("proc/7/fd/3")).unwrap();
            },
            "nvme0n1 is open in process 7 (qemu)",
        ),
        (
            |tree| tree.function("0000:03:00.1", 0x04_0300, Some("snd_hda_intel"), Some(12)),
            "shares IOMMU group 12 with 0000:03:00.1 (snd_hda_intel)",
        ),
        (|tree| std::fs::remove_dir(tree.path("sys/bus/pci/drivers/vfio-pci")).unwrap(), "modprobe vfio-pci"),
        (|tree| tree.write(&format!("sys/devices/pci0000:00/{NVME}/class"), "0x060400"), "is a bridge"),
    ];
    for (spoil, reason) in spoils {
        let tree = Tree::with_nvme();
        spoil(&tree);
        let error = claim(&tree.sysfs(), address()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains(NVME), "{error}");
        assert_eq!(tree.written(), [""; 0], "{reason}");
    }
}

/// D4.
#[test]
fn a_function_that_no_iommu_confines_is_refused() {
    let tree = Tree::new();
    tree.function(NVME, 0x01_0802, Some("nvme"), None);
    assert!(matches!(claim(&tree.sysfs(), address()), Err(HwError::NoIommu { .. })));
    assert_eq!(tree.written(), [""; 0]);
}

#[test]
fn without_an_iommu_both_the_operator_and_the_kernel_must_agree() {
    let tree = Tree::new();
    tree.function(NVME, 0x01_0802, Some("nvme"), None);
    let insists = VfioOptions { allow_unsafe_noiommu: true };
    let error = claim_with(&tree.sysfs(), address(), insists).unwrap_err().to_string();
    assert!(error.contains("CONFIG_VFIO_NOIOMMU"), "{error}");
    tree.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    assert_eq!(
        claim_with(&tree.sysfs(), address(), insists).unwrap().previous_driver.as_deref(),
        Some("nvme")
    );
}

#[test]
fn a_claim_that_fails_half_way_is_undone() {
    for step in ["driver_override", "driver/unbind", "drivers_probe", "vfio-pci takes it"] {
        let tree = Tree::with_nvme();
        tree.fail(step, 1);
        let error = claim(&tree.sysfs(), address()).unwrap_err().to_string();
        assert!(error.contains(NVME) && !error.contains("undoing"), "{step}: {error}");
        assert_eq!(tree.driver_of(NVME).as_deref(), Some("nvme"), "{step}");
        assert_eq!(tree.override_of(NVME), "(null)", "{step}");
    }
}

#[test]
fn a_claim_that_cannot_be_undone_says_both() {
    let tree = Tree::with_nvme();
    tree.fail("vfio-pci takes it", 9);
    tree.fail("nvme takes it", 9);
    let error = claim(&tree.sysfs(), address()).unwrap_err().to_string();
    assert!(error.contains("binding it to vfio-pci") && error.contains("undoing"), "{error}");
}

#[test]
fn a_release_that_its_driver_refuses_says_so_and_can_be_repeated() {
    let tree = Tree::with_nvme();
    claim(&tree.sysfs(), address()).unwrap();
    tree.fail("nvme takes it", 2);
    let error = release(&tree.sysfs(), address(), Some("nvme")).unwrap_err().to_string();
    assert!(error.contains("bound to no driver now, not to nvme"), "{error}");
    release(&tree.sysfs(), address(), Some("nvme")).unwrap();
    assert_eq!(tree.driver_of(NVME).as_deref(), Some("nvme"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever writes fail, a claim that ends badly and could be undone leaves the function where it was, and one that ends well has it.
    #[test]
    fn a_claim_is_whole_or_nothing(failing in proptest::collection::vec((0usize..6, 1u32..3), 0..4)) {
        let steps = ["driver_override", "driver/unbind", "drivers_probe", "vfio-pci takes it", "nvme takes it", "nvme/bind"];
        let tree = Tree::with_nvme();
        for (step, times) in failing {
            tree.fail(steps[step], times);
        }
        let expected = match claim(&tree.sysfs(), address()) {
            Ok(_) => Some("vfio-pci"),
            Err(error) if error.to_string().contains("undoing") => None,
            Err(_) => Some("nvme"),
        };
        if let Some(expected) = expected {
            let driver = tree.driver_of(NVME);
            prop_assert_eq!(driver.as_deref(), Some(expected));
            prop_assert_eq!(tree.override_of(NVME), if expected == "nvme" { "(null)" } else { "vfio-pci" });
        }
    }
}
