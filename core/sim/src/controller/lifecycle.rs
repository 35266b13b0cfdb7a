//! Enabling, resetting, failing, leaving.

use vfiomux_spec::nvme::ADMIN_QUEUE_ID;
use vfiomux_spec::nvme::register::{
    ACQ, AQA, ASQ, Aqa, CC, Cc, Csts, SHN_NONE, SHST_COMPLETE, SHST_OCCURRING,
};

use super::feature::Features;
use super::queue::{CompletionQueue, SubmissionQueue};
use super::{Controller, State};

impl Controller {
    /// Looks at what the host wrote to `CC` and `NSSR`. Says whether there was anything.
    pub(super) fn observe(&mut self) -> bool {
        if self.state == State::Gone {
            self.registers.gone();
            return false;
        }
        if self.registers.take_subsystem_reset() {
            self.registers.write32(CC, 0);
            self.reset();
            self.registers.set_csts(Csts::new().with_nssro(true));
            return true;
        }
        let (old, cc) = (self.cc, self.registers.cc());
        if cc == old {
            return false;
        }
        self.cc = cc;
        match (old.en(), cc.en()) {
            (true, false) => self.reset(),
            (false, true) => self.enable(),
            _ => {}
        }
        if cc.shn() != SHN_NONE && old.shn() != cc.shn() && self.state != State::Fatal {
            self.flush_all();
            let shst = if self.stuck { SHST_OCCURRING } else { SHST_COMPLETE };
            self.registers.set_csts(self.registers.csts().with_shst(shst));
        }
        true
    }

    /// `CC.EN` went up (NVMe 2.0c 3.5.1).
    fn enable(&mut self) {
        let cc = self.cc;
        let aqa = Aqa::from_bits(self.registers.read32(AQA));
        let (asq, acq) = (self.registers.read64(ASQ), self.registers.read64(ACQ));
        let page_bytes = 4096u64 << cc.mps();
        let aligned = asq.is_multiple_of(page_bytes) && acq.is_multiple_of(page_bytes);
        if cc.mps() > 4 || cc.css() != 0 || cc.ams() != 0 || aqa.asqs() == 0 || aqa.acqs() == 0 || !aligned {
            return self.fatal();
        }
        self.page_bytes = page_bytes;
        self.registers.clear_sq_tail(ADMIN_QUEUE_ID);
        self.registers.clear_cq_head(ADMIN_QUEUE_ID);
        let mut cq = CompletionQueue::new(ADMIN_QUEUE_ID, acq, u32::from(aqa.acqs()) + 1, Some(0));
        cq.users = 1;
        let sq = SubmissionQueue::new(ADMIN_QUEUE_ID, asq, u32::from(aqa.asqs()) + 1, ADMIN_QUEUE_ID);
        if let (Some(sq_slot), Some(cq_slot)) = (self.sqs.first_mut(), self.cqs.first_mut()) {
            (*sq_slot, *cq_slot) = (Some(sq), Some(cq));
        }
        if !self.stuck {
            self.state = State::Ready;
            self.registers.set_csts(self.registers.csts().with_rdy(true));
        }
    }

    /// Forgets every queue and command: after this the device touches no memory (NVMe 2.0c 3.7.2).
    pub(crate) fn reset(&mut self) {
        for id in 0..=self.spec.queues {
            self.registers.clear_sq_tail(id);
            self.registers.clear_cq_head(id);
        }
        self.sqs.fill_with(|| None);
        self.cqs.fill_with(|| None);
        self.live.clear();
        self.pending.clear();
        self.busy_until_ns.clear();
        self.events.reset();
        self.features = Features::new(&self.spec);
        self.cc = self.registers.cc().with_en(false);
        self.state = State::Disabled;
        self.counters.resets += 1;
        if !self.stuck {
            self.registers.set_csts(Csts::new());
        }
    }

    /// A reset of the function: registers too are as after power-on.
    pub(crate) fn function_reset(&mut self) {
        if self.state != State::Gone {
            self.reset();
            self.power_on();
        }
    }

    fn power_on(&mut self) {
        self.registers.power_on(&self.spec);
        self.cc = Cc::new();
    }

    /// Power is lost and comes back: everything in flight is gone, and of what was written but not flushed, some.
    /// Returns how many blocks lost their last write.
    pub(crate) fn crash(&mut self) -> u64 {
        self.function_reset();
        self.logs.unsafe_shutdowns += 1;
        let mut lost = 0;
        for namespace in &mut self.namespaces {
            lost += namespace.crash(&mut self.rng).unwrap_or(0);
        }
        lost
    }

    pub(super) fn flush_all(&mut self) {
        for namespace in &mut self.namespaces {
            let _ = namespace.flush();
        }
    }

    /// Stops for good, until a reset.
    pub(crate) fn fatal(&mut self) {
        self.state = State::Fatal;
        self.registers.set_csts(self.registers.csts().with_cfs(true));
        self.pending.clear();
    }

    /// Leaves the bus.
    pub(crate) fn vanish(&mut self) {
        self.reset();
        self.state = State::Gone;
        self.registers.gone();
        self.notices.raise_error();
    }

    /// Is back on the bus, as after power-on.
    pub(crate) fn reappear(&mut self) {
        if self.state == State::Gone {
            self.state = State::Disabled;
            self.power_on();
        }
    }
}
