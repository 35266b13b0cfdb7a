//! Machines with an emulated IOMMU and NVMe controllers behind it, and guests that know VFIO.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::initramfs::Initramfs;
use crate::lab::{Lab, workspace_program};
use crate::vm::VmBuilder;

/// Where [`VfioMachine::controller`] puts its controllers: the first in slot 1, and so on.
pub const ADDRESSES: [&str; 4] = ["0000:00:01.0", "0000:00:02.0", "0000:00:03.0", "0000:00:04.0"];

/// Where the first [`VfioMachine::removable_controller`] of a machine without others is found.
pub const REMOVABLE_ADDRESS: &str = "0000:01:00.0";

/// A guest with the kernel's VFIO and NVMe drivers that runs a script of `tests/lab/guest`.
pub fn vfio_guest(lab: &Lab, script: &str) -> io::Result<Initramfs> {
    Initramfs::new(lab, script)?.module("vfio_iommu_type1")?.module("vfio-pci")?.module("nvme")
}

/// The same with the programs under test, and those that the scripts need.
pub fn daemon_guest(lab: &Lab, script: &str) -> io::Result<Initramfs> {
    let mut guest = vfio_guest(lab, script)?.module("crc32c_generic")?.module("ext4")?;
    for program in ["vfiomuxd", "vfiomuxctl", "vfiomux-check", "vfiomux-trace"] {
        guest = guest.program(&workspace_program(program))?;
    }
    guest.program(Path::new("/sbin/mke2fs"))
}

/// A machine whose IOMMU all devices are behind.
#[derive(Debug)]
pub struct VfioMachine {
    builder: VmBuilder,
    arguments: String,
    controllers: usize,
    images: usize,
}

impl VfioMachine {
    /// A machine without controllers. `iommu` has the options of the intel-iommu device.
    pub fn new(lab: &Lab, guest: Initramfs, iommu: &str) -> io::Result<VfioMachine> {
        let builder = VmBuilder::new(lab, guest)?
            .machine("q35,kernel-irqchip=split")
            .memory_mib(1024)
            .kernel_parameter("intel_iommu=on")
            .deadline(Duration::from_secs(120));
        Ok(VfioMachine {
            builder,
            arguments: format!("-device intel-iommu,{iommu}"),
            controllers: 0,
            images: 0,
        })
    }

    /// Adds a controller with these options of QEMU's and a namespace of its own for each entry: size in MiB, and QEMU's options.
    /// All options begin with a comma.
    pub fn controller(mut self, options: &str, namespaces: &[(u64, &str)]) -> io::Result<VfioMachine> {
        self.controllers += 1;
        let number = self.controllers;
        self.arguments +=
            &format!(" -device nvme,id=nvme{number},serial=lab-{number},addr={number:02x}.0{options}");
        for (size_mib, options) in namespaces {
            let drive = self.image(*size_mib)?;
            self.arguments += &format!(" -device nvme-ns,drive={drive},bus=nvme{number}{options}");
        }
        Ok(self)
    }

    /// Adds a controller that can be pulled out, on a root port of its own, with one namespace: `nvme1` behind `port1`, and so on.
    pub fn removable_controller(mut self, options: &str, size_mib: u64) -> io::Result<VfioMachine> {
        self.controllers += 1;
        let number = self.controllers;
        let image = self.image(size_mib)?;
        self.arguments += &format!(
            " -device pcie-root-port,id=port{number},chassis={number},slot={number},addr={number:02x}.0 \
             -device nvme,id=nvme{number},serial=lab-{number},bus=port{number},drive={image}{options}"
        );
        Ok(self)
    }

    /// Adds an empty image as a block node, and returns the node's name.
    pub fn image(&mut self, size_mib: u64) -> io::Result<String> {
        self.images += 1;
        let node = format!("image{}", self.images);
        let path = self.builder.directory().join(format!("{node}.raw"));
        File::create(&path)?.set_len(size_mib << 20)?;
        self.arguments +=
            &format!(" -blockdev driver=file,node-name={node},discard=unmap,filename={}", path.display());
        Ok(node)
    }

    /// Adds arguments to QEMU's command line, separated by white space.
    pub fn arguments(mut self, arguments: &str) -> VfioMachine {
        self.arguments += " ";
        self.arguments += arguments;
        self
    }

    /// The machine, complete.
    pub fn build(self) -> VmBuilder {
        self.builder.arguments(&self.arguments)
    }
}
