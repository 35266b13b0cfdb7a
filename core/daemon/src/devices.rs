//! Device specifications, and how each kind of device is opened.

use vfiomux_hw::bind;
use vfiomux_hw::inventory::Sysfs;
use vfiomux_hw::vfio::{VfioFunction, VfioOptions};
use vfiomux_hw::{Function, HwError, PciAddress};
use vfiomux_manager::config::Config;
use vfiomux_manager::control::{Opened, Opener, StartDevice};
use vfiomux_sim::DeviceSpec;

use crate::DaemonError;

/// The devices that the configuration names. Nothing is opened yet, but every name is checked.
pub(crate) fn start_devices(config: &Config, sysfs: &Sysfs) -> Result<Vec<StartDevice>, DaemonError> {
    let opener = pci_opener(config, sysfs);
    let mut simulated = 0;
    config
        .devices
        .iter()
        .map(|spec| {
            let wrong = |why: String| DaemonError::Device { spec: spec.clone(), why };
            if spec.starts_with("sim:") {
                let parsed: DeviceSpec =
                    spec.parse().map_err(|error: vfiomux_sim::SimError| wrong(error.to_string()))?;
                let name = format!("sim{simulated}");
                simulated += 1;
                Ok(StartDevice {
                    address: None,
                    open: sim_opener(parsed, name.clone()),
                    name,
                    format_if_blank: true,
                })
            } else {
                let address: PciAddress = spec.parse().map_err(|error| {
                    wrong(format!("{error}; a simulated device is written sim:nvme,size=4G"))
                })?;
                Ok(StartDevice {
                    name: address.to_string(),
                    address: Some(address),
                    open: opener(address),
                    format_if_blank: false,
                })
            }
        })
        .collect()
}

fn sim_opener(spec: DeviceSpec, name: String) -> Opener {
    Box::new(move || {
        let function = vfiomux_sim::open(spec, name).map_err(|error| HwError::Refused(error.to_string()))?;
        Ok(Opened { function: Box::new(function), claimed_from: None })
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
                    Ok(Opened { function, claimed_from: Some(claim.previous_driver) })
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
