//! What a controller and its namespaces say of themselves (NVMe 2.0c 5.17, NVM 1.0c 4.1.5).
//!
//! Every structure is the 4096 bytes that the command transfers. Fields that nobody here reads are named `reserved` together
//! with those that the standard reserves.

use bitfield_struct::bitfield;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::register::Version;

/// Bytes of every Identify data structure.
pub const IDENTIFY_BYTES: usize = 4096;

/// CNS: one namespace, NVM command set.
pub const CNS_NAMESPACE: u8 = 0x00;
/// CNS: the controller.
pub const CNS_CONTROLLER: u8 = 0x01;
/// CNS: namespaces active on this controller, from the one after NSID.
pub const CNS_ACTIVE_NAMESPACES: u8 = 0x02;
/// CNS: a namespace's identifiers.
pub const CNS_NAMESPACE_DESCRIPTORS: u8 = 0x03;
/// CNS: one namespace, fields that depend on the command set given in CSI.
pub const CNS_NAMESPACE_OF_SET: u8 = 0x05;
/// CNS: the controller, fields that depend on the command set given in CSI.
pub const CNS_CONTROLLER_OF_SET: u8 = 0x06;

/// Identify Controller (NVMe 2.0c 5.17.2.1).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IdentifyController {
    /// PCI vendor.
    pub vid: U16,
    /// PCI subsystem vendor.
    pub ssvid: U16,
    /// Serial number, ASCII padded with spaces. See [`ascii`].
    pub sn: [u8; 20],
    /// Model number, ASCII padded with spaces.
    pub mn: [u8; 40],
    /// Firmware revision, ASCII padded with spaces.
    pub fr: [u8; 8],
    /// Recommended arbitration burst, as a power of two.
    pub rab: u8,
    /// IEEE OUI.
    pub ieee: [u8; 3],
    /// Multi-path and sharing.
    pub cmic: u8,
    /// Maximum data transfer: `2 ^ mdts` pages of `CAP.MPSMIN`; 0 for no limit.
    pub mdts: u8,
    /// Controller identifier.
    pub cntlid: U16,
    /// Version, as in `VS`.
    pub ver: U32,
    /// RTD3 resume latency, microseconds.
    pub rtd3r: U32,
    /// RTD3 entry latency, microseconds.
    pub rtd3e: U32,
    /// Optional asynchronous events supported.
    pub oaes: U32,
    /// Controller attributes.
    pub ctratt: U32,
    /// Reserved.
    pub reserved_100: [u8; 11],
    /// Controller type: 1 I/O, 2 discovery, 3 administrative.
    pub cntrltype: u8,
    /// Reserved.
    pub reserved_112: [u8; 144],
    /// Optional admin commands: [`Oacs`].
    pub oacs: U16,
    /// Abort command limit, 0's based.
    pub acl: u8,
    /// Asynchronous event request limit, 0's based.
    pub aerl: u8,
    /// Firmware updates.
    pub frmw: u8,
    /// Log page attributes.
    pub lpa: u8,
    /// Error log page entries, 0's based.
    pub elpe: u8,
    /// Number of power states, 0's based.
    pub npss: u8,
    /// Reserved.
    pub reserved_264: [u8; 2],
    /// Warning composite temperature, kelvins.
    pub wctemp: U16,
    /// Critical composite temperature, kelvins.
    pub cctemp: U16,
    /// Reserved.
    pub reserved_270: [u8; 10],
    /// Total NVM capacity, bytes.
    pub tnvmcap: U128,
    /// Unallocated NVM capacity, bytes.
    pub unvmcap: U128,
    /// Reserved.
    pub reserved_312: [u8; 16],
    /// Sanitize capabilities: [`Sanicap`].
    pub sanicap: U32,
    /// Reserved.
    pub reserved_332: [u8; 180],
    /// Submission entry sizes as powers of two: required in bits 3:0, maximum in bits 7:4.
    pub sqes: u8,
    /// Completion entry sizes as powers of two: required in bits 3:0, maximum in bits 7:4.
    pub cqes: u8,
    /// Maximum outstanding commands of one queue; 0 where the transport does not need it.
    pub maxcmd: U16,
    /// Highest namespace identifier in use.
    pub nn: U32,
    /// Optional NVM commands: [`Oncs`].
    pub oncs: U16,
    /// Fused operations.
    pub fuses: U16,
    /// Format NVM attributes: [`Fna`].
    pub fna: u8,
    /// Volatile write cache: [`Vwc`].
    pub vwc: u8,
    /// Atomic write unit, blocks, 0's based.
    pub awun: U16,
    /// Atomic write unit across power failure, blocks, 0's based.
    pub awupf: U16,
    /// Reserved.
    pub reserved_530: [u8; 6],
    /// SGL support: [`Sgls`].
    pub sgls: U32,
    /// Maximum number of allowed namespaces.
    pub mnan: U32,
    /// Reserved.
    pub reserved_544: [u8; 224],
    /// NVM subsystem's qualified name, UTF-8, ended by a zero byte.
    pub subnqn: [u8; 256],
    /// Reserved, NVMe over Fabrics, power states, vendor specific.
    pub reserved_1024: [u8; 3072],
}

