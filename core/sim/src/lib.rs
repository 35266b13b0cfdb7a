//! Simulated functions behind the same seam as VFIO.
//!
//! A driver is given a [`SimFunction`] instead of a function that the kernel owns, and cannot tell. Behind it is an NVMe 2.0
//! controller in memory: register file, admin and I/O queues, PRPs and SGLs walked through a simulated IOMMU, namespaces of memory or of a
//! file. It is the device that the daemon offers when there is none, and the oracle of the tests:
//!
//! - **It fails loudly.** An access outside a live mapping, or without the right it needs, is a [`Violation`] that says which
//!   command, which address, and what was mapped instead. Data moves as late as the standard allows, just before the
//!   completion, so that memory taken away too early is noticed (C1, D2).
//! - **It goes wrong on purpose.** A [`Fault`] delays, reorders, loses, repeats or fails commands; the device can hang, stop,
//!   lose power or leave the bus.
//! - **It can be replayed.** Stepped by hand with a seed, everything it does depends on the seed and the driver alone.
//!
//! ```text
//!   driver ── Bar ─► registers ─┐                               ┌─► namespaces: memory, file, volatile cache
//!     │  (each write: Bell) ────┼─► controller: fetch, pending, ─┤
//!     └── queues, lists, data ──┘   finish, complete             └─► vectors, notices
//!             ▲                          │
//!             └────── SimIommu ◄─────────┘  every byte, under the table's lock
//! ```
//!
//! Who runs it: a test, by [`SimNvme::step`]; a thread ([`SimNvme::run_on_thread`]); or the driver's own thread inside its doorbell writes
//! ([`SimNvme::run_inline`]). [`open`] does what a [`DeviceSpec`] says.
//!
//! What does not live here: any driver, and anything that only a test of one crate needs. Nothing in a driver, a channel or a
//! sidecore knows that this crate exists.

#![cfg_attr(not(test), warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless))]

mod controller;
mod device;
mod device_spec;
mod error;
mod fault;
mod function;
mod host_memory;
mod iommu;
mod media;
mod namespace;
mod notice;
mod rng;
mod run;
mod violation;
mod walk;

pub use controller::Counters;
pub use device::SimNvme;
pub use device_spec::{DeviceSpec, Run, parse_size};
pub use error::SimError;
pub use fault::{Action, Fault, FaultRates, Match, QueueMatch};
pub use function::SimFunction;
pub use iommu::{IommuSpec, SimIommu};
pub use run::SimThread;
pub use violation::{Access, CommandName, Refusal, Violation};

/// Makes a device as `spec` says, running by itself, under the name that operators will see.
pub fn open(spec: DeviceSpec, name: impl Into<String>) -> Result<SimFunction, SimError> {
    let run = spec.run;
    let sim = SimNvme::new(spec, name)?;
    let thread = match run {
        Run::Thread => Some(sim.run_on_thread()?),
        Run::Inline => {
            sim.run_inline();
            None
        }
    };
    Ok(SimFunction::new(sim, thread))
}
