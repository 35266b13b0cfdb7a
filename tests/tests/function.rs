//! The `hw` crate on a real kernel: claim and release, VFIO, unplugging and fatal errors.

use serde_json::json;
use vfiomux_tests::initramfs::Initramfs;
use vfiomux_tests::lab::{Lab, workspace_program};
use vfiomux_tests::vfio::{ADDRESSES, VfioMachine, vfio_guest};
use vfiomux_tests::vm::{Report, VmBuilder};

/// A guest that does `step` of `tests/lab/guest/function.sh` with the function at `address`.
fn guest(lab: &Lab, address: &str, step: &str) -> Initramfs {
    vfio_guest(lab, "function.sh")
        .and_then(|guest| guest.program(&workspace_program("vfiomux-probe")))
        .expect("the lab's kit and a program")
        .variable("ADDRESS", address)
        .variable("DRIVER", "nvme")
        .variable("STEP", step)
}

/// A machine with one controller in a slot of its own.
fn machine(lab: &Lab, step: &str, iommu: &str) -> VmBuilder {
    VfioMachine::new(lab, guest(lab, ADDRESSES[0], step), iommu)
        .and_then(|machine| machine.controller("", &[(64, "")]))
        .expect("a machine's directory")
        .build()
}

/// A machine with one controller behind a root port, from which it can be unplugged.
fn pluggable(lab: &Lab, step: &str) -> VmBuilder {
    let mut machine = VfioMachine::new(lab, guest(lab, "0000:01:00.0", step), "intremap=on")
        .expect("a machine's directory");
    let image = machine.image(64).expect("an image");
    machine
        .arguments("-device pcie-root-port,id=port0,chassis=1,slot=1")
        .arguments(&format!("-device nvme,id=nvme1,serial=lab-1,bus=port0,drive={image}"))
        .build()
}

#[track_caller]
fn assert_reported(report: &Report, expected: &[&str]) {
    let mut lines = report.lines.iter();
    for wanted in expected {
        assert!(
            lines.any(|line| line.contains(wanted)),
            "{wanted:?} was not reported, or not in this order:\n{}",
            report.lines.join("\n")
        );
    }
}

/// D4's other half is in the unit tests: this kernel always has an IOMMU.
fn claimed_used_and_given_back(iommu: &str, last_address: &str) {
    let Some(lab) = Lab::find_or_skip() else { return };
    let report = machine(&lab, "claim", iommu).run(|_| Ok(()));
    assert_reported(
        &report,
        &[
            "error: 0000:00:01.0 is bound to nvme; run vfiomuxctl device claim 0000:00:01.0",
            "error: 0000:00:01.0 is in use: nvme0n1 is swapped to",
            "(sleep)",
            "0000:00:01.0 claimed from nvme",
            "0000:00:01.0 claimed from vfio-pci",
            &format!("apertures: [0..=fedfffff, fef00000..={last_address}]"),
            "CAP 0x",
            "ledger: 2 mappings",
            "ledger: 0 mappings",
            "vectors: 65 on",
            "notices: removal true",
            "registers the same",
            "second open: 0000:00:01.0 is open in this process already",
            "closed: BAR reads 0xffffffff, gone true",
            "opened again: domains the same",
            "opened afresh: registers the same",
            "error: 0000:00:00.0 is a bridge",
            "error: there is no PCI function 0000:42:00.0",
        ],
    );
}

#[test]
fn a_function_is_claimed_used_and_given_back_under_a_48_bit_iommu() {
    claimed_used_and_given_back("intremap=on,aw-bits=48", "ffffffffffff");
}

#[test]
fn a_function_is_claimed_used_and_given_back_under_a_39_bit_iommu() {
    claimed_used_and_given_back("intremap=on,aw-bits=39", "7fffffffff");
}

#[test]
fn without_interrupt_remapping_a_function_is_refused_with_advice() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let report = machine(&lab, "refused", "intremap=off").run(|_| Ok(()));
    assert_reported(&report, &["modprobe vfio_iommu_type1 allow_unsafe_interrupts=1"]);
}

#[test]
fn the_functions_of_one_group_share_a_domain_and_are_closed_in_any_order() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let mut machine = VfioMachine::new(&lab, guest(&lab, ADDRESSES[0], "group"), "intremap=on")
        .expect("a machine's directory");
    // Functions of one device, which does not say that it keeps them apart, are one group.
    for function in 0..2 {
        let image = machine.image(64).expect("an image");
        let multifunction = if function == 0 { ",multifunction=on" } else { "" };
        machine = machine.arguments(&format!(
            "-device nvme,serial=lab-{function},drive={image},addr=01.{function}{multifunction}"
        ));
    }
    let report = machine.build().run(|_| Ok(()));
    assert_reported(
        &report,
        &[
            "with 0000:00:01.1 (nvme), which the host uses",
            "0000:00:01.0 claimed from nvme",
            "0000:00:01.1 claimed from no driver",
            "two of a group: domains the same",
            "one closed: the other's CAP 0x",
            "the other closed: memory at 0x",
            "both closed",
            "opened afresh",
        ],
    );
}

#[test]
fn an_unplugged_function_is_given_up_when_asked_and_then_gone() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let report = pluggable(&lab, "unplug").run(|vm| {
        let deadline = vm.deadline();
        vm.wait_for("waiting for removal")?;
        vm.qmp().execute("device_del", json!({ "id": "nvme1" }))?;
        Ok(vm.qmp().wait_until_deleted("nvme1", deadline)?)
    });
    assert_reported(
        &report,
        &[
            "removal requested",
            "unplugged; CAP reads 0xffffffffffffffff, gone true",
            "memory unmapped and freed",
        ],
    );
}

#[test]
fn a_fatal_error_is_heard_of() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let report = pluggable(&lab, "fail").run(|vm| {
        vm.wait_for("waiting for an error")?;
        vm.qmp().human("pcie_aer_inject_error port0 MALF_TLP")?;
        Ok(())
    });
    assert_reported(&report, &["error reported", "reset"]);
}
