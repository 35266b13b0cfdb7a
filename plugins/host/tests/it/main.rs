//! The host and the daemon's watch over it, with real processes: what plugins do that they must not, and what libraries are that
//! are no plugins.

mod answers;
mod containment;
mod library;
mod replace;
mod world;
