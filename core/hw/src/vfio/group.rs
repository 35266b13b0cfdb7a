//! Getting at a device through its IOMMU group, and saying what is in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioOps};

use super::container::ContainerIommu;
use super::handle::Handle;
use super::{VfioOptions, noiommu};
use crate::inventory::{FunctionInfo, Group, Sysfs};
use crate::{DmaDomain, HwError, PciAddress};

/// What the functions of one group share. The domain holds the container too, so one that is alive has both.
#[derive(Clone)]
struct Shared {
    container: Weak<VfioContainer>,
    domain: Weak<DmaDomain>,
}

/// What this process has open.
struct Open {
    /// By number. A group can be opened once only, so its functions must find one another.
    groups: BTreeMap<u32, Shared>,
    /// The kernel would open a function twice, and the second owner would reset it under the first.
    functions: BTreeSet<PciAddress>,
}

static OPEN: Mutex<Open> = Mutex::new(Open { groups: BTreeMap::new(), functions: BTreeSet::new() });

/// The right to have a function open; given back on drop.
pub(super) struct Sole(PciAddress);

impl Drop for Sole {
    fn drop(&mut self) {
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).functions.remove(&self.0);
    }
}

/// A function, opened.
pub(super) struct Opened {
    pub(super) handle: Handle,
    pub(super) domain: Arc<DmaDomain>,
    pub(super) sole: Sole,
}

/// Opens a function: its device descriptor, and the domain of its group.
pub(super) fn open(sysfs: &Sysfs, known: &FunctionInfo, options: VfioOptions) -> Result<Opened, HwError> {
    let function = || known.address.to_string();
    let Some(group) = known.group.as_ref().filter(|group| group.protected || options.allow_unsafe_noiommu)
    else {
        return Err(HwError::NoIommu { function: function() });
    };
    if known.driver.as_deref() != Some(crate::bind::VFIO_PCI) {
        return Err(HwError::NotClaimed { function: function(), driver: known.driver.clone() });
    }
    // Held until the group is in the table: two openers of one group must not both open it.
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if open.functions.contains(&known.address) {
        return Err(HwError::Refused(format!("{} is open in this process already", known.address)));
    }
    if !group.protected {
        let (handle, domain) = noiommu::open(known, group)?;
        open.functions.insert(known.address);
        return Ok(Opened { handle, domain, sole: Sole(known.address) });
    }
    let shared = open.groups.get(&group.id).and_then(|shared| {
        let domain = shared.domain.upgrade()?;
        Some((shared.container.upgrade()?, domain))
    });
    let container = match &shared {
        Some((container, _)) => container.clone(),
        None => Arc::new(VfioContainer::new(None).map_err(|error| explain(error, known, group))?),
    };
    let ops: Arc<dyn VfioOps> = container.clone();
    let path = sysfs.function_path(known.address);
    let device = VfioDevice::new(&path, ops, false).map_err(|error| explain(error, known, group))?;
    let handle = Handle::grouped(device);
    let domain = match shared {
        Some((_, domain)) => domain,
        None => {
            let step = "asking for the IOMMU's apertures";
            let iommu = ContainerIommu::new(container.clone()).map_err(|source| HwError::Step {
                function: function(),
                step,
                source,
            })?;
            let domain = DmaDomain::new(Box::new(iommu));
            let shared = Shared { container: Arc::downgrade(&container), domain: Arc::downgrade(&domain) };
            open.groups.insert(group.id, shared);
            domain
        }
    };
    open.functions.insert(known.address);
    Ok(Opened { handle, domain, sole: Sole(known.address) })
}

