//! Scatter-gather lists (NVMe 2.0c 4.1.2).

use vfiomux_spec::nvme::Status;
use vfiomux_spec::nvme::sgl::{
    DESCRIPTOR_BYTES, SglDescriptor, TYPE_DATA_BLOCK, TYPE_LAST_SEGMENT, TYPE_SEGMENT,
};
use zerocopy::FromBytes;

use super::{ListMemory, Run, WalkError, push};
use crate::violation::Access;

/// Descriptors that one command may have in all; more is a loop or a joke.
const DESCRIPTORS_MAX: u64 = 1 << 16;
/// Descriptors read at a time.
const CHUNK_DESCRIPTORS: usize = 64;

/// Appends the runs that a command's descriptor names for exactly `len` bytes, all aligned to dwords.
///
/// A segment's last descriptor points at the next segment; the last segment holds data descriptors only.
pub(crate) fn walk_sgl(
    memory: &impl ListMemory,
    first: SglDescriptor,
    len: u64,
    runs: &mut Vec<Run>,
) -> Result<(), WalkError> {
    let mut left = len;
    let mut data = |descriptor: &SglDescriptor| {
        let (address, length) = (descriptor.address.get(), u64::from(descriptor.length.get()));
        if address & 3 != 0 || length & 3 != 0 {
            return Err(WalkError(Status::SGL_GRANULARITY));
        }
        left = left.checked_sub(length).ok_or(WalkError(Status::DATA_SGL_LENGTH))?;
        if length != 0 {
            push(runs, address, length);
        }
        Ok(())
    };
    let mut descriptor = first;
    let mut seen = 1;
    while kind(&descriptor)? != TYPE_DATA_BLOCK {
        let last_segment = kind(&descriptor)? == TYPE_LAST_SEGMENT;
        let (mut at, bytes) = (descriptor.address.get(), u64::from(descriptor.length.get()));
        let mut count = bytes / DESCRIPTOR_BYTES as u64;
        if count == 0 || !bytes.is_multiple_of(DESCRIPTOR_BYTES as u64) || at & 7 != 0 {
            return Err(WalkError(Status::INVALID_SGL_SEGMENT));
        }
        seen += count;
        if seen > DESCRIPTORS_MAX {
            return Err(WalkError(Status::INVALID_SGL_COUNT));
        }
        let mut next = None;
        while count > 0 {
            let mut chunk = [0; CHUNK_DESCRIPTORS * DESCRIPTOR_BYTES];
            let take = usize::try_from(count).unwrap_or(usize::MAX).min(CHUNK_DESCRIPTORS);
            let chunk = chunk.get_mut(..take * DESCRIPTOR_BYTES).unwrap_or_default();
            memory.read(at, chunk, Access::SglSegment)?;
            for bytes in chunk.chunks_exact(DESCRIPTOR_BYTES) {
                count -= 1;
                let descriptor = SglDescriptor::read_from_bytes(bytes).unwrap_or_default();
                match kind(&descriptor)? {
                    TYPE_DATA_BLOCK => data(&descriptor)?,
                    _ if count == 0 && !last_segment => next = Some(descriptor),
                    _ => return Err(WalkError(Status::INVALID_SGL_SEGMENT)),
                }
            }
            at = at.wrapping_add((take * DESCRIPTOR_BYTES) as u64);
        }
        match next {
            Some(segment) => descriptor = segment,
            None if last_segment => break,
            None => return Err(WalkError(Status::INVALID_SGL_SEGMENT)),
        }
    }
    if seen == 1 {
        data(&descriptor)?;
    }
    if left == 0 { Ok(()) } else { Err(WalkError(Status::DATA_SGL_LENGTH)) }
}

/// The descriptor's type, if it is one that this controller knows, addressed by an address.
fn kind(descriptor: &SglDescriptor) -> Result<u8, WalkError> {
    let identifier = descriptor.identifier();
    match (identifier.kind(), identifier.subtype()) {
        (kind @ (TYPE_DATA_BLOCK | TYPE_SEGMENT | TYPE_LAST_SEGMENT), 0) => Ok(kind),
        _ => Err(WalkError(Status::SGL_TYPE_INVALID)),
    }
}
