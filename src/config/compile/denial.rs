//! (being built)

use crate::config::{Context, Table};
use crate::snapshot::notice::{Cors, Denial, Intercept};

/// (being built)
pub fn compile(_table: Option<&Table>, base: &Denial, _cx: &mut Context) -> Denial {
    base.clone()
}

/// (being built)
pub fn intercept(_table: &Table, _cx: &mut Context) -> Option<Intercept> {
    None
}

/// (being built)
pub fn cors(_table: &Table, _cx: &mut Context) -> Option<Cors> {
    None
}
