//! Regions from MaxMind databases.

/// All configured databases, open in memory.
#[derive(Debug, Default)]
pub struct Databases;

impl Databases {
    /// (being built)
    #[must_use]
    pub fn provides(&self) -> crate::value::region::GeoFacts {
        crate::value::region::GeoFacts::ALL
    }
}
