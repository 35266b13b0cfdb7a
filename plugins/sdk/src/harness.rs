#![expect(unsafe_code, reason = "calls the hooks of a policy as the plugin host does")]
//! A plugin host in miniature: no process of its own, no deadline, no daemon.
//!
//! A [`Harness`] calls a policy through the table that it exports, with C structures, as the plugin host does. So a test sees
//! what the daemon would: a panic as a denial. An answer that is no verdict is a denial that says so here; the daemon would end the
//! plugin's process for it, and do without an answer.
//!
//! ```
//! use vfiomux_plugin::harness::Harness;
//! use vfiomux_plugin::{Channel, CreateRequest, Host, InitRequest, Policy, Verdict};
//!
//! struct ReadOnly;
//!
//! impl Policy for ReadOnly {
//!     fn init(_: &InitRequest, _: &Host) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn create(&mut self, request: &CreateRequest) -> Verdict {
//!         if request.channel.read_only { Verdict::Allow } else { Verdict::deny("only to be read") }
//!     }
//! }
//!
//! let mut harness = Harness::start::<ReadOnly>("")?;
//! let channel = Channel { read_only: true, ..Channel::default() };
//! assert_eq!(harness.create(&CreateRequest { channel, ..CreateRequest::default() }), Verdict::Allow);
//! # Ok::<(), vfiomux_plugin::harness::HarnessError>(())
//! ```
//!
//! A [`Recording`] holds questions, one a line as JSON; [`Harness::replay`] asks them all and returns what was answered.

mod lend;
mod library;
mod recording;
mod sinks;

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::ptr;

use crate::abi::{self, AnswerSink, RawVerdict, RetuneSink, Text, read_policy};
use crate::{
    AttachRequest, ClaimRequest, CreateRequest, DestroyRequest, DiscoverRequest, FaultRequest, InitRequest,
    MigrateRequest, Policy, PressureRequest, Retune, SessionRequest, TickRequest, TuneRequest, Verdict,
    table,
};
use lend::Lend;
use sinks::{Answered, Log};

pub use library::built_beside_this;
pub use recording::{Answer, Exchange, Question, Recording, RecordingError};
pub use sinks::LogLine;