/// Identify Namespace, NVM command set (NVM 1.0c 4.1.5.1).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IdentifyNamespace {
    /// Size in blocks. 0 when the namespace is not active.
    pub nsze: U64,
    /// Capacity in blocks.
    pub ncap: U64,
    /// Utilisation in blocks.
    pub nuse: U64,
    /// Features: [`Nsfeat`].
    pub nsfeat: u8,
    /// Number of LBA formats, 0's based.
    pub nlbaf: u8,
    /// The LBA format in use: [`Flbas`].
    pub flbas: u8,
    /// Metadata capabilities: bit 0 interleaved, bit 1 separate.
    pub mc: u8,
    /// Protection capabilities.
    pub dpc: u8,
    /// Protection in use; bits 2:0 give the type, 0 for none.
    pub dps: u8,
    /// Multi-path and sharing.
    pub nmic: u8,
    /// Reservation capabilities.
    pub rescap: u8,
    /// Format progress.
    pub fpi: u8,
    /// Deallocation: [`Dlfeat`].
    pub dlfeat: u8,
    /// Atomic write unit, blocks, 0's based.
    pub nawun: U16,
    /// Atomic write unit across power failure.
    pub nawupf: U16,
    /// Atomic compare and write unit.
    pub nacwu: U16,
    /// Atomic boundary, 0's based; 0 for none.
    pub nabsn: U16,
    /// Atomic boundary offset.
    pub nabo: U16,
    /// Atomic boundary across power failure.
    pub nabspf: U16,
    /// Optimal I/O boundary in blocks: a command that crosses a multiple of it is slower. 0 for none.
    pub noiob: U16,
    /// NVM capacity, bytes.
    pub nvmcap: U128,
    /// Preferred write granularity, blocks, 0's based.
    pub npwg: U16,
    /// Preferred write alignment.
    pub npwa: U16,
    /// Preferred deallocate granularity.
    pub npdg: U16,
    /// Preferred deallocate alignment.
    pub npda: U16,
    /// Optimal write size.
    pub nows: U16,
    /// Reserved.
    pub reserved_74: [u8; 25],
    /// Attributes; bit 0 write protected.
    pub nsattr: u8,
    /// NVM set.
    pub nvmsetid: U16,
    /// Endurance group.
    pub endgid: U16,
    /// Globally unique identifier, big-endian; all zero when there is none.
    pub nguid: [u8; 16],
    /// IEEE extended unique identifier, big-endian; all zero when there is none.
    pub eui64: [u8; 8],
    /// LBA formats: [`LbaFormat`].
    pub lbaf: [U32; 64],
    /// Vendor specific.
    pub reserved_384: [u8; 3712],
}

/// Identify Controller, NVM command set ([`CNS_CONTROLLER_OF_SET`] with CSI 0, NVM 1.0c 4.1.5.2).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct IdentifyControllerNvm {
    /// Verify size limit: `2 ^ vsl` pages of `CAP.MPSMIN`; 0 for no limit.
    pub vsl: u8,
    /// Write Zeroes size limit: `2 ^ wzsl` pages of `CAP.MPSMIN`; 0 for no limit.
    pub wzsl: u8,
    /// Write Uncorrectable size limit: `2 ^ wusl` pages of `CAP.MPSMIN`; 0 for no limit.
    pub wusl: u8,
    /// Most ranges in a Dataset Management command; 0 when not said.
    pub dmrl: u8,
    /// Most blocks in one range of a Dataset Management command; 0 when not said.
    pub dmrsl: U32,
    /// Most blocks in all ranges of a Dataset Management command; 0 when not said.
    pub dmsl: U64,
    /// Reserved.
    pub reserved_16: [u8; 4080],
}

/// Active namespace list (NVMe 2.0c 5.17.2.2): increasing identifiers, ended by 0.
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NamespaceList {
    /// The identifiers.
    pub nsids: [U32; 1024],
}

