//! A level that changes over time along straight lines: the rate of arrivals, or the number of clients.

/// From its first point on, and level after its last. Times are seconds, levels not negative.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    /// Time, level, and the area beneath the curve up to that time; times rise or stay.
    points: Vec<(f64, f64, f64)>,
}

impl Curve {
    /// A level from 0 s on, and stages: each leads to another level within so many seconds.
    pub(crate) fn new(level: f64, stages: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut points = vec![(0.0, level, 0.0)];
        let (mut time, mut level, mut area) = (0.0, level, 0.0);
        for (seconds, to) in stages {
            area += seconds * (level + to) / 2.0;
            (time, level) = (time + seconds, to);
            points.push((time, level, area));
        }
        Self { points }
    }

    /// The level at a time.
    pub(crate) fn at(&self, time: f64) -> f64 {
        let (before, after) = self.around(|point| point.0 <= time);
        let Some((end, to, _)) = after else { return before.1 };
        before.1 + (to - before.1) * (time - before.0) / (end - before.0)
    }

    pub(crate) fn highest(&self) -> f64 {
        self.points.iter().map(|point| point.1).fold(0.0, f64::max)
    }

    /// When the area beneath the curve from 0 s on has come to this: the time of that arrival where the level is a rate.
    /// None where it never does.
    pub(crate) fn reaches(&self, area: f64) -> Option<f64> {
        let ((start, level, before), after) = self.around(|point| point.2 <= area);
        let wanted = area - before;
        let slope = after.map_or(0.0, |(end, to, _)| (to - level) / (end - start));
        // wanted = level·t + slope·t²/2, in the form that loses nothing where the slope is near 0.
        let root = (level * level + 2.0 * slope * wanted).max(0.0).sqrt();
        let time = 2.0 * wanted / (level + root);
        time.is_finite().then_some(start + time)
    }

    /// The first time from `time` on at which the level is above this, if there is one.
    pub(crate) fn rises_above(&self, wanted: f64, time: f64) -> Option<f64> {
        if self.at(time) > wanted {
            return Some(time);
        }
        let pairs = self.points.windows(2).map(|pair| (pair[0], pair[1]));
        pairs.filter(|(_, end)| end.0 > time && end.1 > wanted).find_map(|(start, end)| {
            let crossing =
                start.0 + (end.0 - start.0) * (wanted - start.1).max(0.0) / (end.1 - start.1).abs();
            (start.1 <= wanted || start.0 >= time).then_some(crossing.clamp(time, end.0))
        })
    }

    /// The last point for which `is_before` holds, or the first; and the one after it.
    fn around(&self, is_before: impl Fn(&(f64, f64, f64)) -> bool) -> (Point, Option<Point>) {
        let next = self.points.partition_point(is_before).max(1);
        (self.points[next - 1], self.points.get(next).copied())
    }
}

type Point = (f64, f64, f64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ramp_is_level_then_straight_then_level() {
        let curve = Curve::new(10.0, [(2.0, 10.0), (4.0, 30.0), (0.0, 5.0)]);
        for (time, level) in [(0.0, 10.0), (2.0, 10.0), (4.0, 20.0), (5.9, 29.5), (6.0, 5.0), (99.0, 5.0)] {
            assert!((curve.at(time) - level).abs() < 1e-9, "{time}: {}", curve.at(time));
        }
        assert!((curve.highest() - 30.0).abs() < 1e-9);
        assert!((curve.reaches(10.0).unwrap() - 1.0).abs() < 1e-9);
        assert!((curve.reaches(20.0 + 80.0 + 5.0).unwrap() - 7.0).abs() < 1e-9);
        assert_eq!(Curve::new(0.0, []).reaches(1.0), None);
        assert_eq!(Curve::new(4.0, [(1.0, 0.0)]).reaches(2.5), None);
    }

    #[test]
    fn a_client_begins_when_the_level_rises_above_its_number() {
        let curve = Curve::new(2.0, [(10.0, 12.0), (10.0, 0.0), (10.0, 10.0)]);
        assert_eq!(curve.rises_above(1.0, 0.0), Some(0.0));
        assert!((curve.rises_above(7.0, 0.0).unwrap() - 5.0).abs() < 1e-9);
        assert!((curve.rises_above(5.0, 19.0).unwrap() - 25.0).abs() < 1e-9);
        assert_eq!(curve.rises_above(11.0, 19.0), None);
        assert_eq!(curve.rises_above(12.0, 0.0), None);
    }

    proptest! {
        #[test]
        fn arrivals_come_where_the_area_says(
            level in 0.1..100.0_f64,
            stages in prop::collection::vec((0.0..10.0_f64, 0.1..100.0_f64), 0..5),
            share in 0.0..2.0_f64,
        ) {
            let curve = Curve::new(level, stages.iter().copied());
            let whole = curve.points.last().unwrap().2 + 1.0;
            let time = curve.reaches(share * whole).unwrap();
            // Summed up in small steps.
            let steps = 20_000;
            let step = time / f64::from(steps);
            let area: f64 = (0..steps).map(|n| curve.at((f64::from(n) + 0.5) * step) * step).sum();
            prop_assert!((area - share * whole).abs() <= 1e-2 * (1.0 + whole), "{area} {}", share * whole);
        }
    }
}
