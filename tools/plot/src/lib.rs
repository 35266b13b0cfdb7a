//! Charts of measurements as SVG.
#![forbid(unsafe_code)]
