//! A real VMM, QEMU, with a real kernel in it, uses vhost-user disks that are served on the host.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vfiomux_tests::backend::{Backend, QemuStorageDaemon};
use vfiomux_tests::initramfs::Initramfs;
use vfiomux_tests::lab::Lab;
use vfiomux_tests::vm::VmBuilder;

/// A guest with the drivers of a virtio disk and of a filesystem, that runs `script`.
fn disk_guest(lab: &Lab, script: &str) -> Initramfs {
    let mut guest = Initramfs::new(lab, script).expect("the lab's kit is readable");
    for module in ["crc32c_generic", "ext4", "virtio_pci", "virtio_blk"] {
        guest = guest.module(module).expect("the kernel's package has the module");
    }
    for program in ["/sbin/mke2fs", "/sbin/blkdiscard"] {
        guest = guest.program(Path::new(program)).expect("e2fsprogs and util-linux are installed");
    }
    guest
}

/// A machine whose memory a back-end can share, with the script's disks left to be added.
fn machine(lab: &Lab, guest: Initramfs) -> VmBuilder {
    VmBuilder::new(lab, guest)
        .expect("a machine's directory")
        .machine("q35,memory-backend=memory")
        .arguments("-object memory-backend-memfd,id=memory,size=512M,share=on")
        .deadline(Duration::from_secs(90))
}

/// A disk that is there from the start.
fn disk(id: &str, socket: &Path, queues: u16) -> String {
    format!(
        "-chardev socket,id={id},path={} -device vhost-user-blk-pci,chardev={id},id=disk-{id},num-queues={queues}",
        socket.display()
    )
}

#[test]
fn a_filesystem_on_a_disk_with_two_queues_keeps_its_files() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = disk_guest(&lab, "disk-filesystem.sh")
        .variable("DISK", "vda")
        .variable("QUEUES", "2")
        .variable("SIZE_SECTORS", &(256 << 11).to_string());
    let vm = machine(&lab, guest);
    let mut backend = QemuStorageDaemon::new(vm.directory());
    let socket = backend.create_disk("a", 256, 2);

    let report = vm.arguments(&disk("a", &socket, 2)).run(|_| Ok(()));
    assert_eq!(report.value("verified"), Some("13 files"));
}

#[test]
fn every_kind_of_request_does_what_it_says_on_both_queues() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = disk_guest(&lab, "disk-io.sh").variable("DISK", "vda").variable("QUEUES", "2");
    let vm = machine(&lab, guest);
    let mut backend = QemuStorageDaemon::new(vm.directory());
    let socket = backend.create_disk("a", 64, 2);

    let report = vm.arguments(&disk("a", &socket, 2)).run(|_| Ok(()));
    assert_eq!(report.lines, ["direct", "queues", "write zeroes", "discard"]);
}

#[test]
fn a_disk_is_plugged_and_unplugged_while_another_is_at_work() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest =
        disk_guest(&lab, "disk-hotplug.sh").variable("DISK", "vda").variable("HOTPLUGGED_DISK", "vdb");
    let vm = machine(&lab, guest);
    let mut backend = QemuStorageDaemon::new(vm.directory());
    let stays = backend.create_disk("stays", 64, 1);
    let comes_and_goes = backend.create_disk("plugged", 64, 1);

    let vm =
        vm.arguments("-device pcie-root-port,id=port0,chassis=1,slot=1").arguments(&disk("stays", &stays, 1));
    let report = vm.run(|vm| {
        let deadline = vm.deadline();
        for _ in 0..2 {
            vm.wait_for("plug ")?;
            let socket = json!({
                "type": "socket",
                "data": { "addr": { "type": "unix", "data": { "path": comes_and_goes } }, "server": false },
            });
            vm.qmp().execute("chardev-add", json!({ "id": "plugged", "backend": socket }))?;
            vm.qmp().execute(
                "device_add",
                json!({ "driver": "vhost-user-blk-pci", "id": "disk-plugged", "chardev": "plugged", "num-queues": 1,
                        "bus": "port0" }),
            )?;
            vm.wait_for("unplug ")?;
            vm.qmp().execute("device_del", json!({ "id": "disk-plugged" }))?;
            vm.qmp().wait_until_deleted("disk-plugged", deadline)?;
            vm.qmp().execute("chardev-remove", json!({ "id": "plugged" }))?;
        }
        Ok(())
    });
    assert!(report.value("bystander").is_some_and(|rounds| rounds != "0"));
}
