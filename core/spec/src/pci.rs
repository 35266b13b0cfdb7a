//! PCI configuration space (PCI Local Bus 3.0, PCI Express Base 5.0) as far as owning a function needs it.

use bitfield_struct::bitfield;

/// Offset of the vendor, 2 bytes. [`VENDOR_NONE`] when no function answers.
pub const VENDOR_ID: u64 = 0x00;
/// Offset of the device, 2 bytes.
pub const DEVICE_ID: u64 = 0x02;
/// Offset of [`Command`], 2 bytes.
pub const COMMAND: u64 = 0x04;
/// Offset of [`PciStatus`], 2 bytes.
pub const STATUS: u64 = 0x06;
/// Offset of the revision, 1 byte; the three bytes above it are [`Class`].
pub const REVISION_ID: u64 = 0x08;
/// Offset of [`Class`], 3 bytes.
pub const CLASS_CODE: u64 = 0x09;
/// Offset of the header type, 1 byte; bit 7 set when the device has several functions.
pub const HEADER_TYPE: u64 = 0x0e;
/// Offset of the first base address register; there are [`BAR_COUNT`] of 4 bytes.
pub const BAR0: u64 = 0x10;
/// Offset of the subsystem vendor, 2 bytes.
pub const SUBSYSTEM_VENDOR_ID: u64 = 0x2c;
/// Offset of the subsystem, 2 bytes.
pub const SUBSYSTEM_ID: u64 = 0x2e;
/// Offset of the pointer to the first capability, 1 byte.
pub const CAPABILITIES: u64 = 0x34;
/// Offset of the first extended capability.
pub const EXTENDED_CAPABILITIES: u64 = 0x100;

/// Base address registers of an ordinary function.
pub const BAR_COUNT: usize = 6;
/// Bytes of the configuration space of a PCI Express function.
pub const CONFIG_BYTES: usize = 4096;
/// What the vendor reads as when no function answers.
pub const VENDOR_NONE: u16 = 0xffff;

/// Command register (PCI 3.0 6.2.2).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Command {
    /// Answers I/O cycles.
    pub io: bool,
    /// Answers memory cycles: without it BARs read as ones.
    pub memory: bool,
    /// May do DMA and send MSI.
    pub bus_master: bool,
    #[bits(5)]
    _reserved: u8,
    /// Reports system errors.
    pub serr: bool,
    _reserved2: bool,
    /// Does not assert INTx.
    pub intx_disable: bool,
    #[bits(5)]
    _reserved3: u8,
}

/// Status register (PCI 3.0 6.2.3).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PciStatus {
    #[bits(3)]
    _reserved: u8,
    /// An INTx interrupt is pending.
    pub interrupt: bool,
    /// There is a list of capabilities.
    pub capabilities: bool,
    #[bits(11)]
    _reserved2: u16,
}

/// Class code: what kind of function this is (PCI Code and ID Assignment 1.11).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class {
    /// Base class.
    pub base: u8,
    /// Sub-class.
    pub sub: u8,
    /// Programming interface.
    pub interface: u8,
}

impl Class {
    /// NVM Express I/O controller.
    pub const NVME: Self = Self { base: 0x01, sub: 0x08, interface: 0x02 };
    /// Ethernet controller.
    pub const ETHERNET: Self = Self { base: 0x02, sub: 0x00, interface: 0x00 };
    /// PCI to PCI bridge.
    pub const BRIDGE: Self = Self { base: 0x06, sub: 0x04, interface: 0x00 };

    /// From the 24-bit number that sysfs prints: base, sub-class, interface from high to low.
    pub const fn from_u24(class: u32) -> Self {
        let [_, base, sub, interface] = class.to_be_bytes();
        Self { base, sub, interface }
    }

    /// The 24-bit number that sysfs prints.
    pub const fn to_u24(self) -> u32 {
        u32::from_be_bytes([0, self.base, self.sub, self.interface])
    }

