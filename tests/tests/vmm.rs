//! A real VMM, QEMU, with a real kernel in it, uses vhost-user disks that are served on the host.

use std::path::Path;
use std::time::Duration;

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
    guest.program(Path::new("/sbin/mke2fs")).expect("e2fsprogs is installed")
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
    eprintln!("{report:?}");
    assert_eq!(report.value("verified"), Some("13 files"));
}
