//! Admin commands: queues, Abort, Format and Sanitize.

use vfiomux_spec::nvme::command::{
    ABORT_NOT_ABORTED, CreateCqDword11, CreateSqDword11, FormatDword10, SANITIZE_BLOCK_ERASE,
    SANITIZE_EXIT_FAILURE, SanitizeDword10,
};
use vfiomux_spec::nvme::{AdminOpcode, NSID_ALL, Status, SubmissionEntry};

use super::queue::{CompletionQueue, SubmissionQueue};
use super::{Controller, Outcome};
use crate::iommu::Dma;

/// The two halves of a dword.
fn halves(dword: u32) -> (u16, u16) {
    ((dword & 0xffff) as u16, (dword >> 16) as u16)
}

impl Controller {
    /// Carries an admin command out; `None` when it completes later.
    pub(super) fn admin(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry) -> Option<Outcome> {
        // Admin commands are fused with nothing and use PRPs only (NVMe over PCIe 1.0c 2.2).
        if entry.flags != 0 {
            return Some(Status::INVALID_FIELD.into());
        }
        Some(match AdminOpcode(entry.opcode) {
            AdminOpcode::ASYNC_EVENT_REQUEST => match self.events.wait(entry.cid.get()) {
                Ok(()) => return None,
                Err(status) => status.into(),
            },
            AdminOpcode::CREATE_IO_CQ => self.create_cq(entry).into(),
            AdminOpcode::CREATE_IO_SQ => self.create_sq(entry).into(),
            AdminOpcode::DELETE_IO_SQ => self.delete_sq(dma, entry).into(),
            AdminOpcode::DELETE_IO_CQ => self.delete_cq(entry).into(),
            AdminOpcode::ABORT => self.abort(dma, entry),
            AdminOpcode::IDENTIFY => self.identify(dma, entry).into(),
            AdminOpcode::SET_FEATURES => self.set_features(entry),
            AdminOpcode::GET_FEATURES => self.get_features(entry),
            AdminOpcode::GET_LOG_PAGE => self.get_log_page(dma, entry).into(),
            AdminOpcode::FORMAT_NVM if self.spec.format => self.format_nvm(entry).into(),
            AdminOpcode::SANITIZE if self.spec.sanitize => self.sanitize(entry).into(),
            _ => Status::INVALID_OPCODE.into(),
        })
    }