/// Head of one namespace identification descriptor (NVMe 2.0c 5.17.2.3); `length` bytes follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NamespaceDescriptorHeader {
    /// Kind: one of the `NIDT_` constants; with `length` 0 the list has ended.
    pub kind: u8,
    /// Bytes that follow.
    pub length: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// [`NamespaceDescriptorHeader::kind`]: EUI-64, 8 bytes.
pub const NIDT_EUI64: u8 = 1;
/// [`NamespaceDescriptorHeader::kind`]: NGUID, 16 bytes.
pub const NIDT_NGUID: u8 = 2;
/// [`NamespaceDescriptorHeader::kind`]: UUID, 16 bytes.
pub const NIDT_UUID: u8 = 3;
/// [`NamespaceDescriptorHeader::kind`]: command set, 1 byte.
pub const NIDT_CSI: u8 = 4;

/// Optional admin commands (`OACS`).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Oacs {
    /// Security Send and Receive.
    pub security: bool,
    /// Format NVM.
    pub format: bool,
    /// Firmware download and commit.
    pub firmware: bool,
    /// Namespace management.
    pub namespace_management: bool,
    /// Device self-test.
    pub self_test: bool,
    /// Directives.
    pub directives: bool,
    /// NVMe-MI.
    pub management_interface: bool,
    /// Virtualization management.
    pub virtualization: bool,
    /// Doorbell buffer config.
    pub doorbell_buffer: bool,
    /// Get LBA status.
    pub lba_status: bool,
    /// Command and feature lockdown.
    pub lockdown: bool,
    #[bits(5)]
    _reserved: u8,
}

/// Optional NVM commands (`ONCS`).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Oncs {
    /// Compare.
    pub compare: bool,
    /// Write Uncorrectable.
    pub write_uncorrectable: bool,
    /// Dataset Management.
    pub dataset_management: bool,
    /// Write Zeroes.
    pub write_zeroes: bool,
    /// Save and Select of the features commands.
    pub feature_save_select: bool,
    /// Reservations.
    pub reservations: bool,
    /// Timestamp.
    pub timestamp: bool,
    /// Verify.
    pub verify: bool,
    /// Copy.
    pub copy: bool,
    #[bits(7)]
    _reserved: u8,
}

/// Sanitize capabilities (`SANICAP`).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Sanicap {
    /// Cryptographic erase.
    pub crypto_erase: bool,
    /// Block erase.
    pub block_erase: bool,
    /// Overwrite.
    pub overwrite: bool,
    #[bits(26)]
    _reserved: u32,
    /// No-deallocate is inhibited.
    pub no_deallocate_inhibited: bool,
    /// How no-deallocate modifies the medium.
    #[bits(2)]
    pub no_deallocate_modifies: u8,
}

/// Format NVM attributes (`FNA`).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Fna {
    /// A format applies to all namespaces.
    pub format_all: bool,
    /// A secure erase applies to all namespaces.
    pub erase_all: bool,
    /// Cryptographic erase supported.
    pub crypto_erase: bool,
    /// NSID of all namespaces is not supported by Format.
    pub no_broadcast: bool,
    #[bits(4)]
    _reserved: u8,
}

/// Volatile write cache (`VWC`).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Vwc {
    /// There is one.
    pub present: bool,
    /// Flush with NSID of all namespaces: 0 not said, 2 refused, 3 supported.
    #[bits(2)]
    pub flush_broadcast: u8,
    #[bits(5)]
    _reserved: u8,
}

/// SGL support (`SGLS`).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Sgls {
    /// 0 none, 1 any alignment, 2 dword alignment and granularity.
    #[bits(2)]
    pub support: u8,
    /// Keyed data block descriptors.
    pub keyed: bool,
    #[bits(5)]
    _reserved: u8,
    /// Descriptors that a command should not exceed; 0 when not said.
    pub descriptor_threshold: u8,
    /// Bit bucket descriptors.
    pub bit_bucket: bool,
    /// Byte aligned contiguous metadata buffer.
    pub metadata_byte_aligned: bool,
    /// An SGL may be longer than the data.
    pub longer_than_data: bool,
    /// Metadata pointer as an SGL segment.
    pub metadata_sgl: bool,
    /// Offsets as addresses.
    pub offset_address: bool,
    /// Transport data block descriptors.
    pub transport: bool,
    #[bits(10)]
    _reserved2: u16,
}

/// [`Sgls::support`]: any alignment.
pub const SGL_BYTE_ALIGNED: u8 = 1;
/// [`Sgls::support`]: dword alignment and granularity.
pub const SGL_DWORD_ALIGNED: u8 = 2;

