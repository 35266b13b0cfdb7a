//! The NVMe driver.
//!
//! It has two sides that live on different threads and meet only when a queue or a lane is handed over.
//!
//! ```text
//!   control side (may block)                         data side (a sidecore; never blocks, allocates or locks)
//!   Controller ── create_queue ────► Queue   one completion queue; implements BlockQueue
//!      │       ── create_lane ─────► Lane    a submission queue, its slots and list areas; attached to a Queue
//!      │                               submit: slot, data pointer, 64-byte entry ─► ring: a doorbell a lane
//!      │                               poll: phase tag, slot and generation ─► Completion
//!      └─ delete_lane, halt ◄──────── the barriers after which a command's memory is let go
//! ```
//!
//! A command names its memory until it completes, its submission queue has been deleted, or the controller was halted; Abort
//! alone is no barrier. [`Controller::end_lane`] goes through these steps, each with a deadline.
//!
//! What lives here: bring-up, admin commands, namespaces and their limits, rings, command identifiers, data pointers,
//! asynchronous events, the end of commands. What does not: whose commands they are, guests, sockets, and how the function is
//! owned: registers, DMA memory and interrupts come through [`vfiomux_hw::Function`], and whether hardware or a simulation
//! stands behind it cannot be told.

mod admin;
pub mod clock;
mod controller;
mod error;
mod lane;
mod link;
mod memory;
mod namespace;
mod pointer;
mod queue;
mod registers;
mod rings;
mod slots;
pub mod sync;

pub use clock::{Clock, SystemClock};
pub use controller::{
    Controller, Ended, EndingDeadlines, Event, Health, Info, Lost, LostQueue, Options, SecureErase, State,
};
pub use error::{IoError, NvmeError};
pub use lane::Lane;
pub use namespace::{BlockFormat, Namespace, Skipped};
pub use queue::Queue;

/// An I/O completion queue of a controller, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u16);
