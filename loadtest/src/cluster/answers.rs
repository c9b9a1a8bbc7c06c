//! What the coordinator answers, as far as tests look at it.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::client::Answer;

/// The answer of `GET /api/request-download`.
#[derive(Debug, Clone)]
pub struct Offer {
    /// A URL on the first candidate.
    pub download_url: String,
    /// URLs on the next candidates, with the same token.
    pub alternates: Vec<String>,
    /// Id of the first candidate.
    pub edge: String,
    /// RFC 3339, UTC.
    pub expires_at: String,
}

impl Offer {
    pub(super) fn parse(answer: &Answer) -> anyhow::Result<Self> {
        ensure!(answer.status() == 200, "request-download: {} {}", answer.status(), answer.text());
        let json = answer.json()?;
        let alternates = json["alternates"].as_array().context("no alternates")?;
        let alternates = alternates.iter().map(|url| url.as_str().map(str::to_owned));
        Ok(Self {
            download_url: text(&json, "download_url")?,
            alternates: alternates.collect::<Option<_>>().context("an alternate that is no text")?,
            edge: text(&json, "edge")?,
            expires_at: text(&json, "expires_at")?,
        })
    }

    /// The token of the first URL.
    ///
    /// # Errors
    /// It has none.
    pub fn token(&self) -> anyhow::Result<&str> {
        token_of(&self.download_url)
    }
}

/// The token in an edge's URL.
///
/// # Errors
/// It has none.
pub fn token_of(url: &str) -> anyhow::Result<&str> {
    let (_, token) = url.split_once("?token=").context("no token in the URL")?;
    Ok(token.split('&').next().unwrap_or(token))
}

/// An edge as the coordinator sees it.
#[derive(Debug, Clone)]
pub struct EdgeStatus {
    pub id: String,
    /// Whether its health is good.
    pub up: bool,
    /// As the API names it.
    pub state: String,
    /// Why it is degraded, where it is.
    pub reason: Option<String>,
    /// The part of all files that it is first candidate of, 0 to 1. Routing follows health a moment later.
    pub share: f64,
}

impl EdgeStatus {
    /// Whether health and routing agree that it gets downloads, or that it gets none.
    pub fn is_settled(&self, gets_downloads: bool) -> bool {
        self.up == gets_downloads && (self.share > 0.0) == gets_downloads
    }

    pub(super) fn parse_list(json: &Value) -> anyhow::Result<Vec<Self>> {
        let edges = json["edges"].as_array().context("no list of edges")?;
        edges.iter().map(Self::parse).collect()
    }

    fn parse(json: &Value) -> anyhow::Result<Self> {
        let state = text(json, "state")?;
        Ok(Self {
            id: text(json, "id")?,
            up: state == "up",
            state,
            reason: json["reason"].as_str().map(str::to_owned),
            share: json["share"].as_f64().context("no share")?,
        })
    }
}

fn text(json: &Value, name: &str) -> anyhow::Result<String> {
    let found = json[name].as_str();
    found.map(str::to_owned).with_context(|| format!("no text {name:?} in {json}"))
}