/// What a failure means to an operator. Called right after it: `vfio-ioctls` drops some errnos, which the thread still has.
fn explain(error: VfioError, known: &FunctionInfo, group: &Group) -> HwError {
    let dropped = io::Error::last_os_error();
    let function = known.address.to_string();
    let step = |step, source| HwError::Step { function: known.address.to_string(), step, source };
    let of = |errno: vmm_sys_util::errno::Error| io::Error::from_raw_os_error(errno.errno());
    let id = group.id;
    match error {
        VfioError::OpenContainer(source) => match source.kind() {
            io::ErrorKind::NotFound => HwError::Refused(format!(
                "{function} cannot be opened: /dev/vfio/vfio does not exist; load VFIO with modprobe vfio-pci"
            )),
            io::ErrorKind::PermissionDenied => HwError::Refused(format!(
                "{function} cannot be opened: no permission for /dev/vfio/vfio; run as root, or give this user access to \
                 /dev/vfio/vfio and /dev/vfio/{id}"
            )),
            _ => step("opening /dev/vfio/vfio", source),
        },
        VfioError::OpenGroup(source, _) => match source.kind() {
            io::ErrorKind::NotFound => HwError::NotClaimed { function, driver: known.driver.clone() },
            io::ErrorKind::PermissionDenied => HwError::Refused(format!(
                "{function} cannot be opened: no permission for /dev/vfio/{id}; run as root, or give this user access to it"
            )),
            io::ErrorKind::ResourceBusy => HwError::Refused(format!(
                "{function} is in use: another process has IOMMU group {id} open, a VM or another vfiomuxd; \
                 find it with fuser /dev/vfio/{id} and end it"
            )),
            _ => step("opening the IOMMU group", source),
        },
        VfioError::GroupViable => HwError::SharedGroup { function, group: id, members: group.in_the_way() },
        VfioError::GroupSetContainer => step("joining the IOMMU group to a container", dropped),
        VfioError::ContainerSetIOMMU(errno) if errno.errno() == libc::EPERM => HwError::Refused(format!(
            "{function} cannot be confined: the kernel finds no interrupt remapping, without which a device can forge \
             interrupts; enable it (in the firmware, and no intremap=off on the kernel's command line), or accept the risk with \
             modprobe vfio_iommu_type1 allow_unsafe_interrupts=1"
        )),
        VfioError::ContainerSetIOMMU(errno) => step("turning the IOMMU on for the group", of(errno)),
        VfioError::GroupGetDeviceFD(errno) => step("opening the device", of(errno)),
        VfioError::VfioDeviceGetInfo(errno) | VfioError::VfioDeviceGetRegionInfo(errno) => {
            step("asking for the device's regions", of(errno))
        }
        VfioError::VfioApiVersion | VfioError::VfioExtension => HwError::Refused(format!(
            "{function} cannot be opened: this kernel's VFIO has no type 1 IOMMU; load it with modprobe vfio_iommu_type1"
        )),
        other => step("opening the function", io::Error::other(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Member;

    fn explained(error: VfioError) -> String {
        let address = "0000:03:00.0".parse().unwrap();
        let member = |address: &str, driver: Option<&str>, bridge| Member {
            address: address.parse().unwrap(),
            driver: driver.map(str::to_owned),
            bridge,
        };
        let group = Group {
            id: 12,
            protected: true,
            members: vec![
                member("0000:03:00.1", Some("snd_hda_intel"), false),
                member("0000:00:1c.0", Some("pcieport"), true),
            ],
        };
        let known = FunctionInfo::bare(address);
        explain(error, &known, &group).to_string()
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let errno = vmm_sys_util::errno::Error::new;
        let os = |code| io::Error::from_raw_os_error(code);
        for (error, advice) in [
            (VfioError::OpenContainer(os(libc::ENOENT)), "modprobe vfio-pci"),
            (VfioError::OpenContainer(os(libc::EACCES)), "give this user access"),
            (VfioError::OpenGroup(os(libc::ENOENT), String::new()), "vfiomuxctl device claim 0000:03:00.0"),
            (VfioError::OpenGroup(os(libc::EACCES), String::new()), "/dev/vfio/12"),
            (VfioError::OpenGroup(os(libc::EBUSY), String::new()), "fuser /dev/vfio/12"),
            (VfioError::GroupViable, "0000:03:00.1 (snd_hda_intel)"),
            (VfioError::ContainerSetIOMMU(errno(libc::EPERM)), "allow_unsafe_interrupts=1"),
        ] {
            let text = explained(error);
            assert!(text.contains(advice) && text.contains("0000:03:00.0"), "{text}");
        }
    }

    /// D4: neither a function without a group, nor one whose group VFIO made up.
    #[test]
    fn a_function_that_no_iommu_confines_is_refused_unless_the_operator_insists() {
        let mut known = FunctionInfo::bare("0000:03:00.0".parse().unwrap());
        known.driver = Some("nvme".to_owned());
        let opened = |known: &FunctionInfo, allow_unsafe_noiommu| {
            let options = VfioOptions { allow_unsafe_noiommu };
            open(&Sysfs::new("/nonexistent"), known, options).err().unwrap()
        };
        assert!(matches!(opened(&known, false), HwError::NoIommu { .. }));
        known.group = Some(Group { id: 0, protected: false, members: Vec::new() });
        assert!(matches!(opened(&known, false), HwError::NoIommu { .. }));
        assert!(matches!(opened(&known, true), HwError::NotClaimed { .. }));
    }

    #[test]
    fn a_bridge_in_the_group_is_not_in_the_way() {
        assert!(!explained(VfioError::GroupViable).contains("1c.0"));
    }
}
