//! The library of `vfiomux-load`, the load generator: drives any vhost-user disk, and says honestly how fast it was.
//!
//! ```text
//!   Arguments ─► Plan ─► connect ─► Guest, Guest, … ─► Driver, a thread each ─► Recorder, Oracle ─► Report
//!                                     │ Workload: what next      │ ramp, measure, drain             ├─ table, picture
//!                                     │ Due: when, in open loop  │ poll or sleep                    ├─ JSON
//!                                     └ Oracle: was it right     └ one clock read a batch           └─ SVG
//! ```
//!
//! - A [`Report`](report::Report) is all that a run has to say, and all that is printed is made from it: a program that reads the
//!   JSON knows as much as the person who reads the table.
//! - A closed loop keeps a number of requests in flight; an open one sends requests when they are due and counts latency from then
//!   on, so that a back-end which stands still is charged for all that should have been sent meanwhile.
//! - The client's own cost is part of the report: what a request costs it, how much too long its latencies are at most, and whether
//!   something else ran on its core. [`Arguments::calibrate`] drives a null ring, for what is left when the back-end costs nothing.
//!
//! What does not live here: sessions, rings and memory (`vfiomux-frontend`), and several servers side by side (`benches`).
#![forbid(unsafe_code)]

mod arguments;
mod arrivals;
mod choice;
mod clock;
mod cost;
mod drive;
mod error;
mod guest;
mod job;
mod link;
mod oracle;
mod paint;
mod picture;
mod plan;
mod plot;
mod progress;
mod random;
mod recorder;
pub mod report;
mod run;
mod stamp;
mod summary;
mod table;
mod units;
mod workload;

pub use arguments::{Arguments, Cpus};
pub use choice::{Arrivals, Pattern, Wait};
pub use error::LoadError;
pub use paint::Paint;
pub use plot::write_svg;
pub use progress::Progress;
pub use run::{expected, run};
pub use table::table;
