//! A VFIO container: the page tables under a [`DmaDomain`](crate::DmaDomain).
#![expect(unsafe_code, reason = "memory is handed to devices by pointer")]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use vfio_bindings::bindings::vfio::{VFIO_IOMMU_INFO_CAPS, vfio_iommu_type1_info};
use vfio_ioctls::VfioContainer;

use super::ioctl;
use crate::{Iommu, Iova, Rights};

/// `VFIO_IOMMU_INFO_PGSIZES`: the page sizes are there.
const INFO_PGSIZES: u32 = 1;
/// `VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL`: the capability that tells how many mappings are left.
const CAP_DMA_AVAIL: u16 = 3;
/// `VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE`, as wide as it is on the wire.
const CAP_IOVA_RANGE: u16 = 1;
/// Size of `struct vfio_iommu_type1_info`.
const INFO_BYTES: usize = size_of::<vfio_iommu_type1_info>();

/// What the kernel tells of a container's IOMMU (`VFIO_IOMMU_GET_INFO`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IommuInfo {
    /// Bit `n` set: pages of `1 << n` bytes.
    page_sizes: u64,
    /// Inclusive ranges of usable addresses.
    apertures: Vec<RangeInclusive<u64>>,
    /// How many mappings fit, where the kernel limits them.
    mappings_max: Option<u32>,
}

impl IommuInfo {
    /// What kernels before 5.4, which do not tell their apertures, can be trusted with: 39 bits, the least that IOMMUs
    /// have, around the window where x86 takes interrupts.
    const APERTURES_UNTOLD: [RangeInclusive<u64>; 2] = [0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1];

    /// Reads `struct vfio_iommu_type1_info` and the capabilities behind it.
    ///
    /// None when `bytes` are too few for the structure. A chain of capabilities that leaves `bytes` or turns back ends there.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..bytes.len().max(INFO_BYTES))?;
        let flags = u32_at(bytes, 4)?;
        let page_sizes = if flags & INFO_PGSIZES != 0 { u64_at(bytes, 8)? } else { 0x1000 };
        let mut info = Self { page_sizes, apertures: Vec::new(), mappings_max: None };
        let mut next = if flags & VFIO_IOMMU_INFO_CAPS != 0 { u32_at(bytes, 16)? } else { 0 };
        while let Some((id, following)) = capability(bytes, next) {
            let body = next as usize + 8;
            match id {
                CAP_IOVA_RANGE => {
                    let count = u32_at(bytes, body).unwrap_or(0) as usize;
                    let range = |at: usize| Some(u64_at(bytes, at)?..=u64_at(bytes, at + 8)?);
                    info.apertures.extend((0..count).map_while(|index| range(body + 8 + index * 16)));
                }
                CAP_DMA_AVAIL => info.mappings_max = u32_at(bytes, body),
                _ => {}
            }
            if following <= next {
                break;
            }
            next = following;
        }
        if info.apertures.is_empty() {
            info.apertures.extend(Self::APERTURES_UNTOLD);
        }
        Some(info)
    }
}

