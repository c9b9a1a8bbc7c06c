//! What an edge's answers mean: a state machine with hysteresis, so that one lost packet ejects nobody and one good
//! answer trusts nobody. Pure; the clock is an argument.

use std::time::SystemTime;

use serde::Serialize;

pub(crate) use crate::routing::standing::State;

/// Misses in a row that take an edge out, and good answers in a row that bring it back.
const MISSES_TO_LEAVE: u32 = 3;
const GOODS_TO_RETURN: u32 = 2;

/// Why an edge that answers is last in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ailment {
    /// It says that its storage does not answer: it serves what it has cached.
    Storage,
    /// Its clock is off: it refuses tokens that are good.
    Clock,
    /// It does not have the key that this coordinator mints with: it refuses its tokens.
    Keys,
}

impl Ailment {
    /// What an operator does about it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Storage => "see the edge's log: its store hangs, or is not mounted at its root",
            Self::Clock => "set the clocks of the edge and of this coordinator (chrony, systemd-timesyncd)",
            Self::Keys => {
                "copy the coordinator's keys.path to the edge's, or give both one etcd.cluster_key; it is back by itself"
            }
        }
    }
}

/// What one probe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Good,
    /// The edge says itself that it must not get requests.
    Draining,
    /// The edge serves, and not as it should.
    Degraded(Ailment),
    /// No answer in time, or none that an edge gives.
    Miss,
}

/// One edge's health.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    state: State,
    since: SystemTime,
    misses: u32,
    goods: u32,
    /// What the last answer of a degraded edge gave as the reason.
    ailment: Option<Ailment>,
    /// Whether the edge ever answered. Before that there is no history that a good answer would have to outweigh.
    heard: bool,
}

impl Health {
    pub(crate) fn new(now: SystemTime) -> Self {
        Self { state: State::Unknown, since: now, misses: 0, goods: 0, ailment: None, heard: false }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// When the state began.
    pub(crate) fn since(&self) -> SystemTime {
        self.since
    }

    /// Misses in a row, up to now.
    pub(crate) fn misses(&self) -> u32 {
        self.misses
    }

    /// Why it is degraded, where it is.
    pub(crate) fn ailment(&self) -> Option<Ailment> {
        self.ailment.filter(|_| self.state == State::Degraded)
    }

    /// Takes in an answer; gives the state that it ended, where it did.
    pub(crate) fn observe(&mut self, answer: Answer, now: SystemTime) -> Option<State> {
        (self.goods, self.misses) = match answer {
            Answer::Good => (self.goods.saturating_add(1), 0),
            Answer::Draining | Answer::Degraded(_) => (0, 0),
            Answer::Miss => (0, self.misses.saturating_add(1)),
        };
        let next = match (self.state, answer) {
            (_, Answer::Draining) => State::Draining,
            (_, Answer::Degraded(_)) => State::Degraded,
            (_, Answer::Good) if !self.heard || self.goods >= GOODS_TO_RETURN => State::Up,
            (State::Unknown, Answer::Miss) => State::Down,
            (_, Answer::Miss) if self.misses >= MISSES_TO_LEAVE => State::Down,
            (state, _) => state,
        };
        if let Answer::Degraded(ailment) = answer {
            self.ailment = Some(ailment);
        }
        self.heard |= answer != Answer::Miss;
        if next == self.state {
            return None;
        }
        self.since = now;
        Some(std::mem::replace(&mut self.state, next))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// The states after each answer of a text of `g`ood, `d`raining, `s`tuck, `c`lock and `m`iss, as their first letters;
    /// `s` for degraded.
    fn walk(answers: &str) -> String {
        let mut health = Health::new(UNIX_EPOCH);
        let step = |letter| {
            let answer = match letter {
                'g' => Answer::Good,
                'd' => Answer::Draining,
                's' => Answer::Degraded(Ailment::Storage),
                'c' => Answer::Degraded(Ailment::Clock),
                _ => Answer::Miss,
            };
            let before = health.state();
            let ended = health.observe(answer, UNIX_EPOCH);
            assert_eq!(ended.is_some(), before != health.state());
            assert_eq!(ended.unwrap_or(before), before);
            if health.state() == State::Degraded { "s" } else { &health.state().name()[..1] }
        };
        answers.chars().map(step).collect()
    }

    #[test]
    fn states_follow_answers() {
        let table = [
            // The first answer decides at once, whenever it comes.
            ("g", "u"),
            ("m", "d"),
            ("mmmmg", "ddddu"),
            ("d", "d"),
            // Out after three misses in a row, not before.
            ("gmmgmmg", "uuuuuuu"),
            ("gmmm", "uuud"),
            // Back after two good answers in a row.
            ("gmmmgmgg", "uuuddddu"),
            // An edge that says no is out at once, and is back by the same rule.
            ("gd", "ud"),
            ("gdgg", "uddu"),
            ("dg", "dd"),
            ("dgg", "ddu"),
            ("gmmd", "uuud"),
            // So is one whose storage hangs.
            ("gsgg", "ussu"),
            ("sd", "sd"),
            // And one whose clock is off.
            ("gcgg", "ussu"),
        ];
        for (answers, states) in table {
            assert_eq!(walk(answers), states, "{answers}");
        }
    }

    #[test]
    fn a_draining_edge_that_falls_silent_is_down() {
        let mut health = Health::new(UNIX_EPOCH);
        health.observe(Answer::Draining, UNIX_EPOCH);
        for _ in 0..3 {
            assert_eq!(health.state(), State::Draining);
            health.observe(Answer::Miss, UNIX_EPOCH);
        }
        assert_eq!((health.state(), health.misses()), (State::Down, 3));
    }

    #[test]
    fn the_reason_is_that_of_the_last_answer_and_ends_with_the_state() {
        let mut health = Health::new(UNIX_EPOCH);
        let table = [
            (Answer::Good, None),
            (Answer::Degraded(Ailment::Clock), Some(Ailment::Clock)),
            (Answer::Degraded(Ailment::Storage), Some(Ailment::Storage)),
            // Not back yet.
            (Answer::Good, Some(Ailment::Storage)),
            (Answer::Good, None),
        ];
        for (answer, expected) in table {
            health.observe(answer, UNIX_EPOCH);
            assert_eq!(health.ailment(), expected, "{answer:?}");
        }
    }

    #[test]
    fn since_is_when_the_state_began() {
        let at = |seconds| UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let mut health = Health::new(at(0));
        health.observe(Answer::Good, at(1));
        health.observe(Answer::Good, at(2));
        assert_eq!(health.since(), at(1));
        health.observe(Answer::Draining, at(3));
        assert_eq!(health.since(), at(3));
    }
}
