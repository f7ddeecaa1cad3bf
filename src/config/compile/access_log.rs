//! (being built)

use std::sync::Arc;

use crate::config::{Context, Table};
use crate::snapshot::log::AccessLog;

/// (being built)
pub fn compile(_root: &Table, _cx: &mut Context) -> Vec<Arc<AccessLog>> {
    Vec::new()
}