/// Identifier of the capability at `offset`, and the offset of the next one. None at zero, which ends the chain.
fn capability(bytes: &[u8], offset: u32) -> Option<(u16, u32)> {
    let at = offset as usize;
    let id = bytes.get(at..at + 2).filter(|_| offset != 0)?;
    Some((u16::from_ne_bytes(id.try_into().ok()?), u32_at(bytes, at + 4)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// A container with a group in it, so that its IOMMU can be asked and changed.
pub(super) struct ContainerIommu {
    container: Arc<VfioContainer>,
    info: IommuInfo,
}

impl ContainerIommu {
    pub(super) fn new(container: Arc<VfioContainer>) -> io::Result<Self> {
        let bytes = ioctl::iommu_info(borrow(&container))?;
        let info = IommuInfo::parse(&bytes).ok_or(io::ErrorKind::InvalidData)?;
        tracing::debug!(?info, "the kernel tells of an IOMMU");
        Ok(Self { container, info })
    }
}

fn borrow(container: &VfioContainer) -> BorrowedFd<'_> {
    // SAFETY: the container keeps its descriptor open for as long as it is borrowed.
    unsafe { BorrowedFd::borrow_raw(container.as_raw_fd()) }
}

impl Iommu for ContainerIommu {
    fn apertures(&self) -> Vec<RangeInclusive<u64>> {
        self.info.apertures.clone()
    }

    fn page_sizes(&self) -> u64 {
        self.info.page_sizes
    }

    fn mappings_max(&self) -> Option<u32> {
        self.info.mappings_max
    }

    fn map(&self, iova: Iova, host: NonNull<u8>, size_bytes: u64, rights: Rights) -> io::Result<()> {
        // SAFETY: `Backing` and `DmaBuffer` promise that no reference is formed over the memory while it is mapped.
        unsafe { ioctl::map(borrow(&self.container), iova, host.as_ptr(), size_bytes, rights) }
    }

    fn unmap(&self, iova: Iova, size_bytes: u64) -> io::Result<()> {
        ioctl::unmap(borrow(&self.container), iova, size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The structure with capabilities as kernel 6.12 puts them behind it.
    fn told(caps: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend((INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS).to_ne_bytes());
        bytes.extend(0x4020_1000u64.to_ne_bytes());
        bytes.extend(if caps.is_empty() { 0u32 } else { 24 }.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        for (index, (id, body)) in caps.iter().enumerate() {
            let end = bytes.len() + 8 + body.len();
            let next = if index + 1 == caps.len() { 0 } else { u32::try_from(end).unwrap() };
            bytes.extend(id.to_ne_bytes());
            bytes.extend(1u16.to_ne_bytes());
            bytes.extend(next.to_ne_bytes());
            bytes.extend(body);
        }
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    fn ranges(count: u32, bounds: &[u64]) -> (u16, Vec<u8>) {
        let words = [count, 0].into_iter().flat_map(u32::to_ne_bytes);
        (CAP_IOVA_RANGE, words.chain(bounds.iter().flat_map(|bound| bound.to_ne_bytes())).collect())
    }

    #[test]
    fn apertures_and_the_mapping_limit_are_read_from_the_chain() {
        let available = (CAP_DMA_AVAIL, 65535u32.to_ne_bytes().to_vec());
        let unknown = (9, vec![0xff; 8]);
        let bytes = told(&[unknown, ranges(2, &[0, 0xfedf_ffff, 0xfef0_0000, 0x7f_ffff_ffff]), available]);
        let info = IommuInfo::parse(&bytes).unwrap();
        assert_eq!(info.apertures, [0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]);
        assert_eq!((info.page_sizes, info.mappings_max), (0x4020_1000, Some(65535)));
    }

    #[test]
    fn a_kernel_that_tells_no_apertures_gets_a_cautious_guess() {
        let info = IommuInfo::parse(&told(&[])).unwrap();
        assert_eq!(info.apertures, IommuInfo::APERTURES_UNTOLD);
        assert_eq!(info.mappings_max, None);
    }

    #[test]
    fn a_chain_that_lies_ends_where_it_lies() {
        // More ranges announced than there is room for.
        assert_eq!(IommuInfo::parse(&told(&[ranges(u32::MAX, &[0, 0xfff])])).unwrap().apertures, [0..=0xfff]);
        // A chain that points at itself, and one that points outside.
        for next in [24u32, 0xffff_fff0, 23] {
            let mut bytes = told(&[ranges(1, &[0, 0xfff]), (9, vec![])]);
            bytes[28..32].copy_from_slice(&next.to_ne_bytes());
            assert_eq!(IommuInfo::parse(&bytes).unwrap().apertures, [0..=0xfff]);
        }
        assert!(IommuInfo::parse(&[0; 12]).is_none());
    }
}
