//! The median of measurements, and how sure it is.

/// How often an interval misses the median of what was measured, at most.
const MISSES_MAX: f64 = 0.05;

/// The middle value, or the mean of the two in the middle; NaN of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let values = sorted(values);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Between which two of the values the median of all that could have been measured lies, at 95 % or more, whatever its
/// distribution: the k-th from either end, where fewer than k of n values fall on one side of it with a probability of
/// the binomial distribution (David and Nagaraja, Order Statistics, 7.1). `None` of fewer than six values, which cannot tell.
pub fn interval(values: impl IntoIterator<Item = f64>) -> Option<[f64; 2]> {
    let values = sorted(values);
    let count = values.len();
    // How likely it is that exactly `below` of the values are less than the median, and that `below` or fewer are.
    let (mut exactly, mut or_fewer, mut below) = (0.5_f64.powi(i32::try_from(count).ok()?), 0.0, 0);
    while below < count / 2 && 2.0 * (or_fewer + exactly) <= MISSES_MAX {
        or_fewer += exactly;
        exactly *= (count - below) as f64 / (below + 1) as f64;
        below += 1;
    }
    let first = below.checked_sub(1)?;
    Some([values[first], values[count - 1 - first]])
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([7.0]), 7.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn an_interval_is_that_of_the_tables() {
        // The ranks of the lower bound for 95 %, from tables of the sign test.
        let ranks = [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6), (25, 8), (50, 18)];
        for (count, rank) in ranks {
            let values = (1..=count).map(f64::from);
            let expected = [f64::from(rank), f64::from(count + 1 - rank)];
            assert_eq!(interval(values.rev()), Some(expected), "of {count}");
        }
        for count in 0..6 {
            assert_eq!(interval((0..count).map(f64::from)), None, "of {count}");
        }
    }
}
