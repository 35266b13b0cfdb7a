//! The `nvme` crate on controllers that somebody else emulates, through a real kernel's VFIO.

use vfiomux_tests::lab::{Lab, workspace_program};
use vfiomux_tests::vfio::{ADDRESSES, VfioMachine, vfio_guest};

/// Drives a controller with these options and namespaces; see `tests/src/bin/vfiomux-drive.rs`. DMA outside mappings fails the guest.
#[track_caller]
fn driven(controller: &str, namespaces: &[(u64, &str)], iommu: &str, expected: &[&str]) {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = vfio_guest(&lab, "controller.sh")
        .and_then(|guest| guest.program(&workspace_program("vfiomux-probe")))
        .and_then(|guest| guest.program(&workspace_program("vfiomux-drive")))
        .expect("the lab's kit and the programs")
        .variable("ADDRESS", ADDRESSES[0]);
    let machine = VfioMachine::new(&lab, guest, iommu)
        .and_then(|machine| machine.controller(controller, namespaces))
        .expect("a machine's directory")
        .build();
    let report = machine.run(|_| Ok(()));
    let all = report.lines.join("\n");
    let usual =
        ["slept some times", "woken for every", "ended under load", "reset, 0 queues lost", "shut down"];
    for wanted in expected.iter().chain(&usual) {
        assert!(all.contains(wanted), "{wanted:?} was not reported:\n{all}");
    }
}

#[test]
fn a_usual_controller_is_driven() {
    driven(
        "",
        &[(64, "")],
        "intremap=on,aw-bits=48",
        &[
            "queues 64 lanes 64",
            "transfer 524288 sgl true",
            "namespace 1 blocks of 512",
            "namespace 1 data verified",
        ],
    );
}

#[test]
fn a_controller_with_a_single_queue_pair_and_small_transfers_is_driven() {
    driven(
        ",max_ioqpairs=1,msix_qsize=2,mdts=2",
        &[(64, ",logical_block_size=4096,physical_block_size=4096")],
        "intremap=on,aw-bits=39",
        &["queues 1 lanes 1", "transfer 16384", "namespace 1 blocks of 4096", "namespace 1 data verified"],
    );
}

#[test]
fn namespaces_that_cannot_be_served_are_left_out_with_the_reason() {
    driven(
        ",mdts=5",
        &[
            (64, ",nsid=1"),
            (64, ",nsid=2,ms=8"),
            (64, ",nsid=3,zoned=on,zoned.zone_size=16M"),
            (32, ",nsid=5"),
        ],
        "intremap=on,aw-bits=48",
        &[
            "namespace 2 skipped: its blocks carry 8 bytes of metadata",
            "namespace 3 skipped: it is of I/O command set 2",
            "namespace 1 data verified",
            "namespace 5 data verified",
        ],
    );
}
