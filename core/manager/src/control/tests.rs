//! The control thread, whole: requests by the control socket, front-ends by vhost-user, devices simulated.
//!
//! A [`world::World`] runs a control thread in this process and keeps the devices itself, so that a test can make them go
//! wrong, look at their blocks and mappings, and hand them to the next control thread as a restart or a crash would.

mod crash;
mod devices;
mod endings;
mod guest;
mod hooks;
mod jobs;
mod moves;
mod operations;
mod policies;
mod promises;
mod relocate;
mod restart;
mod scrub;
mod sessions;
mod set;
mod sidecores;
mod tune;
mod views;
mod world;
