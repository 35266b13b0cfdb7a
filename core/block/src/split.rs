//! Cutting a request at a device's limits.
//!
//! The data of a request is a list of [`Segment`]s, in whole blocks in all. [`next_piece`] gives the longest run from a
//! [`Cursor`] that one command can carry, or says that the next blocks must be bounced, because no addressing of the
//! device can name their memory.

use crate::{Addressing, Limits, Segment};

/// How far a request has been cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The segment that comes next.
    pub segment: usize,
    /// How far into it, bytes.
    pub offset: u32,
}

/// What one command can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// How many blocks.
    pub blocks: u32,
    /// The memory cannot be named by the device: go through a buffer of our own.
    pub bounce: bool,
    /// Where the piece after this one begins.
    pub next: Cursor,
}

/// The longest piece from `cursor` on, for data that goes to or comes from block `lba` on.
///
/// `bounce_bytes_max` bounds a bounced piece and is at least a block. Segments behind the cursor sum to whole blocks;
/// `None` when there is nothing left, or less than a block.
#[must_use]
pub fn next_piece(
    limits: &Limits,
    lba: u64,
    data: &[Segment],
    cursor: Cursor,
    bounce_bytes_max: u32,
) -> Option<Piece> {
    let mut budget = limits.transfer_bytes_max;
    if limits.boundary_blocks != 0 {
        let boundary = u64::from(limits.boundary_blocks);
        let room = (boundary - lba % boundary).saturating_mul(u64::from(limits.block_bytes));
        budget = budget.min(u32::try_from(room).unwrap_or(u32::MAX));
    }
    let direct = walk(limits, data, cursor, budget, limits.segments_max, |walker, segment| {
        nameable(limits.addressing, walker, segment)
    });
    if let Some((bytes, next)) = direct {
        return Some(Piece { blocks: bytes / limits.block_bytes, bounce: false, next });
    }
    // Not even one block can be named. Bounce the one block only: what follows may well be nameable again.
    let budget = budget.min(bounce_bytes_max).min(limits.block_bytes);
    let (bytes, next) = walk(limits, data, cursor, budget, u32::MAX, |_, segment| segment.len())?;
    Some(Piece { blocks: bytes / limits.block_bytes, bounce: true, next })
}

/// Whether one command can carry a segment whole, to or from block `lba` on, when it is all the data there is: the common
/// case, told without cutting.
#[inline(always)]
#[must_use]
pub fn fits_whole(limits: &Limits, lba: u64, segment: &Segment) -> bool {
    let start = segment.iova().raw();
    let nameable = match limits.addressing {
        Addressing::Any => true,
        Addressing::Sgl { align_bytes } => {
            (start | u64::from(segment.len())) & u64::from(align_bytes - 1) == 0
        }
        // Contiguous for the device, so that every page after the first begins at its start.
        Addressing::Prp { .. } => start & 3 == 0,
    };
    nameable
        && segment.len() <= limits.transfer_bytes_max
        // Most devices have no boundary, and need not pay for the divisions.
        && (limits.boundary_blocks == 0 || within_boundary(limits, lba, segment.len()))
}

/// Whether a command of `bytes` bytes from block `lba` on crosses no boundary, where there are some.
fn within_boundary(limits: &Limits, lba: u64, bytes: u32) -> bool {
    let boundary = u64::from(limits.boundary_blocks);
    u64::from(bytes / limits.block_bytes) <= boundary - lba % boundary
}

/// What was taken before the segment at hand.
struct Taken {
    bytes: u32,
    /// Where the last byte taken ends, as the device sees it.
    end: u64,
}

/// Takes segments while `allow` says that some of each may be taken, `budget` bytes and `segments_max` segments at most.
/// Gives the last point on a whole block, and how many bytes lie before it.
fn walk(
    limits: &Limits,
    data: &[Segment],
    cursor: Cursor,
    budget: u32,
    segments_max: u32,
    allow: impl Fn(&Taken, &Segment) -> u32,
) -> Option<(u32, Cursor)> {
    let mut taken = Taken { bytes: 0, end: 0 };
    let mut whole = None;
    let mut runs = 0;
    for (index, segment) in data.iter().enumerate().skip(cursor.segment) {
        let skipped = if index == cursor.segment { cursor.offset } else { 0 };
        let rest = segment.part(skipped.min(segment.len()), segment.len().saturating_sub(skipped));
        if rest.is_empty() {
            continue;
        }
        let contiguous = runs > 0 && rest.iova().raw() == taken.end;
        runs += u32::from(!contiguous);
        let part = allow(&taken, &rest).min(rest.len()).min(budget - taken.bytes);
        if part == 0 || runs > segments_max {
            break;
        }
        taken.bytes += part;
        taken.end = rest.iova().raw().wrapping_add(u64::from(part));
        // The last whole block may lie inside this segment, before its end.
        let excess = taken.bytes % limits.block_bytes;
        if excess < part {
            whole = Some((taken.bytes - excess, Cursor { segment: index, offset: skipped + part - excess }));
        }
        if part < rest.len() {
            break;
        }
    }
    whole.filter(|&(bytes, _)| bytes > 0)
}

/// How many bytes of `segment` the device can name, behind what was taken.
fn nameable(addressing: Addressing, taken: &Taken, segment: &Segment) -> u32 {
    let start = segment.iova().raw();
    match addressing {
        Addressing::Any => segment.len(),
        Addressing::Sgl { align_bytes } => {
            if start.is_multiple_of(u64::from(align_bytes)) {
                segment.len() - segment.len() % align_bytes
            } else {
                0
            }
        }
        Addressing::Prp { page_bytes } => {
            let page = u64::from(page_bytes);
            let first = taken.bytes == 0;
            let joins = taken.end == start || (start.is_multiple_of(page) && taken.end.is_multiple_of(page));
            if (first && start.is_multiple_of(4)) || (!first && joins) { segment.len() } else { 0 }
        }
    }
}

#[cfg(test)]
mod tests;
