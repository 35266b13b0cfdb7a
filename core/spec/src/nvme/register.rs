//! Controller properties, at their offsets in BAR 0 (NVMe 2.0c 3.1.3, PCIe 3.1).

use bitfield_struct::bitfield;

/// Offset of [`Cap`], 8 bytes.
pub const CAP: usize = 0x00;
/// Offset of [`Version`].
pub const VS: usize = 0x08;
/// Offset of the interrupt mask set register; not for use with MSI-X.
pub const INTMS: usize = 0x0c;
/// Offset of the interrupt mask clear register; not for use with MSI-X.
pub const INTMC: usize = 0x10;
/// Offset of [`Cc`].
pub const CC: usize = 0x14;
/// Offset of [`Csts`].
pub const CSTS: usize = 0x1c;
/// Offset of the NVM subsystem reset register; takes [`NSSR_RESET`].
pub const NSSR: usize = 0x20;
/// Offset of [`Aqa`].
pub const AQA: usize = 0x24;
/// Offset of the admin submission queue's base address, 8 bytes.
pub const ASQ: usize = 0x28;
/// Offset of the admin completion queue's base address, 8 bytes.
pub const ACQ: usize = 0x30;
/// Offset of the controller memory buffer's location.
pub const CMBLOC: usize = 0x38;
/// Offset of the controller memory buffer's size.
pub const CMBSZ: usize = 0x3c;
/// Offset of [`Crto`], present when [`Cap::crms`] is not zero.
pub const CRTO: usize = 0x68;
/// Offset of the first doorbell.
pub const DOORBELLS: usize = 0x1000;

/// What [`NSSR`] wants to hear: "NVMe" in ASCII.
pub const NSSR_RESET: u32 = 0x4e56_4d65;

/// What every register reads as once the function has left the bus.
pub const GONE: u32 = 0xffff_ffff;

/// Controller capabilities (NVMe 2.0c 3.1.3.1).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Cap {
    /// Maximum queue entries supported, 0's based.
    pub mqes: u16,
    /// Contiguous queues required.
    pub cqr: bool,
    /// Arbitration mechanisms: bit 0 weighted round robin with urgent, bit 1 vendor specific.
    #[bits(2)]
    pub ams: u8,
    #[bits(5)]
    _reserved: u8,
    /// Worst time for `CSTS.RDY` to follow `CC.EN`, in units of 500 ms.
    pub to: u8,
    /// Doorbell stride: doorbells are `4 << dstrd` bytes apart.
    #[bits(4)]
    pub dstrd: u8,
    /// NVM subsystem reset supported.
    pub nssrs: bool,
    /// Command sets: bit 0 NVM, bit 6 one or more I/O command sets, bit 7 admin only.
    pub css: u8,
    /// Boot partition support.
    pub bps: bool,
    /// Controller power scope.
    #[bits(2)]
    pub cps: u8,
    /// Smallest memory page: `2 ^ (12 + mpsmin)` bytes.
    #[bits(4)]
    pub mpsmin: u8,
    /// Largest memory page: `2 ^ (12 + mpsmax)` bytes.
    #[bits(4)]
    pub mpsmax: u8,
    /// Persistent memory region supported.
    pub pmrs: bool,
    /// Controller memory buffer supported.
    pub cmbs: bool,
    /// NVM subsystem shutdown supported.
    pub nsss: bool,
    /// Controller ready modes: bit 0 with media, bit 1 independent of media.
    #[bits(2)]
    pub crms: u8,
    #[bits(3)]
    _reserved2: u8,
}

impl Cap {
    /// The most entries a queue may have; at most 65536.
    pub const fn max_queue_entries(self) -> u32 {
        self.mqes() as u32 + 1
    }

    /// How long the controller may take over `CSTS.RDY`, in milliseconds. 0 means that it did not say.
    pub const fn ready_timeout_ms(self) -> u32 {
        self.to() as u32 * 500
    }

    /// Whether the controller accepts host memory pages of `1 << shift` bytes.
    pub const fn supports_page_shift(self, shift: u32) -> bool {
        shift >= 12 + self.mpsmin() as u32 && shift <= 12 + self.mpsmax() as u32
    }

    /// Whether the controller speaks the NVM command set.
    pub const fn supports_nvm(self) -> bool {
        self.css() & (CSS_NVM | CSS_IO_SETS) != 0
    }
}

/// [`Cap::css`]: the NVM command set.
pub const CSS_NVM: u8 = 1 << 0;
/// [`Cap::css`]: one or more I/O command sets, reported by Identify.
pub const CSS_IO_SETS: u8 = 1 << 6;
/// [`Cap::css`]: no I/O command set at all.
pub const CSS_ADMIN_ONLY: u8 = 1 << 7;

/// Version of the standard that the controller conforms to (NVMe 2.0c 3.1.3.2). Also `VER` of Identify.
#[bitfield(u32)]
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Tertiary number.
    pub tertiary: u8,
    /// Minor number.
    pub minor: u8,
    /// Major number.
    pub major: u16,
}

/// Controller configuration (NVMe 2.0c 3.1.3.5).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Cc {
    /// Enable. Clearing it is a controller reset.
    pub en: bool,
    #[bits(3)]
    _reserved: u8,
    /// I/O command set selected: 0 NVM, 6 all supported, 7 admin only.
    #[bits(3)]
    pub css: u8,
    /// Host memory page: `2 ^ (12 + mps)` bytes.
    #[bits(4)]
    pub mps: u8,
    /// Arbitration mechanism: 0 round robin, 1 weighted round robin with urgent.
    #[bits(3)]
    pub ams: u8,
    /// Shutdown notification: one of the `SHN_` constants.
    #[bits(2)]
    pub shn: u8,
    /// I/O submission entry size, as a power of two.
    #[bits(4)]
    pub iosqes: u8,
    /// I/O completion entry size, as a power of two.
    #[bits(4)]
    pub iocqes: u8,
    /// Ready independent of media.
    pub crime: bool,
    #[bits(7)]
    _reserved2: u8,
}

