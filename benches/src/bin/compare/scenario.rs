//! The scenarios: what each measures, what is wanted of ours in it, and how its table looks.

mod cold;
mod files;
mod hot;
mod idle;
mod mint;
mod misses;
mod page;
mod stalled;
mod stuck;
mod tls;
mod warm;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::lab::Lab;
use crate::report::{Goal, Rows, Section};
use crate::tables::Column;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    Warm,
    Stuck,
    Stalled,
    Idle,
    Cold,
    Misses,
    Tls,
    Mint,
    Page,
}

impl Scenario {
    pub(crate) const ALL: [Self; 9] = [
        Self::Warm,
        Self::Stuck,
        Self::Stalled,
        Self::Idle,
        Self::Cold,
        Self::Misses,
        Self::Tls,
        Self::Mint,
        Self::Page,
    ];

    pub(crate) fn run(self, lab: &Lab) -> anyhow::Result<Section> {
        let mut rows = Rows::default();
        match self {
            Self::Warm => warm::run(lab, &mut rows),
            Self::Stuck => stuck::run(lab, &mut rows),
            Self::Stalled => stalled::run(lab, &mut rows),
            Self::Idle => idle::run(lab, &mut rows),
            Self::Cold => cold::run(lab, &mut rows),
            Self::Misses => misses::run(lab, &mut rows),
            Self::Tls => tls::run(lab, &mut rows),
            Self::Mint => mint::run(lab, &mut rows),
            Self::Page => page::run(lab, &mut rows),
        }?;
        Ok(rows.conclude(self))
    }

    pub(crate) fn goals(self) -> Vec<Goal> {
        match self {
            Self::Warm | Self::Misses | Self::Tls => Vec::new(),
            Self::Stuck => stuck::goals(),
            Self::Stalled => stalled::GOALS.to_vec(),
            Self::Idle => idle::GOALS.to_vec(),
            Self::Cold => cold::GOALS.to_vec(),
            Self::Mint => mint::GOALS.to_vec(),
            Self::Page => page::GOALS.to_vec(),
        }
    }

    /// What stands above the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Warm => warm::TITLE,
            Self::Stuck => stuck::TITLE,
            Self::Stalled => stalled::TITLE,
            Self::Idle => idle::TITLE,
            Self::Cold => cold::TITLE,
            Self::Misses => misses::TITLE,
            Self::Tls => tls::TITLE,
            Self::Mint => mint::TITLE,
            Self::Page => page::TITLE,
        }
    }

    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::Warm => warm::COLUMNS,
            Self::Stuck => stuck::COLUMNS,
            Self::Stalled => stalled::COLUMNS,
            Self::Idle => idle::COLUMNS,
            Self::Cold => cold::COLUMNS,
            Self::Misses => misses::COLUMNS,
            Self::Tls => tls::COLUMNS,
            Self::Mint => mint::COLUMNS,
            Self::Page => page::COLUMNS,
        }
    }

    /// Descriptors that a program may need.
    pub(crate) fn open_files(self) -> u64 {
        match self {
            Self::Warm | Self::Tls | Self::Mint | Self::Page => 4_000,
            // Ten thousand connections, and files beside them.
            Self::Stalled | Self::Idle | Self::Cold | Self::Misses => 20_000,
            // The stores are part of this program and hold what their servers have open, round by round.
            Self::Stuck => 20_000,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Stuck => "stuck",
            Self::Stalled => "stalled",
            Self::Idle => "idle",
            Self::Cold => "cold",
            Self::Misses => "misses",
            Self::Tls => "tls",
            Self::Mint => "mint",
            Self::Page => "page",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A scenario, or one case of it: `warm`, `warm/16KiB`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    scenario: Scenario,
    case: Option<String>,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, case) = match text.split_once('/') {
            Some((name, case)) => (name, Some(case.to_owned())),
            None => (text, None),
        };
        let known = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name);
        let scenario = known
            .ok_or_else(|| format!("the scenarios are {}", Scenario::ALL.map(Scenario::name).join(", ")))?;
        Ok(Self { scenario, case })
    }
}

/// What is to be measured: everything, where nothing was chosen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection(pub(crate) Vec<Choice>);

impl Selection {
    pub(crate) fn has(&self, scenario: Scenario) -> bool {
        self.0.is_empty() || self.0.iter().any(|choice| choice.scenario == scenario)
    }

    pub(crate) fn has_case(&self, scenario: Scenario, case: &str) -> bool {
        let chosen = |choice: &Choice| {
            choice.scenario == scenario
                && choice.case.as_ref().is_none_or(|chosen| chosen.eq_ignore_ascii_case(case))
        };
        self.0.is_empty() || self.0.iter().any(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_and_their_cases_are_chosen_by_name() {
        let all = Selection::default();
        assert!(all.has(Scenario::Cold) && all.has_case(Scenario::Warm, "1KiB"));
        let some = Selection(vec!["warm/16kib".parse().unwrap(), "idle".parse().unwrap()]);
        assert!(some.has(Scenario::Warm) && some.has(Scenario::Idle) && !some.has(Scenario::Cold));
        assert!(some.has_case(Scenario::Warm, "16KiB") && !some.has_case(Scenario::Warm, "1KiB"));
        assert!(some.has_case(Scenario::Idle, "any"));
        assert!(
            "cool"
                .parse::<Choice>()
                .unwrap_err()
                .contains("warm, stuck, stalled, idle, cold, misses, tls, mint, page")
        );
    }
}
