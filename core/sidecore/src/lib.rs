//! The polling thread that serves many channels.
//!
//! A sidecore owns channels and its own way to each device that they lie on. It does one thing: [breathe](Sidecore::breath).
//!
//! ```text
//!             Handle (control)                       breath(now_ns)
//!   orders ──► mailbox ─────────────► 1 carry out orders
//!                                     2 look at every ring, from outside ──► who has something to do
//!                                     3 poll every device ──► channels end requests
//!                                     4 what found its lane full: control's own, merged flushes
//!                                     5 those who have something to do in turn, a budget each ──► commands;
//!                                       what has ended where it was submitted ──► channels end requests;
//!                                       a measurement, if one goes on
//!                                     6 merged flushes, then one doorbell a lane
//!                                     7 publish what was returned, call the guests that ask for it
//!   reports ◄── queue, descriptor ◄── 8 answer the orders whose wait is over
//! ```
//!
//! A breath has no clock, no thread and no lock in it, so that a test can step the whole machine by hand; without orders it
//! does not allocate either, and its only system calls are the guests' interrupts. [`SidecoreThread`] is the loop around it:
//! it reads the clock once a breath, and when nothing is to be done it looks again for as long as that is likely to cost less
//! than a sleep (`spin`); then it asks those to wake it that it has not asked yet, looks once more, and sleeps (`doze`, `wake`).
//!
//! Control shares no state with a sidecore but words that stand for themselves: counters, and what a tenant's channels on all
//! sidecores may still take together ([`vfiomux_qos::Group`]), for which all of them go by one [clock](clock_ns). It sends [`Order`]s, each of which hands over what it is about and is answered
//! exactly once, at once or when what it waits for has come: a ring that is stopped comes back after its last request has
//! ended, memory that was replaced comes back as `Quiesced`.
//!
//! Fairness (V4): in a breath each channel takes at most its budget, and the turn begins with another channel every time. So a
//! channel with a backlog is served again after at most the sum of the others' budgets.
//!
//! Where channels were promised something, their device has a schedule: as long as it has room for all that is asked for, turns are
//! taken as ever, and when it has not, a scheduler gives them, a slice of cost each (`schedule`). How a device is driven then is
//! its [`Pace`].
//!
//! How long each breath took is counted ([`SidecoreCounters::breath_time`]), so that it can be shown that nothing outside delays
//! one (P2).
//!
//! What does not live here: vhost-user, NVMe, requests (a channel's business), and any decision about who gets what.
#![forbid(unsafe_code)]

mod answer;
mod clock;
mod counters;
mod device;
mod doze;
mod error;
mod flush;
mod kept;
mod mailbox;
mod order;
mod pace;
mod probe;
mod schedule;
mod seeded;
mod service;
mod sidecore;
mod signal;
mod spin;
mod thread;
mod wake;

pub use clock::clock_ns;
pub use counters::SidecoreCounters;
pub use error::SidecoreError;
pub use mailbox::Handle;
pub use order::{Answer, DeviceSlot, Order, Refusal, Report, Ticket};
pub use pace::Pace;
pub use probe::{Measured, Probe, ProbeError};
pub use sidecore::{Budgets, Sidecore, Work};
pub use thread::{Mode, SidecoreThread, ThreadSettings};
