//! (being built)

/// The request target as received and in its two readings. H6 defines the fields.
#[derive(Debug)]
pub struct Target;
