//! The library of `vfiomux-load`: options, and the report that a run gives.
#![forbid(unsafe_code)]

mod arguments;
mod choice;
pub mod report;
mod units;

pub use arguments::{Arguments, Cpus};
pub use choice::{Arrivals, Pattern, Wait};
