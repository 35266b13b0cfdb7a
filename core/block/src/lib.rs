//! The seam between a block channel and a block device.
//!
//! A channel turns a guest's request into [`Command`]s over [`Segment`]s of memory; a [`BlockQueue`] carries them to a
//! device and brings [`Completion`]s back. Between the two stand the device's [`Limits`], and [`split`], which cuts a
//! request at them.
//!
//! ```text
//!   channel ── Command, Segments ──► cut at Limits ──► BlockQueue::submit … ring ──► device
//!   channel ◄────────────── Completion (tag, status) ◄── BlockQueue::poll ◄────────────┘
//! ```
//!
//! A queue belongs to one sidecore and one device. It has many [lanes](LaneId): on NVMe a lane is a submission queue,
//! so that a channel's commands can be ended by deleting it, unnoticed by the neighbours who share the completion queue.
//!
//! Two devices are simple enough to live beside the seam: [`NullQueue`] does nothing and costs what the way to a device
//! costs, [`RamQueue`] is a disk in memory. Both end a command where it is submitted. [`FaultyQueue`] makes any of them late,
//! out of order, failing or stuck, for tests.
//!
//! What does not live here: any driver, any virtqueue, any policy. The trait is generic on the hot path, never `dyn`.

mod command;
mod ended;
mod faulty;
mod limits;
mod null;
mod queue;
mod ram;
pub mod split;

pub use command::{Command, Completion, Operation, Status, Tag};
pub use ended::LocalLane;
pub use faulty::{FaultPlan, FaultyQueue};
pub use limits::{Addressing, Limits};
pub use null::NullQueue;
pub use queue::{BlockQueue, LaneId, SubmitError};
pub use ram::{RamDisk, RamQueue};
pub use vfiomux_hw::Segment;
