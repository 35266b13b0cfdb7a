//! Features (NVMe 2.0c 5.27.1): identifiers, and what their dword 11 or result says.

use bitfield_struct::bitfield;

use super::log::EventKinds;

/// Arbitration: [`Arbitration`].
pub const ARBITRATION: u8 = 0x01;
/// Power management.
pub const POWER_MANAGEMENT: u8 = 0x02;
/// Temperature threshold, kelvins.
pub const TEMPERATURE_THRESHOLD: u8 = 0x04;
/// Error recovery.
pub const ERROR_RECOVERY: u8 = 0x05;
/// Volatile write cache: bit 0 enables it.
pub const VOLATILE_WRITE_CACHE: u8 = 0x06;
/// Number of queues: [`QueueCount`].
pub const NUMBER_OF_QUEUES: u8 = 0x07;
/// Interrupt coalescing: [`InterruptCoalescing`].
pub const INTERRUPT_COALESCING: u8 = 0x08;
/// Interrupt vector configuration.
pub const INTERRUPT_VECTOR: u8 = 0x09;
/// Write atomicity.
pub const WRITE_ATOMICITY: u8 = 0x0a;
/// Asynchronous event configuration: [`EventKinds`].
pub const ASYNC_EVENT_CONFIG: u8 = 0x0b;

/// Dword 11 and result of Number of Queues (NVMe 2.0c 5.27.1.5). Both counts are 0's based and leave out the admin queues.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct QueueCount {
    /// Submission queues, 0's based.
    pub submission: u16,
    /// Completion queues, 0's based.
    pub completion: u16,
}

/// Dword 11 of Arbitration (NVMe 2.0c 5.27.1.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Arbitration {
    /// Burst as a power of two; 7 for no limit.
    #[bits(3)]
    pub burst: u8,
    #[bits(5)]
    _reserved: u8,
    /// Weight of low priority, 0's based.
    pub low: u8,
    /// Weight of medium priority, 0's based.
    pub medium: u8,
    /// Weight of high priority, 0's based.
    pub high: u8,
}

/// Dword 11 of Interrupt Coalescing (NVMe 2.0c 5.27.1.6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct InterruptCoalescing {
    /// Completions to wait for, 0's based.
    pub threshold: u8,
    /// Longest wait, in units of 100 microseconds; 0 for none.
    pub time: u8,
    _reserved: u16,
}

/// Dword 11 of Interrupt Vector Configuration (NVMe 2.0c 5.27.1.7).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct InterruptVector {
    /// The vector.
    pub vector: u16,
    /// This vector does not coalesce.
    pub coalescing_disabled: bool,
    #[bits(15)]
    _reserved: u16,
}

/// The events that every driver of ours asks for: health, and namespaces that changed.
pub const EVENTS_WANTED: EventKinds = EventKinds::new()
    .with_spare(true)
    .with_temperature(true)
    .with_reliability(true)
    .with_read_only(true)
    .with_backup_failed(true)
    .with_namespace_changed(true);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_counts_are_two_halves() {
        assert_eq!(QueueCount::new().with_submission(7).with_completion(3).into_bits(), 0x0003_0007);
    }

    #[test]
    fn namespace_changes_are_bit_8() {
        assert_eq!(EVENTS_WANTED.into_bits(), 0x11f);
    }
}
