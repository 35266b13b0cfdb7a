//! The register file: ordinary memory that the host writes, and the controller looks at when it runs.

use vfiomux_hw::Bar;
use vfiomux_spec::nvme::register::{
    self, CAP, CC, CRTO, CSTS, Cap, Cc, Crto, Csts, GONE, NSSR, VS, Version, completion_doorbell,
    submission_doorbell,
};

use crate::DeviceSpec;

/// The version of NVMe that the controller claims: 2.0.
pub(super) const VERSION: Version = Version::new().with_major(2);

/// How long a driver must wait for `CSTS.RDY`, in units of 500 ms.
const READY_TIMEOUT: u8 = 20;

pub(crate) struct Registers {
    bar: Bar,
    dstrd: u8,
}

impl Registers {
    /// Registers in `bar`, which must not ring a bell: the controller does not answer itself.
    pub(crate) fn new(bar: Bar, dstrd: u8) -> Self {
        Self { bar, dstrd }
    }

    /// What every register is after power-on.
    pub(super) fn power_on(&self, spec: &DeviceSpec) {
        self.fill(0);
        let cap = Cap::new()
            .with_mqes(u16::try_from(spec.queue_entries - 1).unwrap_or(u16::MAX))
            .with_cqr(true)
            .with_to(READY_TIMEOUT)
            .with_dstrd(spec.dstrd)
            .with_nssrs(true)
            .with_css(register::CSS_NVM)
            .with_mpsmin(0)
            .with_mpsmax(4)
            .with_crms(1);
        self.write64(CAP, cap.into_bits());
        self.write32(VS, VERSION.into_bits());
        self.write32(CRTO, Crto::new().with_crwmt(READY_TIMEOUT.into()).into_bits());
    }

    /// The host's view of a function that has left: every register reads the same, whatever was written.
    pub(super) fn gone(&self) {
        self.fill(GONE);
    }

    fn fill(&self, value: u32) {
        for offset in (0..self.bar.len()).step_by(4) {
            self.write32(offset, value);
        }
    }

    pub(super) fn read32(&self, offset: usize) -> u32 {
        self.bar.read32(offset).unwrap_or(GONE)
    }

    pub(super) fn read64(&self, offset: usize) -> u64 {
        self.bar.read64(offset).unwrap_or(u64::MAX)
    }

    pub(super) fn write32(&self, offset: usize, value: u32) {
        // Offsets are ours and lie inside the window, which is made large enough for all doorbells.
        let _ = self.bar.write32(offset, value);
    }

    fn write64(&self, offset: usize, value: u64) {
        let _ = self.bar.write64(offset, value);
    }

    pub(super) fn cc(&self) -> Cc {
        Cc::from_bits(self.read32(CC))
    }

    pub(super) fn csts(&self) -> Csts {
        Csts::from_bits(self.read32(CSTS))
    }

    pub(super) fn set_csts(&self, csts: Csts) {
        self.write32(CSTS, csts.into_bits());
    }

    /// Whether the host asks for a subsystem reset; hears it once.
    pub(super) fn take_subsystem_reset(&self) -> bool {
        let asked = self.read32(NSSR) == register::NSSR_RESET;
        if asked {
            self.write32(NSSR, 0);
        }
        asked
    }

    pub(super) fn sq_tail(&self, queue_id: u16) -> u32 {
        self.read32(submission_doorbell(queue_id, self.dstrd))
    }

    pub(super) fn cq_head(&self, queue_id: u16) -> u32 {
        self.read32(completion_doorbell(queue_id, self.dstrd))
    }

    pub(super) fn clear_sq_tail(&self, queue_id: u16) {
        self.write32(submission_doorbell(queue_id, self.dstrd), 0);
    }

    pub(super) fn clear_cq_head(&self, queue_id: u16) {
        self.write32(completion_doorbell(queue_id, self.dstrd), 0);
    }
}
