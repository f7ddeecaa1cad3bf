//! (being built)

use crate::config::{Context, Table};
use crate::identity::{Authenticator, Sources};

/// (being built)
pub fn compile(_root: &Table, _cx: &mut Context) -> Sources {
    Sources
}

/// (being built)
pub fn authenticator(_site: &Table, _sources: &Sources, _cx: &mut Context) -> Authenticator {
    Authenticator
}
