use std::fmt;

use super::Counts;

/// How far above the baseline a count may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tolerance {
    /// Of the baseline.
    percent: f64,
    /// However small the baseline.
    instructions: f64,
}

impl Tolerance {
    /// The same compiler writes the same code for the same source; but a change in one crate may change by a few instructions
    /// how the code of another is inlined and keeps its registers.
    pub(crate) const SAME_COMPILER: Self = Self { percent: 3.0, instructions: 3.0 };

    /// Another compiler inlines and unrolls otherwise. Wide enough for that, and still narrower than a path done twice.
    pub(crate) const OTHER_COMPILER: Self = Self { percent: 15.0, instructions: 10.0 };

    fn allows(self, before: f64, change: f64) -> bool {
        change <= (before * self.percent / 100.0).max(self.instructions)
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} % (or {}, if that is more)", self.percent, self.instructions)
    }
}

/// What became of the counts.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// A table of all benches, for people.
    pub(crate) rows: Vec<String>,
    /// What has become much faster.
    pub(crate) notes: Vec<String>,
    /// What must not stay so.
    pub(crate) violations: Vec<String>,
}

/// Holds `now` against `before`.
pub(crate) fn compare(before: &Counts, now: &Counts, tolerance: Tolerance) -> Comparison {
    const BLESS: &str = "cargo xtask instructions --bless";
    let mut comparison = Comparison::default();
    comparison.rows.push(format!("{:<44} {:>10} {:>10} {:>9}", "bench", "baseline", "now", "change"));
    for (name, &count) in now {
        let Some(&old) = before.get(name) else {
            comparison.rows.push(format!("{name:<44} {:>10} {count:>10.1} {:>9}", "-", "new"));
            let why =
                format!("{name}: {count:.1} instructions an operation, and no baseline; bless it: {BLESS}");
            comparison.violations.push(why);
            continue;
        };
        let change = count - old;
        let percent = change / old * 100.0;
        comparison.rows.push(format!("{name:<44} {old:>10.1} {count:>10.1} {percent:>+8.1}%"));
        let counts = format!("{name}: {old:.1} instructions an operation before, {count:.1} now");
        if !tolerance.allows(old, change) {
            comparison.violations.push(format!(
                "{counts}, {percent:.1} % more; win it back, or, if it is worth it, bless it and say why: {BLESS}"
            ));
        } else if !tolerance.allows(old, -change) {
            comparison.notes.push(format!(
                "{counts}, {:.1} % fewer: faster; bless it, so that it is not lost again: {BLESS}",
                -percent
            ));
        }
    }
    for (name, old) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
        let why =
            format!("{name}: {old:.1} in the baseline, and was not run; if it is gone for good: {BLESS}");
        comparison.violations.push(why);
    }
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, f64)]) -> Counts {
        of.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    fn against(before: f64, now: f64, tolerance: Tolerance) -> Comparison {
        compare(&counts(&[("breath::null", before)]), &counts(&[("breath::null", now)]), tolerance)
    }

    /// The seeded slowdown: a path that takes a twentieth more instructions than it did.
    #[test]
    fn a_slowdown_is_caught_and_told_with_bench_before_after_and_how_to_bless() {
        let caught = against(1200.0, 1260.0, Tolerance::SAME_COMPILER);
        let [told] = caught.violations.as_slice() else { panic!("{caught:?}") };
        for part in ["breath::null", "1200.0", "1260.0", "5.0 % more", "cargo xtask instructions --bless"] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }

    #[test]
    fn what_is_within_the_tolerance_passes() {
        for (before, now) in [(1200.0, 1200.0), (1200.0, 1235.9), (1200.0, 1180.0), (30.0, 33.0)] {
            let comparison = against(before, now, Tolerance::SAME_COMPILER);
            assert!(comparison.violations.is_empty() && comparison.notes.is_empty(), "{comparison:?}");
        }
    }

    #[test]
    fn a_speed_up_passes_and_asks_to_be_blessed() {
        let faster = against(1200.0, 900.0, Tolerance::SAME_COMPILER);
        assert!(faster.violations.is_empty());
        assert!(faster.notes[0].contains("25.0 % fewer: faster; bless it"), "{faster:?}");
    }

    #[test]
    fn another_compiler_gets_more_room_and_not_all_of_it() {
        assert!(against(1200.0, 1300.0, Tolerance::OTHER_COMPILER).violations.is_empty());
        assert_eq!(against(1200.0, 1500.0, Tolerance::OTHER_COMPILER).violations.len(), 1);
    }

    #[test]
    fn a_bench_that_is_new_or_missing_is_not_passed_over() {
        let (before, now) = (counts(&[("old", 1.0)]), counts(&[("new", 1.0)]));
        let told = compare(&before, &now, Tolerance::OTHER_COMPILER).violations;
        assert!(told[0].starts_with("new:") && told[1].starts_with("old:"), "{told:?}");
    }
}
