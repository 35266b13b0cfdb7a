//! What a controller has to say unasked (NVMe 2.0c 5.2).

use vfiomux_spec::nvme::identify::NamespaceList;
use vfiomux_spec::nvme::log::{self, CriticalWarning, ErrorEntry, EventKinds, EventResult, HealthLog};
use vfiomux_spec::nvme::{NSID_ALL, Status, SubmissionEntry, feature};

use super::{Controller, State};
use crate::NvmeError;
use crate::admin::PAGE_BYTES;

/// Entries of the error log that are read after an error event: as many as a page holds.
const ERROR_ENTRIES: usize = PAGE_BYTES / size_of::<ErrorEntry>();

/// Events taken by one call, so that a controller that never stops talking does not hold us.
const EVENTS_MAX: usize = 16;

/// Something that a controller said unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Namespaces came, went or changed: [`Controller::rescan_namespaces`]. Empty when it does not say which.
    NamespacesChanged(Vec<u32>),
    /// Its health changed.
    Health(Health),
    /// It found an error of its own or of ours: the newest entries of its log, worded.
    Error(Vec<String>),
    /// A sanitize operation ended.
    SanitizeCompleted,
    /// It is about to pause for new firmware.
    FirmwareActivation,
    /// Something else: type, information and log page by the standard's numbers.
    Other {
        /// Type.
        kind: u8,
        /// Information.
        information: u8,
        /// Log page.
        log_page: u8,
    },
}

/// A controller's health (NVMe 2.0c 5.16.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Spare capacity is below its threshold.
    pub spare_low: bool,
    /// Temperature is beyond a threshold.
    pub temperature_beyond: bool,
    /// Reliability is degraded.
    pub reliability_degraded: bool,
    /// The medium is read-only.
    pub read_only: bool,
    /// The backup of volatile memory failed.
    pub backup_failed: bool,
    /// Composite temperature, kelvins.
    pub temperature_kelvin: u16,
    /// Spare capacity left, per cent.
    pub spare_percent: u8,
    /// Endurance used, per cent; may exceed 100.
    pub used_percent: u8,
    /// Unrecovered data integrity errors.
    pub media_errors: u128,
    /// Power losses without a shutdown.
    pub unsafe_shutdowns: u128,
    /// Power-on time, hours.
    pub power_on_hours: u128,
}

impl Health {
    /// Whether any of the critical warnings stands.
    #[must_use]
    pub const fn is_critical(&self) -> bool {
        self.spare_low
            || self.temperature_beyond
            || self.reliability_degraded
            || self.read_only
            || self.backup_failed
    }
}

impl From<HealthLog> for Health {
    fn from(log: HealthLog) -> Self {
        let warning = CriticalWarning::from_bits(log.critical_warning);
        Self {
            spare_low: warning.spare(),
            temperature_beyond: warning.temperature(),
            reliability_degraded: warning.reliability(),
            read_only: warning.read_only(),
            backup_failed: warning.backup_failed(),
            temperature_kelvin: log.temperature_kelvin.get(),
            spare_percent: log.available_spare,
            used_percent: log.percentage_used,
            media_errors: log.media_errors.get(),
            unsafe_shutdowns: log.unsafe_shutdowns.get(),
            power_on_hours: log.power_on_hours.get(),
        }
    }
}

impl Controller {
    /// Asks for the events that we can use.
    pub(super) fn listen(&mut self) -> Result<(), NvmeError> {
        let wanted = feature::EVENTS_WANTED.with_namespace_changed(self.abilities.namespace_notices);
        for kinds in [wanted, EventKinds::new()] {
            let command = SubmissionEntry::set_features(feature::ASYNC_EVENT_CONFIG, 0, kinds.into_bits());
            match self.execute("Set Features (events)", command, self.options.admin_timeout)? {
                Ok(_) => break,
                // Some controllers refuse what they do not know; then they speak of errors only.
                Err(Status::INVALID_FIELD) => {}
                Err(status) => {
                    tracing::info!(controller = %self.registers.controller, %status, "the controller does not let its events be chosen");
                    break;
                }
            }
        }
        self.admin.request_event();
        Ok(())
    }

