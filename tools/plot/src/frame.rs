//! What all charts have in common: the paper, the title, the axes and the legend beside them.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::PlotError;
use crate::axis::Span;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 480;
const LEGEND_WIDTH: u32 = 230;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// The first seven are distinguishable also by people who see fewer colours (Okabe and Ito's palette, without its yellow).
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(70, 70, 70),
    RGBColor(106, 61, 154),
    RGBColor(140, 86, 75),
    RGBColor(140, 150, 20),
];

/// The colour of a series, by its place in the chart.
pub(crate) fn colour(series: usize) -> RGBColor {
    COLOURS[series % COLOURS.len()]
}

type Paper<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The plane between the axes, on which positions are drawn.
pub(crate) type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Span, Span>>;

/// Everything around the data.
pub(crate) struct Frame<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_label: &'a str,
    pub(crate) y_label: &'a str,
    pub(crate) x: Span,
    pub(crate) y: Span,
    /// Names beside the chart, each with the colour of what it names.
    pub(crate) legend: Vec<(&'a str, RGBColor)>,
}

impl Frame<'_> {
    /// Draws the frame and lets `data` draw inside it.
    pub(crate) fn draw(
        &self,
        data: impl FnOnce(&mut Plane<'_, '_>) -> Result<(), DrawingAreaErrorKind<io::Error>>,
    ) -> Result<String, PlotError> {
        let mut svg = String::new();
        {
            let paper = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
            paper.fill(&WHITE)?;
            let paper = paper.titled(self.title, (FONT, 20).into_font().color(&INK))?;
            let (left, right) = paper.split_horizontally(WIDTH - LEGEND_WIDTH);
            self.draw_legend(&right)?;
            let mut chart = ChartBuilder::on(&left)
                .margin(10)
                .x_label_area_size(44)
                .y_label_area_size(64)
                .build_cartesian_2d(self.x.clone(), self.y.clone())?;
            chart
                .configure_mesh()
                .x_desc(self.x_label)
                .y_desc(self.y_label)
                .label_style((FONT, 13).into_font().color(&INK))
                .axis_desc_style((FONT, 14).into_font().color(&INK))
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .draw()?;
            data(&mut chart)?;
            left.present()?;
        }
        Ok(svg)
    }

    fn draw_legend(&self, area: &Paper<'_>) -> Result<(), DrawingAreaErrorKind<io::Error>> {
        let style =
            TextStyle::from((FONT, 13).into_font()).color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        for (series, (name, colour)) in self.legend.iter().enumerate() {
            let y = 24 + 22 * i32::try_from(series).unwrap_or(i32::MAX / 22 - 2);
            area.draw(&Rectangle::new([(4, y - 6), (18, y + 6)], colour.filled()))?;
            area.draw(&Text::new((*name).to_owned(), (26, y), style.clone()))?;
        }
        Ok(())
    }
}

/// The drawing library's view of a stretch: its values are positions, its ticks are ours, each with its text.
impl Ranged for Span {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (first, last): (i32, i32)) -> i32 {
        let share = (position - self.low) / (self.high - self.low);
        first + (f64::from(last - first) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.tick_positions()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Span {
    fn format_ext(&self, position: &f64) -> String {
        self.tick_label(*position)
    }
}

/// Writes a chart to a file.
pub(crate) fn write(svg: &str, path: &Path) -> Result<(), PlotError> {
    fs::write(path, svg).map_err(|source| PlotError::Write { path: path.to_owned(), source })
}
