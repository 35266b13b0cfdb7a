//! Log pages.

use std::collections::VecDeque;

use vfiomux_spec::nvme::command::LogDword10;
use vfiomux_spec::nvme::identify::NamespaceList;
use vfiomux_spec::nvme::log::{
    self, CriticalWarning, ErrorEntry, HealthLog, SANITIZE_DONE, SANITIZE_FAILED, SanitizeLog, SanitizeStatus,
};
use vfiomux_spec::nvme::{Status, StatusField, SubmissionEntry};
use zerocopy::IntoBytes;

use super::Controller;
use crate::iommu::Dma;

/// Entries of the error log.
pub(super) const ERROR_ENTRIES: u8 = 64;
/// The changed namespaces list holds this many.
const CHANGED_MAX: usize = 1024;
/// The most bytes of a log page that one command may take.
const LOG_BYTES_MAX: u64 = 1 << 16;
/// Health counts data in thousands of 512-byte units.
const DATA_UNIT_BYTES: u128 = 512_000;

#[derive(Debug, Default)]
pub(super) struct Logs {
    errors: VecDeque<ErrorEntry>,
    error_count: u64,
    changed: Vec<u32>,
    sanitize: Option<Sanitized>,
    pub(super) warning: CriticalWarning,
    pub(super) unsafe_shutdowns: u64,
    reads: u64,
    writes: u64,
    read_bytes: u64,
    written_bytes: u64,
}

impl Logs {
    /// A command failed.
    pub(super) fn error(&mut self, sq_id: u16, entry: &SubmissionEntry, status: StatusField) {
        self.error_count += 1;
        self.errors.truncate(usize::from(ERROR_ENTRIES) - 1);
        self.errors.push_front(ErrorEntry {
            error_count: self.error_count.into(),
            sq_id: sq_id.into(),
            cid: entry.cid,
            status: status.into_bits().into(),
            parameter_location: 0xffff.into(),
            lba: if sq_id == 0 { 0 } else { entry.start_lba() }.into(),
            nsid: entry.nsid,
            ..ErrorEntry::default()
        });
    }

    pub(super) fn namespace_changed(&mut self, nsid: u32) {
        if !self.changed.contains(&nsid) && self.changed.len() < CHANGED_MAX {
            self.changed.push(nsid);
            self.changed.sort_unstable();
        }
    }

    pub(super) fn sanitized(&mut self, well: bool, cdw10: u32) {
        self.sanitize = Some(Sanitized { well, cdw10, written_since: false });
    }

    pub(super) fn count_read(&mut self, bytes: u64) {
        self.reads += 1;
        self.read_bytes += bytes;
    }

    pub(super) fn count_write(&mut self, bytes: u64) {
        self.writes += 1;
        self.written_bytes += bytes;
        if let Some(sanitized) = &mut self.sanitize {
            sanitized.written_since = true;
        }
    }

    fn health(&self) -> HealthLog {
        HealthLog {
            critical_warning: self.warning.into_bits(),
            temperature_kelvin: 300.into(),
            available_spare: 100,
            spare_threshold: 10,
            data_units_read: u128::from(self.read_bytes).div_ceil(DATA_UNIT_BYTES).into(),
            data_units_written: u128::from(self.written_bytes).div_ceil(DATA_UNIT_BYTES).into(),
            host_reads: u128::from(self.reads).into(),
            host_writes: u128::from(self.writes).into(),
            power_cycles: 1.into(),
            unsafe_shutdowns: u128::from(self.unsafe_shutdowns).into(),
            error_log_entries: u128::from(self.error_count).into(),
            ..HealthLog::default()
        }
    }

    fn sanitize_status(&self) -> SanitizeLog {
        let (status, cdw10) = match self.sanitize {
            None => (SanitizeStatus::new(), 0),
            Some(Sanitized { well, cdw10, written_since }) => {
                let outcome = if well { SANITIZE_DONE } else { SANITIZE_FAILED };
                (SanitizeStatus::new().with_outcome(outcome).with_erased(well && !written_since), cdw10)
            }
        };
        SanitizeLog {
            progress: 0xffff.into(),
            status: status.into_bits().into(),
            cdw10: cdw10.into(),
            ..SanitizeLog::default()
        }
    }

    /// The changed namespaces. Reading it empties it.
    fn take_changed(&mut self, keep: bool) -> NamespaceList {
        let mut list = NamespaceList::default();
        for (slot, nsid) in list.nsids.iter_mut().zip(&self.changed) {
            slot.set(*nsid);
        }
        if !keep {
            self.changed.clear();
        }
        list
    }
}

/// The latest sanitize operation.
#[derive(Debug, Clone, Copy)]
struct Sanitized {
    well: bool,
    cdw10: u32,
    written_since: bool,
}

impl Controller {
    pub(super) fn get_log_page(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry) -> Result<(), Status> {
        let dword10 = LogDword10::from_bits(entry.cdw10.get());
        let dwords = u64::from(dword10.numdl()) | u64::from(entry.cdw11.get() & 0xffff) << 16;
        let len = (dwords + 1) * 4;
        let offset = u64::from(entry.cdw12.get()) | u64::from(entry.cdw13.get()) << 32;
        if len > LOG_BYTES_MAX || offset & 3 != 0 {
            return Err(Status::INVALID_FIELD);
        }
        let page = match dword10.lid() {
            log::ERROR_INFORMATION => {
                let mut page: Vec<u8> =
                    self.logs.errors.iter().flat_map(|entry| entry.as_bytes().to_vec()).collect();
                page.resize(usize::from(ERROR_ENTRIES) * size_of::<ErrorEntry>(), 0);
                page
            }
            log::HEALTH => self.logs.health().as_bytes().to_vec(),
            log::FIRMWARE_SLOT => {
                let mut page = vec![0; 512];
                page.splice(0..1, [1]);
                page.splice(8..16, *super::identify::FIRMWARE);
                page
            }
            log::CHANGED_NAMESPACES => self.logs.take_changed(dword10.rae()).as_bytes().to_vec(),
            log::SANITIZE_STATUS if self.spec.sanitize => self.logs.sanitize_status().as_bytes().to_vec(),
            _ => return Err(Status::INVALID_LOG_PAGE),
        };
        let rest = usize::try_from(offset).ok().and_then(|offset| page.get(offset..));
        let mut part = rest.ok_or(Status::INVALID_FIELD)?.to_vec();
        part.resize(usize::try_from(len).unwrap_or(0), 0);
        self.scatter(dma, entry, &part)?;
        if !dword10.rae() {
            self.events.read(dword10.lid());
        }
        Ok(())
    }
}
