use super::tree::{NVME, Tree};
use super::*;

fn holders(tree: &Tree) -> Vec<String> {
    tree.sysfs().function(NVME.parse().unwrap()).unwrap().holders.iter().map(ToString::to_string).collect()
}

/// S1.
#[test]
fn every_function_is_listed_with_driver_group_and_node() {
    let tree = Tree::with_nvme();
    tree.function("0000:00:1c.0", 0x06_0400, Some("pcieport"), Some(12));
    tree.function("0001:00:02.0", 0x02_0000, None, None);
    let functions = tree.sysfs().functions().unwrap();
    let names: Vec<_> = functions.iter().map(|function| function.address.to_string()).collect();
    assert_eq!(names, ["0000:00:1c.0", NVME, "0001:00:02.0"]);
    let nvme = &functions[1];
    assert_eq!((nvme.vendor, nvme.device, nvme.class), (0x1b36, 0x10, pci::Class::NVME));
    assert_eq!((nvme.driver.as_deref(), nvme.numa_node), (Some("nvme"), Some(1)));
    let group = nvme.group.as_ref().unwrap();
    assert!(group.id == 12 && group.protected && group.in_the_way().is_empty());
    let bridge = Member { address: functions[0].address, driver: Some("pcieport".to_owned()), bridge: true };
    assert_eq!(group.members, [bridge]);
    assert_eq!((&functions[2].driver, &functions[2].group), (&None, &None));
}

#[test]
fn a_host_without_pci_has_no_functions() {
    assert_eq!(Sysfs::new(tempfile::tempdir().unwrap().path()).functions().unwrap(), []);
}

#[test]
fn a_group_that_vfio_made_up_protects_nothing() {
    let tree = Tree::with_nvme();
    tree.write("sys/kernel/iommu_groups/12/name", "vfio-noiommu\n");
    let function = tree.sysfs().function(NVME.parse().unwrap()).unwrap();
    assert!(!function.group.unwrap().protected);
}

#[test]
fn an_idle_controller_has_no_holders() {
    assert_eq!(holders(&Tree::with_nvme()), [""; 0]);
}

#[test]
fn mounts_are_found_by_device_number() {
    let tree = Tree::with_nvme();
    let line = r"36 35 259:2 / /srv/my\040data rw,noatime shared:9 master:1 - ext4 /dev/root rw";
    tree.append("proc/self/mountinfo", line);
    assert_eq!(holders(&tree), ["nvme0n1p2 is mounted on /srv/my data"]);
}

#[test]
fn mounts_of_filesystems_with_numbers_of_their_own_are_found_by_name() {
    let tree = Tree::with_nvme();
    tree.link("dev/disk/by-label/pool", "dev/nvme0n1p1");
    tree.append("proc/self/mountinfo", "36 35 0:41 /@ /pool rw - btrfs /dev/disk/by-label/pool rw");
    assert_eq!(holders(&tree), ["nvme0n1p1 is mounted on /pool"]);
}

#[test]
fn swap_and_volumes_are_holders() {
    let tree = Tree::with_nvme();
    tree.append("proc/swaps", "/dev/nvme0n1p1 partition 8388604 0 -2");
    tree.append("proc/swaps", "/swapfile file 8388604 0 -3");
    tree.write("sys/devices/virtual/block/dm-3/dm/name", "vg0-root\n");
    tree.link("sys/class/block/dm-3", "sys/devices/virtual/block/dm-3");
    tree.link("sys/class/block/nvme0n1p2/holders/dm-3", "sys/devices/virtual/block/dm-3");
    tree.link("sys/class/block/nvme0n1/holders/md0", "sys/devices/virtual/block/md0");
    assert_eq!(
        holders(&tree),
        ["nvme0n1 is part of md0", "nvme0n1p1 is swapped to", "nvme0n1p2 is part of dm-3 (vg0-root)"]
    );
}

