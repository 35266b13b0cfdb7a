//! Log pages (NVMe 2.0c 5.16.1), and the asynchronous events that point at them (5.2).

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::status::StatusField;

/// Error information: [`ErrorEntry`], newest first.
pub const ERROR_INFORMATION: u8 = 0x01;
/// SMART and health: [`HealthLog`].
pub const HEALTH: u8 = 0x02;
/// Firmware slots.
pub const FIRMWARE_SLOT: u8 = 0x03;
/// Changed namespaces: identifiers as in [`super::identify::NamespaceList`].
pub const CHANGED_NAMESPACES: u8 = 0x04;
/// Commands supported and their effects.
pub const COMMAND_EFFECTS: u8 = 0x05;
/// Sanitize status: [`SanitizeLog`].
pub const SANITIZE_STATUS: u8 = 0x81;

/// One entry of the error log (NVMe 2.0c 5.16.1.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ErrorEntry {
    /// Counts the controller's errors over its life; 0 when the entry is unused.
    pub error_count: U64,
    /// Submission queue of the command; 0xffff when the error belongs to none.
    pub sq_id: U16,
    /// Identifier of the command; 0xffff when the error belongs to none.
    pub cid: U16,
    /// [`StatusField`] of the command, phase included.
    pub status: U16,
    /// Byte (bits 7:0) and bit (bits 10:8) of the command that was wrong.
    pub parameter_location: U16,
    /// First block that met the error.
    pub lba: U64,
    /// Namespace.
    pub nsid: U32,
    /// Log page with vendor information, or 0.
    pub vendor_log: u8,
    /// Transport type.
    pub trtype: u8,
    /// Reserved.
    pub reserved_30: [u8; 2],
    /// Command specific.
    pub command_specific: U64,
    /// Transport specific, reserved.
    pub reserved_40: [u8; 24],
}

impl ErrorEntry {
    /// How the command ended.
    pub fn status_field(&self) -> StatusField {
        StatusField::from_bits(self.status.get())
    }
}

/// SMART and health information (NVMe 2.0c 5.16.1.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HealthLog {
    /// [`CriticalWarning`].
    pub critical_warning: u8,
    /// Composite temperature, kelvins.
    pub temperature_kelvin: U16,
    /// Spare capacity left, per cent.
    pub available_spare: u8,
    /// Spare capacity below which a warning is due, per cent.
    pub spare_threshold: u8,
    /// Endurance used, per cent; may exceed 100.
    pub percentage_used: u8,
    /// Critical warnings of the endurance groups.
    pub endurance_warning: u8,
    /// Reserved.
    pub reserved_7: [u8; 25],
    /// Data read, in units of 1000 times 512 bytes, rounded up.
    pub data_units_read: U128,
    /// Data written, in units of 1000 times 512 bytes, rounded up.
    pub data_units_written: U128,
    /// Read commands.
    pub host_reads: U128,
    /// Write commands.
    pub host_writes: U128,
    /// Time busy, minutes.
    pub busy_minutes: U128,
    /// Power cycles.
    pub power_cycles: U128,
    /// Power-on time, hours.
    pub power_on_hours: U128,
    /// Power losses without a shutdown.
    pub unsafe_shutdowns: U128,
    /// Unrecovered data integrity errors.
    pub media_errors: U128,
    /// Entries ever made in the error log.
    pub error_log_entries: U128,
    /// Time above the warning temperature, minutes.
    pub warning_temperature_minutes: U32,
    /// Time above the critical temperature, minutes.
    pub critical_temperature_minutes: U32,
    /// Temperature sensors, kelvins; 0 when there is none.
    pub sensors_kelvin: [U16; 8],
    /// Thermal management counters, reserved.
    pub reserved_216: [u8; 296],
}

/// Critical warnings of [`HealthLog`].
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct CriticalWarning {
    /// Spare capacity below its threshold.
    pub spare: bool,
    /// Temperature beyond a threshold.
    pub temperature: bool,
    /// Reliability degraded.
    pub reliability: bool,
    /// Medium read-only.
    pub read_only: bool,
    /// Volatile memory backup failed.
    pub backup_failed: bool,
    /// Persistent memory region unreliable or read-only.
    pub persistent_memory: bool,
    #[bits(2)]
    _reserved: u8,
}

/// Sanitize status (NVMe 2.0c 5.16.1.25).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SanitizeLog {
    /// Progress in 65536ths; 0xffff when none is under way.
    pub progress: U16,
    /// [`SanitizeStatus`].
    pub status: U16,
    /// Dword 10 of the command.
    pub cdw10: U32,
    /// Estimated times, reserved.
    pub reserved_8: [u8; 504],
}

