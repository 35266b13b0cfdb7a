//! The control side: one controller, from bring-up to shutdown.
//!
//! Everything here may block for as long as its deadlines say, so it runs on a thread of its own, never on a sidecore.

mod bring_up;
mod ending;
mod events;
mod media;
mod queues;

use std::sync::Arc;
use std::time::Duration;

use vfiomux_hw::{DmaDomain, Function, Identity, Vector};
use vfiomux_spec::nvme::register::{Cap, Cc, Version};
use vfiomux_spec::nvme::{Status, SubmissionEntry};

use crate::NvmeError;
use crate::admin::AdminQueue;
use crate::clock::{Clock, Deadline};
use crate::link::Link;
use crate::namespace::{Allowance, Namespace, Skipped};
use crate::registers::Registers;

pub use bring_up::Lost;
pub use ending::{Ended, EndingDeadlines};
pub use events::{Event, Health};
pub use media::SecureErase;
pub use queues::LostQueue;
use queues::QueueTable;

/// How a controller is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How many I/O queue pairs to ask for. The controller may grant fewer.
    pub queue_pairs: u16,
    /// How many interrupt vectors to turn on, as far as the function has them; the first is the admin queue's.
    pub vectors: u16,
    /// Most bytes of data in a command, where the controller allows more; at most 1 MiB.
    pub transfer_bytes_max: u32,
    /// Use scatter-gather lists, where the controller has them, for memory that pages cannot say.
    pub sgl: bool,
    /// How long an admin command may take.
    pub admin_timeout: Duration,
    /// How long a Format or Sanitize may take.
    pub media_timeout: Duration,
    /// How long a shutdown may take, unless the controller says that it needs longer.
    pub shutdown_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_pairs: 256,
            vectors: 1,
            transfer_bytes_max: 512 << 10,
            sgl: true,
            admin_timeout: Duration::from_secs(30),
            media_timeout: Duration::from_secs(3600),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// What a controller says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    /// Serial number.
    pub serial: String,
    /// Model.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// Version of the standard, as `2.0.0`.
    pub version: String,
    /// I/O submission queues granted: lanes.
    pub lanes_max: u16,
    /// I/O completion queues granted.
    pub queues_max: u16,
    /// Most commands in flight on one queue.
    pub depth_max: u32,
    /// Most bytes of data in a command.
    pub transfer_bytes_max: u32,
    /// Scatter-gather lists are used.
    pub sgl: bool,
    /// There is a volatile write cache.
    pub volatile_cache: bool,
    /// Format NVM is supported.
    pub format: bool,
    /// Sanitize by block erase is supported.
    pub sanitize_block_erase: bool,
    /// Sanitize by cryptographic erase is supported.
    pub sanitize_crypto_erase: bool,
    /// A Format or a secure erase of one namespace affects all.
    pub format_affects_all: bool,
    /// Capacity, bytes; 0 when it does not say.
    pub capacity_bytes: u128,
}

/// What a controller is in a state to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works.
    Running,
    /// It was stopped: no command is in flight anywhere, nothing can be submitted.
    Halted,
    /// It failed, and commands may still be in flight: halt it.
    Failed,
    /// It left. Its memory is let go once the function has been dropped or reset.
    Gone,
}

/// An NVMe controller, owned.
///
/// Dropping it stops the controller if it still answers, then gives the function up.
pub struct Controller {
    // First, so that it is dropped first: a controller that would not stop is cut off from the bus before its memory goes.
    function: Box<dyn Function>,
    domain: Arc<DmaDomain>,
    registers: Registers,
    clock: Box<dyn Clock>,
    options: Options,
    link: Arc<Link>,
    state: State,
    cap: Cap,
    admin: AdminQueue,
    allowance: Allowance,
    info: Info,
    abilities: Abilities,
    namespaces: Vec<Namespace>,
    skipped: Vec<Skipped>,
    vectors: Vec<Vector>,
    queues: QueueTable,
}

/// What bring-up learns and later steps ask about.
#[derive(Debug, Clone, Copy, Default)]
struct Abilities {
    version: Version,
    nn: u32,
    /// How long a shutdown takes by the controller's own word.
    shutdown: Duration,
    crypto_format: bool,
    format: bool,
    sanitize: vfiomux_spec::nvme::identify::Sanicap,
    namespace_notices: bool,
}

