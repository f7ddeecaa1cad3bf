//! A secret that callers show, kept as its digest: neither a dump of memory nor a `{:?}` gives it away.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// A token. Comparing takes the same time wherever two tokens differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; SHA256_OUTPUT_LEN]);

impl Token {
    /// The token written as `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(hash(text.as_bytes()))
    }

    /// Whether somebody showed it.
    #[must_use]
    pub fn is(&self, shown: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, &hash(shown)).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

fn hash(text: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut out = [0; SHA256_OUTPUT_LEN];
    let sum = digest(&SHA256, text);
    for (place, byte) in out.iter_mut().zip(sum.as_ref()) {
        *place = *byte;
    }
    out
}
