//! The registry that is written in the configuration: a list that never changes.

use tokio::sync::watch;

use super::{EdgeId, EdgeList, EdgeRecord, Registry};

/// Two edges of the list have one id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two edges have the id '{0}'; give each one of its own")]
pub struct SharedEdgeId(pub EdgeId);

#[derive(Debug)]
pub struct StaticList(watch::Sender<EdgeList>);

impl StaticList {
    /// # Errors
    /// An id that stands twice.
    pub fn new(mut edges: Vec<EdgeRecord>) -> Result<Self, SharedEdgeId> {
        edges.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(pair) = edges.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(SharedEdgeId(pair[0].id.clone()));
        }
        Ok(Self(watch::Sender::new(edges.into())))
    }
}

impl Registry for StaticList {
    fn watch(&self) -> watch::Receiver<EdgeList> {
        self.0.subscribe()
    }
}
