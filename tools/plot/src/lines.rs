//! Lines: how one quantity depends on another.

use std::path::Path;

use plotters::element::{Circle, PathElement};
use plotters::series::LineSeries;
use plotters::style::Color;

use crate::PlotError;
use crate::axis::Axis;
use crate::frame::{self, Frame};

/// A chart of lines, one a series, through the points that were measured.
#[derive(Clone, Debug)]
pub struct LineChart {
    title: String,
    x: Axis,
    y: Axis,
    /// Whether each point is a measurement of its own and gets a mark.
    marked: bool,
    series: Vec<Series>,
}

#[derive(Clone, Debug)]
struct Series {
    name: String,
    points: Vec<Point>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    x: f64,
    y: f64,
    low: f64,
    high: f64,
}

impl LineChart {
    /// An empty chart.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), x, y, marked: true, series: Vec::new() }
    }

    /// An empty chart of distributions: a series is `(percentile, value)`, percentiles from 0 to below 100, and values
    /// are on a logarithmic axis with this label (`"latency, µs"`).
    pub fn percentiles(title: impl Into<String>, value_label: impl Into<String>) -> Self {
        let axes = (Axis::percentile("percentile"), Axis::logarithmic(value_label));
        Self { marked: false, ..Self::new(title, axes.0, axes.1) }
    }

    /// Adds a line through `(x, y)`, in the order given.
    #[must_use]
    pub fn series(self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        self.series_with_spread(name, points.into_iter().map(|(x, y)| (x, y, y, y)))
    }

    /// Adds a line through `(x, y)` whose points reach from `low` to `high`: `(x, y, low, high)`.
    #[must_use]
    pub fn series_with_spread(
        mut self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, f64, f64, f64)>,
    ) -> Self {
        let points = points.into_iter().map(|(x, y, low, high)| Point { x, y, low, high }).collect();
        self.series.push(Series { name: name.into(), points });
        self
    }

    /// The chart as an SVG document.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let frame = Frame {
            title: &self.title,
            x_label: &self.x.label,
            y_label: &self.y.label,
            x: self.x.span(points().map(|point| point.x)),
            y: self.y.span(points().flat_map(|point| [point.y, point.low, point.high])),
            legend: self
                .series
                .iter()
                .enumerate()
                .map(|(index, series)| (series.name.as_str(), frame::colour(index)))
                .collect(),
        };
        frame.draw(|plane| {
            for (index, series) in self.series.iter().enumerate() {
                let colour = frame::colour(index);
                let placed: Vec<(f64, f64)> =
                    series.points.iter().filter_map(|point| self.place(point.x, point.y)).collect();
                plane.draw_series(LineSeries::new(placed.iter().copied(), colour.stroke_width(2)))?;
                if self.marked {
                    plane.draw_series(placed.iter().map(|at| Circle::new(*at, 3, colour.filled())))?;
                }
                let spreads = series.points.iter().filter(|point| point.low < point.high);
                plane.draw_series(spreads.filter_map(|point| {
                    let ends = vec![self.place(point.x, point.low)?, self.place(point.x, point.high)?];
                    Some(PathElement::new(ends, colour.stroke_width(1)))
                }))?;
            }
            Ok(())
        })
    }

    /// Writes the chart to a file.
    pub fn write_svg(&self, path: impl AsRef<Path>) -> Result<(), PlotError> {
        frame::write(&self.to_svg()?, path.as_ref())
    }

    fn place(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        Some((self.x.position(x)?, self.y.position(y)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_title_axes_ticks_and_series() {
        let svg = LineChart::new(
            "Throughput",
            Axis::logarithmic("depth").ticks([1.0, 32.0]),
            Axis::linear("kIOPS"),
        )
        .series("null <1>", [(1.0, 600.0), (32.0, 2900.0)])
        .to_svg()
        .unwrap();
        for text in ["Throughput", "depth", "kIOPS", "null &lt;1&gt;", "32", "2000"] {
            assert!(svg.contains(text), "{text} is missing in {svg}");
        }
    }

    #[test]
    fn a_point_that_cannot_be_shown_is_left_out() {
        let chart = |points: &[(f64, f64)]| {
            let axes = (Axis::linear("x"), Axis::logarithmic("y"));
            LineChart::new("t", axes.0, axes.1).series("s", points.iter().copied()).to_svg().unwrap()
        };
        let marks = |svg: &str| svg.matches("<circle").count();
        assert_eq!(marks(&chart(&[(1.0, 2.0), (2.0, 0.0), (3.0, f64::NAN), (4.0, 3.0)])), 2);
    }

    #[test]
    fn a_chart_without_data_is_a_chart() {
        let svg = LineChart::percentiles("nothing", "latency, µs").series("none", []).to_svg().unwrap();
        assert!(svg.contains("nothing"));
    }

    #[test]
    fn a_spread_is_a_line_of_its_own() {
        let chart = LineChart::new("t", Axis::linear("x"), Axis::linear("y"))
            .series("extent", [(1.0, 1.0), (2.0, 3.0)]);
        let lines = |chart: LineChart| chart.to_svg().unwrap().matches("<polyline").count();
        let without = lines(chart.clone().series("s", [(1.0, 2.0), (2.0, 2.0)]));
        let with = lines(chart.series_with_spread("s", [(1.0, 2.0, 1.0, 3.0), (2.0, 2.0, 2.0, 2.0)]));
        assert_eq!(with, without + 1);
    }
}
