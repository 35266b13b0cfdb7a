//! The VFIO lab: a guest whose machine has an emulated IOMMU and emulated NVMe controllers, in which a real kernel's vfio-pci is used
//! by the programs under test.

use vfiomux_tests::lab::Lab;
use vfiomux_tests::vfio::{ADDRESSES, VfioMachine, vfio_guest};

#[test]
fn the_lab_itself_gives_a_controller_to_vfio_in_a_group_of_its_own() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = vfio_guest(&lab, "vfio-bind.sh").expect("the lab's kit").variable("ADDRESS", ADDRESSES[0]);
    let machine = VfioMachine::new(&lab, guest, "intremap=on")
        .and_then(|machine| machine.controller("", &[(64, "")]))
        .expect("a machine's directory")
        .build();

    let report = machine.run(|_| Ok(()));
    assert_eq!(report.value("members"), Some("1"));
}
