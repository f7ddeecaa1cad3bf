//! The answers that we write ourselves: denials, pages, failures.
