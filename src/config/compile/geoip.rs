//! (being built)

use std::sync::Arc;

use crate::client::geo::Databases;
use crate::config::{Context, Table};

/// (being built)
pub fn compile(_root: &Table, _cx: &mut Context) -> Arc<Databases> {
    Arc::default()
}
