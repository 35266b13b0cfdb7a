//! Taking a function from the driver it is bound to, and giving it back.
//!
//! ```text
//!   claim:    refuse what is in use ─► driver_override = vfio-pci ─► unbind ─► drivers_probe ─► look whether it took
//!                                               └──── any failure: override off, drivers_probe, look again ◄────┘
//!   release:  override off ─► unbind from vfio-pci ─► bind to the driver it came from ─► look whether it took
//! ```
//!
//! Both can be repeated: what is done already is left as it is.

use std::io;

use crate::inventory::{FunctionInfo, Sysfs};
use crate::vfio::VfioOptions;
use crate::{HwError, PciAddress};

#[cfg(test)]
mod tests;

/// The driver by which functions are owned from outside the kernel.
pub const VFIO_PCI: &str = "vfio-pci";

/// A function that is bound to [`VFIO_PCI`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Where it sits.
    pub address: PciAddress,
    /// The driver that it was bound to before: what [`release`] should give it back to. `vfio-pci` when somebody had claimed
    /// it already, and none when no driver had it.
    pub previous_driver: Option<String>,
}

/// Binds the function at `address` to vfio-pci. A function that is bound to it already is left alone.
///
/// Refuses a function that is in use, one that no IOMMU confines, and one whose group holds other functions that drivers of
/// the host use. Loads no module. When a step fails, those before it are undone.
pub fn claim(sysfs: &Sysfs, address: PciAddress) -> Result<Claim, HwError> {
    claim_with(sysfs, address, VfioOptions::default())
}

/// [`claim`] for an operator who may have decided to own a function that no IOMMU confines.
pub fn claim_with(sysfs: &Sysfs, address: PciAddress, options: VfioOptions) -> Result<Claim, HwError> {
    let known = sysfs.function(address)?;
    if known.driver.as_deref() == Some(VFIO_PCI) {
        return Ok(Claim { address, previous_driver: known.driver });
    }
    may_be_taken(sysfs, &known, options)?;
    let previous_driver = known.driver;
    if let Err(error) = bind(sysfs, address) {
        let undone = rebind(sysfs, address, previous_driver.as_deref());
        return Err(match undone {
            Ok(()) => error,
            Err(undoing) => HwError::Refused(format!("{error}; undoing what was done failed too: {undoing}")),
        });
    }
    Ok(Claim { address, previous_driver })
}

/// Gives the function at `address` back to `previous_driver`, or leaves it without a driver when that is none.
///
/// The function must not be open any more: the kernel waits for whoever has it open, without a limit.
pub fn release(sysfs: &Sysfs, address: PciAddress, previous_driver: Option<&str>) -> Result<(), HwError> {
    let driver = sysfs.function(address)?.driver;
    if previous_driver == Some(VFIO_PCI) || driver.as_deref().is_some_and(|driver| driver != VFIO_PCI) {
        // It was on vfio-pci before us, or somebody has given it to another driver meanwhile: theirs to decide.
        return Ok(());
    }
    rebind(sysfs, address, previous_driver)
}

fn may_be_taken(sysfs: &Sysfs, known: &FunctionInfo, options: VfioOptions) -> Result<(), HwError> {
    let function = known.address.to_string();
    if known.class.base == 0x06 {
        return Err(HwError::Refused(format!(
            "{function} is a bridge; only the devices behind it can be claimed"
        )));
    }
    let mut holders = known.holders.clone();
    if holders.is_empty() {
        holders = sysfs.openers(known.address)?;
    }
    if !holders.is_empty() {
        return Err(HwError::InUse { function, holders });
    }
    match &known.group {
        Some(group) if group.protected => {
            let members = group.in_the_way();
            if !members.is_empty() {
                return Err(HwError::SharedGroup { function, group: group.id, members });
            }
        }
        _ if !options.allow_unsafe_noiommu => return Err(HwError::NoIommu { function }),
        _ => {
            let mode = sysfs.path("sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
            if std::fs::read_to_string(&mode).map_or(true, |text| text.trim() != "Y") {
                return Err(HwError::Refused(format!(
                    "{function} cannot be claimed without an IOMMU: VFIO's no-IOMMU mode is off; write Y to {} (a kernel built \
                     without CONFIG_VFIO_NOIOMMU has no such file)",
                    mode.display()
                )));
            }
        }
    }
    if !sysfs.path("sys/bus/pci/drivers").join(VFIO_PCI).exists() {
        return Err(HwError::Refused(format!(
            "{function} cannot be claimed: the driver vfio-pci is not loaded; run modprobe vfio-pci"
        )));
    }
    Ok(())
}

fn bind(sysfs: &Sysfs, address: PciAddress) -> Result<(), HwError> {
    let path = sysfs.function_path(address);
    let failed = |step| move |source| HwError::Step { function: address.to_string(), step, source };
    sysfs
        .control(&path.join("driver_override"), VFIO_PCI)
        .map_err(failed("choosing vfio-pci as its driver"))?;
    if sysfs.driver(address)?.is_some() {
        sysfs
            .control(&path.join("driver/unbind"), &address.to_string())
            .map_err(failed("unbinding it from its driver"))?;
    }
    probe(sysfs, address).map_err(failed("binding it to vfio-pci"))?;
    match sysfs.driver(address)?.as_deref() {
        Some(VFIO_PCI) => Ok(()),
        _ => Err(failed("binding it to vfio-pci")(io::Error::other("the driver did not take it; see dmesg"))),
    }
}

/// Back to `driver` from wherever `claim` has got to, or from vfio-pci.
fn rebind(sysfs: &Sysfs, address: PciAddress, driver: Option<&str>) -> Result<(), HwError> {
    let path = sysfs.function_path(address);
    let failed = |step| move |source| HwError::Step { function: address.to_string(), step, source };
    // A line without a driver takes the choice back.
    sysfs
        .control(&path.join("driver_override"), "\n")
        .map_err(failed("taking back the choice of its driver"))?;
    let bound = sysfs.driver(address)?;
    if bound.as_deref() == driver {
        return Ok(());
    }
    if bound.is_some() {
        sysfs
            .control(&path.join("driver/unbind"), &address.to_string())
            .map_err(failed("unbinding it from vfio-pci"))?;
    }
    let Some(driver) = driver else { return Ok(()) };
    let binding = "giving it back to its driver";
    let named = sysfs.path("sys/bus/pci/drivers").join(driver).join("bind");
    // By name first: with several drivers for one device, probing may pick another than it had. A driver that took the
    // device by an override only refuses that, and probing is all there is.
    let by_name = sysfs.control(&named, &address.to_string());
    if sysfs.driver(address)?.is_none() {
        probe(sysfs, address).map_err(failed(binding))?;
    }
    match sysfs.driver(address)? {
        Some(bound) if bound == driver => Ok(()),
        bound => {
            let is = bound.as_deref().unwrap_or("no driver");
            let because = by_name.err().map(|error| format!(" ({driver}: {error})")).unwrap_or_default();
            let text = format!("it is bound to {is} now, not to {driver}{because}; see dmesg");
            Err(failed(binding)(io::Error::other(text)))
        }
    }
}

fn probe(sysfs: &Sysfs, address: PciAddress) -> io::Result<()> {
    sysfs.control(&sysfs.path("sys/bus/pci/drivers_probe"), &address.to_string())
}
