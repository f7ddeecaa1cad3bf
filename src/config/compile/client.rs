//! (being built)

use ipnet::IpNet;

use crate::config::{Context, Span, Table};

/// (stub: the networks of a provider)
pub(crate) fn provider(_: &Table, _: &str, _: Span, _: &mut Context) -> Option<Vec<IpNet>> {
    None
}
