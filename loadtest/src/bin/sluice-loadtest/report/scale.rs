//! From measured numbers to places on an axis, and the numbers that are written at it. Pure.

/// An axis: its ends, and whether equal ratios are equally far apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    least: f64,
    most: f64,
    is_logarithmic: bool,
}

impl Scale {
    /// From 0 to something round above all of these.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let most = highest(values);
        let step = round_step(most);
        let most = if most > 0.0 { (most / step).ceil() * step } else { 1.0 };
        Self { least: 0.0, most, is_logarithmic: false }
    }

    /// Between two given ends.
    pub(super) fn between(least: f64, most: f64) -> Self {
        Self { least, most: if most > least { most } else { least + 1.0 }, is_logarithmic: false }
    }

    /// From a power of ten to a power of ten around all of these that are above 0.
    pub(super) fn logarithmic(values: impl IntoIterator<Item = f64> + Clone) -> Self {
        let above = |value: &f64| *value > 0.0 && value.is_finite();
        let least = values.clone().into_iter().filter(above).fold(f64::INFINITY, f64::min);
        let most = highest(values);
        if !(least.is_finite() && most > 0.0) {
            return Self { least: 0.001, most: 1.0, is_logarithmic: true };
        }
        let (least, most) = (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()));
        Self { least, most: if most > least { most } else { least * 10.0 }, is_logarithmic: true }
    }

    /// 0 at the least, 1 at the most; what is beyond lies at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = if self.is_logarithmic {
            (value.max(self.least) / self.least).log10() / (self.most / self.least).log10()
        } else {
            (value - self.least) / (self.most - self.least)
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Round numbers along it.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let decades = (self.most / self.least).log10().round();
            let steps: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let mut ticks = Vec::new();
            let mut decade = self.least;
            while decade < self.most * 1.5 && ticks.len() < 30 {
                ticks.extend(steps.iter().map(|step| step * decade));
                decade *= 10.0;
            }
            ticks.retain(|tick| *tick <= self.most * 1.0001);
            return ticks;
        }
        let step = round_step(self.most - self.least);
        let first = (self.least / step).ceil();
        (0..12_u8)
            .map(|n| (first + f64::from(n)) * step)
            .take_while(|tick| *tick <= self.most * 1.0001)
            .collect()
    }
}

fn highest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max)
}

/// 1, 2 or 5 times a power of ten, of which 4 to 10 make the span.
fn round_step(span: f64) -> f64 {
    if span <= 0.0 {
        return 1.0;
    }
    let decade = 10_f64.powf((span / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * decade)
        .into_iter()
        .find(|step| span / step <= 6.0)
        .unwrap_or(decade)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_value_has_a_place_and_ticks_lie_on_the_axis(values in prop::collection::vec(1e-6..1e9_f64, 0..20)) {
            for scale in [Scale::linear(values.iter().copied()), Scale::logarithmic(values.iter().copied())] {
                let ticks = scale.ticks();
                prop_assert!((2..=30).contains(&ticks.len()), "{scale:?} {ticks:?}");
                for value in values.iter().chain(&ticks) {
                    prop_assert!((0.0..=1.0).contains(&scale.place(*value)));
                }
                prop_assert!(ticks.windows(2).all(|pair| scale.place(pair[0]) < scale.place(pair[1])));
            }
        }
    }

    #[test]
    fn what_is_no_number_has_a_place_too() {
        for scale in
            [Scale::linear([f64::NAN]), Scale::logarithmic([0.0, f64::NAN]), Scale::between(2.0, 2.0)]
        {
            assert!((0.0..=1.0).contains(&scale.place(f64::NAN)) && !scale.ticks().is_empty());
        }
    }
}