/// Why a policy does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no library, or not all of one.
    #[error(transparent)]
    File(#[from] abi::NotALibrary),
    /// The dynamic linker does not take it: it needs what is not there.
    #[error("the dynamic linker does not take it")]
    Link(#[source] libloading::Error),
    /// The library does not export a policy.
    #[error(
        "it exports no vfiomux_policy_v1, so it is no plugin; is export_policy! called in its crate, and is it a cdylib?"
    )]
    Symbol(#[source] libloading::Error),
    /// The symbol is not a table that can be run.
    #[error(transparent)]
    Table(#[from] abi::Refusal),
    /// The policy does not take its configuration.
    #[error("the policy refuses its configuration: {reason}")]
    Configuration {
        /// Its reason.
        reason: String,
    },
    /// A line of a recording is not a question.
    #[error("a recording could not be read")]
    Recording(#[from] RecordingError),
}

/// A running policy.
#[derive(Debug)]
pub struct Harness {
    table: abi::Policy,
    instance: *mut c_void,
    /// Where the policy's lines go. On the heap, and reached by pointer only, since the policy holds one.
    log: Log,
    /// Keeps the code that the table points into; dropped last.
    _library: Option<libloading::Library>,
}

impl Harness {
    /// Begins a policy with a configuration.
    ///
    /// # Errors
    /// [`HarnessError::Configuration`] when it refuses.
    pub fn start<P: Policy>(configuration: &str) -> Result<Self, HarnessError> {
        let table = table::<P>("harness", "0");
        let request = InitRequest { name: "harness".to_owned(), configuration: configuration.to_owned() };
        // SAFETY: the table is of functions that keep the ABI's rules.
        unsafe { Self::begin(table, None, &request) }
    }

    /// Loads a library and begins its policy.
    ///
    /// # Errors
    /// [`HarnessError`] when it is not a plugin, or refuses its configuration.
    ///
    /// # Safety
    /// The library's code runs in this process and is trusted to keep the ABI's rules.
    pub unsafe fn load(path: &Path, request: &InitRequest) -> Result<Self, HarnessError> {
        let file =
            std::fs::read(path).map_err(|source| HarnessError::Read { path: path.to_owned(), source })?;
        abi::check_library(&file)?;
        // SAFETY: the caller trusts the library.
        let library = unsafe { libloading::Library::new(path) }.map_err(HarnessError::Link)?;
        // SAFETY: the symbol is a static of this type in whatever keeps the ABI's rules, and the library stays loaded.
        let table = unsafe {
            let symbol = library.get::<*const abi::Policy>(abi::SYMBOL).map_err(HarnessError::Symbol)?;
            read_policy(*symbol)?
        };
        // SAFETY: the caller trusts the library, which lives as long as the harness.
        unsafe { Self::begin(table, Some(library), request) }
    }

    /// # Safety
    /// The table's functions keep the ABI's rules and can be called while `library` is there.
    unsafe fn begin(
        table: abi::Policy,
        library: Option<libloading::Library>,
        request: &InitRequest,
    ) -> Result<Self, HarnessError> {
        let log = Log::default();
        let mut harness = Self { table, instance: ptr::null_mut(), log, _library: library };
        let Some(init) = table.init else { return Ok(harness) };
        let host = harness.log.host();
        let mut answered = Answered::default();
        let verdict = request.lend(|request| {
            let sink = answered.sink();
            // SAFETY: the pointers are to locals that outlive the call; `host` stays good until the harness is dropped.
            unsafe { init(&raw const host, request, &raw mut harness.instance, &raw const sink) }
        });
        match answered.verdict(verdict) {
            Verdict::Allow => Ok(harness),
            Verdict::Deny(reason) => {
                harness.table.fini = None;
                Err(HarnessError::Configuration { reason })
            }
            Verdict::Amend(_) => {
                Err(HarnessError::Configuration { reason: "it answers init with amendments".to_owned() })
            }
        }
    }

    /// What the plugin is called by its author, and its version.
    #[must_use]
    pub fn name_and_version(&self) -> (&str, &str) {
        // SAFETY: the texts are statics of the policy, which lives as long as this.
        unsafe { (self.table.name.as_str(), self.table.version.as_str()) }
    }

    /// The lines that the policy has written to the log.
    #[must_use]
    pub fn log(&self) -> Vec<LogLine> {
        self.log.lines()
    }

    /// Asks [`Policy::discover`].
    pub fn discover(&mut self, request: &DiscoverRequest) -> Verdict {
        self.ask_for_verdict(self.table.discover, request)
    }

    /// Asks [`Policy::claim`].
    pub fn claim(&mut self, request: &ClaimRequest) -> Verdict {
        self.ask_for_verdict(self.table.claim, request)
    }

    /// Asks [`Policy::create`].
    pub fn create(&mut self, request: &CreateRequest) -> Verdict {
        self.ask_for_verdict(self.table.create, request)
    }

    /// Asks [`Policy::attach`].
    pub fn attach(&mut self, request: &AttachRequest) -> Verdict {
        self.ask_for_verdict(self.table.attach, request)
    }

    /// Asks [`Policy::session`].
    pub fn session(&mut self, request: &SessionRequest) -> Verdict {
        self.ask_for_verdict(self.table.session, request)
    }

    /// Asks [`Policy::tune`].
    pub fn tune(&mut self, request: &TuneRequest) -> Verdict {
        self.ask_for_verdict(self.table.tune, request)
    }

    /// Asks [`Policy::migrate`].
    pub fn migrate(&mut self, request: &MigrateRequest) -> Verdict {
        self.ask_for_verdict(self.table.migrate, request)
    }

    /// Asks [`Policy::destroy`].
    pub fn destroy(&mut self, request: &DestroyRequest) -> Verdict {
        self.ask_for_verdict(self.table.destroy, request)
    }

    /// Tells [`Policy::tick`], and returns the new guarantees.
    pub fn tick(&mut self, request: &TickRequest) -> Vec<Retune> {
        self.tell(self.table.tick, request)
    }

    /// Tells [`Policy::pressure`], and returns the new guarantees.
    pub fn pressure(&mut self, request: &PressureRequest) -> Vec<Retune> {
        self.tell(self.table.pressure, request)
    }

    /// Asks [`Policy::fault`], and returns the new guarantees too.
    pub fn fault(&mut self, request: &FaultRequest) -> (Verdict, Vec<Retune>) {
        let Some(hook) = self.table.fault else { return (Verdict::Allow, Vec::new()) };
        let (mut answered, mut retunes) = (Answered::default(), Vec::new());
        let verdict = request.lend(|request| {
            let (sink, retunes) = (answered.sink(), sinks::retune_sink(&mut retunes));
            // SAFETY: the instance is the policy's own, and the pointers are to locals that outlive the call.
            unsafe { hook(self.instance, request, &raw const sink, &raw const retunes) }
        });
        (answered.verdict(verdict), retunes)
    }

    /// What the policy would leave to a successor.
    pub fn save(&mut self) -> Option<Vec<u8>> {
        let save = self.table.save?;
        let mut state = Vec::new();
        let sink = sinks::state_sink(&mut state);
        // SAFETY: the instance is the policy's own, and the pointer is to a local that outlives the call.
        let code = unsafe { save(self.instance, &raw const sink) };
        (code == 0).then_some(state)
    }

    /// Gives the policy what a predecessor saved.
    ///
    /// # Errors
    /// Its reason for not taking it.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let Some(restore) = self.table.restore else { return Err("it takes no state".to_owned()) };
        let mut answered = Answered::default();
        let sink = answered.sink();
        // SAFETY: the instance is the policy's own, and what is pointed to outlives the call.
        let verdict = unsafe { restore(self.instance, Text::from_bytes(state), &raw const sink) };
        match answered.verdict(verdict) {
            Verdict::Allow => Ok(()),
            Verdict::Deny(reason) => Err(reason),
            Verdict::Amend(_) => Err("it answers restore with amendments".to_owned()),
        }
    }

    fn ask_for_verdict<R: Lend>(
        &mut self,
        hook: Option<unsafe extern "C" fn(*mut c_void, *const R::Raw, *const AnswerSink) -> RawVerdict>,
        request: &R,
    ) -> Verdict {
        let Some(hook) = hook else { return Verdict::Allow };
        let mut answered = Answered::default();
        let verdict = request.lend(|request| {
            let sink = answered.sink();
            // SAFETY: the instance is the policy's own, and the pointers are to locals that outlive the call.
            unsafe { hook(self.instance, request, &raw const sink) }
        });
        answered.verdict(verdict)
    }

    fn tell<R: Lend>(
        &mut self,
        hook: Option<unsafe extern "C" fn(*mut c_void, *const R::Raw, *const RetuneSink)>,
        request: &R,
    ) -> Vec<Retune> {
        let mut retunes = Vec::new();
        if let Some(hook) = hook {
            request.lend(|request| {
                let sink = sinks::retune_sink(&mut retunes);
                // SAFETY: the instance is the policy's own, and the pointers are to locals that outlive the call.
                unsafe { hook(self.instance, request, &raw const sink) }
            });
        }
        retunes
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if let Some(fini) = self.table.fini {
            // SAFETY: the instance is what `init` made, and is not used again.
            unsafe { fini(self.instance) };
        }
    }
}

#[cfg(test)]
mod tests;
