//! The whole of it on a stepped device: limits, reservations and shares against an independent reference and by themselves.

mod against_reference;
mod clock;
mod combined;
mod guarantees;
mod reference;
mod tenant;
mod world;