/// Namespace features (`NSFEAT`).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Nsfeat {
    /// Thin provisioning.
    pub thin: bool,
    /// `NAWUN`, `NAWUPF`, `NACWU` are meaningful.
    pub atomics: bool,
    /// The deallocated-or-unwritten error is supported.
    pub deallocated_error: bool,
    /// `NGUID` and `EUI64` are never reused.
    pub uid_reuse: bool,
    /// `NPWG`, `NPWA`, `NPDG`, `NPDA`, `NOWS` are meaningful.
    pub preferred: bool,
    #[bits(3)]
    _reserved: u8,
}

/// The LBA format in use (`FLBAS`).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Flbas {
    /// Format index, lower four bits.
    #[bits(4)]
    pub index_low: u8,
    /// Metadata is interleaved with the data.
    pub interleaved: bool,
    /// Format index, upper two bits.
    #[bits(2)]
    pub index_high: u8,
    #[bits(1)]
    _reserved: u8,
}

impl Flbas {
    /// Format index, 0 to 63.
    pub const fn index(self) -> usize {
        (self.index_low() | self.index_high() << 4) as usize
    }
}

/// What deallocated blocks read as (`DLFEAT`).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct Dlfeat {
    /// One of the `DEALLOCATED_` constants.
    #[bits(3)]
    pub reads_as: u8,
    /// Write Zeroes may deallocate.
    pub write_zeroes_deallocates: bool,
    /// Guard field of deallocated blocks is valid.
    pub guard: bool,
    #[bits(3)]
    _reserved: u8,
}

/// [`Dlfeat::reads_as`]: not said.
pub const DEALLOCATED_UNKNOWN: u8 = 0;
/// [`Dlfeat::reads_as`]: zeroes.
pub const DEALLOCATED_ZEROES: u8 = 1;
/// [`Dlfeat::reads_as`]: bytes of 0xff.
pub const DEALLOCATED_ONES: u8 = 2;

/// One LBA format (NVM 1.0c 4.1.5.1, figure 98).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct LbaFormat {
    /// Metadata bytes of a block.
    pub ms: u16,
    /// Data bytes of a block, as a power of two; 0 when the format is not available.
    pub lbads: u8,
    /// Relative performance: 0 best, 3 degraded.
    #[bits(2)]
    pub rp: u8,
    #[bits(6)]
    _reserved: u8,
}

impl IdentifyController {
    /// Version of the standard.
    pub fn version(&self) -> Version {
        Version::from_bits(self.ver.get())
    }

    /// Serial number without its padding.
    pub fn serial(&self) -> &str {
        ascii(&self.sn)
    }

    /// Model number without its padding.
    pub fn model(&self) -> &str {
        ascii(&self.mn)
    }

    /// Firmware revision without its padding.
    pub fn firmware(&self) -> &str {
        ascii(&self.fr)
    }

    /// Optional admin commands.
    pub fn optional_admin(&self) -> Oacs {
        Oacs::from_bits(self.oacs.get())
    }

    /// Optional NVM commands.
    pub fn optional_nvm(&self) -> Oncs {
        Oncs::from_bits(self.oncs.get())
    }

    /// SGL support.
    pub fn sgl_support(&self) -> Sgls {
        Sgls::from_bits(self.sgls.get())
    }

    /// Sanitize capabilities.
    pub fn sanitize(&self) -> Sanicap {
        Sanicap::from_bits(self.sanicap.get())
    }

    /// Volatile write cache.
    pub fn write_cache(&self) -> Vwc {
        Vwc::from_bits(self.vwc)
    }

    /// The most bytes that one command may transfer, given `CAP.MPSMIN`; `None` for no limit.
    pub fn max_transfer_bytes(&self, mpsmin: u8) -> Option<u64> {
        let shift = 12 + u32::from(mpsmin) + u32::from(self.mdts);
        (self.mdts != 0).then(|| 1u64.checked_shl(shift)).flatten()
    }
}

impl IdentifyNamespace {
    /// The LBA format in use, if the namespace has it and it is available.
    pub fn format(&self) -> Option<LbaFormat> {
        let format = LbaFormat::from_bits(self.lbaf.get(Flbas::from_bits(self.flbas).index())?.get());
        (format.lbads() != 0).then_some(format)
    }

    /// Bytes of a block as a power of two, if it is one that this house can use: 512 bytes to 64 KiB, no metadata.
    pub fn plain_block_shift(&self) -> Option<u32> {
        let format = self.format()?;
        let shift = u32::from(format.lbads());
        ((9..=16).contains(&shift) && format.ms() == 0).then_some(shift)
    }

