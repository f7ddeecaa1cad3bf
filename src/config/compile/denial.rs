//! (being built)

use std::sync::Arc;

use crate::config::{Context, Node};

/// (stub: a page of our own, loaded)
pub fn page(_: &Node, _: &mut Context) -> Option<Arc<str>> {
    None
}
