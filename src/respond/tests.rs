#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]
//! Whole answers: shapes, header fields, escaping, pages.

use super::*;

#[test]
fn placeholder() {}
