//! A tenant's memory and rings.
//!
//! A front-end lends us files (its guest's RAM) and says where in them its rings lie. Here they become something that a
//! channel can work with: [`MemoryMap`] turns guest addresses into [`Segment`]s, [`SplitRing`] turns descriptor chains into
//! lists of them, and [`Inflight`] remembers, in memory that outlives us, which chains we were working on.
//!
//! ```text
//!   descriptor ─► FileRegion ─┬─► MemoryMap ── translate ──► Segment { host, iova, len }
//!   (RegionCache: once a VM)  │       ▲                          ▲
//!                             └─► SplitRing ── pop ──► Chain ────┘ ── readable, writable ──► channel
//!                                     ▲                                                        │
//!                                     └── push_used, publish, should_call ◄── Head ────────────┘
//! ```
//!
//! All channels on a function share its I/O address space, so the IOMMU keeps the device from the host, but not one
//! tenant from another. What does is this crate's promise: **a segment lies whole inside memory that its front-end
//! granted**. It rests on three rules. A field that the guest can change is read once, into memory of our own. An
//! address becomes a segment only by [`MemoryMap::translate`], whose arithmetic cannot wrap. A head that was popped is
//! a [`Head`], which cannot be copied, so that it goes back once.
//!
//! Memory that a guest can write is never behind a reference: it is reached by volatile and atomic accesses alone. The
//! front-end may also truncate its file at any instant; `vfiomux_hw`'s fault guard turns the SIGBUS into a poisoned
//! region, and [`MemoryMap::poisoned`] is the one load a breath that notices.
//!
//! A guest that breaks the rules gets a [`RingFault`], never a panic, and its ring moves no further.
//!
//! What does not live here: sockets, requests, devices, threads. [`driver`] is the other end of the ring, for load
//! generators and tests.
//!
//! [`Segment`]: vfiomux_hw::Segment

pub mod driver;
mod error;
#[cfg(test)]
mod fixture;
pub mod inflight;
pub mod memory;
pub mod notify;
pub mod ring;
mod seeded;

pub use error::{GuestError, RingFault};
pub use inflight::{Inflight, InflightQueue};
pub use memory::{FileIdentity, FileRegion, Hint, MapRegion, MemoryMap, RegionCache};
pub use notify::{Call, Kick};
pub use ring::{Chain, Head, RingSetup, RingWatch, SplitRing};
