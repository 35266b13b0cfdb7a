//! Functions, as policies are asked about them: when they are found, and when they are to be taken.
//!
//! A function that a policy denies when it is found is listed and never claimed. Found are those named at the start, and those
//! that the host's list shows, then or later. What leaves the bus is forgotten, and asked about again when it is back.

use vfiomux_hw::PciAddress;
use vfiomux_hw::inventory::FunctionInfo;
use vfiomux_policy::{Claim, Discover, Function};
use vfiomux_rpc::{Caller, ErrorCode, FunctionClass, ObjectKind, RpcError};

use super::view::class_of;
use super::{Control, StartDevice};

impl Control {
    /// Opens a device that was named at the start, unless a policy denies it.
    pub(crate) fn open_start_device(&mut self, device: StartDevice) -> Result<(), RpcError> {
        let StartDevice { name, address, open, format_if_blank } = device;
        let address_text = address.map(|address| address.to_string());
        if !self.has_policies() {
            return self.open_device(&name, address_text, open, format_if_blank);
        }
        self.opening += 1;
        let function = self.function_asked(&name, address);
        self.discovered.insert(name.clone());
        self.ask_of(
            ObjectKind::Device,
            &name.clone(),
            None,
            Discover { function },
            move |control, allowed| {
                control.opening -= 1;
                let opened = match allowed {
                    Ok(_) => control.open_device(&name, address_text, open, format_if_blank),
                    Err(denied) => {
                        tracing::warn!(device = name, why = denied.message, "a policy denies a device");
                        control.barred.insert(name, denied.message);
                        Ok(())
                    }
                };
                if let Err(error) = opened {
                    tracing::error!(why = error.message, "a device cannot be opened");
                }
                control.check_ready();
            },
        );
        Ok(())
    }

    /// Asks policies about functions of the host that were not there when it was last looked, and forgets those that have gone.
    pub(crate) fn discover(&mut self) {
        let Ok(functions) = self.sysfs.functions() else { return };
        let is_there = |name: &str| match name.parse::<PciAddress>() {
            Ok(address) => functions.iter().any(|function| function.address == address),
            // No bus has it, and none loses it.
            Err(_) => true,
        };
        self.discovered.retain(|name| is_there(name));
        self.barred.retain(|name, _| is_there(name));
        if !self.has_policies() {
            return;
        }
        for function in functions {
            let name = function.address.to_string();
            if class_of(&function) == FunctionClass::Other || !self.discovered.insert(name.clone()) {
                continue;
            }
            let question = Discover { function: asked(&function) };
            self.ask_of(ObjectKind::Device, &name.clone(), None, question, move |control, allowed| {
                if let Err(denied) = allowed {
                    control.barred.insert(name, denied.message);
                }
            });
        }
    }

    /// Asks policies whether a function may be taken, then goes on.
    pub(crate) fn ask_claim(
        &mut self,
        address: PciAddress,
        caller: Caller,
        dry_run: bool,
        next: impl FnOnce(&mut Control, Result<(), RpcError>) + Send + 'static,
    ) {
        let name = address.to_string();
        if let Some(why) = self.denial(&name) {
            let error = denied_error(&name, why);
            return next(self, Err(error));
        }
        let question = Claim {
            function: self.function_asked(&name, Some(address)),
            unprotected: self.config.allow_unsafe_noiommu,
            caller_uid: caller.uid,
            dry_run,
        };
        self.ask_of(ObjectKind::Device, &name, Some(caller), question, move |control, allowed| {
            next(control, allowed.map(|_| ()));
        });
    }

    /// Why a policy denied a device when it was found, for as long as it is there.
    pub(crate) fn denial(&self, name: &str) -> Option<&str> {
        let gone = name.parse().is_ok_and(|address: PciAddress| self.sysfs.function(address).is_err());
        self.barred.get(name).filter(|_| !gone).map(String::as_str)
    }

    fn function_asked(&self, name: &str, address: Option<PciAddress>) -> Function {
        let found = address.and_then(|address| self.sysfs.function(address).ok());
        found.map_or_else(
            || Function { name: name.to_owned(), ..Function::default() },
            |function| asked(&function),
        )
    }
}

/// The error for a device that a policy denied when it was found.
pub(crate) fn denied_error(name: &str, why: &str) -> RpcError {
    RpcError::new(ErrorCode::Denied, why)
        .about(format!("device {name}"))
        .next("see vfiomuxctl plugin list for who decides that")
}

fn asked(function: &FunctionInfo) -> Function {
    Function {
        name: function.address.to_string(),
        vendor_id: function.vendor,
        device_id: function.device,
        class_code: function.class.to_u24(),
        driver: function.driver.clone().unwrap_or_default(),
    }
}
