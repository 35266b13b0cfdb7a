//! A front-end for vhost-user disks, for programs that stand in for a VMM: the demonstration and the load generator.
//!
//! A [`Session`] connects to an endpoint, negotiates and lends it a memory of its own. Each of its [`Queue`]s takes
//! requests, several in flight, and gives completions back; a [`Waiter`] sleeps until one of many sessions has some.
//!
//! ```text
//!   Session ── vhost messages ─► endpoint            Queue: take ─► Slot ─► write, submit ─► publish ─► kick
//!     ├─ Arena: rings, headers, data                          ▲                                 │
//!     └─ Queue, Queue, …                                      └── give_back ◄─ read ◄─ poll ◄───┘◄─ call
//!                                                                                        └ Waiter
//! ```
//!
//! A [`Slot`] is the right to one request's memory. It moves into the queue with the request and comes back with the
//! completion, so that nobody can touch data which the device may be writing.
//!
//! The messages are those of the crate `vhost`, the rings those of [`vfiomux_guest::driver`], so that both ends of a
//! session are not made by the same hand. Nothing here allocates per request.
//!
//! What does not live here: what to read and write, and whether it came back right.
#![forbid(unsafe_code)]

mod error;
mod layout;
mod operation;
mod queue;
mod session;
mod waiter;

pub use error::FrontendError;
pub use operation::{Completion, Operation, Slot};
pub use queue::Queue;
pub use session::{Session, Shape};
pub use waiter::{Waiter, Woken};
