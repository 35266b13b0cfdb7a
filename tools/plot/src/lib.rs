//! Charts of measurements as SVG, for reports that people read.
//!
//! Two charts, one kind of axis:
//!
//! ```text
//!   LineChart ─┐                 Axis: linear, logarithmic, percentile
//!              ├─► Frame ─► SVG    └─ Span: where a value lies, which values get a tick
//!   BarChart ──┘
//! ```
//!
//! A [`LineChart`] shows how something depends on something else (throughput on depth), or, with
//! [`LineChart::percentiles`], how latency is distributed. A [`BarChart`] compares named things in groups, with a
//! reference line where there is a target. Both take medians, or medians with their spread.
//!
//! ```
//! use vfiomux_plot::{Axis, LineChart};
//!
//! let svg = LineChart::new("4 KiB random read", Axis::logarithmic("depth").ticks([1.0, 8.0, 32.0]), Axis::linear("kIOPS"))
//!     .series("null", [(1.0, 620.0), (8.0, 1900.0), (32.0, 2900.0)])
//!     .series("ram", [(1.0, 410.0), (8.0, 800.0), (32.0, 900.0)])
//!     .to_svg()?;
//! assert!(svg.starts_with("<svg"));
//! # Ok::<(), vfiomux_plot::PlotError>(())
//! ```
//!
//! What cannot be placed on an axis (not a number, zero on a logarithmic axis, the hundredth percentile) is left out:
//! a chart of a failed measurement has a gap, not an error.
//!
//! What does not live here: the measurements, and tables.
#![forbid(unsafe_code)]

mod axis;
mod bars;
mod error;
mod frame;
mod lines;
mod tick;

pub use axis::Axis;
pub use bars::BarChart;
pub use error::PlotError;
pub use lines::LineChart;
