//! Namespaces, and what one command can do on each.

use vfiomux_block::{Addressing, Limits};
use vfiomux_spec::nvme::identify::{
    DEALLOCATED_ZEROES, IdentifyController, IdentifyControllerNvm, IdentifyNamespace, LbaFormat,
    SGL_BYTE_ALIGNED, SGL_DWORD_ALIGNED,
};
use vfiomux_spec::nvme::register::Cap;

use crate::link::Shape;

/// The most blocks that Read, Write and Write Zeroes can name: NLB has 16 bits, 0's based.
const COMMAND_BLOCKS_MAX: u32 = 1 << 16;

/// Scatter-gather descriptors that a slot's list area has room for, where the controller has lists.
const SGL_DESCRIPTORS: usize = 128;

/// The controller's page: the smallest that it may have, and what the host's memory comes in.
pub(crate) const PAGE_BYTES: u32 = 4096;

/// The bounds that one list area a slot sets to [`crate::Options::transfer_bytes_max`].
pub(crate) const TRANSFER_BYTES_MAX: u32 = 1 << 20;

/// A namespace that can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its identifier: what goes into [`vfiomux_block::Command::namespace`].
    pub id: u32,
    /// Its size and what one command can do.
    pub limits: Limits,
    /// EUI-64, where it has one.
    pub eui64: Option<[u8; 8]>,
    /// NGUID, where it has one.
    pub nguid: Option<[u8; 16]>,
    /// UUID, where it has one.
    pub uuid: Option<[u8; 16]>,
    /// Formats without metadata that it can be given.
    pub formats: Vec<BlockFormat>,
    pub(crate) shape: Shape,
}

/// A format that a namespace can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFormat {
    /// Number of the format.
    pub index: u8,
    /// Size of a block, bytes.
    pub block_bytes: u32,
    /// 0 best to 3 degraded.
    pub relative_performance: u8,
}

/// A namespace that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its identifier.
    pub id: u32,
    /// Why, worded for an operator.
    pub reason: String,
    /// Formats without metadata that it could be given instead.
    pub formats: Vec<BlockFormat>,
}

/// What a controller allows on all its namespaces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    /// Most bytes of data in a command.
    pub(crate) transfer_bytes_max: u32,
    /// Bytes of a slot's list area.
    pub(crate) list_bytes: usize,
    pub(crate) sgl_align_bytes: Option<u32>,
    sgl_descriptors: u32,
    write_zeroes: bool,
    /// As bytes; `None` for as many blocks as a command can name.
    write_zeroes_bytes_max: Option<u64>,
    deallocate_blocks_max: u32,
    volatile_cache: bool,
}

impl Allowance {
    /// What `controller` allows. `nvm` is what it says of the NVM command set, if it does.
    pub(crate) fn new(
        cap: Cap,
        controller: &IdentifyController,
        nvm: Option<&IdentifyControllerNvm>,
        transfer_bytes_max: u32,
        use_sgl: bool,
    ) -> Self {
        let mdts = controller.max_transfer_bytes(cap.mpsmin());
        let ours = transfer_bytes_max.clamp(PAGE_BYTES, TRANSFER_BYTES_MAX) / PAGE_BYTES * PAGE_BYTES;
        let transfer = mdts.map_or(ours, |mdts| u32::try_from(mdts).map_or(ours, |mdts| mdts.min(ours)));
        let sgls = controller.sgl_support();
        let sgl_align_bytes = match sgls.support() {
            SGL_BYTE_ALIGNED if use_sgl => Some(1),
            SGL_DWORD_ALIGNED if use_sgl => Some(4),
            _ => None,
        };
        // Behind PRP entry 1: an entry for each page that a transfer can touch, and the zero that ends the list.
        let prp_bytes = (transfer / PAGE_BYTES + 1) as usize * size_of::<u64>();
        let sgl_bytes = sgl_align_bytes.map_or(0, |_| SGL_DESCRIPTORS * 16);
        let threshold = match sgls.descriptor_threshold() {
            0 => u32::MAX,
            threshold => u32::from(threshold),
        };
        let oncs = controller.optional_nvm();
        let wzsl = nvm.map_or(0, |nvm| nvm.wzsl);
        Self {
            transfer_bytes_max: transfer,
            // A power of two no larger than a page never crosses one.
            list_bytes: prp_bytes.max(sgl_bytes).next_power_of_two().clamp(64, PAGE_BYTES as usize),
            sgl_align_bytes,
            sgl_descriptors: threshold.min(SGL_DESCRIPTORS as u32),
            write_zeroes: oncs.write_zeroes(),
            // Many a controller without a limit of its own for Write Zeroes holds it to the limit of data transfers.
            write_zeroes_bytes_max: if wzsl == 0 {
                mdts
            } else {
                1u64.checked_shl(12 + u32::from(cap.mpsmin()) + u32::from(wzsl))
            },
            deallocate_blocks_max: match (oncs.dataset_management(), nvm.map_or(0, |nvm| nvm.dmrsl.get())) {
                (false, _) => 0,
                (true, 0) => u32::MAX,
                (true, limit) => limit,
            },
            volatile_cache: controller.write_cache().present(),
        }
    }

