//! Regions from MaxMind databases.

/// All configured databases, open in memory.
#[derive(Debug, Default)]
pub struct Databases;
