//! Verdicts: who may create, tune, attach and destroy what, and the plugins that are asked.
//!
//! ```text
//!   manager ── Create ─► Chain ─► DefaultPolicy ─► PluginHost ─► …another… ─┐ amended by each in turn
//!   manager ◄─ Ruling ───┘ ◄── asked once more about the result ◄───────────┘
//!                                                     │ wire: one question at a time, each with a deadline
//!                                            ═════════╪═════════ socketpair, another process
//!                                            vfiomux-plugin-host, sandboxed ─► the plugin, a shared library
//! ```
//!
//! What lives here: the questions ([`Create`] and its kin), the answers ([`Verdict`]), the trait that joins them
//! ([`Policy`]), the rules that always hold ([`DefaultPolicy`]), the order in which several are asked ([`Chain`]), and the
//! watch over a plugin's process ([`PluginHost`]), with what is said to it ([`wire`]) and what is noted of that for the plugin's
//! author ([`Recorder`]). What does not: the numbers that cross to a plugin (`plugins/abi`), loading a library (`plugins/host`),
//! guarantees compiled to numbers, what a ruling brings about.
//!
//! # Where it runs
//!
//! A chain blocks, up to the deadlines of its plugins. So it is no part of a loop that must go on: it has a thread of its own,
//! which is sent questions (they own what they name) and sends rulings back. A sidecore cannot ask even by mistake: it is in a
//! crate that this one is unknown to (`cargo xtask layers`), and what reaches it of a verdict is compiled numbers in its mailbox
//! (P2). A verdict holds for the generation it was asked about and no other (P1): [`Ruling::generation`] is compared with the
//! channel's before anything comes of the ruling.
//!
//! # What a plugin can bring about
//!
//! By its answers: denials, amendments that every other policy agrees to, and proposals that are put to the chain like anybody's
//! wish. By anything else, be it silence, a crash, nonsense or a flood: that it is killed, that [`Hook::fallback`] holds for
//! as long as it is down, and that everybody can read so ([`PluginEvent`], [`PluginState`]).
#![forbid(unsafe_code)]

mod builtin;
mod chain;
mod channel;
mod host;
mod question;
mod recorder;
mod setting;
mod telemetry;
mod verdict;
pub mod wire;

pub use builtin::{DefaultPolicy, NAME_BYTES_MAX, TENANT_BYTES_MAX};
pub use chain::{
    Answer, Chain, ChainError, Denial, Difference, FaultRuling, Proposal, Replaced, Ruling, StateOffer,
};
pub use channel::{Channel, Device, Function, Guarantees, Objective, RateLimit, Tenant};
pub use host::{
    Deadlines, HostFault, PluginEvent, PluginEventKind, PluginHost, PluginSpec, PluginState, PluginStatus,
    VerdictCounts,
};
pub use question::{
    Attach, Claim, Create, Destroy, Discover, Fallback, Hook, Migrate, Question, Session, Tune,
};
pub use recorder::{Excerpt, Recorder};
pub use setting::{AmendError, Amendment};
pub use telemetry::{Fault, FaultKind, Pressure, PressureKind, Retune, Sample, Telemetry, Tick};
pub use verdict::Verdict;
pub use vfiomux_plugin_abi::Setting;

use std::time::Instant;

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

    /// What a successor needs to go on where this one is; none when it needs nothing.
    fn save(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Goes on from what a predecessor saved.
    ///
    /// # Errors
    /// Why that is of no use. The policy goes on without.
    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let _ = state;
        Err("it takes no state over".to_owned())
    }

    /// Looks after what stands behind it, now and then.
    fn maintain(&mut self, now: Instant) {
        let _ = now;
    }

    /// When it has something to look after; none for no particular time.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// What happened to it since the last call.
    fn take_events(&mut self) -> Vec<PluginEvent> {
        Vec::new()
    }

    /// What it was asked; none for a policy that is no plugin.
    fn recorder(&mut self) -> Option<&mut Recorder> {
        None
    }

    /// How it is; none for a policy that is no plugin.
    fn state(&self) -> Option<PluginState> {
        None
    }

    /// Ends it in order.
    fn end(self: Box<Self>) {}
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