    /// Size and place of a queue to be made (NVMe 2.0c 5.4, 5.5).
    fn new_queue(&self, entry: &SubmissionEntry, contiguous: bool) -> Result<(u16, u64, u32), Status> {
        let (id, entries_0based) = halves(entry.cdw10.get());
        let base = entry.prp1.get();
        if id == 0 || id > self.spec.queues {
            return Err(Status::INVALID_QUEUE_ID);
        }
        let entries = u32::from(entries_0based) + 1;
        if entries < 2 || entries > self.spec.queue_entries {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        if !contiguous {
            return Err(Status::INVALID_FIELD);
        }
        if !base.is_multiple_of(self.page_bytes) || base.checked_add(1 << 24).is_none() {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        Ok((id, base, entries))
    }

    fn create_cq(&mut self, entry: &SubmissionEntry) -> Result<(), Status> {
        let dword11 = CreateCqDword11::from_bits(entry.cdw11.get());
        let (id, base, entries) = self.new_queue(entry, dword11.pc())?;
        if self.cq(id).is_some() {
            return Err(Status::INVALID_QUEUE_ID);
        }
        if self.cc.iocqes() != vfiomux_spec::nvme::queue::COMPLETION_ENTRY_SHIFT {
            return Err(Status::INVALID_FIELD);
        }
        if dword11.iv() != 0 && dword11.iv() >= self.spec.vectors {
            return Err(Status::INVALID_INTERRUPT_VECTOR);
        }
        self.registers.clear_cq_head(id);
        let vector = dword11.ien().then_some(dword11.iv());
        if let Some(slot) = self.cqs.get_mut(usize::from(id)) {
            *slot = Some(CompletionQueue::new(id, base, entries, vector));
        }
        Ok(())
    }

    fn create_sq(&mut self, entry: &SubmissionEntry) -> Result<(), Status> {
        let dword11 = CreateSqDword11::from_bits(entry.cdw11.get());
        let cq_id = dword11.cqid();
        if cq_id == 0 || self.cq(cq_id).is_none() {
            // An identifier beyond what there can be is wrong in itself (NVMe 2.0c 5.5.1).
            let impossible = cq_id == 0 || cq_id > self.spec.queues;
            return Err(if impossible { Status::INVALID_QUEUE_ID } else { Status::INVALID_CQ });
        }
        let (id, base, entries) = self.new_queue(entry, dword11.pc())?;
        if self.sq(id).is_some() {
            return Err(Status::INVALID_QUEUE_ID);
        }
        if self.cc.iosqes() != vfiomux_spec::nvme::queue::SUBMISSION_ENTRY_SHIFT {
            return Err(Status::INVALID_FIELD);
        }
        self.registers.clear_sq_tail(id);
        if let Some(slot) = self.sqs.get_mut(usize::from(id)) {
            *slot = Some(SubmissionQueue::new(id, base, entries, cq_id));
        }
        if let Some(cq) = self.cq(cq_id) {
            cq.users += 1;
        }
        self.live.push(id);
        Ok(())
    }

    /// The barrier: every command of the queue that was fetched has completed, or never will, when this completes
    /// (NVMe 2.0c 5.7). With a seed, what was pending is carried out or aborted by chance; without, aborted.
    fn delete_sq(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry) -> Result<(), Status> {
        let (id, _) = halves(entry.cdw10.get());
        let cq_id = match self.sq(id) {
            Some(sq) if id != 0 => sq.cq_id,
            _ => return Err(Status::INVALID_QUEUE_ID),
        };
        while let Some(index) = self.pending.iter().position(|pending| pending.sq_id == id) {
            let pending = self.pending.swap_remove(index);
            let carry_out = self.spec.seed.is_some() && !pending.hung() && self.rng.coin();
            if carry_out {
                self.finish(dma, pending);
            } else {
                self.complete(dma, id, pending.entry.cid.get(), Status::ABORTED_SQ_DELETION.into());
            }
        }
        if let Some(slot) = self.sqs.get_mut(usize::from(id)) {
            *slot = None;
        }
        if let Some(cq) = self.cq(cq_id) {
            cq.users -= 1;
        }
        self.live.retain(|&live| live != id);
        self.registers.clear_sq_tail(id);
        Ok(())
    }

    fn delete_cq(&mut self, entry: &SubmissionEntry) -> Result<(), Status> {
        let (id, _) = halves(entry.cdw10.get());
        match self.cq(id) {
            Some(cq) if id != 0 && cq.users > 0 => return Err(Status::INVALID_QUEUE_DELETION),
            Some(_) if id != 0 => {}
            _ => return Err(Status::INVALID_QUEUE_ID),
        }
        if let Some(slot) = self.cqs.get_mut(usize::from(id)) {
            *slot = None;
        }
        self.registers.clear_cq_head(id);
        Ok(())
    }

    /// Best effort: what is still pending is aborted, what is not there any more is not (NVMe 2.0c 5.1).
    fn abort(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry) -> Outcome {
        let (sq_id, cid) = halves(entry.cdw10.get());
        let wanted = |pending: &super::Pending| pending.sq_id == sq_id && pending.entry.cid.get() == cid;
        match self.pending.iter().position(wanted) {
            Some(index) => {
                self.pending.swap_remove(index);
                self.complete(dma, sq_id, cid, Status::ABORT_REQUESTED.into());
                Outcome::result(0)
            }
            None => Outcome::result(ABORT_NOT_ABORTED),
        }
    }

    fn format_nvm(&mut self, entry: &SubmissionEntry) -> Result<(), Status> {
        let dword10 = FormatDword10::from_bits(entry.cdw10.get());
        let block_shift = match (dword10.lbafl(), dword10.lbafu()) {
            (0, 0) => 9,
            (1, 0) => 12,
            _ => return Err(Status::INVALID_FORMAT),
        };
        if dword10.mset() || dword10.pi() != 0 {
            return Err(Status::INVALID_FORMAT);
        }
        if dword10.ses() > 1 {
            return Err(Status::INVALID_FIELD);
        }
        match entry.nsid.get() {
            NSID_ALL => self.namespaces.iter_mut().try_for_each(|namespace| namespace.format(block_shift)),
            nsid => self.namespace(nsid)?.format(block_shift),
        }
    }

    fn sanitize(&mut self, entry: &SubmissionEntry) -> Result<(), Status> {
        let dword10 = SanitizeDword10::from_bits(entry.cdw10.get());
        match dword10.sanact() {
            SANITIZE_EXIT_FAILURE => return Ok(()),
            SANITIZE_BLOCK_ERASE => {}
            _ => return Err(Status::INVALID_FIELD),
        }
        let erased =
            self.namespaces.iter_mut().try_for_each(|namespace| namespace.format(namespace.block_shift));
        self.logs.sanitized(erased.is_ok(), entry.cdw10.get());
        self.events.sanitized();
        // Success says that the operation was begun; how it went is in the log page (NVMe 2.0c 5.24).
        Ok(())
    }
}
