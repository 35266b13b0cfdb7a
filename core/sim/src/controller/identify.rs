//! Identify.

use vfiomux_spec::nvme::identify::{
    CNS_ACTIVE_NAMESPACES, CNS_CONTROLLER, CNS_CONTROLLER_OF_SET, CNS_NAMESPACE, CNS_NAMESPACE_DESCRIPTORS,
    CNS_NAMESPACE_OF_SET, DEALLOCATED_UNKNOWN, DEALLOCATED_ZEROES, Dlfeat, Flbas, Fna, IDENTIFY_BYTES,
    IdentifyController, IdentifyNamespace, LbaFormat, NIDT_CSI, NIDT_EUI64, NIDT_NGUID, NamespaceList,
    Nsfeat, Oacs, Oncs, SGL_DWORD_ALIGNED, Sanicap, Sgls, Vwc,
};
use vfiomux_spec::nvme::log::EventKinds;
use vfiomux_spec::nvme::{NSID_ALL, NSID_MAX, Status, SubmissionEntry};
use zerocopy::{FromZeros, IntoBytes};

use super::registers::VERSION;
use super::{Controller, event, log};
use crate::iommu::Dma;
use crate::namespace::Namespace;

/// PCI vendor of simulated functions: one that nobody has.
pub(crate) const VENDOR: u16 = 0xfffe;
/// PCI device of the simulated NVMe controller.
pub(crate) const DEVICE: u16 = 0x0001;
const MODEL: &[u8] = b"vfiomux simulated NVMe";
pub(super) const FIRMWARE: &[u8; 8] = b"1.0     ";

impl Controller {
    pub(super) fn identify(&mut self, dma: &Dma<'_>, entry: &SubmissionEntry) -> Result<(), Status> {
        let nsid = entry.nsid.get();
        let csi = entry.cdw11.get() >> 24;
        let page = match (entry.cdw10.get() & 0xff) as u8 {
            CNS_CONTROLLER => self.identify_controller().as_bytes().to_vec(),
            CNS_NAMESPACE if nsid == NSID_ALL => self.identify_all().as_bytes().to_vec(),
            CNS_NAMESPACE => self.identify_namespace(nsid)?.as_bytes().to_vec(),
            CNS_ACTIVE_NAMESPACES if nsid >= NSID_MAX => return Err(Status::INVALID_NAMESPACE),
            CNS_ACTIVE_NAMESPACES => self.active_namespaces(nsid).as_bytes().to_vec(),
            CNS_NAMESPACE_DESCRIPTORS => self.namespace_descriptors(nsid)?,
            CNS_NAMESPACE_OF_SET if csi == 0 => {
                self.namespace(nsid)?;
                vec![0; IDENTIFY_BYTES]
            }
            CNS_CONTROLLER_OF_SET if csi == 0 => vec![0; IDENTIFY_BYTES],
            _ => return Err(Status::INVALID_FIELD),
        };
        self.scatter(dma, entry, &page)
    }

    fn identify_controller(&self) -> IdentifyController {
        let spec = &self.spec;
        let mut id = IdentifyController::new_zeroed();
        id.vid = VENDOR.into();
        id.ssvid = VENDOR.into();
        pad(&mut id.sn, self.serial().as_bytes());
        pad(&mut id.mn, MODEL);
        pad(&mut id.fr, FIRMWARE);
        id.rab = 5;
        id.mdts = spec.mdts;
        id.ver = VERSION.into_bits().into();
        id.oaes = EventKinds::new().with_namespace_changed(true).into_bits().into();
        id.cntrltype = 1;
        id.oacs = Oacs::new().with_format(spec.format).into_bits().into();
        id.acl = 3;
        id.aerl = event::REQUESTS_MAX - 1;
        id.frmw = 0b11;
        // Bit 2: offsets and lengths beyond 4 KiB of log pages.
        id.lpa = 1 << 2;
        id.elpe = log::ERROR_ENTRIES - 1;
        id.wctemp = 343.into();
        id.cctemp = 373.into();
        id.tnvmcap = self.namespaces.iter().map(|ns| u128::from(ns.capacity_bytes)).sum::<u128>().into();
        id.sanicap = Sanicap::new().with_block_erase(spec.sanitize).into_bits().into();
        id.sqes = 0x66;
        id.cqes = 0x44;
        id.nn = spec.namespaces.into();
        id.oncs = Oncs::new().with_dataset_management(true).with_write_zeroes(true).into_bits().into();
        id.fna = Fna::new().with_erase_all(false).into_bits();
        id.vwc =
            Vwc::new().with_present(spec.cache || spec.file.is_some()).with_flush_broadcast(3).into_bits();
        id.mnan = spec.namespaces.into();
        if spec.sgl {
            id.sgls = Sgls::new().with_support(SGL_DWORD_ALIGNED).into_bits().into();
        }
        let nqn = format!("nqn.2026-01.org.vfiomux:sim:{}", self.serial());
        for (byte, text) in id.subnqn.iter_mut().zip(nqn.as_bytes()) {
            *byte = *text;
        }
        id
    }

