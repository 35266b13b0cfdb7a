use std::sync::Arc;

use vfiomux_hw::DmaDomain;
use vfiomux_nvme::{Controller, Lane, Options, Queue, SystemClock};
use vfiomux_sim::{DeviceSpec, SimNvme};

/// Bytes of the simulated device: enough for a thousand requests to lie apart.
const DEVICE_BYTES: u64 = 16 << 20;
/// The deepest completion queue, commands.
const QUEUE_DEPTH: u16 = 1023;

/// The NVMe driver on a simulated controller that moves only when it is stepped, which is never while instructions count.
#[derive(Debug)]
pub struct Simulated {
    pub(crate) controller: Controller,
    sim: SimNvme,
}

impl Simulated {
    /// A controller that is up. `sgl` says whether it takes scatter-gather lists.
    #[must_use]
    pub fn new(sgl: bool) -> Self {
        let spec = DeviceSpec { size_bytes: DEVICE_BYTES, sgl, mdts: 0, ..DeviceSpec::default() };
        let sim = SimNvme::new(spec, "sim0").expect("a device");
        // Registers and admin commands are served inside the writes that ask, so nobody waits and the clock does not matter.
        let options = Options { vectors: 0, ..Options::default() };
        let function = Box::new(sim.function());
        let controller = Controller::start(function, options, Box::new(SystemClock::new()));
        Self { controller: controller.expect("a controller that is up"), sim }
    }

    pub(crate) fn domain(&self) -> &Arc<DmaDomain> {
        self.controller.domain()
    }

    pub(crate) fn queue(&mut self) -> Queue {
        self.controller.create_queue(QUEUE_DEPTH, None).expect("a queue")
    }

    pub(crate) fn lane(&mut self, queue: &Queue, depth: u16) -> Lane {
        self.controller.create_lane(queue.id(), depth).expect("a lane")
    }

    /// From here on a doorbell only writes its register, as with a device that has a processor of its own.
    pub(crate) fn stand_still(&self) {
        self.sim.step_everything();
    }

    /// Lets the device do all that it was told.
    pub(crate) fn step(&self) {
        self.sim.run_until_idle();
    }
}
