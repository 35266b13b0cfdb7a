//! The scenarios of the management model, one file each, played against the real daemon on simulated devices.
//!
//! Each ends in what must be true after it. What each uses of the protocol is noted as it is used; `cargo xtask coverage` makes
//! `docs/coverage.md` of the notes. S6 and S7 come with migration; until then their functions say so when they are called (S11).

mod s01_stock;
mod s02_start;
mod s03_hotplug;
mod s04_end;
mod s05_pause;
mod s08_objective;
mod s08_retune;
mod s09_service;
mod s10_reconnect;
mod s10_restart;
mod s11_unlike;
mod s12_path;
