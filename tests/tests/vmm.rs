//! A real VMM, QEMU, with a real kernel in it, uses channels of a daemon on the host as its disks.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vfiomux_tests::daemon::Vfiomuxd;
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

/// A disk that is there from the start, and whose back-end may come and go.
fn disk(socket: &Path, queues: u16) -> String {
    format!(
        "-chardev socket,id=disk,path={},reconnect=1 -device vhost-user-blk-pci,chardev=disk,num-queues={queues}",
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
    let daemon = Vfiomuxd::start(vm.directory(), &["sim:nvme,size=1G"]);
    let socket = daemon.create_channel("a", "sim0", "alice", 256, 2);

    let vm = vm.arguments(&disk(&socket, 2));
    assert_eq!(vm.run(|_| Ok(())).value("verified"), Some("13 files"));
    daemon.terminate();
}

#[test]
fn every_kind_of_request_does_what_it_says_on_both_queues() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = disk_guest(&lab, "disk-io.sh").variable("DISK", "vda").variable("QUEUES", "2");
    let vm = machine(&lab, guest);
    let daemon = Vfiomuxd::start(vm.directory(), &["sim:nvme,size=256M,lba=4096,mdts=3"]);
    let socket = daemon.create_channel("a", "sim0", "alice", 64, 2);

    let vm = vm.arguments(&disk(&socket, 2));
    assert_eq!(vm.run(|_| Ok(())).lines, ["direct", "queues", "write zeroes", "discard"]);
    let counters = &daemon.ctl_json(&["channel", "show", "a"])["counters"];
    assert!(counters["write_zeroes_ops"] != 0 && counters["discard_ops"] != 0, "{counters}");
    assert_eq!(counters["error_ops"], 0, "{counters}");
}

#[test]
fn a_disk_is_plugged_and_unplugged_while_another_is_at_work() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest =
        disk_guest(&lab, "disk-hotplug.sh").variable("DISK", "vda").variable("HOTPLUGGED_DISK", "vdb");
    let vm = machine(&lab, guest);
    let daemon = Vfiomuxd::start(vm.directory(), &["sim:nvme,size=256M"]);
    let stays = daemon.create_channel("stays", "sim0", "alice", 64, 1);
    let comes_and_goes = daemon.create_channel("plugged", "sim0", "alice", 64, 1);

    let vm = vm.arguments("-device pcie-root-port,id=port0,chassis=1,slot=1").arguments(&disk(&stays, 1));
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

#[test]
fn a_guest_outlives_a_crash_of_the_daemon() {
    let Some(lab) = Lab::find_or_skip() else { return };
    let guest = disk_guest(&lab, "disk-restart.sh").variable("DISK", "vda");
    let vm = machine(&lab, guest);
    let image = vm.directory().join("nvme.img");
    let spec = format!("sim:nvme,size=256M,file={}", image.display());
    let directory = vm.directory().to_owned();
    let mut daemon = Some(Vfiomuxd::start(&directory, &[&spec]));
    let socket = daemon.as_ref().expect("just started").create_channel("a", "sim0", "alice", 64, 1);

    let vm = vm.arguments(&disk(&socket, 1));
    let report = vm.run(|vm| {
        vm.wait_for("crash")?;
        daemon.take().expect("running").kill();
        daemon = Some(Vfiomuxd::start(&directory, &[&spec]));
        vm.wait_for("written")?;
        Ok(())
    });
    assert_eq!(report.lines.last().map(String::as_str), Some("verified"));
}