    fn limits(&self, identify: &IdentifyNamespace, block_shift: u32) -> Option<Limits> {
        let block_bytes = 1u32 << block_shift;
        let whole_blocks = self.transfer_bytes_max >> block_shift << block_shift;
        let transfer_bytes_max =
            whole_blocks.min(COMMAND_BLOCKS_MAX.saturating_mul(block_bytes) >> block_shift << block_shift);
        let zeroes = self.write_zeroes_bytes_max.map_or(u64::MAX, |bytes| bytes >> block_shift);
        let dlfeat = identify.deallocation();
        (transfer_bytes_max > 0).then_some(Limits {
            block_bytes,
            blocks: identify.nsze.get(),
            transfer_bytes_max,
            segments_max: match self.sgl_align_bytes {
                Some(_) => self.sgl_descriptors,
                None => transfer_bytes_max / PAGE_BYTES + 1,
            },
            boundary_blocks: u32::from(identify.noiob.get()),
            addressing: match self.sgl_align_bytes {
                Some(align_bytes) => Addressing::Sgl { align_bytes },
                None => Addressing::Prp { page_bytes: PAGE_BYTES },
            },
            write_zeroes_blocks_max: if self.write_zeroes {
                u32::try_from(zeroes).unwrap_or(u32::MAX).min(COMMAND_BLOCKS_MAX)
            } else {
                0
            },
            deallocate_blocks_max: self.deallocate_blocks_max,
            deallocate_zeroes: dlfeat.reads_as() == DEALLOCATED_ZEROES && self.deallocate_blocks_max > 0,
            volatile_cache: self.volatile_cache,
        })
    }

    /// What namespace `id` is, or why it cannot be served.
    pub(crate) fn namespace(
        &self,
        id: u32,
        identify: &IdentifyNamespace,
        names: Names,
    ) -> Result<Namespace, Skipped> {
        let formats = formats(identify);
        let skip = |reason: String| Skipped { id, reason, formats: formats.clone() };
        if let Some(set) = names.command_set.filter(|&set| set != 0) {
            return Err(skip(format!(
                "it is of I/O command set {set} (zoned or key-value), not of block storage"
            )));
        }
        let format = identify
            .format()
            .ok_or_else(|| skip("its format in use is not one of those it lists; format it".to_owned()))?;
        if format.ms() != 0 {
            let reason = format!(
                "its blocks carry {} bytes of metadata; format it without (device format)",
                format.ms()
            );
            return Err(skip(reason));
        }
        if identify.dps & 7 != 0 {
            return Err(skip("end-to-end protection is on; format it without (device format)".to_owned()));
        }
        if identify.nsattr & 1 != 0 {
            return Err(skip("it is write protected".to_owned()));
        }
        let shift = identify.plain_block_shift().ok_or_else(|| {
            skip(format!("its blocks have 2^{} bytes; 512 to 65536 are usable", format.lbads()))
        })?;
        let limits = self.limits(identify, shift).ok_or_else(|| {
            skip(format!("one command carries {} bytes, less than a block", self.transfer_bytes_max))
        })?;
        let shape = Shape {
            block_shift: u8::try_from(shift).unwrap_or(u8::MAX),
            zeroes_deallocate: identify.deallocation().write_zeroes_deallocates(),
        };
        let set = |bytes: &[u8]| bytes.iter().any(|&byte| byte != 0);
        Ok(Namespace {
            id,
            limits,
            eui64: names.eui64.or(Some(identify.eui64)).filter(|id| set(id)),
            nguid: names.nguid.or(Some(identify.nguid)).filter(|id| set(id)),
            uuid: names.uuid.filter(|id| set(id)),
            formats,
            shape,
        })
    }
}

/// What the identification descriptors say of a namespace (NVMe 2.0c 5.17.2.3).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Names {
    eui64: Option<[u8; 8]>,
    nguid: Option<[u8; 16]>,
    uuid: Option<[u8; 16]>,
    command_set: Option<u8>,
}

impl Names {
    /// Reads the list; stops at its end or at the first entry that cannot be.
    pub(crate) fn parse(mut list: &[u8]) -> Self {
        use vfiomux_spec::nvme::identify::{NIDT_CSI, NIDT_EUI64, NIDT_NGUID, NIDT_UUID};
        let mut names = Self::default();
        while let Some((&[kind, length, _, _], rest)) = list.split_first_chunk::<4>() {
            let Some((value, next)) = rest.split_at_checked(usize::from(length)) else { break };
            match (kind, length) {
                (_, 0) => break,
                (NIDT_EUI64, _) => names.eui64 = value.try_into().ok(),
                (NIDT_NGUID, _) => names.nguid = value.try_into().ok(),
                (NIDT_UUID, _) => names.uuid = value.try_into().ok(),
                (NIDT_CSI, _) => names.command_set = value.first().copied(),
                _ => {}
            }
            list = next;
        }
        names
    }
}

/// The formats without metadata that a namespace lists.
fn formats(identify: &IdentifyNamespace) -> Vec<BlockFormat> {
    let listed = identify.lbaf.iter().take(usize::from(identify.nlbaf) + 1).zip(0u8..);
    listed
        .map(|(bits, index)| (LbaFormat::from_bits(bits.get()), index))
        .filter(|(format, _)| (9..=16).contains(&format.lbads()) && format.ms() == 0)
        .map(|(format, index)| BlockFormat {
            index,
            block_bytes: 1 << format.lbads(),
            relative_performance: format.rp(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
