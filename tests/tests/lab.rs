//! The VFIO lab: a guest whose machine has an emulated IOMMU and emulated NVMe controllers, in which the programs under test use a real
//! kernel's vfio-pci.

use serde_json::json;
use vfiomux_tests::lab::Lab;
use vfiomux_tests::vfio::{ADDRESSES, REMOVABLE_ADDRESS, VfioMachine, daemon_guest, vfio_guest};

const IOMMU: &str = "intremap=on,aw-bits=48";

#[test]
fn the_lab_itself_gives_a_controller_to_vfio_in_a_group_of_its_own() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = vfio_guest(&lab, "vfio-bind.sh").expect("the lab's kit").variable("ADDRESS", ADDRESSES[0]);
    let machine = VfioMachine::new(&lab, guest, IOMMU)
        .and_then(|machine| machine.controller("", &[(64, "")]))
        .expect("a machine's directory")
        .build();
    let report = machine.run(|_| Ok(()));
    assert_eq!(report.value("members"), Some("1"));
}

/// One kind of machine that the daemon must get along with.
struct Hardware {
    iommu: &'static str,
    /// Options of the controller.
    controller: &'static str,
    /// Size in MiB and options of each namespace.
    namespaces: &'static [(u64, &'static str)],
    /// Virtqueues of each channel.
    queues: &'static str,
    /// How the load cuts its buffers.
    segments: &'static str,
}

/// From claim to release: see `tests/lab/guest/vfio-channels.sh`.
#[track_caller]
fn a_controller_serves_two_tenants(hardware: &Hardware) {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = daemon_guest(&lab, "vfio-channels.sh")
        .expect("the lab's kit")
        .variable("ADDRESS", ADDRESSES[0])
        .variable("QUEUES", hardware.queues)
        .variable("CHANNEL_SIZE", "16M")
        .variable("OPERATIONS", "300")
        .variable("SEGMENTS", hardware.segments);
    let machine = VfioMachine::new(&lab, guest, hardware.iommu)
        .and_then(|machine| machine.controller(hardware.controller, hardware.namespaces))
        .expect("a machine's directory")
        .build();
    let report = machine.run(|_| Ok(()));
    assert_eq!(report.lines, ["carved", "verified", "restarted", "scrubbed", "released"]);
    eprintln!("{:.1} s", report.took.as_secs_f32());
}

#[test]
fn a_usual_controller_serves_two_tenants() {
    a_controller_serves_two_tenants(&Hardware {
        iommu: "intremap=on,aw-bits=48",
        controller: ",max_ioqpairs=8",
        namespaces: &[(64, ",logical_block_size=512")],
        queues: "2",
        segments: "sectors",
    });
}

#[test]
fn a_controller_with_4096_byte_blocks_serves_two_tenants() {
    a_controller_serves_two_tenants(&Hardware {
        iommu: "intremap=on,aw-bits=39",
        controller: ",max_ioqpairs=8",
        namespaces: &[(64, ",logical_block_size=4096,physical_block_size=4096")],
        queues: "2",
        segments: "odd",
    });
}

#[test]
fn a_controller_with_a_single_queue_pair_and_small_transfers_serves_two_tenants() {
    a_controller_serves_two_tenants(&Hardware {
        iommu: "intremap=on,aw-bits=39",
        controller: ",max_ioqpairs=1,mdts=2,msix_qsize=2",
        namespaces: &[(64, ",logical_block_size=512")],
        queues: "1",
        segments: "sectors",
    });
}

#[test]
fn a_controller_with_several_small_namespaces_serves_two_tenants() {
    a_controller_serves_two_tenants(&Hardware {
        iommu: "intremap=on,aw-bits=48",
        controller: ",max_ioqpairs=4,mdts=5",
        // Neither has room for both channels.
        namespaces: &[
            (24, ",logical_block_size=512"),
            (24, ",logical_block_size=4096,physical_block_size=4096"),
        ],
        queues: "2",
        segments: "odd",
    });
}

#[test]
fn what_is_in_use_is_not_taken_and_what_holds_data_is_not_overwritten() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest =
        daemon_guest(&lab, "vfio-refusals.sh").expect("the lab's kit").variable("ADDRESS", ADDRESSES[0]);
    let machine = VfioMachine::new(&lab, guest, IOMMU)
        .and_then(|machine| machine.controller("", &[(64, "")]))
        .expect("a machine's directory")
        .build();
    let report = machine.run(|_| Ok(()));
    assert_eq!(report.lines, ["refused"]);
}

#[test]
fn a_machine_without_interrupt_remapping_is_refused_with_the_reason() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest =
        daemon_guest(&lab, "vfio-unsafe.sh").expect("the lab's kit").variable("ADDRESS", ADDRESSES[0]);
    let machine = VfioMachine::new(&lab, guest, "intremap=off")
        .and_then(|machine| machine.controller("", &[(64, "")]))
        .expect("a machine's directory")
        .build();
    let report = machine.run(|_| Ok(()));
    let reason = report.value("said").unwrap_or_default();
    assert!(reason.contains("interrupt remapping") && reason.contains("firmware"), "{reason}");
}

#[test]
fn a_controller_that_is_pulled_out_under_load_ends_in_a_defined_state_and_can_come_back() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = daemon_guest(&lab, "vfio-loss.sh")
        .expect("the lab's kit")
        .variable("ADDRESS", REMOVABLE_ADDRESS)
        .variable("COMES_BACK", "yes");
    let machine = VfioMachine::new(&lab, guest, IOMMU)
        .and_then(|machine| machine.removable_controller("", 64))
        .expect("a machine's directory")
        .build();
    let report = machine.run(|vm| {
        let deadline = vm.deadline();
        vm.wait_for("lose it")?;
        vm.qmp().execute("device_del", json!({ "id": "nvme1" }))?;
        vm.qmp().wait_until_deleted("nvme1", deadline)?;
        vm.wait_for("lost")?;
        let controller =
            json!({ "driver": "nvme", "id": "nvme1", "serial": "lab-1", "bus": "port1", "drive": "image1" });
        vm.qmp().execute("device_add", controller)?;
        Ok(())
    });
    assert_eq!(report.lines.last().map(String::as_str), Some("back"));
}

#[test]
fn a_controller_that_reports_a_fatal_error_under_load_ends_in_a_defined_state() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = daemon_guest(&lab, "vfio-loss.sh")
        .expect("the lab's kit")
        .variable("ADDRESS", REMOVABLE_ADDRESS)
        .variable("COMES_BACK", "no");
    let machine = VfioMachine::new(&lab, guest, IOMMU)
        .and_then(|machine| machine.removable_controller("", 64))
        .expect("a machine's directory")
        .build();
    let report = machine.run(|vm| {
        vm.wait_for("lose it")?;
        vm.qmp().human("pcie_aer_inject_error port1 MALF_TLP")?;
        Ok(())
    });
    assert!(report.lines.last().is_some_and(|line| line.starts_with("lost")));
}