    /// What deallocated blocks read as.
    pub fn deallocation(&self) -> Dlfeat {
        Dlfeat::from_bits(self.dlfeat)
    }
}

impl NamespaceList {
    /// The identifiers up to the first 0.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.nsids.iter().map(|nsid| nsid.get()).take_while(|&nsid| nsid != 0)
    }
}

macro_rules! all_zero_default {
    ($($type:ty),*) => {
        $(impl Default for $type {
            fn default() -> Self {
                Self::new_zeroed()
            }
        })*
    };
}

all_zero_default!(IdentifyController, IdentifyControllerNvm, IdentifyNamespace, NamespaceList);

/// An ASCII field without its padding; what is not printable ASCII ends it, since a device's bytes go to terminals and logs.
pub fn ascii(field: &[u8]) -> &str {
    let end = field.iter().position(|byte| !matches!(byte, b' '..=b'~')).unwrap_or(field.len());
    let printable = field.get(..end).unwrap_or_default();
    core::str::from_utf8(printable).unwrap_or_default().trim_matches(' ')
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<IdentifyController>() == IDENTIFY_BYTES);
    assert!(offset_of!(IdentifyController, mdts) == 77);
    assert!(offset_of!(IdentifyController, cntrltype) == 111);
    assert!(offset_of!(IdentifyController, oacs) == 256);
    assert!(offset_of!(IdentifyController, wctemp) == 266);
    assert!(offset_of!(IdentifyController, tnvmcap) == 280);
    assert!(offset_of!(IdentifyController, sanicap) == 328);
    assert!(offset_of!(IdentifyController, sqes) == 512);
    assert!(offset_of!(IdentifyController, oncs) == 520);
    assert!(offset_of!(IdentifyController, vwc) == 525);
    assert!(offset_of!(IdentifyController, sgls) == 536);
    assert!(offset_of!(IdentifyController, subnqn) == 768);
    assert!(size_of::<IdentifyNamespace>() == IDENTIFY_BYTES);
    assert!(offset_of!(IdentifyNamespace, dlfeat) == 33);
    assert!(offset_of!(IdentifyNamespace, noiob) == 46);
    assert!(offset_of!(IdentifyNamespace, nows) == 72);
    assert!(offset_of!(IdentifyNamespace, nsattr) == 99);
    assert!(offset_of!(IdentifyNamespace, nguid) == 104);
    assert!(offset_of!(IdentifyNamespace, lbaf) == 128);
    assert!(size_of::<IdentifyControllerNvm>() == IDENTIFY_BYTES);
    assert!(size_of::<NamespaceList>() == IDENTIFY_BYTES);
    assert!(size_of::<NamespaceDescriptorHeader>() == 4);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_and_control_bytes_are_not_part_of_a_name() {
        assert_eq!(ascii(b"QEMU NVMe Ctrl      "), "QEMU NVMe Ctrl");
        assert_eq!(ascii(b"abc\x1b[31m"), "abc");
        assert_eq!(ascii(&[0; 8]), "");
    }

    #[test]
    fn mdts_counts_the_smallest_pages_and_zero_is_no_limit() {
        let mut controller = IdentifyController::default();
        assert_eq!(controller.max_transfer_bytes(0), None);
        controller.mdts = 5;
        assert_eq!(controller.max_transfer_bytes(0), Some(128 << 10));
        assert_eq!(controller.max_transfer_bytes(4), Some(2 << 20));
        controller.mdts = 255;
        assert_eq!(controller.max_transfer_bytes(15), None);
    }

    #[test]
    fn a_namespace_with_metadata_or_an_absent_format_is_not_plain() {
        let mut namespace = IdentifyNamespace::default();
        assert_eq!(namespace.plain_block_shift(), None);
        namespace.lbaf[0] = U32::new(LbaFormat::new().with_lbads(12).into_bits());
        assert_eq!(namespace.plain_block_shift(), Some(12));
        namespace.lbaf[0] = U32::new(LbaFormat::new().with_lbads(9).with_ms(8).into_bits());
        assert_eq!(namespace.plain_block_shift(), None);
    }

    #[test]
    fn the_format_index_has_two_parts() {
        assert_eq!(Flbas::from_bits(0b0110_0011).index(), 0x33);
    }

    #[test]
    fn a_namespace_list_ends_at_zero() {
        let mut list = NamespaceList::default();
        list.nsids[0] = U32::new(1);
        list.nsids[1] = U32::new(5);
        assert!(list.iter().eq([1, 5]));
    }
}
