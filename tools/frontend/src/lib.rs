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
//! The messages are those of the crate `vhost`, the memory is an [`Arena`](vfiomux_guest::driver::Arena). The ring is made for
//! load: each slot has its descriptors for good, so that a request costs a few stores, and nothing here allocates per request.
//!
//! A [`Loopback`] is queues without a session, for a back-end inside the process; a [`NullRing`] is the quickest such back-end
//! there can be, to measure what the front-end itself costs.
//!
//! What does not live here: what to read and write, and whether it came back right.

mod error;
mod layout;
mod lent;
mod loopback;
mod operation;
mod patience;
mod queue;
mod ring;
mod session;
mod waiter;

pub use error::FrontendError;
pub use loopback::{Loopback, NullRing};
pub use operation::{Completion, Operation, Slot};
pub use queue::Queue;
pub use session::{Pages, Session, Shape};
pub use waiter::{Waiter, Woken};
