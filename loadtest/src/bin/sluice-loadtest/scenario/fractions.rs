//! Choosing among things by their weights.

use sluice_shared::config::ConfigError;
use toml::Spanned;

use super::Source;

/// Running sums of weights, which end at 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fractions(Vec<f64>);

impl Fractions {
    /// Weights of 1 where none are said.
    pub(super) fn of(source: &Source, weights: &[Option<Spanned<f64>>]) -> Result<Self, ConfigError> {
        let mut sums = Vec::new();
        let mut sum = 0.0;
        for weight in weights {
            let number = weight.as_ref().map_or(1.0, |weight| *weight.get_ref());
            if let Some(key) = weight
                && !(number > 0.0 && number.is_finite())
            {
                return Err(source.fault(key, "has to be more than 0"));
            }
            sum += number;
            sums.push(sum);
        }
        Ok(Self(sums.into_iter().map(|part| part / sum).collect()))
    }

    /// Which one a number from 0 to 1 falls to.
    pub(super) fn pick(&self, unit: f64) -> usize {
        self.0.partition_point(|end| *end <= unit).min(self.0.len().saturating_sub(1))
    }
}