    /// What the controller said since the last call. Reads the log page that an event points at, which arms the event again, and
    /// renews the request. Also the place where a controller that died by itself is noticed: call it about once a second.
    pub fn poll_events(&mut self) -> Result<Vec<Event>, NvmeError> {
        match self.state {
            State::Running => {}
            State::Gone => return Err(self.registers.gone()),
            State::Halted | State::Failed => return Err(self.stopped()),
        }
        let alive = self.registers.check_running("working");
        self.note(alive)?;
        let mut events = Vec::new();
        while events.len() < EVENTS_MAX
            && let Some(said) = self.admin.take_event()
        {
            events.push(self.understand(said)?);
            self.admin.request_event();
        }
        // After an aborted request nothing was said, yet it must be made anew.
        self.admin.request_event();
        Ok(events)
    }

    /// The controller's health now.
    pub fn health(&mut self) -> Result<Health, NvmeError> {
        let log: HealthLog = self.read_log(log::HEALTH, size_of::<HealthLog>())?.unwrap_or_default();
        Ok(log.into())
    }

    fn understand(&mut self, said: EventResult) -> Result<Event, NvmeError> {
        Ok(match (said.kind(), said.information()) {
            (log::EVENT_NOTICE, log::NOTICE_NAMESPACE_CHANGED) => {
                let list: Option<NamespaceList> = self.read_log(said.log_page(), PAGE_BYTES)?;
                let changed = list.map(|list| list.iter().collect()).unwrap_or_default();
                // One entry of all ones stands for more changes than the list holds.
                Event::NamespacesChanged(if changed == [NSID_ALL] { Vec::new() } else { changed })
            }
            (log::EVENT_NOTICE, log::NOTICE_FIRMWARE_ACTIVATION) => {
                self.dismiss(said)?;
                Event::FirmwareActivation
            }
            (log::EVENT_HEALTH, _) => Event::Health(self.health()?),
            (log::EVENT_ERROR, _) => Event::Error(self.error_log(said)?),
            (log::EVENT_COMMAND_SET, log::SANITIZE_COMPLETED) => {
                let _ = self.sanitize_log()?;
                Event::SanitizeCompleted
            }
            (kind, information) => {
                self.dismiss(said)?;
                Event::Other { kind, information, log_page: said.log_page() }
            }
        })
    }

    /// Reads the log page that an event points at for no more than to arm the event again.
    fn dismiss(&mut self, said: EventResult) -> Result<(), NvmeError> {
        if said.log_page() != 0 {
            let _ = self.read_log::<[u8; 512]>(said.log_page(), 512)?;
        }
        Ok(())
    }

    fn error_log(&mut self, said: EventResult) -> Result<Vec<String>, NvmeError> {
        let what = match said.information() {
            log::ERROR_INVALID_DOORBELL => "a doorbell was rung that does not exist",
            log::ERROR_INVALID_DOORBELL_VALUE => "a doorbell was given a value that cannot be",
            _ => "an error",
        };
        let mut lines = vec![what.to_owned()];
        if self.read_log::<ErrorEntry>(said.log_page(), PAGE_BYTES)?.is_some() {
            let entries = (0..ERROR_ENTRIES)
                .filter_map(|index| self.admin.read_page::<ErrorEntry>(index * size_of::<ErrorEntry>()))
                .take_while(|entry| entry.error_count.get() != 0)
                .take(4);
            lines.extend(entries.map(|entry| {
                format!(
                    "error {}: {} (queue {}, namespace {}, block {})",
                    entry.error_count.get(),
                    entry.status_field().status(),
                    entry.sq_id.get(),
                    entry.nsid.get(),
                    entry.lba.get()
                )
            }));
        }
        Ok(lines)
    }

    /// Reads a log page. `None` when the controller does not have it.
    pub(super) fn read_log<T: zerocopy::FromBytes>(
        &mut self,
        page: u8,
        length_bytes: usize,
    ) -> Result<Option<T>, NvmeError> {
        let length_bytes = u16::try_from(length_bytes.min(PAGE_BYTES)).unwrap_or(4);
        let command = SubmissionEntry::get_log_page(page, NSID_ALL, length_bytes, self.admin.page_iova());
        let answer = self.execute("Get Log Page", command, self.options.admin_timeout)?;
        Ok(if answer.is_ok() { self.admin.read_page(0) } else { None })
    }
}
