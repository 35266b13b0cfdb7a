//! Bars: named things side by side, in groups.

use std::path::Path;

use plotters::element::{PathElement, Rectangle};
use plotters::style::{Color, RGBColor};

use crate::PlotError;
use crate::axis::{Axis, Span};
use crate::frame::{self, Frame};

/// How much of a group's field its bars fill.
const FILLED: f64 = 0.8;
const REFERENCE: RGBColor = RGBColor(160, 0, 0);

/// A chart of bars: in each group one bar a series.
#[derive(Clone, Debug)]
pub struct BarChart {
    title: String,
    y: Axis,
    groups: Vec<String>,
    series: Vec<(String, Vec<Bar>)>,
    reference: Option<(String, f64)>,
    /// Whether bars stand on the reference line, and hang from it when they are less.
    from_reference: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bar {
    value: f64,
    low: f64,
    high: f64,
}

impl BarChart {
    /// An empty chart with these groups along its horizontal axis.
    pub fn new<G: Into<String>>(
        title: impl Into<String>,
        y: Axis,
        groups: impl IntoIterator<Item = G>,
    ) -> Self {
        let groups = groups.into_iter().map(Into::into).collect();
        Self { title: title.into(), y, groups, series: Vec::new(), reference: None, from_reference: false }
    }

    /// Adds one bar to each group, in the order of the groups. `NAN` leaves a gap.
    #[must_use]
    pub fn series(self, name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        self.series_with_spread(name, values.into_iter().map(|value| (value, value, value)))
    }

    /// Adds one bar to each group, with a mark from `low` to `high`: `(value, low, high)`.
    #[must_use]
    pub fn series_with_spread(
        mut self,
        name: impl Into<String>,
        bars: impl IntoIterator<Item = (f64, f64, f64)>,
    ) -> Self {
        let bars = bars.into_iter().map(|(value, low, high)| Bar { value, low, high }).collect();
        self.series.push((name.into(), bars));
        self
    }

    /// Draws a line across the chart, for instance at a target.
    #[must_use]
    pub fn reference(mut self, name: impl Into<String>, value: f64) -> Self {
        self.reference = Some((name.into(), value));
        self
    }

    /// Draws a line across the chart on which the bars stand, and from which they hang where they are less: for ratios.
    #[must_use]
    pub fn around(mut self, name: impl Into<String>, value: f64) -> Self {
        self.from_reference = true;
        self.reference(name, value)
    }

    /// The chart as an SVG document.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        let bars = self.series.iter().flat_map(|(_, bars)| bars);
        let values = bars.flat_map(|bar| [bar.value, bar.low, bar.high]);
        let y = self.y.span(values.chain(self.reference.iter().map(|(_, value)| *value)));
        let x = Span::of_fields(&self.groups);
        let (left, right) = (x.low, x.high);
        // A linear axis starts at zero; on a logarithmic one a bar stands on the bottom of the chart.
        let zero = self.y.position(0.0).unwrap_or(y.low);
        let reference = self.reference.as_ref().and_then(|(_, value)| self.y.position(*value));
        let ground = reference.filter(|_| self.from_reference).unwrap_or(zero);
        let bars_of =
            self.series.iter().enumerate().map(|(index, (name, _))| (name.as_str(), frame::colour(index)));
        let line = self.reference.iter().map(|(name, _)| (name.as_str(), REFERENCE));
        let frame = Frame {
            title: &self.title,
            x_label: "",
            y_label: &self.y.label,
            x,
            y,
            legend: bars_of.chain(line).collect(),
        };
        frame.draw(|plane| {
            let width = FILLED / self.series.len().max(1) as f64;
            for (index, (_, bars)) in self.series.iter().enumerate() {
                let colour = frame::colour(index);
                let left_of = |group: usize| group as f64 + (1.0 - FILLED) / 2.0 + index as f64 * width;
                let placed = || bars.iter().enumerate().take(self.groups.len());
                plane.draw_series(placed().filter_map(|(group, bar)| {
                    let top = self.y.position(bar.value)?;
                    let corners = [(left_of(group), ground), (left_of(group) + 0.94 * width, top)];
                    Some(Rectangle::new(corners, colour.filled()))
                }))?;
                plane.draw_series(
                    placed().filter(|(_, bar)| bar.value.is_finite() && bar.low < bar.high).filter_map(
                        |(group, bar)| {
                            let middle = left_of(group) + 0.47 * width;
                            let ends = vec![
                                (middle, self.y.position(bar.low)?),
                                (middle, self.y.position(bar.high)?),
                            ];
                            Some(PathElement::new(ends, RGBColor(40, 40, 40).stroke_width(1)))
                        },
                    ),
                )?;
            }
            if let Some(at) = reference {
                plane.draw_series([PathElement::new(
                    vec![(left, at), (right, at)],
                    REFERENCE.stroke_width(2),
                )])?;
            }
            Ok(())
        })
    }

    /// Writes the chart to a file.
    pub fn write_svg(&self, path: impl AsRef<Path>) -> Result<(), PlotError> {
        frame::write(&self.to_svg()?, path.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rectangles(svg: &str) -> usize {
        svg.matches("<rect").count()
    }

    #[test]
    fn a_gap_is_no_bar() {
        let chart = BarChart::new("t", Axis::linear("ns"), ["a", "b"]);
        let both = chart.clone().series("s", [1.0, 2.0]).to_svg().unwrap();
        let one = chart.series("s", [1.0, f64::NAN]).to_svg().unwrap();
        assert_eq!(rectangles(&both), rectangles(&one) + 1);
    }

    #[test]
    fn a_bar_without_a_group_is_not_drawn() {
        let chart = BarChart::new("t", Axis::linear("ns"), ["a"]);
        let fits = chart.clone().series("s", [1.0]).to_svg().unwrap();
        let over = chart.series("s", [1.0, 2.0]).to_svg().unwrap();
        assert_eq!(rectangles(&fits), rectangles(&over));
    }

    #[test]
    fn the_reference_line_is_named_and_within_the_chart() {
        let svg = BarChart::new("t", Axis::linear("ratio"), ["depth 32"])
            .series("null", [0.5])
            .reference("target 1.3", 1.3)
            .to_svg()
            .unwrap();
        assert!(svg.contains("target 1.3") && svg.contains("depth 32"));
    }
}
