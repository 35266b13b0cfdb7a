//! Guarantees compiled to integers, and the choice of whose request is next.
//!
//! ```text
//!   Guarantees ── compile ──► Program ──► Limiter (a channel's)      may this request go now?
//!                               │            ├── Account (its own limits)                        token buckets, exact
//!                               │            └── Lease (its part of a tenant's Group)            tokens leased in slices
//!                               └───────► Scheduler (a sidecore's, of a device)  whose turn?    mClock tags, three heaps
//!                                            └── Window: how many commands the device may have of us
//! ```
//!
//! What lives here: the arithmetic. Control says what a channel is promised ([`Guarantees`]) and compiles it, once, to numbers
//! that a sidecore can run ([`Program`]). The sidecore keeps a [`Limiter`] a channel, which says of each request whether it is
//! affordable, and a [`Scheduler`] a device, which says whose turn it is when there are more requests than the device may have.
//! What does not: a clock (every call that needs the time is told it), threads, rings, devices, and any decision about who is
//! promised what.
//!
//! # Limits
//!
//! A limit is a rate and a burst, of operations or of bytes, for reads, for writes or for both. Its [`Bucket`] counts in
//! thousand-millionths of a token, so that a nanosecond earns a whole number of them: nothing is rounded, and nothing drifts.
//! A request is affordable when each of its buckets holds what the request takes, or is full. So, of what is admitted in any
//! window of time (Q1):
//!
//! > admitted ≤ rate × window + max(burst, the largest request)
//!
//! A request that is larger than the burst goes when the bucket is full and leaves it in debt; the debt is repaid before
//! anything else goes. While no request is larger, the bound is rate × window + burst. Time that stands still or steps back
//! earns nothing until it has passed its furthest point again: a limit holds by every reading of the clock.
//!
//! A tenant's limits are shared by its channels, on whichever sidecores they are: a [`Group`]. Each channel has a [`Lease`] of it,
//! and asks it after its own account. All are told the time by one clock. Where a tenant's limit binds, its channels have it by their
//! shares, also across sidecores: over a second within 2 % of the limit, beside the burst, as long as single requests are small
//! beside it. What one leaves, whatever keeps it from taking its part, goes to the others by their shares.
//!
//! What a limit takes of a request's path is paid twice a reading of the clock: the first two requests are weighed one by one, the others
//! are held against one number of operations and one of bytes ([`Credit`]), added up ([`Tally`]), and charged when the turn ends. What the
//! credit does not cover is weighed again, so that it changes what is counted when, and nothing of what is let go.
//!
//! Requests that come one at a time mostly find limits that do not bind. So the first request is not weighed where a glance
//! says that it may go: its buckets are known to be full by now ([`Account::is_full`]), and what is leased and does not lapse for a while
//! covers it ([`Lease::skim`]). It is noted down, and charged as of its time if that should turn out to matter.
//!
//! # Reservations and shares
//!
//! As in mClock (Gulati, Merchant, Varman: mClock, OSDI 2010), in two phases: whoever is behind its reservation goes first, the
//! furthest behind before the others; when nobody is, whoever has had the least for its share. What nobody claims goes to
//! whoever asks. Both are counted in cost units ([`CostModel`]), so that reads, writes and sizes add up. Unlike there
//!
//! * a turn is charged after it, by what it took: the order does not depend on what a request behind the head will cost;
//! * limits are the buckets above, which hold exactly, and a limit is stronger than a reservation;
//! * one part in [`Scheduler::SHARED_PART`] of the device is never reserved: reservations that add up to more than there is do
//!   not shut anybody out (V4). Admission must leave that part free.
//!
//! # Cost
//!
//! An idle channel costs nothing. A decision takes time logarithmic in the number of channels that wait. Nothing allocates
//! after set-up, and nothing locks: what sidecores share of a [`Group`] is one atomic word a limit.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod account;
mod bucket;
mod cost;
mod credit;
mod error;
mod group;
mod guarantees;
mod heap;
mod limiter;
mod program;
mod scheduler;
mod seeded;
mod standing;
mod window;

pub use account::{Account, NotBefore};
pub use bucket::Bucket;
pub use cost::{CostModel, Direction, Io};
pub use credit::{Credit, Tally};
pub use error::QosError;
pub use group::{Group, Lease};
pub use guarantees::{Guarantees, Limits, Rate};
pub use limiter::{Limiter, Refusal};
pub use program::Program;
pub use scheduler::{Next, Phase, Scheduler, Turn};
pub use standing::Standing;
pub use window::Window;

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
