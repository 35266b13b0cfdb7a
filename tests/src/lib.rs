//! Whole-program tests of vfiomux.
