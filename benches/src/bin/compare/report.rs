//! What was measured: every round, medians, ratios within rounds, and whether goals were met. It is the JSON that
//! comes out, and is read back from it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sluice_loadtest::median::{interval, median};

use crate::machine::Machine;
use crate::meter::OTHERS_MAX;
use crate::scenario::Scenario;
use crate::server::Kind;

/// Names and values. The names carry their units.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Measures(BTreeMap<String, f64>);

impl Measures {
    /// Adds a value, if it is one: the latency of no answer is not.
    pub(crate) fn with(mut self, name: &str, value: f64) -> Self {
        if value.is_finite() {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// This divided by another of the same round, where both have a value.
    pub(crate) fn ratio(&self, other: &Self, name: &str) -> f64 {
        match (self.value(name), other.value(name)) {
            (Some(one), Some(other)) => one / other,
            _ => f64::NAN,
        }
    }

    /// The median of each value, over the rounds that have it.
    fn medians(rounds: &[Self]) -> Self {
        names_of(rounds).into_iter().fold(Self::default(), |medians, name| {
            medians.with(name, median(rounds.iter().filter_map(|round| round.value(name))))
        })
    }

    /// What one server measured divided by what another did, round by round.
    fn ratios(ours: &[Self], others: &[Self]) -> Vec<Self> {
        let rounds = ours.iter().zip(others).map(|(ours, other)| {
            ours.names().fold(Self::default(), |ratios, name| ratios.with(name, ours.ratio(other, name)))
        });
        rounds.collect()
    }
}

fn names_of(rounds: &[Measures]) -> BTreeSet<&str> {
    rounds.iter().flat_map(Measures::names).collect()
}

/// Names, and what the median of each lies between at 95 %; empty where there were too few rounds to tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Intervals(BTreeMap<String, [f64; 2]>);

impl Intervals {
    fn of(rounds: &[Measures]) -> Self {
        let intervals = names_of(rounds).into_iter().filter_map(|name| {
            let interval = interval(rounds.iter().filter_map(|round| round.value(name)))?;
            Some((name.to_owned(), interval))
        });
        Self(intervals.collect())
    }

    pub(crate) fn of_name(&self, name: &str) -> Option<[f64; 2]> {
        self.0.get(name).copied()
    }
}

/// One server in one case.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) server: String,
    pub(crate) rounds: Vec<Measures>,
    pub(crate) median: Measures,
    #[serde(default)]
    pub(crate) median_intervals: Intervals,
    /// The edge's values divided by this server's of the same round; medians over the rounds. Empty for the edge, and
    /// where no edge was measured.
    pub(crate) edge_ratios: Measures,
    #[serde(default)]
    pub(crate) edge_ratio_intervals: Intervals,
}

/// What one scenario measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) scenario: Scenario,
    pub(crate) rows: Vec<Row>,
    pub(crate) goals: Vec<Outcome>,
}

impl Section {
    /// How many measurements others disturbed, of how many that tell.
    pub(crate) fn disturbed(&self) -> (usize, usize) {
        let rounds = self.rows.iter().flat_map(|row| &row.rounds);
        let others: Vec<f64> = rounds.filter_map(|round| round.value("others_busy")).collect();
        (others.iter().filter(|busy| **busy > OTHERS_MAX).count(), others.len())
    }
}

/// A goal, and what came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) what: String,
    pub(crate) wanted: String,
    pub(crate) measured: Option<f64>,
    #[serde(default)]
    pub(crate) interval: Option<[f64; 2]>,
    pub(crate) met: bool,
}

/// What a median of ours should be: the edge's, or the coordinator's where links are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    pub(crate) case: &'static str,
    pub(crate) measure: &'static str,
    pub(crate) bound: Bound,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Takes measurements in, in the order of rounds.
#[derive(Debug, Default)]
pub(crate) struct Rows(Vec<Row>);

impl Rows {
    pub(crate) fn add(&mut self, case: &str, server: &str, measured: Measures) {
        let known = self.0.iter_mut().find(|row| row.case == case && row.server == server);
        match known {
            Some(row) => row.rounds.push(measured),
            None => self.0.push(Row {
                case: case.to_owned(),
                server: server.to_owned(),
                rounds: vec![measured],
                median: Measures::default(),
                median_intervals: Intervals::default(),
                edge_ratios: Measures::default(),
                edge_ratio_intervals: Intervals::default(),
            }),
        }
    }

