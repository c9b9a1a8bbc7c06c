//! Several machines, one run: a conductor says what is to be done and when it begins, and adds up what all have measured.
//! Both sides prove that they know one secret, and nothing that passes can be changed on the way; it is not hidden.

mod conductor;
mod joiner;
mod wire;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use conductor::conduct;
pub(crate) use joiner::take_part;

use crate::run::Live;
use crate::scenario::Overrides;
use crate::summary::Summary;

/// From the signal to start to the first download: as long as the slowest machine needs.
const LEAD: Duration = Duration::from_secs(2);
/// Joiners speak once a second. One that says nothing for so long is lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a conductor says.
#[derive(Debug, Serialize, Deserialize)]
enum Instruction {
    Prepare(Box<Part>),
    Start,
    /// Before its time.
    End,
}

/// A joiner's part of a run. Files that the scenario names are the joiner's own.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    scenario: String,
    overrides: Overrides,
    coordinators: Vec<String>,
    server: Option<String>,
    /// Its first worker among all, and how many there are.
    first: u32,
    of: u32,
}

/// What a joiner says.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ready,
    Live(Live),
    Done(Box<Summary>),
    Failed(String),
}
