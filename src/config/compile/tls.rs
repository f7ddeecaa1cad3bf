//! (being built)

use std::sync::Arc;

use crate::config::{Context, Table};
use crate::snapshot::tls::{ClientTls, ServerTls};

/// (being built)
pub fn server(_table: &Table, _cx: &mut Context) -> Option<Arc<ServerTls>> {
    None
}

/// (being built)
pub fn client(_table: Option<&Table>, _cx: &mut Context) -> Option<Arc<ClientTls>> {
    None
}
