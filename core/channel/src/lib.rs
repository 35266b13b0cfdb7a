//! A block channel's data path.
//!
//! A channel is one virtio block device, carved from a namespace for one tenant. Here its requests are taken from the guest's
//! rings, turned into commands on the device's blocks, and returned. A sidecore calls in once a breath; nothing here has a
//! thread, a clock or a lock, and nothing allocates once a channel is made.
//!
//! ```text
//!   ring ── pop ──► desk ── header, extents, cut at limits ──► slot + BlockQueue::submit      serve
//!                     │                                             │
//!                     │ (lane full: stays, nothing else is popped)  ▼
//!                     │                                        ... device ...
//!                     │                                             │
//!   ring ◄─ publish ◄─┴─ status byte, used entry ◄── last piece ◄── slot, if the stamp is right      complete
//! ```
//!
//! * A **slot** is a command in flight; a request lives in the slot of its first command ([`CommandTag`] names both).
//! * A **desk** is where a request lies while it is cut into commands. One that is not wholly submitted blocks the channel,
//!   not its neighbours: what is behind it waits on the ring, and is never lost.
//! * An **extent** is a run of the device's blocks; every address goes through the [`ExtentMap`], checked without wrapping (C2).
//! * A **bounce buffer** takes the blocks that neither PRP nor SGL can name; copied, counted, cleared (C4).
//! * Memory is held by an `Epoch` that counts requests, so that it is let go only when none names it (C1, D2).
//!
//! Whatever a guest does wrong costs its own channel only: a request that makes no sense is answered with an error, a ring
//! that breaks the rules [quarantines](Fault) the channel, which then touches memory no more.
//!
//! [`driver`] is the guest's end, for load generators and tests.
//!
//! What does not live here: vhost-user, NVMe, threads, policy. Flushes are merged across channels by the sidecore; a channel
//! only collects [those that wait](BlockChannel::flush_waits).
#![forbid(unsafe_code)]

mod channel;
mod complete;
mod config;
mod control;
mod counters;
mod desk;
mod dirty;
mod doze;
pub mod driver;
mod error;
mod extent;
mod fault;
mod flush;
mod histogram;
mod id;
mod limit;
mod own_memory;
mod request;
mod ring;
mod seeded;
mod serve;
mod settings;
mod slot;
mod submit;
mod tag;

pub use channel::BlockChannel;
pub use complete::Ending;
pub use config::RANGES_MAX;
pub use control::{Remains, SetMemory};
pub use counters::{ChannelCounters, ChannelSnapshot, Counter};
pub use dirty::DirtyMap;
pub use doze::{Asked, Rest};
pub use error::ChannelError;
pub use extent::{Extent, ExtentMap, Place};
pub use fault::Fault;
pub use histogram::{Histogram, HistogramSnapshot};
pub use id::ChannelId;
pub use ring::{RingStart, StoppedRing};
pub use serve::{Portion, Served, Turn};
pub use settings::{ChannelSettings, REQUESTS_MAX, RINGS_MAX};
pub use tag::CommandTag;

#[cfg(test)]
mod tests;
