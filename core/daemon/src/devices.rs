//! Device specifications, and how each kind of device is opened.

use std::collections::BTreeMap;

use vfiomux_hw::bind;
use vfiomux_hw::inventory::Sysfs;
use vfiomux_hw::vfio::{VfioFunction, VfioOptions};
use vfiomux_hw::{Function, HwError, PciAddress};
use vfiomux_manager::config::Config;
use vfiomux_manager::control::{Opened, Opener, StartDevice};
use vfiomux_sim::DeviceSpec;

use crate::DaemonError;
use crate::local::LocalSpec;

/// The devices that the configuration names. Nothing is opened yet, but every name is checked.
pub(crate) fn start_devices(config: &Config, sysfs: &Sysfs) -> Result<Vec<StartDevice>, DaemonError> {
    let opener = pci_opener(config, sysfs);
    let mut played: BTreeMap<&str, usize> = BTreeMap::new();
    config
        .devices
        .iter()
        .map(|spec| {
            let wrong = |why: String| DaemonError::Device { spec: spec.clone(), why };
            let kind = spec.split([':', ',']).next().unwrap_or_default();
            // Devices without an address are numbered, each kind by itself.
            let mut name = || {
                let count = played.entry(kind).or_default();
                *count += 1;
                format!("{kind}{}", *count - 1)
            };
            let (name, open) = match kind {
                "sim" => {
                    let parsed: DeviceSpec =
                        spec.parse().map_err(|error: vfiomux_sim::SimError| wrong(error.to_string()))?;
                    let name = name();
                    (name.clone(), sim_opener(parsed, name))
                }
                "null" | "ram" => (name(), spec.parse::<LocalSpec>().map_err(wrong)?.opener()),
                _ => {
                    let address: PciAddress = spec.parse().map_err(|error| {
                        wrong(format!("{error}; one without hardware is written sim:nvme,size=4G, ram:size=4G or null:size=4G"))
                    })?;
                    return Ok(StartDevice {
                        name: address.to_string(),
                        address: Some(address),
                        open: opener(address),
                        format_if_blank: false,
                    });
                }
            };
            Ok(StartDevice { name, address: None, open, format_if_blank: true })
        })
        .collect()
}

fn sim_opener(spec: DeviceSpec, name: String) -> Opener {
    Box::new(move || {
        let function = vfiomux_sim::open(spec, name).map_err(|error| HwError::Refused(error.to_string()))?;
        Ok(Opened::Function { function: Box::new(function), claimed_from: None })
    })
}

/// Takes a function from the driver that has it, unless somebody uses it, and opens it through VFIO. Gives it back when that
/// fails.
pub(crate) fn pci_opener(config: &Config, sysfs: &Sysfs) -> Box<dyn Fn(PciAddress) -> Opener> {
    let options = VfioOptions { allow_unsafe_noiommu: config.allow_unsafe_noiommu };
    let sysfs = sysfs.clone();
    Box::new(move |address| {
        let sysfs = sysfs.clone();
        Box::new(move || {
            let claim = bind::claim_with(&sysfs, address, options)?;
            match VfioFunction::open(&sysfs, address, options) {
                Ok(function) => {
                    let function: Box<dyn Function> = Box::new(function);
                    Ok(Opened::Function { function, claimed_from: Some(claim.previous_driver) })
                }
                Err(error) => {
                    let undone = bind::release(&sysfs, address, claim.previous_driver.as_deref());
                    Err(match undone {
                        Ok(()) => error,
                        Err(undoing) => HwError::Refused(format!(
                            "{error}; giving it back to its driver failed too: {undoing}"
                        )),
                    })
                }
            }
        })
    })
}