    /// The kind in words, for those that a claim is likely to meet.
    pub const fn text(self) -> &'static str {
        match (self.base, self.sub, self.interface) {
            (0x01, 0x08, 0x02) => "NVMe controller",
            (0x01, ..) => "storage controller",
            (0x02, 0x00, _) => "Ethernet controller",
            (0x02, ..) => "network controller",
            (0x03, ..) => "display controller",
            (0x06, ..) => "bridge",
            (0x0c, 0x03, _) => "USB controller",
            _ => "PCI function",
        }
    }
}

impl core::fmt::Debug for Class {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl core::fmt::Display for Class {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({:02x}{:02x}{:02x})", self.text(), self.base, self.sub, self.interface)
    }
}

/// The two low bytes of a base address register (PCI 3.0 6.2.5.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct BarBits {
    /// An I/O BAR; a memory BAR otherwise.
    pub io: bool,
    /// Memory type: 0 32-bit, 2 64-bit, taking the next BAR as its upper half.
    #[bits(2)]
    pub kind: u8,
    /// Prefetchable.
    pub prefetchable: bool,
    /// Bits 31:4 of the address.
    #[bits(28)]
    pub address: u32,
}

/// [`BarBits::kind`]: 64-bit.
pub const BAR_64_BIT: u8 = 2;

/// Capability: power management.
pub const CAP_POWER_MANAGEMENT: u8 = 0x01;
/// Capability: MSI.
pub const CAP_MSI: u8 = 0x05;
/// Capability: vendor specific; virtio lives here.
pub const CAP_VENDOR: u8 = 0x09;
/// Capability: PCI Express.
pub const CAP_EXPRESS: u8 = 0x10;
/// Capability: MSI-X.
pub const CAP_MSIX: u8 = 0x11;
/// Extended capability: advanced error reporting.
pub const EXT_CAP_AER: u16 = 0x0001;
/// Extended capability: access control services.
pub const EXT_CAP_ACS: u16 = 0x000d;
/// Extended capability: single root I/O virtualization.
pub const EXT_CAP_SRIOV: u16 = 0x0010;

/// Message control of MSI-X, at offset 2 of its capability (PCI 3.0 6.8.2.3).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct MsixControl {
    /// Vectors, 0's based.
    #[bits(11)]
    pub table_size: u16,
    #[bits(3)]
    _reserved: u8,
    /// Every vector is masked.
    pub function_mask: bool,
    /// MSI-X is on.
    pub enable: bool,
}

/// Table and pending bits of MSI-X, at offsets 4 and 8 of its capability.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MsixLocation {
    /// Which BAR.
    #[bits(3)]
    pub bar: u8,
    /// Bits 31:3 of the offset in it.
    #[bits(29)]
    pub offset_high: u32,
}

impl MsixLocation {
    /// Offset in the BAR, bytes.
    pub const fn offset_bytes(self) -> u32 {
        self.offset_high() << 3
    }
}

/// Bytes of one vector in the MSI-X table.
pub const MSIX_ENTRY_BYTES: u32 = 16;

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    #[test]
    fn memory_and_bus_master_are_bits_1_and_2() {
        assert_eq!(Command::new().with_memory(true).with_bus_master(true).into_bits(), 6);
        assert_eq!(Command::new().with_intx_disable(true).into_bits(), 1 << 10);
    }

    #[test]
    fn a_class_reads_like_sysfs_writes_it() {
        assert_eq!(Class::from_u24(0x010802), Class::NVME);
        assert_eq!(Class::NVME.to_u24(), 0x010802);
        assert_eq!(format!("{}", Class::from_u24(0x010802)), "NVMe controller (010802)");
        assert_eq!(Class::from_u24(0x020000), Class::ETHERNET);
    }

    #[test]
    fn msix_fields_decode_as_lspci_shows_them() {
        let control = MsixControl::from_bits(0x8040);
        assert!(control.enable());
        assert_eq!(control.table_size() + 1, 65);
        let table = MsixLocation::from_bits(0x2004);
        assert_eq!((table.bar(), table.offset_bytes()), (4, 0x2000));
    }

    #[test]
    fn a_64_bit_bar_says_so() {
        assert_eq!(BarBits::from_bits(0xfebd_4004).kind(), BAR_64_BIT);
    }
}
