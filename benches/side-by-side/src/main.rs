//! This daemon beside its peers, measured by the same client on the same machine in alternating rounds.
#![forbid(unsafe_code)]

fn main() {}
