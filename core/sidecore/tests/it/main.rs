//! The data path as a whole, stepped by hand: a sidecore, a RAM disk that misbehaves as told, and guests that do.

mod allocation;
mod data;
mod fairness;
mod flush;
mod guarantees;
mod hostile;
mod moves;
mod orders;
mod paced;
mod probe;
mod thread;
mod turns;
mod wakeup;
mod world;
