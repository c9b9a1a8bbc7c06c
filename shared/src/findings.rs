//! What a program's check found of its configuration and of what is around it, for people and for programs.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// The program runs; something will not be as it could be.
    Warn,
    /// The program does not start, or does not do its work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub what: String,
    pub level: Level,
    /// One line; no secret.
    pub found: String,
    /// What to do about it; of what is well, nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// All of them, in the order they were looked at.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    pub findings: Vec<Finding>,
}

impl Findings {
    pub fn ok(&mut self, what: &str, found: impl Display) {
        self.push(what, Level::Ok, found, None);
    }

    pub fn warn(&mut self, what: &str, found: impl Display, remedy: impl Display) {
        self.push(what, Level::Warn, found, Some(remedy.to_string()));
    }

    pub fn fail(&mut self, what: &str, found: impl Display, remedy: impl Display) {
        self.push(what, Level::Fail, found, Some(remedy.to_string()));
    }

    /// A fault that says itself what to do.
    pub fn of<T>(&mut self, what: &str, judged: Result<T, impl Display>) -> Option<T> {
        match judged {
            Ok(value) => {
                self.ok(what, "good");
                Some(value)
            }
            Err(fault) => {
                self.push(what, Level::Fail, fault, None);
                None
            }
        }
    }

    fn push(&mut self, what: &str, level: Level, found: impl Display, remedy: Option<String>) {
        let found = found.to_string().replace('\n', ", ");
        self.findings.push(Finding { what: what.to_owned(), level, found, remedy });
    }

    /// The worst of them.
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts serialize")
    }
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    /// Of the program that checked: 0 all is well, 1 there are warnings, 2 something fails.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warn => 1,
            Self::Fail => 2,
        }
    }
}
