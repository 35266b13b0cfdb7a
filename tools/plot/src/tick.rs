//! Which values of an axis get a tick, and how a value is written beside it.

/// Multiples of 1, 2 or 5 times a power of ten, five to ten of them.
pub(crate) fn linear(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 8.0;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|multiple| multiple as f64 * step).collect()
}

/// Powers of ten; with their multiples by 2 and 5 where fewer than three powers are to be seen.
pub(crate) fn logarithmic(low: f64, high: f64) -> Vec<f64> {
    let exponents = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let factors: &[f64] = if high / low > 1000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    exponents
        .flat_map(|exponent| factors.iter().map(move |factor| factor * 10_f64.powi(exponent)))
        .filter(|value| (low..=high).contains(value))
        .collect()
}

/// 0, 50, 90, 99 and so on, as far as the data go.
pub(crate) fn percentile(high: f64) -> Vec<f64> {
    [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999].into_iter().filter(|value| *value <= high).collect()
}

/// A value as people write it: at most four significant digits, thousands as `k`, millions as `M`.
pub(crate) fn label(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.4}");
    format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_numbers() {
        assert_eq!(linear(0.0, 1060.0), [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]);
        assert_eq!(linear(0.0, 1.3).len(), 7);
    }

    #[test]
    fn many_powers_of_ten_are_marked_alone() {
        let ticks = logarithmic(0.9, 20_000.0);
        assert_eq!(ticks, [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
    }

    #[test]
    fn few_powers_of_ten_are_divided() {
        assert_eq!(logarithmic(3.0, 60.0), [5.0, 10.0, 20.0, 50.0]);
    }

    #[test]
    fn values_are_written_short() {
        let labels = [0.0, 0.5, 1500.0, 20_000.0, 2_500_000.0, 99.99, -3.0].map(label);
        assert_eq!(labels, ["0", "0.5", "1500", "20k", "2.5M", "99.99", "-3"]);
    }
}
