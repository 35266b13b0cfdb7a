//! Taking stock: which PCI functions there are, who drives them, and what would break if they were taken.
//!
//! Everything is read from sysfs and procfs under a root of the caller's choice, and nothing is changed. What cannot be
//! read is an error that names the file, never an omission (S1): an owner that was overlooked is data lost.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vfiomux_spec::pci;

use crate::{Class, HwError, PciAddress};

mod holder;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod tree;

pub use holder::{Holder, Use};

/// A PCI function, as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionInfo {
    /// Where it sits.
    pub address: PciAddress,
    /// PCI vendor.
    pub vendor: u16,
    /// PCI device.
    pub device: u16,
    /// What it is.
    pub class: pci::Class,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// The IOMMU group that it belongs to. None where no IOMMU confines it.
    pub group: Option<Group>,
    /// The NUMA node that it is attached to, where the firmware tells.
    pub numa_node: Option<u32>,
    /// The physical function that it is a virtual function of.
    pub physical_function: Option<PciAddress>,
    /// What of the host depends on it.
    pub holders: Vec<Holder>,
}

impl FunctionInfo {
    /// A function of which nothing is known but its address.
    #[cfg(test)]
    pub(crate) fn bare(address: PciAddress) -> Self {
        Self {
            address,
            vendor: 0,
            device: 0,
            class: pci::Class::from_u24(0),
            driver: None,
            group: None,
            numa_node: None,
            physical_function: None,
            holders: Vec::new(),
        }
    }
}

/// An IOMMU group: the functions that the IOMMU cannot tell apart, and which are therefore owned together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: u32,
    /// Whether an IOMMU is behind it. VFIO's no-IOMMU mode makes up groups that confine nothing.
    pub protected: bool,
    /// The other functions in it.
    pub members: Vec<Member>,
}

impl Group {
    /// The members that keep the group from being owned, as text: those that a driver of the host uses.
    #[must_use]
    pub fn in_the_way(&self) -> Vec<String> {
        let in_the_way = |member: &&Member| match member.driver.as_deref() {
            None | Some(crate::bind::VFIO_PCI | "pci-stub" | "pcieport") => false,
            Some(_) => !member.bridge,
        };
        let text = |member: &Member| {
            format!("{} ({})", member.address, member.driver.as_deref().unwrap_or("no driver"))
        };
        self.members.iter().filter(in_the_way).map(text).collect()
    }
}

/// Another function of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it sits.
    pub address: PciAddress,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// Whether it is a bridge, which VFIO lets its driver keep.
    pub bridge: bool,
}

impl From<pci::Class> for Class {
    fn from(class: pci::Class) -> Self {
        match class {
            pci::Class::NVME => Self::Nvme,
            pci::Class { base: 0x02, .. } => Self::Network,
            pci::Class { base, sub, interface } => Self::Other(u32::from_be_bytes([0, base, sub, interface])),
        }
    }
}

/// Writes to files by which the kernel is told to do something.
pub(crate) trait Control: Send + Sync {
    /// Writes `text` to an existing file. Returns when the kernel has done what it says.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;
}

/// The running kernel.
struct Kernel;

impl Control for Kernel {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        use io::Write;
        fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
    }
}

/// The host's sysfs, procfs and device nodes.
#[derive(Clone)]
pub struct Sysfs {
    root: PathBuf,
    control: Arc<dyn Control>,
}

impl std::fmt::Debug for Sysfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sysfs").field(&self.root).finish()
    }
}