    /// What all namespaces have in common: their formats.
    fn identify_all(&self) -> IdentifyNamespace {
        let mut id = IdentifyNamespace::new_zeroed();
        id.nlbaf = 1;
        for (slot, lbads) in id.lbaf.iter_mut().zip([9, 12]) {
            *slot = LbaFormat::new().with_lbads(lbads).into_bits().into();
        }
        id
    }

    fn identify_namespace(&mut self, nsid: u32) -> Result<IdentifyNamespace, Status> {
        let zeroes = self.spec.deallocate_zeroes;
        let mut id = self.identify_all();
        let namespace = self.namespace(nsid)?;
        id.nsze = namespace.blocks().into();
        id.ncap = namespace.blocks().into();
        id.nuse = namespace.blocks().into();
        id.nsfeat = Nsfeat::new().with_uid_reuse(true).into_bits();
        id.flbas = Flbas::new().with_index_low(u8::from(namespace.block_shift == 12)).into_bits();
        let reads_as = if zeroes { DEALLOCATED_ZEROES } else { DEALLOCATED_UNKNOWN };
        id.dlfeat = Dlfeat::new().with_reads_as(reads_as).with_write_zeroes_deallocates(true).into_bits();
        id.nvmcap = u128::from(namespace.capacity_bytes).into();
        let eui64 = self.eui64(nsid);
        id.eui64 = eui64;
        id.nguid = nguid(eui64);
        Ok(id)
    }

    fn active_namespaces(&self, after: u32) -> NamespaceList {
        let mut list = NamespaceList::new_zeroed();
        let active = self.namespaces.iter().map(|ns: &Namespace| ns.nsid).filter(|&nsid| nsid > after);
        for (slot, nsid) in list.nsids.iter_mut().zip(active) {
            slot.set(nsid);
        }
        list
    }

    fn namespace_descriptors(&mut self, nsid: u32) -> Result<Vec<u8>, Status> {
        self.namespace(nsid)?;
        let eui64 = self.eui64(nsid);
        let mut page = Vec::with_capacity(IDENTIFY_BYTES);
        page.extend([NIDT_EUI64, 8, 0, 0]);
        page.extend(eui64);
        page.extend([NIDT_NGUID, 16, 0, 0]);
        page.extend(nguid(eui64));
        page.extend([NIDT_CSI, 1, 0, 0, 0]);
        page.resize(IDENTIFY_BYTES, 0);
        Ok(page)
    }

    fn serial(&self) -> String {
        self.spec.serial.clone().unwrap_or_else(|| "SIM0000000000".to_owned())
    }

    /// An identifier that differs by serial number and namespace, with the locally administered bit set.
    fn eui64(&self, nsid: u32) -> [u8; 8] {
        let mut eui64 = (stable_hash(self.serial().as_bytes()) ^ u64::from(nsid)).to_be_bytes();
        if let Some(first) = eui64.first_mut() {
            *first = (*first | 2) & !1;
        }
        eui64
    }
}

fn nguid(eui64: [u8; 8]) -> [u8; 16] {
    let mut nguid = [0; 16];
    for (byte, from) in nguid.iter_mut().zip(eui64.into_iter().chain(eui64)) {
        *byte = from;
    }
    nguid
}

/// An ASCII field, padded with spaces.
fn pad(field: &mut [u8], text: &[u8]) {
    field.fill(b' ');
    for (byte, from) in field.iter_mut().zip(text) {
        *byte = *from;
    }
}

/// A hash that stays the same for ever (FNV-1a), since identities are kept across versions of this program.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
