//! How many instructions the data path takes.
//!
//! Time needs a quiet machine to be measured; instructions do not. Each bench of `benches/data_path.rs` runs once under
//! valgrind's callgrind, does its operation [`OPERATIONS`] times, and counts what happens inside [`counted`] alone: the
//! other end of a ring, and the device behind a queue, cost nothing here.
//!
//! ```text
//!   cargo xtask instructions ─► gungraun ─► callgrind ─► data_path (a process a bench)
//!            │                                              world: made, warmed up          not counted
//!            │                                              guest sends                     not counted
//!            │                                              counted(ring | queue | breath)  ◄── counted
//!            ▼                                              device steps, guest takes back  not counted
//!   baseline.json: instructions an operation
//! ```
//!
//! What makes a count the same on every machine with the same compiler: one thread, no clock, no hash seed, an empty
//! environment, addresses that are not randomised (gungraun), and the C library held to the routines that every x86-64 has
//! (`GLIBC_TUNABLES`): left alone it picks `memcpy` by processor.
//!
//! What lives here: worlds, a part of the data path each, with both of its ends. What does not: pass and fail. The baseline
//! and how far from it a count may be is `cargo xtask instructions`' business.

#![expect(clippy::missing_panics_doc, reason = "a world that cannot be made, or misbehaves, ends the bench")]

mod breath;
mod controller;
mod guest;
mod message;
mod queue;
mod ring;
mod table;
mod turn;

pub use breath::{Breath, Load, Promise, null_breath, nvme_breath, ram_breath};
pub use controller::Simulated;
pub use guest::Guest;
pub use message::Messages;
pub use queue::{Layout, QueueWorld};
pub use ring::{RingKind, RingWorld};
pub use table::{Extents, Latencies, Regions};
pub use turn::{Admission, Turns};

/// How often each bench does its operation: the count over this is instructions an operation.
pub const OPERATIONS: u32 = 1000;

/// The only function whose instructions, and those of what it calls, are counted.
///
/// Callgrind is told its name. It is no generic so that it has one name, and is not inlined so that it is called.
#[inline(never)]
pub fn counted(work: &mut dyn FnMut()) {
    work();
}
