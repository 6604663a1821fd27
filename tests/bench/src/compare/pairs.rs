//! Figures of the same round, side by side.

use std::collections::BTreeMap;

/// A round counts only while the machine does what it usually does: this share off the median is too much.
pub const TOLERANCE: f64 = 0.25;
/// Time that the hypervisor gave to others, as a share: more is too much.
pub const STEAL: f64 = 0.02;
/// The share of pairs that must agree.
const AGREEMENT: f64 = 0.8;

/// By round.
pub type Series = BTreeMap<u32, f64>;

/// Of any values; `None` of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| crate::report::median(&values))
}

/// Whether a value is near enough to the median of its kind.
pub fn usual(value: f64, median: f64) -> bool {
    (value - median).abs() <= TOLERANCE * median
}

/// What a ratio is held against.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// The ratios of the rounds that both have.
#[derive(Clone, PartialEq, Debug)]
pub struct Paired {
    pub ratios: Vec<f64>,
}

impl Paired {
    pub fn ratios(ours: &Series, theirs: &Series) -> Self {
        Self::by(ours, theirs, |ours, theirs| ours / theirs)
    }

    pub fn differences(ours: &Series, theirs: &Series) -> Self {
        Self::by(ours, theirs, |ours, theirs| ours - theirs)
    }

    fn by(ours: &Series, theirs: &Series, relate: fn(f64, f64) -> f64) -> Self {
        let both = ours.iter().filter_map(|(round, ours)| {
            let related = relate(*ours, *theirs.get(round)?);
            related.is_finite().then_some(related)
        });
        Self {
            ratios: both.collect(),
        }
    }

    pub fn median(&self) -> Option<f64> {
        median(self.ratios.iter().copied())
    }

    pub fn agreeing(&self, bound: Bound) -> usize {
        self.ratios
            .iter()
            .filter(|ratio| bound.holds(**ratio))
            .count()
    }

    /// The median must hold, and four of five pairs.
    pub fn passes(&self, bound: Bound) -> Option<bool> {
        let agree = self.agreeing(bound) as f64 >= AGREEMENT * self.ratios.len() as f64;
        Some(bound.holds(self.median()?) && agree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(u32, f64)]) -> Series {
        values.iter().copied().collect()
    }

    #[test]
    fn medians_need_no_order() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn only_values_of_the_same_round_are_paired() {
        let ours = series(&[(1, 10.0), (2, 30.0), (4, 8.0)]);
        let theirs = series(&[(1, 5.0), (2, 10.0), (3, 1.0), (4, 0.0)]);
        let paired = Paired::ratios(&ours, &theirs);
        assert_eq!(paired.ratios, [2.0, 3.0], "nothing is divided by zero");
        assert_eq!(paired.median(), Some(2.5));
        assert_eq!(Paired::differences(&ours, &theirs).ratios, [5.0, 20.0, 8.0]);
    }

    #[test]
    fn a_goal_needs_its_median_and_four_pairs_of_five() {
        let of = |ratios: &[f64]| Paired {
            ratios: ratios.to_vec(),
        };
        let bound = Bound::AtLeast(0.8);
        assert_eq!(of(&[0.9, 0.9, 0.9, 0.8, 0.1]).passes(bound), Some(true));
        assert_eq!(of(&[0.9, 0.9, 0.9, 0.7, 0.1]).passes(bound), Some(false));
        assert_eq!(of(&[0.79; 5]).passes(bound), Some(false));
        assert_eq!(of(&[]).passes(bound), None);
        let bound = Bound::AtMost(1.0);
        assert_eq!(of(&[0.5, 1.0, 2.0]).agreeing(bound), 2);
        assert_eq!(of(&[0.5, 1.0, 2.0]).passes(bound), Some(false));
    }

    #[test]
    fn a_quarter_off_the_median_is_still_usual() {
        assert!(usual(75.0, 100.0) && usual(125.0, 100.0));
        assert!(!usual(74.9, 100.0) && !usual(125.1, 100.0));
    }
}
