//! `application/problem+json` (RFC 9457), the form of every error that a client sees.

use http::StatusCode;
use serde::Serialize;

pub const CONTENT_TYPE: &str = "application/problem+json";

/// A problem: its status, and one plain sentence in `detail`.
#[derive(Debug, Clone, Serialize)]
pub struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
}

impl<'a> Problem<'a> {
    pub fn new(status: StatusCode, detail: &'a str) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail,
        }
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers serialize")
    }
}
