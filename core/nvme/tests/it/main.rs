//! The driver against a simulated controller: one program, so that all of its tests share what sets the two up.

mod allocation;
mod bring_up;
mod data;
mod ending;
mod faults;
mod support;
mod threads;
