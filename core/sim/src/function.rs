//! The driver's side of the device.

use std::sync::{Arc, PoisonError};

use vfiomux_hw::{Bar, Class, DmaDomain, Function, HwError, Identity, Notices, Vector};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::SimNvme;
use crate::controller::{DEVICE, State, VENDOR};
use crate::run::{Listener, SimThread};

/// A simulated function as its owner holds it. Dropping it gives it up, as closing a VFIO device does: the controller is reset,
/// interrupts and DMA are off, and its thread, if it has one, has ended.
#[derive(Debug)]
pub struct SimFunction {
    identity: Identity,
    // The thread ends before the device is let go.
    thread: Option<SimThread>,
    sim: SimNvme,
}

impl SimFunction {
    pub(crate) fn new(sim: SimNvme, thread: Option<SimThread>) -> Self {
        let identity = Identity {
            name: sim.0.name.clone(),
            vendor: VENDOR,
            device: DEVICE,
            class: Class::Nvme,
            numa_node: None,
        };
        // The descriptors are an owner's own: what the last one was told is not for this one.
        sim.0.notices.clear();
        Self { identity, thread, sim }
    }

    /// The device behind it.
    #[must_use]
    pub fn device(&self) -> &SimNvme {
        &self.sim
    }

    fn present(&self) -> Result<(), HwError> {
        if self.sim.is_present() {
            Ok(())
        } else {
            Err(HwError::Gone { function: self.identity.name.clone() })
        }
    }

    fn quiet(&self) {
        self.sim.0.iommu.set_bus_master(false);
        self.sim.0.vectors.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Function for SimFunction {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bar(&self, index: u8) -> Result<Bar, HwError> {
        if index != 0 {
            return Err(HwError::NoBar { function: self.identity.name.clone(), index });
        }
        let listener = Arc::new(Listener::new(&self.sim.0));
        Ok(Bar::new(self.sim.0.window.clone(), Some(listener)))
    }

    fn domain(&self) -> Arc<DmaDomain> {
        self.sim.0.domain.clone()
    }

    fn enable(&mut self) -> Result<(), HwError> {
        self.present()?;
        self.sim.0.iommu.set_bus_master(true);
        Ok(())
    }

    fn vectors_max(&self) -> u16 {
        self.sim.0.spec.vectors
    }

    fn enable_vectors(&mut self, count: u16) -> Result<Vec<Vector>, HwError> {
        self.present()?;
        let function = self.identity.name.clone();
        let offered = self.vectors_max();
        if count > offered {
            return Err(HwError::Vectors { function, offered, wanted: count });
        }
        let vectors: Result<Vec<Vector>, _> =
            (0..count).map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new)).collect();
        let step = "making interrupt descriptors";
        let vectors = vectors.map_err(|source| HwError::Step { function, step, source })?;
        self.sim.0.vectors.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&vectors);
        Ok(vectors)
    }

    fn notices(&self) -> Notices<'_> {
        self.sim.0.notices.notices()
    }

    fn reset(&mut self) -> Result<(), HwError> {
        self.present()?;
        let mut controller = self.sim.0.controller();
        if controller.state() != State::Gone {
            controller.function_reset();
        }
        drop(controller);
        self.quiet();
        Ok(())
    }
}

impl Drop for SimFunction {
    fn drop(&mut self) {
        drop(self.thread.take());
        self.sim.0.controller().function_reset();
        self.quiet();
    }
}