impl Sysfs {
    /// The trees `sys`, `proc` and `dev` below `root`: `/` but for tests.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_control(root, Arc::new(Kernel))
    }

    pub(crate) fn with_control(root: impl Into<PathBuf>, control: Arc<dyn Control>) -> Self {
        Self { root: root.into(), control }
    }

    /// Every PCI function, in the order of addresses.
    pub fn functions(&self) -> Result<Vec<FunctionInfo>, HwError> {
        let mut addresses = Vec::new();
        let devices = self.devices();
        // A host without PCI has no such directory, and no functions.
        for name in self.list(&devices)?.unwrap_or_default() {
            let address = name.parse().map_err(|error| unreadable(&devices, io::Error::other(error)))?;
            addresses.push(address);
        }
        addresses.sort_unstable();
        let mut functions = Vec::with_capacity(addresses.len());
        for address in addresses {
            match self.function(address) {
                // Unplugged since it was listed.
                Err(HwError::NotFound { .. }) => {}
                function => functions.push(function?),
            }
        }
        Ok(functions)
    }

    /// The function at `address`.
    pub fn function(&self, address: PciAddress) -> Result<FunctionInfo, HwError> {
        let path = self.function_path(address);
        if !path.exists() {
            return Err(HwError::NotFound { function: address.to_string() });
        }
        let narrow = |name: &str| {
            let value = self.number(&path.join(name))?;
            u16::try_from(value).map_err(|_| unreadable(&path.join(name), io::ErrorKind::InvalidData.into()))
        };
        Ok(FunctionInfo {
            address,
            vendor: narrow("vendor")?,
            device: narrow("device")?,
            class: pci::Class::from_u24(self.number(&path.join("class"))?),
            driver: self.driver(address)?,
            group: self.group(address)?,
            numa_node: self.numa_node(&path)?,
            physical_function: self.physical_function(&path)?,
            holders: self.holders(address)?,
        })
    }

    /// The driver that the function at `address` is bound to.
    pub fn driver(&self, address: PciAddress) -> Result<Option<String>, HwError> {
        Ok(self.link(&self.function_path(address).join("driver"))?.as_deref().and_then(name_of))
    }

    /// The directory of a function.
    #[must_use]
    pub fn function_path(&self, address: PciAddress) -> PathBuf {
        self.devices().join(address.to_string())
    }

    fn devices(&self) -> PathBuf {
        self.path("sys/bus/pci/devices")
    }

    fn group(&self, address: PciAddress) -> Result<Option<Group>, HwError> {
        let link = self.function_path(address).join("iommu_group");
        let Some(target) = self.link(&link)? else { return Ok(None) };
        let id = name_of(&target).and_then(|name| name.parse().ok());
        let id = id.ok_or_else(|| unreadable(&link, io::ErrorKind::InvalidData.into()))?;
        // VFIO names the groups that it makes up (vfio_main.c); those of an IOMMU have no name, or one of the driver's.
        let name = self.text(&link.join("name"))?;
        let mut members = Vec::new();
        for name in self.list(&link.join("devices"))?.unwrap_or_default() {
            // Groups hold devices of other buses too; those are not PCI functions and not ours to judge.
            let Ok(other) = name.parse::<PciAddress>() else { continue };
            if other != address {
                let class = pci::Class::from_u24(self.number(&self.function_path(other).join("class"))?);
                members.push(Member {
                    address: other,
                    driver: self.driver(other)?,
                    bridge: class.base == 0x06,
                });
            }
        }
        members.sort_unstable_by_key(|member| member.address);
        Ok(Some(Group { id, protected: name.as_deref() != Some("vfio-noiommu"), members }))
    }

    fn numa_node(&self, function: &Path) -> Result<Option<u32>, HwError> {
        // -1 where the firmware does not tell; no file in kernels without NUMA.
        let text = self.text(&function.join("numa_node"))?;
        Ok(text.and_then(|node| node.parse().ok()))
    }

    fn physical_function(&self, function: &Path) -> Result<Option<PciAddress>, HwError> {
        let target = self.link(&function.join("physfn"))?;
        Ok(target.as_deref().and_then(name_of).and_then(|name| name.parse().ok()))
    }

    /// Writes to a control file of the kernel.
    pub(crate) fn control(&self, path: &Path, text: &str) -> io::Result<()> {
        self.control.write(path, text)
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The names in a directory; none where there is no such directory.
    fn list(&self, directory: &Path) -> Result<Option<Vec<String>>, HwError> {
        let Some(entries) = present(directory, fs::read_dir(directory))? else { return Ok(None) };
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let names: io::Result<Vec<String>> = entries.map(name).collect();
        let mut names = names.map_err(|source| unreadable(directory, source))?;
        names.sort_unstable();
        Ok(Some(names))
    }

    /// What a file says, without white space around it; none where there is no such file.
    fn text(&self, file: &Path) -> Result<Option<String>, HwError> {
        Ok(present(file, fs::read_to_string(file))?.map(|text| text.trim().to_owned()))
    }

    /// Where a link leads; none where there is no such link.
    fn link(&self, link: &Path) -> Result<Option<PathBuf>, HwError> {
        present(link, fs::read_link(link))
    }

    /// The number in a file that must be there: hexadecimal with `0x` before it, or decimal.
    fn number(&self, file: &Path) -> Result<u32, HwError> {
        let text = self.text(file)?.ok_or_else(|| unreadable(file, io::ErrorKind::NotFound.into()))?;
        let number = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.map_err(|error| unreadable(file, io::Error::new(io::ErrorKind::InvalidData, error)))
    }
}

/// A missing file is an answer; one that cannot be read is an error.
fn present<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, HwError> {
    match result {
        Ok(value) => Ok(Some(value)),
        // ENODEV: sysfs's word for a file whose device has gone since it was opened.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) =>
        {
            Ok(None)
        }
        Err(source) => Err(unreadable(path, source)),
    }
}

fn unreadable(path: &Path, source: io::Error) -> HwError {
    HwError::Unreadable { path: path.to_owned(), source }
}

fn name_of(path: &Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}
