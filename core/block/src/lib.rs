//! The seam between a block channel and a block device: commands, limits, splitting