impl Controller {
    /// Takes a function into service: bring-up per NVMe 2.0c 3.5.1, then its namespaces.
    pub fn start(
        function: Box<dyn Function>,
        options: Options,
        clock: Box<dyn Clock>,
    ) -> Result<Self, NvmeError> {
        bring_up::start(function, options, clock)
    }

    /// Who the function is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.function.identity()
    }

    /// The function, for hearing of removal and errors ([`Function::notices`]).
    #[must_use]
    pub fn function(&self) -> &dyn Function {
        &*self.function
    }

    /// The address space that commands name memory in.
    #[must_use]
    pub fn domain(&self) -> &Arc<DmaDomain> {
        &self.domain
    }

    /// What the controller says of itself, and what was granted.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// What the controller is in a state to do.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Namespaces that can be served.
    #[must_use]
    pub fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// Namespaces that cannot, and why.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The interrupt vectors that are on; the first fires for the admin queue: then [`Self::poll_events`] is due.
    #[must_use]
    pub fn vectors(&self) -> &[Vector] {
        &self.vectors
    }

    /// Admin completions that matched no command and were dropped (I1).
    #[must_use]
    pub fn stray_completions(&self) -> u64 {
        self.admin.strays()
    }

    /// The controller was heard to have left (VFIO's ERR notice, an unplug event): everything fails from here on.
    pub fn mark_gone(&mut self) {
        self.state = State::Gone;
        self.link.set_gone(true);
    }

    /// Stops the controller in an orderly way, its caches written out (NVMe 2.0c 3.6.1), and halts it.
    pub fn shutdown(&mut self) -> Result<(), NvmeError> {
        use vfiomux_spec::nvme::register::{SHN_NORMAL, SHST_COMPLETE};
        if self.state != State::Running {
            return self.halt();
        }
        let outcome =
            self.registers.cc().and_then(|cc| {
                self.registers.set_cc(cc.with_shn(SHN_NORMAL))?;
                let timeout = self.options.shutdown_timeout.max(self.abilities.shutdown);
                self.registers
                    .wait(&*self.clock, timeout, "its shutdown", |csts| Ok(csts.shst() == SHST_COMPLETE))
            });
        self.note(outcome)?;
        self.halt()
    }

    /// Runs an admin command to its end.
    fn execute(
        &mut self,
        name: &'static str,
        command: SubmissionEntry,
        timeout: Duration,
    ) -> Result<Result<u32, Status>, NvmeError> {
        match self.state {
            State::Running => {}
            State::Gone => return Err(self.registers.gone()),
            State::Halted | State::Failed => return Err(self.stopped()),
        }
        let outcome = self.admin.execute(&self.registers, &*self.clock, name, command, timeout);
        self.note(outcome)
    }

    /// Runs an admin command that must succeed.
    fn command(&mut self, name: &'static str, command: SubmissionEntry) -> Result<u32, NvmeError> {
        self.execute(name, command, self.options.admin_timeout)?.map_err(|status| self.refused(name, status))
    }

    /// Draws the consequences of an error that says that the controller no longer works.
    fn note<T>(&mut self, outcome: Result<T, NvmeError>) -> Result<T, NvmeError> {
        match &outcome {
            Err(NvmeError::Gone { .. }) => self.mark_gone(),
            Err(NvmeError::Fatal { .. } | NvmeError::Timeout { .. } | NvmeError::Stopped { .. })
                if self.state == State::Running =>
            {
                self.state = State::Failed;
            }
            _ => {}
        }
        outcome
    }

    fn name(&self) -> String {
        self.registers.controller.clone()
    }

    fn refused(&self, command: &'static str, status: Status) -> NvmeError {
        NvmeError::Refused { controller: self.name(), command, status }
    }

    fn stopped(&self) -> NvmeError {
        NvmeError::Stopped { controller: self.name() }
    }

    fn unsupported(&self, function: impl Into<String>) -> NvmeError {
        NvmeError::Unsupported { controller: self.name(), function: function.into() }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if !matches!(self.state, State::Running | State::Failed) {
            return;
        }
        // As far as it goes in a second; the function cuts the controller off from the bus in any case.
        if self.registers.set_cc(Cc::new()).is_ok() {
            let deadline = Deadline::after(&*self.clock, Duration::from_secs(1));
            while self.registers.csts().is_ok_and(|csts| csts.rdy()) && !deadline.passed(&*self.clock) {
                self.clock.pause(Duration::from_millis(1));
            }
        }
    }
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("name", &self.registers.controller)
            .field("state", &self.state)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}
