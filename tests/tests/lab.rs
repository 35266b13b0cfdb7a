//! The VFIO lab: a guest whose machine has an emulated IOMMU and emulated NVMe controllers, in which a real kernel's vfio-pci is used
//! by the programs under test.

use std::fs::File;
use std::time::Duration;

use vfiomux_tests::initramfs::Initramfs;
use vfiomux_tests::lab::Lab;
use vfiomux_tests::vm::VmBuilder;

/// Where the first device on the command line of a q35 machine without defaults lands.
const FIRST_ADDRESS: &str = "0000:00:01.0";

/// A guest with VFIO that runs `script`.
fn vfio_guest(lab: &Lab, script: &str) -> Initramfs {
    let mut guest = Initramfs::new(lab, script).expect("the lab's kit is readable");
    for module in ["vfio_iommu_type1", "vfio-pci"] {
        guest = guest.module(module).expect("the kernel's package has the module");
    }
    guest
}

/// A machine with an IOMMU. `iommu` has the options of its device.
fn machine(lab: &Lab, guest: Initramfs, iommu: &str) -> VmBuilder {
    VmBuilder::new(lab, guest)
        .expect("a machine's directory")
        .machine("q35,kernel-irqchip=split")
        .memory_mib(1024)
        .kernel_parameter("intel_iommu=on")
        .arguments(&format!("-device intel-iommu,{iommu}"))
        .deadline(Duration::from_secs(120))
}

/// Arguments that add an image for a controller or a namespace, as drive `id`.
fn image(vm: &VmBuilder, id: &str, size_mib: u64) -> String {
    let path = vm.directory().join(format!("{id}.img"));
    let file = File::create(&path).expect("an image in the machine's own directory");
    file.set_len(size_mib << 20).expect("a sparse image");
    format!("-drive file={},if=none,id={id},format=raw,discard=unmap", path.display())
}

#[test]
fn the_lab_itself_gives_a_controller_to_vfio_in_a_group_of_its_own() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = vfio_guest(&lab, "vfio-bind.sh").variable("ADDRESS", FIRST_ADDRESS);
    let vm = machine(&lab, guest, "intremap=on");
    let disk = image(&vm, "n0", 64);

    let report = vm.arguments(&disk).arguments("-device nvme,drive=n0,serial=lab,addr=01.0").run(|_| Ok(()));
    assert_eq!(report.value("members"), Some("1"));
}
