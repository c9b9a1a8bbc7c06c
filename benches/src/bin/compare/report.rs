//! What was measured: every round, medians, ratios within rounds, and whether goals were met. It is the JSON that
//! comes out, and is read back from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
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
        let names: std::collections::BTreeSet<&str> = rounds.iter().flat_map(Self::names).collect();
        names.into_iter().fold(Self::default(), |medians, name| {
            let values = rounds.iter().filter_map(|round| round.value(name));
            medians.with(name, median(values.collect()))
        })
    }

    /// What one server measured divided by what another did, round by round; medians of that.
    fn ratios(ours: &[Self], others: &[Self]) -> Self {
        let rounds = ours.iter().zip(others).map(|(ours, other)| {
            ours.names().fold(Self::default(), |ratios, name| ratios.with(name, ours.ratio(other, name)))
        });
        Self::medians(&rounds.collect::<Vec<_>>())
    }
}

/// One server in one case.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) server: String,
    pub(crate) rounds: Vec<Measures>,
    pub(crate) median: Measures,
    /// The edge's values divided by this server's of the same round; medians over the rounds. Empty for the edge, and
    /// where no edge was measured.
    pub(crate) edge_ratios: Measures,
}

/// What one scenario measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) scenario: Scenario,
    pub(crate) rows: Vec<Row>,
    pub(crate) goals: Vec<Outcome>,
}

/// A goal, and what came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) what: String,
    pub(crate) wanted: String,
    pub(crate) measured: Option<f64>,
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
                edge_ratios: Measures::default(),
            }),
        }
    }

    /// Works out medians, ratios and goals, when everything is measured.
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
            let of_edge = edges.iter().find(|(case, _)| *case == row.case);
            if let Some((_, ours)) = of_edge.filter(|_| row.server != edge) {
                row.edge_ratios = Measures::ratios(ours, &row.rounds);
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
        Some(Outcome { what: format!("{}: {}", self.case, self.what), wanted, measured, met })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) scenarios: Vec<Section>,
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
        assert!(median(vec![]).is_nan());
    }

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
