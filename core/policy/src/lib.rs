//! Verdicts: who may create, tune, attach and destroy what.
//!
//! ```text
//!   manager ── CreateRequest ─► Chain ─► DefaultPolicy ─► …another Policy… ─┐ amended by each in turn
//!   manager ◄─ Ruling ──────────┘ ◄── asked once more about the result ◄────┘
//! ```
//!
//! What lives here: the questions ([`CreateRequest`] and its kin), the answers ([`Verdict`]), the trait that joins them
//! ([`Policy`]), the rules that always hold ([`DefaultPolicy`]) and the order in which several are asked ([`Chain`]).
//! What does not: loading policies from outside, guarantees compiled to numbers, anything that asks on the data path.
//!
//! # Ready for a C ABI
//!
//! Questions and answers are plain data, so that a policy can be another process or written in C:
//!
//! - A request becomes a `repr(C)` structure that begins with its own size, so that it can grow at its end. Integers keep the
//!   width that they have here, flags become one byte, a `&str` becomes pointer and length, a slice pointer and count. Fields
//!   come in the order in which they stand here.
//! - A verdict is a raw `u32` ([`RawVerdict`]) and never a Rust enum on the other side's word: a number that is none of ours
//!   is a denial. The same holds for the number of a [`Setting`].
//! - An [`Amendment`] is `repr(C)`: setting and value, in the setting's unit.
//!
//! A verdict holds for the generation it was asked about and no other (P1): the manager compares [`Channel::generation`]
//! with the channel's before it acts on a ruling.
#![forbid(unsafe_code)]

mod builtin;
mod chain;
mod request;
mod verdict;

pub use builtin::{DefaultPolicy, NAME_BYTES_MAX, TENANT_BYTES_MAX};
pub use chain::{Chain, Ruling};
pub use request::{
    AmendError, AttachRequest, Channel, CreateRequest, DestroyRequest, Device, Request, Setting, TuneRequest,
};
pub use verdict::{Amendment, RawVerdict, Verdict};

/// Rules that decide. Asked on the control thread, never on the data path.
///
/// A policy that leaves a question out allows it.
pub trait Policy: Send {
    /// What it is called in refusals and events.
    fn name(&self) -> &str;

    /// May this channel come to be?
    fn create(&mut self, request: &CreateRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// May this channel's setting become this one?
    fn tune(&mut self, request: &TuneRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// May a front-end reach this channel there?
    fn attach(&mut self, request: &AttachRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// May this channel end?
    fn destroy(&mut self, request: &DestroyRequest<'_>) -> Verdict {
        let _ = request;
        Verdict::Allow
    }
}
