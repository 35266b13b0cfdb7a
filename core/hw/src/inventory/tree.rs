//! A made-up host for tests: sysfs, procfs and device nodes in a directory, and a kernel that reacts to what is written there.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{Control, Sysfs};
use crate::PciAddress;

pub(crate) const NVME: &str = "0000:03:00.0";

/// The host. Its functions sit in `sys/devices/pci0000:00`, and everything else links there, as in a real one.
pub(crate) struct Tree {
    root: tempfile::TempDir,
    kernel: Arc<FakeKernel>,
}

/// What the kernel does when it is told to bind and unbind.
struct FakeKernel {
    root: PathBuf,
    /// Writes that fail, by the end of their path, and how often still.
    failing: Mutex<Vec<(String, u32)>>,
    /// Everything written.
    written: Mutex<Vec<String>>,
}

impl Tree {
    /// A host with the driver vfio-pci, and nothing mounted.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_owned();
        let kernel = FakeKernel { root: path, failing: Mutex::default(), written: Mutex::default() };
        let tree = Self { root, kernel: Arc::new(kernel) };
        for directory in
            ["sys/bus/pci/devices", "sys/bus/pci/drivers/vfio-pci", "sys/class/block", "sys/class/net", "dev"]
        {
            fs::create_dir_all(tree.path(directory)).unwrap();
        }
        tree.write("proc/self/mountinfo", "22 1 0:20 / / rw shared:1 - tmpfs tmpfs rw\n");
        tree.write("proc/swaps", "Filename Type Size Used Priority\n");
        tree
    }

    /// A host with one NVMe controller, alone in group 12 and bound to its driver, with a namespace of two partitions.
    pub(crate) fn with_nvme() -> Self {
        let tree = Self::new();
        tree.function(NVME, 0x01_0802, Some("nvme"), Some(12));
        tree.block(NVME, "nvme/nvme0/nvme0n1", "259:0");
        tree.block(NVME, "nvme/nvme0/nvme0n1/nvme0n1p1", "259:1");
        tree.block(NVME, "nvme/nvme0/nvme0n1/nvme0n1p2", "259:2");
        tree
    }

    pub(crate) fn sysfs(&self) -> Sysfs {
        Sysfs::with_control(self.root.path(), self.kernel.clone())
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    pub(crate) fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn append(&self, below: &str, line: &str) {
        let text = fs::read_to_string(self.path(below)).unwrap();
        self.write(below, &format!("{text}{line}\n"));
    }

    pub(crate) fn link(&self, below: &str, target: impl AsRef<Path>) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.path("").join(target), path).unwrap();
    }

    pub(crate) fn function(&self, address: &str, class: u32, driver: Option<&str>, group: Option<u32>) {
        let device = format!("sys/devices/pci0000:00/{address}");
        self.write(&format!("{device}/vendor"), "0x1b36\n");
        self.write(&format!("{device}/device"), "0x0010\n");
        self.write(&format!("{device}/class"), &format!("{class:#08x}\n"));
        self.write(&format!("{device}/numa_node"), "1\n");
        self.write(&format!("{device}/driver_override"), "(null)\n");
        self.link(&format!("sys/bus/pci/devices/{address}"), &device);
        if let Some(driver) = driver {
            // Which driver would take it: a real kernel finds that in its tables.
            self.write(&format!("{device}/native"), driver);
            fs::create_dir_all(self.path(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
            self.link(&format!("{device}/driver"), format!("sys/bus/pci/drivers/{driver}"));
        }
        if let Some(group) = group {
            let group = format!("sys/kernel/iommu_groups/{group}");
            self.link(&format!("{device}/iommu_group"), &group);
            self.link(&format!("{group}/devices/{address}"), &device);
        }
    }

    /// A block device at `below` the function's directory.
    pub(crate) fn block(&self, address: &str, below: &str, number: &str) {
        let device = format!("sys/devices/pci0000:00/{address}/{below}");
        let name = Path::new(below).file_name().unwrap().to_str().unwrap();
        self.write(&format!("{device}/dev"), &format!("{number}\n"));
        self.link(&format!("sys/class/block/{name}"), &device);
        self.write(&format!("dev/{name}"), "");
    }

    /// Has the next writes to paths that end in `path_end` fail.
    pub(crate) fn fail(&self, path_end: &str, times: u32) {
        self.kernel.failing.lock().unwrap().push((path_end.to_owned(), times));
    }

    /// What was written since the last call: ends of paths, and texts.
    pub(crate) fn written(&self) -> Vec<String> {
        std::mem::take(&mut *self.kernel.written.lock().unwrap())
    }

    pub(crate) fn driver_of(&self, address: &str) -> Option<String> {
        self.sysfs().driver(address.parse::<PciAddress>().unwrap()).unwrap()
    }

    pub(crate) fn override_of(&self, address: &str) -> String {
        let file = self.path("sys/bus/pci/devices").join(address).join("driver_override");
        fs::read_to_string(file).unwrap().trim().to_owned()
    }
}

impl FakeKernel {
    /// Binds the function at `address` to `driver` if that driver is there and would take it.
    fn bind(&self, address: &str, driver: &str) -> io::Result<()> {
        let device = self.root.join("sys/bus/pci/devices").join(address);
        let target = self.root.join("sys/bus/pci/drivers").join(driver);
        let wanted =
            |file: &str| fs::read_to_string(device.join(file)).is_ok_and(|text| text.trim() == driver);
        let overridden = !fs::read_to_string(device.join("driver_override"))?.starts_with("(null)");
        let takes = if overridden { wanted("driver_override") } else { wanted("native") };
        if device.join("driver").exists() || !target.exists() || !takes {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        self.fails(&format!("{driver} takes it"))?;
        symlink(target, device.join("driver"))
    }

    fn fails(&self, path: &str) -> io::Result<()> {
        let mut failing = self.failing.lock().unwrap();
        match failing.iter_mut().find(|(end, times)| path.ends_with(end.as_str()) && *times > 0) {
            Some((_, times)) => {
                *times -= 1;
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            None => Ok(()),
        }
    }
}

impl Control for FakeKernel {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let name = path.file_name().unwrap().to_str().unwrap();
        self.written.lock().unwrap().push(format!("{name} {}", text.trim()));
        self.fails(path.to_str().unwrap())?;
        let parent = path.parent().unwrap();
        match name {
            "driver_override" => fs::write(path, if text == "\n" { "(null)\n" } else { text }),
            "unbind" => fs::remove_file(parent),
            "bind" => self.bind(text, parent.file_name().unwrap().to_str().unwrap()),
            "drivers_probe" => {
                let device = self.root.join("sys/bus/pci/devices").join(text);
                for file in ["driver_override", "native"] {
                    let driver = fs::read_to_string(device.join(file)).unwrap_or_default();
                    // That no driver takes it is not an error of probing.
                    if self.bind(text, driver.trim()).is_ok() {
                        break;
                    }
                }
                Ok(())
            }
            _ => Err(io::Error::from_raw_os_error(libc::EACCES)),
        }
    }
}