#[test]
fn a_namespace_below_a_multipath_subsystem_belongs_to_its_controllers() {
    let tree = Tree::new();
    tree.function(NVME, 0x01_0802, Some("nvme"), Some(12));
    tree.write(&format!("sys/devices/pci0000:00/{NVME}/nvme/nvme0/state"), "live");
    let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
    tree.link(&format!("{subsystem}/nvme0"), format!("sys/devices/pci0000:00/{NVME}/nvme/nvme0"));
    tree.write(&format!("{subsystem}/nvme0n1/dev"), "259:7\n");
    tree.link("sys/class/block/nvme0n1", format!("{subsystem}/nvme0n1"));
    tree.append("proc/self/mountinfo", "36 35 259:7 / /data rw - xfs /dev/nvme0n1 rw");
    assert_eq!(holders(&tree), ["nvme0n1 is mounted on /data"]);
}

#[test]
fn what_belongs_to_another_function_is_no_holder() {
    let tree = Tree::with_nvme();
    tree.function("0000:04:00.0", 0x01_0802, Some("nvme"), Some(13));
    tree.block("0000:04:00.0", "nvme/nvme1/nvme1n1", "259:5");
    tree.append("proc/self/mountinfo", "36 35 259:5 / / rw - ext4 /dev/nvme1n1 rw");
    assert_eq!(holders(&tree), [""; 0]);
}

#[test]
fn interfaces_that_are_up_and_virtual_functions_are_holders() {
    let tree = Tree::with_nvme();
    for (name, flags) in [("eth0", "0x1003\n"), ("eth1", "0x1002\n")] {
        tree.write(&format!("sys/devices/pci0000:00/{NVME}/net/{name}/flags"), flags);
        tree.link(&format!("sys/class/net/{name}"), format!("sys/devices/pci0000:00/{NVME}/net/{name}"));
    }
    tree.write(&format!("sys/devices/pci0000:00/{NVME}/sriov_numvfs"), "4\n");
    assert_eq!(holders(&tree), ["0000:03:00.0 has 4 virtual functions", "eth0 is up"]);
}

#[test]
fn processes_with_a_block_device_open_are_openers() {
    let tree = Tree::with_nvme();
    tree.write("proc/4242/comm", "postgres\n");
    fs::create_dir_all(tree.path("proc/4242/fd")).unwrap();
    for (descriptor, target) in [("3", "/dev/nvme0n1p2"), ("4", "/dev/nvme0n1p2"), ("5", "/dev/null")] {
        std::os::unix::fs::symlink(target, tree.path("proc/4242/fd").join(descriptor)).unwrap();
    }
    let openers = tree.sysfs().openers(NVME.parse().unwrap()).unwrap();
    let texts: Vec<_> = openers.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["nvme0n1p2 is open in process 4242 (postgres)"]);
}

/// S1: the unknown is an error, not an omission.
#[test]
fn what_cannot_be_read_is_an_error_that_names_the_file() {
    let sysfs_of = |spoil: &dyn Fn(&Tree)| {
        let tree = Tree::with_nvme();
        spoil(&tree);
        let error = tree.sysfs().functions().unwrap_err().to_string();
        drop(tree);
        error
    };
    let device = format!("sys/devices/pci0000:00/{NVME}");
    for file in ["class", "vendor"] {
        let error = sysfs_of(&|tree| tree.write(&format!("{device}/{file}"), "garbage\n"));
        assert!(error.contains(&format!("{NVME}/{file}")), "{error}");
        let error = sysfs_of(&|tree| fs::remove_file(tree.path(&format!("{device}/{file}"))).unwrap());
        assert!(error.contains(&format!("{NVME}/{file}")), "{error}");
    }
    let error = sysfs_of(&|tree| tree.write("proc/self/mountinfo", "36 35\n"));
    assert!(error.contains("mountinfo"), "{error}");
    let error = sysfs_of(&|tree| fs::remove_file(tree.path("proc/self/mountinfo")).unwrap());
    assert!(error.contains("mountinfo"), "{error}");
    let error = sysfs_of(&|tree| tree.link("sys/bus/pci/devices/garbage", "sys"));
    assert!(error.contains("garbage"), "{error}");
}

#[test]
fn an_absent_function_is_told_apart_from_one_that_cannot_be_read() {
    let error = Tree::new().sysfs().function(NVME.parse().unwrap()).unwrap_err();
    assert!(matches!(error, HwError::NotFound { .. }), "{error}");
}

#[test]
fn this_machine_can_be_taken_stock_of() {
    let Ok(directory) = fs::read_dir("/sys/bus/pci/devices") else { return };
    assert_eq!(Sysfs::new("/").functions().unwrap().len(), directory.count());
}
