//! A controller's registers, and waiting for them.

use std::time::Duration;

use vfiomux_hw::{Bar, Iova};
use vfiomux_spec::nvme::register::{self, Aqa, Cap, Cc, Crto, Csts, Version};

use crate::NvmeError;
use crate::clock::{Clock, Deadline};

/// How often a register is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// The least time that a controller gets for changing `CSTS.RDY`, whatever it claims to need.
const READY_TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// BAR 0 of a controller.
#[derive(Debug, Clone)]
pub(crate) struct Registers {
    pub(crate) bar: Bar,
    /// Name of the function, for messages.
    pub(crate) controller: String,
}

impl Registers {
    /// Capabilities; [`NvmeError::Gone`] when the registers do not answer.
    pub(crate) fn cap(&self) -> Result<Cap, NvmeError> {
        let bits = self.bar.read64(register::CAP)?;
        // All ones from an empty slot, all zeroes behind a root port that contained an error.
        if bits == u64::MAX || bits == 0 { Err(self.gone()) } else { Ok(Cap::from_bits(bits)) }
    }

    /// Version of the standard.
    pub(crate) fn version(&self) -> Result<Version, NvmeError> {
        self.bar.read32(register::VS).map(Version::from_bits).map_err(NvmeError::from)
    }

    /// Status; [`NvmeError::Gone`] when the registers do not answer.
    pub(crate) fn csts(&self) -> Result<Csts, NvmeError> {
        let bits = self.bar.read32(register::CSTS)?;
        if bits == register::GONE { Err(self.gone()) } else { Ok(Csts::from_bits(bits)) }
    }

    /// Configuration; [`NvmeError::Gone`] when the registers do not answer.
    pub(crate) fn cc(&self) -> Result<Cc, NvmeError> {
        let bits = self.bar.read32(register::CC)?;
        if bits == register::GONE { Err(self.gone()) } else { Ok(Cc::from_bits(bits)) }
    }

    pub(crate) fn set_cc(&self, cc: Cc) -> Result<(), NvmeError> {
        Ok(self.bar.write32(register::CC, cc.into_bits())?)
    }

    /// Says where the admin queues are, both of `entries` entries.
    pub(crate) fn set_admin_queues(
        &self,
        entries: u16,
        submission: Iova,
        completion: Iova,
    ) -> Result<(), NvmeError> {
        let aqa = Aqa::new().with_asqs(entries - 1).with_acqs(entries - 1);
        self.bar.write32(register::AQA, aqa.into_bits())?;
        self.bar.write64(register::ASQ, submission.raw())?;
        Ok(self.bar.write64(register::ACQ, completion.raw())?)
    }

    /// How long `CSTS.RDY` may take to follow `CC.EN` (NVMe 2.0c 3.5.3, 3.5.4).
    pub(crate) fn ready_timeout(&self, cap: Cap) -> Result<Duration, NvmeError> {
        let mut timeout_ms = u64::from(cap.ready_timeout_ms());
        if cap.crms() != 0 {
            let crto = Crto::from_bits(self.bar.read32(register::CRTO)?);
            timeout_ms = timeout_ms.max(u64::from(crto.crwmt()) * 500);
        }
        Ok(Duration::from_millis(timeout_ms).max(READY_TIMEOUT_MIN))
    }

    /// Waits until `done` is true of the status.
    pub(crate) fn wait(
        &self,
        clock: &dyn Clock,
        timeout: Duration,
        step: &'static str,
        mut done: impl FnMut(Csts) -> Result<bool, NvmeError>,
    ) -> Result<(), NvmeError> {
        let deadline = Deadline::after(clock, timeout);
        loop {
            if done(self.csts()?)? {
                return Ok(());
            }
            if deadline.passed(clock) {
                return Err(NvmeError::Timeout { controller: self.controller.clone(), step, timeout });
            }
            clock.pause(LOOK_EVERY);
        }
    }

    /// Fails when the controller cannot be working any more: it is gone, reports a fatal error, or was reset behind our back.
    pub(crate) fn check_running(&self, step: &'static str) -> Result<(), NvmeError> {
        let csts = self.csts()?;
        if csts.cfs() {
            return Err(self.fatal(step));
        }
        if !csts.rdy() {
            self.cap()?;
            return Err(NvmeError::Stopped { controller: self.controller.clone() });
        }
        Ok(())
    }

    pub(crate) fn gone(&self) -> NvmeError {
        NvmeError::Gone { controller: self.controller.clone() }
    }

    pub(crate) fn fatal(&self, step: &'static str) -> NvmeError {
        NvmeError::Fatal { controller: self.controller.clone(), step }
    }
}
