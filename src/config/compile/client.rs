//! (being built)

use crate::client::address::Trust;
use crate::config::{Context, Table};

/// (being built)
pub fn compile(_root: &Table, _cx: &mut Context) -> Trust {
    Trust
}
