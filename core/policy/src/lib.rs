//! Verdicts: who may create, tune, attach and destroy what.
//!
//! ```text
//!   manager ── Create ─► Chain ─► DefaultPolicy ─► …another Policy… ─┐ amended by each in turn
//!   manager ◄─ Ruling ───┘ ◄── asked once more about the result ◄────┘
//! ```
//!
//! What lives here: the questions ([`Create`] and its kin), the answers ([`Verdict`]), the trait that joins them
//! ([`Policy`]), the rules that always hold ([`DefaultPolicy`]) and the order in which several are asked ([`Chain`]).
//! What does not: guarantees compiled to numbers, and anything that asks on the data path.
//!
//! Questions own what they name: a chain may block up to the deadlines of its plugins, so it lives on a thread of its own, and
//! questions and rulings are sent there and back. A verdict holds for the generation it was asked about and no other (P1):
//! [`Ruling::generation`] is compared with the channel's before anything comes of the ruling.
#![forbid(unsafe_code)]

mod builtin;
mod chain;
mod channel;
mod question;
mod setting;
mod telemetry;
mod verdict;

pub use builtin::{DefaultPolicy, NAME_BYTES_MAX, TENANT_BYTES_MAX};
pub use chain::{Answer, Chain, Denial, FaultRuling, Proposal, Ruling};
pub use channel::{Channel, Device, Function, Guarantees, Objective, RateLimit, Tenant};
pub use question::{
    Attach, Claim, Create, Destroy, Discover, Fallback, Hook, Migrate, Question, Session, Tune,
};
pub use setting::{AmendError, Amendment, Setting};
pub use telemetry::{Fault, FaultKind, Pressure, PressureKind, Retune, Sample, Telemetry, Tick};
pub use verdict::Verdict;

/// Rules that decide. Asked on a thread that may block, never on the data path.
///
/// A policy that leaves a question out allows it, and one that leaves a report out wants nothing for it.
pub trait Policy: Send {
    /// What it is called in refusals and events.
    fn name(&self) -> &str;

    /// May this function be used?
    fn discover(&mut self, question: &Discover) -> Verdict {
        let _ = question;
        Verdict::Allow
    }

    /// May this function be taken?
    fn claim(&mut self, question: &Claim) -> Verdict {
        let _ = question;
        Verdict::Allow
    }

    /// May this channel come to be?
    fn create(&mut self, question: &Create) -> Verdict {
        let _ = question;
        Verdict::Allow
    }

    /// May this channel's setting become this one?
    fn tune(&mut self, question: &Tune) -> Verdict {
        let _ = question;
        Verdict::Allow
    }

    /// May a front-end reach this channel there?
    fn attach(&mut self, question: &Attach) -> Verdict {
        let _ = question;
        Verdict::Allow
    }

    /// May this front-end have its session?
    fn session(&mut self, question: &Session) -> Verdict {
        let _ = question;
        Verdict::Allow
    }

    /// May this channel leave the host?
    fn migrate(&mut self, question: &Migrate) -> Verdict {
        let _ = question;
        Verdict::Allow
    }

    /// May this channel end?
    fn destroy(&mut self, question: &Destroy) -> Verdict {
        let _ = question;
        Verdict::Allow
    }

    /// This was measured.
    fn tick(&mut self, tick: &Tick) -> Vec<Retune> {
        let _ = tick;
        Vec::new()
    }

    /// This runs short.
    fn pressure(&mut self, pressure: &Pressure) -> Vec<Retune> {
        let _ = pressure;
        Vec::new()
    }

    /// This went wrong. Amendments mean nothing here.
    fn fault(&mut self, fault: &Fault) -> (Verdict, Vec<Retune>) {
        let _ = fault;
        (Verdict::Allow, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use crate::Channel;

    /// A channel that nobody objects to.
    pub(crate) fn channel() -> Channel {
        Channel {
            id: "8f0c".to_owned(),
            name: "disk-a".to_owned(),
            tenant: "acme".to_owned(),
            device: "sim0".to_owned(),
            size_bytes: 1 << 20,
            queues: 2,
            ..Channel::default()
        }
    }
}
