//! What an axis means, and where on it a value lies.

use crate::tick;

/// One axis: what it shows, and on which scale.
#[derive(Clone, Debug)]
pub struct Axis {
    pub(crate) label: String,
    scale: Scale,
    ticks: Option<Vec<f64>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Linear,
    Logarithmic,
    Percentile,
}

impl Axis {
    /// Equal distances are equal differences. The axis always shows zero, so that lengths can be compared.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear, ticks: None }
    }

    /// Equal distances are equal ratios: for quantities that range over several powers of ten or two.
    pub fn logarithmic(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Logarithmic, ticks: None }
    }

    /// Percentiles from 0 towards 100, each further nine as far away as the one before: 90, 99, 99.9 are equally apart.
    pub fn percentile(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Percentile, ticks: None }
    }

    /// Marks these values and no others, for instance the depths that were measured.
    #[must_use]
    pub fn ticks(mut self, values: impl IntoIterator<Item = f64>) -> Self {
        self.ticks = Some(values.into_iter().collect());
        self
    }

    /// Where a value lies, in units of the drawing; nothing for a value that this axis cannot show.
    pub(crate) fn position(&self, value: f64) -> Option<f64> {
        let position = match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic if value > 0.0 => value.log10(),
            Scale::Percentile if (0.0..100.0).contains(&value) => -(1.0 - value / 100.0).log10(),
            Scale::Logarithmic | Scale::Percentile => return None,
        };
        position.is_finite().then_some(position)
    }

    fn value(&self, position: f64) -> f64 {
        match self.scale {
            Scale::Linear => position,
            Scale::Logarithmic => 10_f64.powf(position),
            Scale::Percentile => 100.0 * (1.0 - 10_f64.powf(-position)),
        }
    }

    /// The stretch of the axis that shows all of these values, with the ticks on it.
    pub(crate) fn span(&self, values: impl IntoIterator<Item = f64>) -> Span {
        let positions = values.into_iter().chain(self.ticks.iter().flatten().copied());
        let (mut low, mut high) = positions
            .filter_map(|value| self.position(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let margin = match self.scale {
            Scale::Logarithmic => 0.04 * (high - low).max(1.0),
            Scale::Linear | Scale::Percentile => {
                low = low.min(0.0);
                high = high.max(0.0);
                if low == high {
                    high = 1.0;
                }
                0.06 * (high - low)
            }
        };
        high += margin;
        if low != 0.0 || self.scale == Scale::Logarithmic {
            low -= margin;
        }
        let values = self.ticks.clone().unwrap_or_else(|| match self.scale {
            Scale::Linear => tick::linear(low, high),
            Scale::Logarithmic => tick::logarithmic(self.value(low), self.value(high)),
            Scale::Percentile => tick::percentile(self.value(high)),
        });
        let ticks = values
            .into_iter()
            .filter_map(|value| self.position(value).map(|position| (position, tick::label(value))))
            .filter(|(position, _)| (low..=high).contains(position))
            .collect();
        Span { low, high, ticks }
    }
}

/// A stretch of an axis.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) low: f64,
    pub(crate) high: f64,
    ticks: Vec<(f64, String)>,
}

impl Span {
    /// An axis of `count` equally wide fields, each with its name in its middle.
    pub(crate) fn of_fields(names: &[String]) -> Self {
        let ticks =
            names.iter().enumerate().map(|(field, name)| (field as f64 + 0.5, name.clone())).collect();
        Self { low: 0.0, high: names.len().max(1) as f64, ticks }
    }

    pub(crate) fn tick_positions(&self) -> Vec<f64> {
        self.ticks.iter().map(|(position, _)| *position).collect()
    }

    /// The text of the tick at this position.
    pub(crate) fn tick_label(&self, position: f64) -> String {
        let near = |at: f64| (at - position).abs() <= 1e-9 * (self.high - self.low);
        self.ticks.iter().find(|(at, _)| near(*at)).map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_shows_zero() {
        let span = Axis::linear("kIOPS").span([900.0, 1000.0]);
        assert_eq!(span.low, 0.0);
        assert!(span.high > 1000.0);
    }

    #[test]
    fn equal_ratios_are_equally_apart_on_a_logarithmic_axis() {
        let axis = Axis::logarithmic("depth");
        let at = |value| axis.position(value).unwrap();
        assert!((at(8.0) - at(2.0) - (at(32.0) - at(8.0))).abs() < 1e-12);
    }

    #[test]
    fn every_further_nine_is_as_far_away_on_a_percentile_axis() {
        let axis = Axis::percentile("percentile");
        let at = |value| axis.position(value).unwrap();
        assert!((at(99.0) - at(90.0) - (at(99.9) - at(99.0))).abs() < 1e-9);
    }

    #[test]
    fn a_value_that_the_scale_cannot_show_has_no_position() {
        assert_eq!(Axis::logarithmic("x").position(0.0), None);
        assert_eq!(Axis::percentile("x").position(100.0), None);
        assert_eq!(Axis::linear("x").position(f64::NAN), None);
        assert_eq!(Axis::linear("x").position(f64::INFINITY), None);
    }

    #[test]
    fn only_the_ticks_asked_for_are_marked() {
        let span = Axis::logarithmic("depth").ticks([1.0, 8.0, 32.0]).span([1.0, 128.0]);
        let labels: Vec<String> = span.tick_positions().into_iter().map(|at| span.tick_label(at)).collect();
        assert_eq!(labels, ["1", "8", "32"]);
    }

    #[test]
    fn nothing_to_show_still_has_an_extent() {
        for axis in [Axis::linear("x"), Axis::logarithmic("x"), Axis::percentile("x")] {
            let span = axis.span([f64::NAN]);
            assert!(span.low < span.high);
            let span = axis.span([0.0]);
            assert!(span.low < span.high);
        }
    }
}