/// State of the most recent sanitize operation.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct SanitizeStatus {
    /// 0 never, 1 completed, 2 under way, 3 failed, 4 completed with deallocation not done as asked.
    #[bits(3)]
    pub outcome: u8,
    /// Overwrite passes completed.
    #[bits(5)]
    pub passes: u8,
    /// Nothing has been written since the last sanitize.
    pub erased: bool,
    #[bits(7)]
    _reserved: u8,
}

/// [`SanitizeStatus::outcome`]: never sanitized.
pub const SANITIZE_NEVER: u8 = 0;
/// [`SanitizeStatus::outcome`]: completed.
pub const SANITIZE_DONE: u8 = 1;
/// [`SanitizeStatus::outcome`]: under way.
pub const SANITIZE_RUNNING: u8 = 2;
/// [`SanitizeStatus::outcome`]: failed.
pub const SANITIZE_FAILED: u8 = 3;

/// Which events are wanted: dword 11 of Asynchronous Event Configuration (NVMe 2.0c 5.27.1.8). `OAES` uses bits 8 and up alike.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EventKinds {
    /// Spare capacity below its threshold.
    pub spare: bool,
    /// Temperature beyond a threshold.
    pub temperature: bool,
    /// Reliability degraded.
    pub reliability: bool,
    /// Medium read-only.
    pub read_only: bool,
    /// Volatile memory backup failed.
    pub backup_failed: bool,
    /// Persistent memory region.
    pub persistent_memory: bool,
    #[bits(2)]
    _reserved: u8,
    /// Namespace attributes changed.
    pub namespace_changed: bool,
    /// Firmware activation starting.
    pub firmware_activation: bool,
    #[bits(22)]
    _reserved2: u32,
}

/// Result of an Asynchronous Event Request (NVMe 2.0c 5.2.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EventResult {
    /// Type: one of the `EVENT_` constants.
    #[bits(3)]
    pub kind: u8,
    #[bits(5)]
    _reserved: u8,
    /// What happened, by type.
    pub information: u8,
    /// The log page to read: reading it, without retaining, arms the event again.
    pub log_page: u8,
    _reserved2: u8,
}

/// [`EventResult::kind`]: error status.
pub const EVENT_ERROR: u8 = 0;
/// [`EventResult::kind`]: SMART and health.
pub const EVENT_HEALTH: u8 = 1;
/// [`EventResult::kind`]: notice.
pub const EVENT_NOTICE: u8 = 2;
/// [`EventResult::kind`]: I/O command set specific.
pub const EVENT_COMMAND_SET: u8 = 6;
/// [`EventResult::kind`]: vendor specific.
pub const EVENT_VENDOR: u8 = 7;

/// Error information: write to an invalid doorbell register.
pub const ERROR_INVALID_DOORBELL: u8 = 0;
/// Error information: invalid doorbell value.
pub const ERROR_INVALID_DOORBELL_VALUE: u8 = 1;
/// Health information: reliability.
pub const HEALTH_RELIABILITY: u8 = 0;
/// Health information: temperature threshold.
pub const HEALTH_TEMPERATURE: u8 = 1;
/// Health information: spare below threshold.
pub const HEALTH_SPARE: u8 = 2;
/// Notice information: namespace attributes changed.
pub const NOTICE_NAMESPACE_CHANGED: u8 = 0;
/// Notice information: firmware activation starting.
pub const NOTICE_FIRMWARE_ACTIVATION: u8 = 1;
/// Command set information: sanitize completed.
pub const SANITIZE_COMPLETED: u8 = 1;

macro_rules! all_zero_default {
    ($($type:ty),*) => {
        $(impl Default for $type {
            fn default() -> Self {
                Self::new_zeroed()
            }
        })*
    };
}

all_zero_default!(ErrorEntry, HealthLog, SanitizeLog);

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<ErrorEntry>() == 64);
    assert!(offset_of!(ErrorEntry, nsid) == 24);
    assert!(size_of::<HealthLog>() == 512);
    assert!(offset_of!(HealthLog, data_units_read) == 32);
    assert!(offset_of!(HealthLog, sensors_kelvin) == 200);
    assert!(size_of::<SanitizeLog>() == 512);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_log_page() {
        let event = EventResult::from_bits(0x0004_0002);
        assert_eq!(
            (event.kind(), event.information(), event.log_page()),
            (EVENT_NOTICE, 0, CHANGED_NAMESPACES)
        );
    }

    #[test]
    fn an_error_entry_keeps_the_status_with_its_phase() {
        let entry = ErrorEntry {
            status: U16::new(super::super::Status::WRITE_FAULT.field().with_phase(true).into_bits()),
            ..ErrorEntry::default()
        };
        assert_eq!(entry.status_field().status(), super::super::Status::WRITE_FAULT);
    }
}
