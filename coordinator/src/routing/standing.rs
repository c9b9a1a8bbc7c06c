//! Who may get requests, of those whose states are known: what is believed of the news. Pure.
//!
//! News come over one coordinator's network, and clients reach edges over another. So an edge's own word counts at
//! once, silence of a few edges counts, and silence of most at once says more about the listener.

use std::time::Duration;

use serde::Serialize;

/// How an edge is, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not heard of yet.
    Unknown,
    Up,
    Down,
    /// It says itself that it must not get requests.
    Draining,
    /// It serves, and not as it should: its storage does not answer, or its clock is off.
    Degraded,
}

impl State {
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Up, Self::Down, Self::Draining, Self::Degraded];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Degraded => "degraded",
        }
    }
}

/// What is known of one edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    pub state: State,
    /// When it came to be so.
    pub since: Duration,
    /// Whether it was up before.
    pub was_up: bool,
}

/// What the news were taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Those that are up get requests.
    News,
    /// Most fell silent at once: those get requests too.
    SuddenSilence,
    /// None is up; those get requests that serve what they have cached.
    OnlyDegraded,
    /// None can be said to serve: those that may get requests.
    NobodyUp,
    /// All say that they are leaving; they get requests to the end.
    OnlyDraining,
}

/// How long the silence of most is not believed: longer than a failing switch or a machine that stands still takes
/// to come back. Whoever is sent to a dead edge meanwhile comes back and is sent there again, so not for ever, where
/// others live.
const DISBELIEF: Duration = Duration::from_secs(30);
/// Below this many edges, most of them may well die at once.
const EDGES_MIN: usize = 5;

/// Says for each edge whether it may get requests.
pub fn judge(news: &[News], now: Duration) -> (Vec<bool>, Trust) {
    let is_sudden =
        |edge: &News| edge.state == State::Down && edge.was_up && now.saturating_sub(edge.since) < DISBELIEF;
    let count = |state| news.iter().filter(|edge| edge.state == state).count();
    let (up, degraded) = (count(State::Up), count(State::Degraded));
    let sudden = news.iter().filter(|edge| is_sudden(edge)).count();
    let trust = if news.len() >= EDGES_MIN && sudden > up + degraded {
        Trust::SuddenSilence
    } else if up > 0 {
        Trust::News
    } else if degraded > 0 {
        Trust::OnlyDegraded
    } else if count(State::Draining) < news.len() {
        Trust::NobodyUp
    } else {
        Trust::OnlyDraining
    };
    let may = |edge: &News| match trust {
        Trust::News => edge.state == State::Up,
        Trust::SuddenSilence => edge.state == State::Up || is_sudden(edge),
        Trust::OnlyDegraded => edge.state == State::Degraded,
        Trust::NobodyUp => matches!(edge.state, State::Down | State::Unknown),
        Trust::OnlyDraining => true,
    };
    (news.iter().map(may).collect(), trust)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Edges by letters: `u`p, `f`ell silent a second ago, `s`ilent for an hour, `n`ever heard, de`g`raded,
    /// d`r`aining, unkno`w`n. Those that may get requests come back in capitals.
    fn judged(edges: &str) -> (String, Trust) {
        let now = Duration::from_secs(7200);
        let ago = |seconds| now - Duration::from_secs(seconds);
        let news = |letter| {
            let (state, since, was_up) = match letter {
                'u' => (State::Up, 60, false),
                'f' => (State::Down, 1, true),
                's' => (State::Down, 3600, true),
                'n' => (State::Down, 1, false),
                'g' => (State::Degraded, 1, true),
                'r' => (State::Draining, 1, true),
                _ => (State::Unknown, 1, false),
            };
            News { state, since: ago(since), was_up }
        };
        let (may, trust) = judge(&edges.chars().map(news).collect::<Vec<_>>(), now);
        let shown = |(letter, may): (char, bool)| if may { letter.to_ascii_uppercase() } else { letter };
        (edges.chars().zip(may).map(shown).collect(), trust)
    }

    #[test]
    fn news_are_believed_as_far_as_they_go() {
        let table = [
            ("uuuuu", "UUUUU", Trust::News),
            ("uuuff", "UUUff", Trust::News),
            ("ugrsw", "Ugrsw", Trust::News),
            // Half is not most.
            ("uuufff", "UUUfff", Trust::News),
            // Most at once.
            ("uufff", "UUFFF", Trust::SuddenSilence),
            ("uufffsr", "UUFFFsr", Trust::SuddenSilence),
            ("fffff", "FFFFF", Trust::SuddenSilence),
            // Over time, or from the start, is believed.
            ("uusss", "UUsss", Trust::News),
            ("uunnn", "UUnnn", Trust::News),
            // What edges say of themselves is.
            ("uurrr", "UUrrr", Trust::News),
            ("uuggg", "UUggg", Trust::News),
            // Too few to tell.
            ("uff", "Uff", Trust::News),
            // Nobody is up.
            ("ggs", "GGs", Trust::OnlyDegraded),
            ("ssr", "SSr", Trust::NobodyUp),
            ("f", "F", Trust::NobodyUp),
            ("wn", "WN", Trust::NobodyUp),
            ("rr", "RR", Trust::OnlyDraining),
            ("", "", Trust::OnlyDraining),
        ];
        for (edges, expected, trust) in table {
            assert_eq!(judged(edges), (expected.to_owned(), trust), "{edges}");
        }
    }
}
