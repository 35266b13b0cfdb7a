//! Physical region pages (NVMe 2.0c 4.1.1).

use vfiomux_spec::nvme::Status;

use super::{ListMemory, Run, WalkError, push};
use crate::violation::Access;

const ENTRY_BYTES: usize = 8;
const ENTRY_STEP: u64 = ENTRY_BYTES as u64;
/// Entries read at a time.
const CHUNK_ENTRIES: usize = 512;

/// Appends the runs that two PRP entries name for `len` bytes.
///
/// The first entry may begin inside its page. What is left fits the second entry's page, or the second entry points at a list,
/// which may begin anywhere in its page on a multiple of 8; when the list needs more than the rest of its page, the page's last entry
/// points at the next page of the list.
pub(crate) fn walk_prps(
    memory: &impl ListMemory,
    page_bytes: u64,
    (prp1, prp2): (u64, u64),
    len: u64,
    runs: &mut Vec<Run>,
) -> Result<(), WalkError> {
    let within = page_bytes - 1;
    let whole_page = |entry: u64| match entry & within {
        0 => Ok(entry),
        _ => Err(WalkError(Status::PRP_OFFSET_INVALID)),
    };
    if prp1 & 3 != 0 {
        return Err(WalkError(Status::PRP_OFFSET_INVALID));
    }
    let first = len.min(page_bytes - (prp1 & within));
    push(runs, prp1, first);
    let mut left = len - first;
    if left == 0 {
        return Ok(());
    }
    if left <= page_bytes {
        push(runs, whole_page(prp2)?, left);
        return Ok(());
    }
    if prp2 & (ENTRY_STEP - 1) != 0 {
        return Err(WalkError(Status::PRP_OFFSET_INVALID));
    }
    let mut list = prp2;
    loop {
        let slots = (page_bytes - (list & within)) / ENTRY_STEP;
        let pages = left.div_ceil(page_bytes);
        let chained = pages > slots;
        let mut entries = if chained { slots - 1 } else { pages };
        while entries > 0 {
            let mut chunk = [0; CHUNK_ENTRIES * ENTRY_BYTES];
            let take = entries.min(CHUNK_ENTRIES as u64);
            let bytes = usize::try_from(take * ENTRY_STEP).unwrap_or(chunk.len());
            let chunk = chunk.get_mut(..bytes).unwrap_or_default();
            memory.read(list, chunk, Access::PrpList)?;
            for entry in chunk.chunks_exact(ENTRY_BYTES) {
                let entry = u64::from_le_bytes(entry.try_into().unwrap_or_default());
                let here = left.min(page_bytes);
                push(runs, whole_page(entry)?, here);
                left -= here;
            }
            list = list.wrapping_add(take * ENTRY_STEP);
            entries -= take;
        }
        if !chained {
            return Ok(());
        }
        let mut next = [0; ENTRY_BYTES];
        memory.read(list, &mut next, Access::PrpList)?;
        list = whole_page(u64::from_le_bytes(next))?;
    }
}
