//! Writing a vfiomux policy in Rust.
//!
//! Implement [`Policy`], hand the type to [`export_policy!`], and build a `cdylib`: that is a plugin, to be given to
//! `vfiomuxctl plugin load`. `vfiomuxctl plugin new NAME` writes a crate that is all this already.
//!
//! ```text
//!   plugin host ── C structures ─► shims of export_policy! ── owned, checked views ─► your Policy
//!        ▲                             │  panics caught                                  │
//!        └── verdict, sinks ◄──────────┴──────────── Verdict, Retunes ◄──────────────────┘
//! ```
//!
//! What lives here: the trait, what it is asked ([`CreateRequest`] and its kin), what it answers ([`Verdict`], [`Retunes`]), and with the
//! feature `harness` a host in miniature that runs a policy through the same C structures, without a daemon: see the module `harness`.
//! What does not: the structures themselves (`vfiomux-plugin-abi`), and the process that runs plugins beside the daemon.
//!
//! # A policy
//!
//! ```
//! use vfiomux_plugin::{CreateRequest, InitRequest, Host, Policy, Verdict, export_policy};
//!
//! /// Nobody has a channel above a size.
//! struct SizeCap {
//!     most_bytes: u64,
//! }
//!
//! impl Policy for SizeCap {
//!     fn init(request: &InitRequest, _host: &Host) -> Result<Self, String> {
//!         let most_bytes = request.configuration.trim().parse();
//!         Ok(Self { most_bytes: most_bytes.map_err(|_| "the configuration is a number of bytes")? })
//!     }
//!
//!     fn create(&mut self, request: &CreateRequest) -> Verdict {
//!         if request.channel.size_bytes > self.most_bytes {
//!             return Verdict::deny(format!("a channel has at most {} bytes here", self.most_bytes));
//!         }
//!         Verdict::Allow
//!     }
//! }
//!
//! export_policy!(SizeCap);
//! ```
//!
//! # What to rely on
//!
//! Hooks are called one at a time, on one thread, in a process of the plugin's own which has no network, no files and
//! bounded memory. A hook has a deadline; who misses it is killed, and the daemon falls back: creation denied, guarantees kept, the
//! end allowed. A verdict counts only for the generation of the channel that was asked about. A panic is caught and denies,
//! and what the hook would have changed stays as it was.

pub use vfiomux_plugin_abi as abi;

mod export;
#[cfg(feature = "harness")]
pub mod harness;
mod host;
mod read;
mod request;
mod retunes;
mod subject;
mod telemetry;
mod terms;
mod verdict;

pub use abi::{FaultKind, PressureKind, Setting};
pub use export::table;
pub use host::Host;
pub use request::{
    AttachRequest, ClaimRequest, CreateRequest, DestroyRequest, DiscoverRequest, FaultRequest, InitRequest,
    MigrateRequest, PressureRequest, SessionRequest, TickRequest, TuneRequest,
};
pub use retunes::{Retune, Retunes};
pub use subject::{Channel, Device, Guarantees, Objective, RateLimit, Tenant};
pub use telemetry::ChannelTelemetry;
pub use terms::Terms;
pub use verdict::{Amendments, Senseless, Verdict};

/// Rules that decide. What a policy leaves out allows, or changes nothing.
pub trait Policy: Sized + 'static {
    /// Begins, with what the operator configured.
    ///
    /// # Errors
    /// What is wrong with the configuration, as a phrase that the operator reads. The plugin is not loaded then.
    fn init(request: &InitRequest, host: &Host) -> Result<Self, String>;

    /// A function was found: may it be offered?
    fn discover(&mut self, request: &DiscoverRequest) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// May this function be ours?
    fn claim(&mut self, request: &ClaimRequest) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// May this channel come to be? Any setting may be amended.
    fn create(&mut self, request: &CreateRequest) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// May a front-end reach this channel there?
    fn attach(&mut self, request: &AttachRequest) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// May this front-end go on, with these features and this memory?
    fn session(&mut self, request: &SessionRequest) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// May this channel's setting become this one? Any setting may be amended.
    fn tune(&mut self, request: &TuneRequest) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// Once a second: what the channels did, and the chance to give them new guarantees.
    fn tick(&mut self, request: &TickRequest, retunes: &mut Retunes) {
        let _ = (request, retunes);
    }

    /// Something runs short, and channels may be given new guarantees.
    fn pressure(&mut self, request: &PressureRequest, retunes: &mut Retunes) {
        let _ = (request, retunes);
    }

    /// Something went wrong. Denying keeps the channel in quarantine until an operator looks; others may be given new
    /// guarantees.
    fn fault(&mut self, request: &FaultRequest, retunes: &mut Retunes) -> Verdict {
        let _ = (request, retunes);
        Verdict::Allow
    }

    /// May this channel go to that device? Any setting may be amended, for life over there.
    fn migrate(&mut self, request: &MigrateRequest) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// May this channel end?
    fn destroy(&mut self, request: &DestroyRequest) -> Verdict {
        let _ = request;
        Verdict::Allow
    }

    /// What a successor needs to go on from here, when this instance is replaced; `None` if there is nothing.
    fn save(&self) -> Option<Vec<u8>> {
        None
    }

    /// Goes on from what a predecessor saved. It may be of an older version of the policy, or of another policy.
    ///
    /// # Errors
    /// Why it is of no use. The instance goes on without it.
    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let _ = state;
        Ok(())
    }
}
