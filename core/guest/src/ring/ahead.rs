//! Fetching ahead: what the next requests are made of is on its way to us before it is asked for.
//!
//! A request is four reads that wait for each other: available entry, descriptor, indirect table, header. The guest wrote
//! each of them on its own processor, so that each is a transfer from there. A processor overlaps transfers that do not wait
//! for each other; so they are begun early, in two ways:
//!
//! - Of the few requests that were found in one look, table and header are taken to lie where those of the same head lay
//!   the last time ([`Ahead::recall`]). Drivers that give memory back and take it again find it in the same place.
//! - Where many wait, those further behind are followed step by step ([`follow`]): a descriptor while there are
//!   nine requests before it, the table that it names three requests later, the header that this one names three later
//!   again. Three requests take longer than a transfer between distant processors, about 150 ns.
//!
//! # I3
//!
//! Both look at what the guest can change, and the request itself will read it again. Nothing is decided by it but which
//! lines are fetched: what was seen early is forgotten at once, every address is looked up in the map before it is
//! followed, and what a request does is decided by its own single read. A guest that changes its mind in between has a line
//! fetched in vain. What is recalled is never followed at all: a prefetch reads nothing and cannot fault, so that it may name
//! memory that is gone.
#![expect(unsafe_code, reason = "descriptors are peeked at where they lie, after their bounds were checked")]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use std::ptr::{NonNull, null};

use vfiomux_spec::virtio::split::{DESC_F_INDIRECT, Descriptor};

use super::chain::Chain;
use super::words::RingWords;
use crate::memory::{Hint, MemoryMap, peek, prefetch};

/// So many requests ahead a descriptor is fetched, the table that it names, and the header that the table names.
const DESCRIPTOR: u16 = 9;
const TABLE: u16 = 6;
const HEADER: u16 = 3;

/// Requests of one look that are recalled: as far as [`follow`] does not reach.
const RECALLED: u16 = DESCRIPTOR;

/// Bytes of a descriptor.
const DESC_BYTES: u32 = 16;

/// Where the requests of a ring lay the last time.
#[derive(Debug)]
pub(super) struct Ahead(Box<[Place]>);

/// Where a head's last request lay. Named, never followed.
#[derive(Debug, Clone, Copy)]
struct Place {
    table: *const u8,
    header: *const u8,
}

// SAFETY: the addresses are never followed.
unsafe impl Send for Place {}

impl Ahead {
    /// Nothing is known of a ring of `size` entries.
    pub(super) fn new(size: u16) -> Self {
        Self(vec![Place { table: null(), header: null() }; size.into()].into())
    }

    /// Fetches what the first of the `waiting` requests from `next_avail` on are likely to be made of.
    #[inline(always)]
    pub(super) fn recall(&self, words: &RingWords, next_avail: u16, waiting: u16) {
        for ahead in 0..waiting.min(RECALLED) {
            let head = words.peek_avail_entry(next_avail.wrapping_add(ahead));
            prefetch(words.descriptor_word(head).as_ptr().cast());
            if let Some(&Place { table, header }) = self.0.get(usize::from(head)) {
                prefetch(table);
                prefetch(header);
            }
        }
    }

    /// Keeps where a request lay.
    #[inline(always)]
    pub(super) fn remember(&mut self, head: u16, table: Option<NonNull<u64>>, chain: &Chain) {
        if let (Some(place), Some(header)) = (self.0.get_mut(usize::from(head)), chain.readable().first()) {
            let table = table.map_or(null(), |table| table.as_ptr().cast_const().cast());
            *place = Place { table, header: header.host().as_ptr() };
        }
    }
}

/// Whether so many requests wait that those behind can be followed.
#[inline(always)]
pub(super) fn reaches(waiting: u16) -> bool {
    waiting > DESCRIPTOR
}

/// Goes one step further with each of the requests behind `next_avail` that are under way. As many wait as [`reaches`] asks for.
#[inline(always)]
pub(super) fn follow(words: &RingWords, map: &MemoryMap, next_avail: u16, hint: &mut Hint) {
    let head = |ahead| words.peek_avail_entry(next_avail.wrapping_add(ahead));
    prefetch(words.descriptor_word(head(DESCRIPTOR)).as_ptr().cast());
    // SAFETY: the ring's table is whole and held, and `descriptor` stays inside it.
    let descriptor = unsafe { peek_descriptor(words.descriptor_word(head(TABLE))) };
    if let Some(found) = map.segment(descriptor.addr.get(), DESC_BYTES, hint) {
        prefetch(found.host().as_ptr());
    }
    // SAFETY: as above.
    let descriptor = unsafe { peek_descriptor(words.descriptor_word(head(HEADER))) };
    if !descriptor.has(DESC_F_INDIRECT) {
        // It names the header itself, which was fetched in the table's place.
        return;
    }
    let Some(table) = map.segment(descriptor.addr.get(), DESC_BYTES, hint) else { return };
    let table = table.host().cast::<u64>();
    if table.is_aligned() {
        // SAFETY: the map has just found 16 bytes there, which it holds, and they are aligned.
        let descriptor = unsafe { peek_descriptor(table) };
        if let Some(header) = map.segment(descriptor.addr.get(), 1, hint) {
            prefetch(header.host().as_ptr());
        }
    }
}

/// Looks at a descriptor that will be read by the request that it belongs to.
///
/// # Safety
///
/// `at` is valid for reads of 16 bytes, and aligned to 8.
#[inline(always)]
unsafe fn peek_descriptor(at: NonNull<u64>) -> Descriptor {
    // SAFETY: the caller's promise.
    unsafe { Descriptor::from_words(u64::from_le(peek(at.as_ptr())), u64::from_le(peek(at.as_ptr().add(1)))) }
}
