//! vhost-user sessions: what a VMM says on a channel's socket, and what we answer.
//!
//! ```text
//!   front-end ⇄ unix socket ⇄ Connection ── feed ──► Session ── next_action ──► owner of the rings
//!                                         ◄─ next_output ─     ◄── complete ───
//! ```
//!
//! A [`Session`] is one connection of a front-end: a state machine with bytes and descriptors going in, [`Action`]s and
//! reply [`Frame`]s coming out. It has no socket, clock or thread, so it can be stepped, fuzzed and replayed. A
//! [`Connection`] is the socket under it, non-blocking, for a `mio` loop; [`Listener`] and [`Connector`] make
//! connections; a [`BackendChannel`] is the second socket, on which we speak first.
//!
//! What lives here: the order of messages, which of them a [`Device`] allows, the replies, and the ring parameters as
//! they are put together message by message. What does not: mapping memory, touching a ring, signalling an eventfd. That
//! is the owner's, who is told by an [`Action`] and says how it went with [`Session::complete`]. One message is carried
//! out at a time: while an action of it is not completed, later messages wait, so a reply is never early and never out of
//! order. `GET_VRING_BASE` is answered when the owner has drained the ring, `REM_MEM_REG` when the memory is unmapped.
//!
//! A front-end that breaks the protocol ends its session with a [`Violation`] that says what it did; nothing it can send
//! panics, and every descriptor it sent is closed.
//!
//! How an owner drives it, on every readiness event and after every completion:
//!
//! ```no_run
//! # use vfiomux_vhost::{Action, Connection, Session};
//! # fn carry_out(_: Action) {}
//! # fn drive(connection: &mut Connection, session: &mut Session) {
//! loop {
//!     let progress = connection.pump(session);
//!     let mut acted = false;
//!     while let Some(action) = session.next_action() {
//!         carry_out(action); // now or later: session.complete(token, outcome)
//!         acted = true;
//!     }
//!     if progress.is_idle() && !acted {
//!         break;
//!     }
//! }
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

mod action;
mod codec;
mod device;
mod error;
mod request;
mod seeded;
mod session;
mod socket;
mod trace;

pub use action::{Action, EndReason, InflightRegion, Outcome, RegionGrant, RegionId, RingSetup, Token};
pub use codec::Frame;
pub use device::Device;
pub use error::{Error, Violation};
pub use session::Session;
pub use socket::{BackendChannel, Connection, Connector, Listener, Progress};
pub use trace::{Direction, TraceRecord};
