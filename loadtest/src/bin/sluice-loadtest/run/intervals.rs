//! Where a run is cut into intervals: at the borders of what is measured, and evenly between them. Pure.

use crate::scenario::Scenario;
use crate::summary::Stretch;

/// Of what is measured; a run of two minutes has one a second.
const INTERVALS_MAX: f64 = 120.0;

/// An interval to come, in seconds since the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) stretch: Stretch,
    pub(super) from: f64,
    pub(super) to: f64,
}

/// All of a run's. Equal scenarios are cut alike, on every machine.
pub(super) fn cuts(scenario: &Scenario) -> Vec<Cut> {
    let length = (scenario.duration.as_secs_f64() / INTERVALS_MAX).ceil().max(1.0);
    let mut cuts = Vec::new();
    let mut from = 0.0;
    let stretches = [
        (Stretch::WarmUp, scenario.warm_up),
        (Stretch::Measured, scenario.duration),
        (Stretch::Drain, scenario.drain),
    ];
    for (stretch, span) in stretches {
        let end = from + span.as_secs_f64();
        while from < end {
            // What would be too short to say anything goes with the one before it.
            let to = if end - from < 1.5 * length { end } else { from + length };
            cuts.push(Cut { stretch, from, to });
            from = to;
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::{Overrides, Source};

    fn cuts_of(warm_up: &str, duration: u64, drain: &str) -> Vec<Cut> {
        let text = format!("warm_up = \"{warm_up}\"\ndrain = \"{drain}\"\n[[files]]\nname = \"a\"\nsize = 1");
        let overrides = Overrides { duration: Some(Duration::from_millis(duration)), ..Overrides::default() };
        let scenario = Scenario::of(&Source { path: "x".into(), text }, &overrides).unwrap();
        cuts(&scenario)
    }

    #[test]
    fn a_run_is_cut_at_the_borders_of_what_is_measured() {
        let cuts = cuts_of("500ms", 3000, "1s");
        let expected = [
            (Stretch::WarmUp, 0.0, 0.5),
            (Stretch::Measured, 0.5, 1.5),
            (Stretch::Measured, 1.5, 2.5),
            (Stretch::Measured, 2.5, 3.5),
            (Stretch::Drain, 3.5, 4.5),
        ];
        let found: Vec<_> = cuts.iter().map(|cut| (cut.stretch, cut.from, cut.to)).collect();
        assert_eq!(found, expected);
        assert_eq!(cuts_of("0s", 300, "0s").len(), 1);
    }

    #[test]
    fn long_runs_have_no_more_intervals_than_are_seen() {
        for seconds in [120, 121, 3600, 86_400] {
            let cuts = cuts_of("10s", seconds * 1000, "5s");
            let measured: Vec<_> = cuts.iter().filter(|cut| cut.stretch == Stretch::Measured).collect();
            assert!((60..=120).contains(&measured.len()), "{seconds}: {}", measured.len());
            assert!(cuts.windows(2).all(|pair| (pair[0].to - pair[1].from).abs() < 1e-9));
        }
    }
}