/// [`Cc::shn`]: nothing asked.
pub const SHN_NONE: u8 = 0;
/// [`Cc::shn`]: normal shutdown.
pub const SHN_NORMAL: u8 = 1;
/// [`Cc::shn`]: abrupt shutdown.
pub const SHN_ABRUPT: u8 = 2;

/// Controller status (NVMe 2.0c 3.1.3.6).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Csts {
    /// Ready: follows `CC.EN`.
    pub rdy: bool,
    /// Controller fatal status.
    pub cfs: bool,
    /// Shutdown status: one of the `SHST_` constants.
    #[bits(2)]
    pub shst: u8,
    /// NVM subsystem reset occurred.
    pub nssro: bool,
    /// Processing paused.
    pub pp: bool,
    /// Shutdown type: set when the whole subsystem is shut down.
    pub st: bool,
    #[bits(25)]
    _reserved: u32,
}

/// [`Csts::shst`]: normal operation.
pub const SHST_NORMAL: u8 = 0;
/// [`Csts::shst`]: shutdown under way.
pub const SHST_OCCURRING: u8 = 1;
/// [`Csts::shst`]: shutdown complete.
pub const SHST_COMPLETE: u8 = 2;

/// Admin queue attributes (NVMe 2.0c 3.1.3.8). Both sizes are 0's based.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Aqa {
    /// Admin submission queue size, 0's based.
    #[bits(12)]
    pub asqs: u16,
    #[bits(4)]
    _reserved: u8,
    /// Admin completion queue size, 0's based.
    #[bits(12)]
    pub acqs: u16,
    #[bits(4)]
    _reserved2: u8,
}

/// The largest admin queue that [`Aqa`] can express, in entries.
pub const ADMIN_QUEUE_ENTRIES_MAX: u32 = 4096;

/// Controller ready timeouts (NVMe 2.0c 3.1.3.20), in units of 500 ms.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Crto {
    /// Ready with media.
    pub crwmt: u16,
    /// Ready independent of media.
    pub crimt: u16,
}

/// Offset of a submission queue's tail doorbell (PCIe 3.1.2.1).
pub const fn submission_doorbell(queue_id: u16, dstrd: u8) -> usize {
    DOORBELLS + (2 * queue_id as usize) * doorbell_stride_bytes(dstrd)
}

/// Offset of a completion queue's head doorbell (PCIe 3.1.2.2).
pub const fn completion_doorbell(queue_id: u16, dstrd: u8) -> usize {
    DOORBELLS + (2 * queue_id as usize + 1) * doorbell_stride_bytes(dstrd)
}

/// Distance between neighbouring doorbells: `4 << CAP.DSTRD` bytes.
pub const fn doorbell_stride_bytes(dstrd: u8) -> usize {
    4 << (dstrd & 0xf)
}

/// How much of BAR 0 a controller needs for `queue_pairs` queue pairs, the admin pair included.
pub const fn bar_bytes(queue_pairs: u32, dstrd: u8) -> usize {
    DOORBELLS + 2 * queue_pairs as usize * doorbell_stride_bytes(dstrd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cap_fields_sit_where_the_standard_puts_them() {
        let cap = Cap::from_bits(0x0000_0030_1401_03ff | 1 << 37 | 1 << 48 | 4 << 52);
        assert_eq!(cap.mqes(), 0x3ff);
        assert_eq!(cap.max_queue_entries(), 1024);
        assert!(cap.cqr());
        assert_eq!(cap.ready_timeout_ms(), 10_000);
        assert_eq!(cap.dstrd(), 0);
        assert!(cap.nssrs());
        assert!(cap.supports_nvm());
        assert!(!cap.supports_page_shift(12));
        assert!(cap.supports_page_shift(13));
        assert!(cap.supports_page_shift(16));
        assert!(!cap.supports_page_shift(17));
    }

    #[test]
    fn cc_is_what_a_usual_driver_writes() {
        let cc = Cc::new().with_en(true).with_iosqes(6).with_iocqes(4);
        assert_eq!(cc.into_bits(), 0x0046_0001);
        assert_eq!(Cc::from_bits(0x0046_4001).shn(), SHN_NORMAL);
    }

    #[test]
    fn csts_shutdown_complete_is_bit_3() {
        assert_eq!(Csts::from_bits(0b1001).shst(), SHST_COMPLETE);
        assert!(Csts::from_bits(0b10).cfs());
    }

    #[test]
    fn aqa_sizes_are_twelve_bits_each() {
        assert_eq!(Aqa::new().with_asqs(31).with_acqs(63).into_bits(), 0x003f_001f);
    }

    #[test]
    fn version_orders_as_a_reader_expects() {
        let v1_4 = Version::from_bits(0x0001_0400);
        assert_eq!((v1_4.major(), v1_4.minor(), v1_4.tertiary()), (1, 4, 0));
        assert!(v1_4 < Version::from_bits(0x0002_0000));
    }

    #[test]
    fn doorbells_alternate_and_widen_with_the_stride() {
        assert_eq!(submission_doorbell(0, 0), 0x1000);
        assert_eq!(completion_doorbell(0, 0), 0x1004);
        assert_eq!(submission_doorbell(3, 0), 0x1018);
        assert_eq!(completion_doorbell(1, 4), 0x1000 + 3 * 64);
        assert_eq!(submission_doorbell(u16::MAX, 15), 0x1000 + 2 * 65535 * (4 << 15));
        assert_eq!(bar_bytes(2, 0), 0x1010);
    }
}
