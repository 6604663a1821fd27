//! How many label sets of each group get series of their own, when the series budget is too small for all.

use super::table::Class;

/// What one group would like to export.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub class: Class,
    pub label_sets: usize,
    /// Series of one label set.
    pub series: usize,
}

/// Label sets of each group that are exported by themselves. Every group keeps room for its `_other`; what remains is
/// shared fairly (a group that needs less than its share leaves the rest to the others), first among normal groups, then
/// among detail. The result never takes more than `budget` series, `_other`s included, where the budget holds these.
pub(super) fn allocate(budget: usize, demands: &[Demand]) -> Vec<usize> {
    let others: usize = demands.iter().map(|demand| demand.series).sum();
    let mut left = budget.saturating_sub(others);
    let mut granted = vec![0; demands.len()];
    for class in [Class::Normal, Class::Detail] {
        let mut groups: Vec<usize> = (0..demands.len())
            .filter(|index| demands[*index].class == class)
            .collect();
        groups.sort_by_key(|index| demands[*index].label_sets * demands[*index].series);
        let mut waiting = groups.len();
        for index in groups {
            let Demand {
                label_sets, series, ..
            } = demands[index];
            let share = left / waiting;
            granted[index] = label_sets.min(share / series);
            left -= granted[index] * series;
            waiting -= 1;
        }
    }
    granted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(class: Class, label_sets: usize, series: usize) -> Demand {
        Demand {
            class,
            label_sets,
            series,
        }
    }

    #[test]
    fn all_fit_when_the_budget_is_large() {
        let demands = [
            demand(Class::Normal, 30, 20),
            demand(Class::Normal, 100, 4),
            demand(Class::Detail, 500, 1),
        ];
        assert_eq!(allocate(2_000, &demands), [30, 100, 500]);
    }

    #[test]
    fn a_small_group_is_whole_while_large_ones_share_the_rest() {
        let demands = [
            demand(Class::Normal, 10_000, 4),
            demand(Class::Normal, 10, 1),
            demand(Class::Normal, 10_000, 1),
        ];
        // 1,006 less 6 for three _other sets, less 10: 990, of which each large group gets half.
        assert_eq!(allocate(1_006, &demands), [123, 10, 495]);
    }

    #[test]
    fn detail_gets_what_the_others_leave() {
        let demands = [
            demand(Class::Detail, 10_000, 1),
            demand(Class::Normal, 50, 2),
        ];
        assert_eq!(allocate(203, &demands), [100, 50]);
        assert_eq!(allocate(63, &demands), [0, 30]);
    }

    #[test]
    fn a_budget_below_the_least_grants_nothing() {
        assert_eq!(allocate(3, &[demand(Class::Normal, 10, 4)]), [0]);
    }
}