    /// Works out medians, ratios, their intervals and goals, when everything is measured.
    pub(crate) fn conclude(self, scenario: Scenario) -> Section {
        let mut rows = self.0;
        let edge = Kind::Edge.name();
        let edges: Vec<(String, Vec<Measures>)> = rows
            .iter()
            .filter(|row| row.server == edge)
            .map(|row| (row.case.clone(), row.rounds.clone()))
            .collect();
        for row in &mut rows {
            row.median = Measures::medians(&row.rounds);
            row.median_intervals = Intervals::of(&row.rounds);
            let of_edge = edges.iter().find(|(case, _)| *case == row.case);
            if let Some((_, ours)) = of_edge.filter(|_| row.server != edge) {
                let ratios = Measures::ratios(ours, &row.rounds);
                row.edge_ratios = Measures::medians(&ratios);
                row.edge_ratio_intervals = Intervals::of(&ratios);
            }
        }
        // Cases as they came, servers in their own order; rotation has mixed them.
        let mut cases: Vec<String> = Vec::new();
        for row in &rows {
            if !cases.contains(&row.case) {
                cases.push(row.case.clone());
            }
        }
        rows.sort_by_key(|row| (cases.iter().position(|case| *case == row.case), Kind::rank(&row.server)));
        let goals = scenario.goals().iter().filter_map(|goal| goal.judge(&rows)).collect();
        Section { scenario, rows, goals }
    }
}

impl Goal {
    /// `None` where the case was not measured.
    fn judge(&self, rows: &[Row]) -> Option<Outcome> {
        let ours = [Kind::Edge.name(), Kind::Coordinator.name()];
        let row = rows.iter().find(|row| row.case == self.case && ours.contains(&row.server.as_str()))?;
        let measured = row.median.value(self.measure);
        let (wanted, met) = match self.bound {
            Bound::AtLeast(least) => (format!("≥ {least}"), measured.is_some_and(|value| value >= least)),
            Bound::AtMost(most) => (format!("≤ {most}"), measured.is_some_and(|value| value <= most)),
        };
        let interval = row.median_intervals.of_name(self.measure);
        Some(Outcome { what: format!("{}: {}", self.case, self.what), wanted, measured, interval, met })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) scenarios: Vec<Section>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_rounds() {
        let mut rows = Rows::default();
        for (edge, nginx) in [(10.0, 5.0), (30.0, 10.0), (8.0, 2.0)] {
            rows.add("a", Kind::Nginx.name(), Measures::default().with("rate", nginx));
            rows.add("a", Kind::Edge.name(), Measures::default().with("rate", edge));
        }
        let rows = rows.conclude(Scenario::Warm).rows;
        let of = |kind: Kind| rows.iter().find(|row| row.server == kind.name()).unwrap();
        assert_eq!(of(Kind::Nginx).edge_ratios.value("rate"), Some(3.0), "not 10 / 5");
        assert_eq!(of(Kind::Edge).median.value("rate"), Some(10.0));
        assert_eq!(of(Kind::Edge).edge_ratios, Measures::default());
        assert_eq!(of(Kind::Nginx).edge_ratio_intervals.of_name("rate"), None, "three rounds cannot tell");
    }

    #[test]
    fn enough_rounds_say_how_sure_they_are() {
        let mut rows = Rows::default();
        for round in 1..=9 {
            rows.add("a", Kind::Nginx.name(), Measures::default().with("rate", 2.0));
            rows.add("a", Kind::Edge.name(), Measures::default().with("rate", f64::from(round)));
        }
        let rows = rows.conclude(Scenario::Warm).rows;
        let of = |kind: Kind| rows.iter().find(|row| row.server == kind.name()).unwrap();
        assert_eq!(of(Kind::Nginx).edge_ratio_intervals.of_name("rate"), Some([1.0, 4.0]));
        assert_eq!(of(Kind::Edge).median_intervals.of_name("rate"), Some([2.0, 8.0]));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut rows = Rows::default();
        let measured = Measures::default().with("rate", 1.0 / 3.0).with("p99_ms", f64::NAN);
        rows.add("a", Kind::Edge.name(), measured.clone());
        let written = serde_json::to_string(&rows.conclude(Scenario::Warm)).unwrap();
        let read: Section = serde_json::from_str(&written).unwrap();
        assert_eq!(read.scenario, Scenario::Warm);
        assert_eq!(read.rows[0].rounds, [measured]);
        assert_eq!(read.rows[0].median.value("p99_ms"), None, "what is no number is left out");
    }

    #[test]
    fn a_goal_without_a_measurement_is_missed() {
        let goal = Goal { what: "it runs", case: "a", measure: "rate", bound: Bound::AtLeast(0.9) };
        let judged = |measures: Measures| {
            let mut rows = Rows::default();
            rows.add("a", Kind::Edge.name(), measures);
            goal.judge(&rows.conclude(Scenario::Warm).rows).map(|outcome| outcome.met)
        };
        assert_eq!(judged(Measures::default().with("rate", 0.95)), Some(true));
        assert_eq!(judged(Measures::default().with("rate", 0.85)), Some(false));
        assert_eq!(judged(Measures::default().with("rate", f64::NAN)), Some(false));
        assert!(goal.judge(&[]).is_none(), "what was not run is not judged");
    }
}
