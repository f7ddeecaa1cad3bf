//! Countries (ISO 3166-1 alpha-2), continents and subdivisions (ISO 3166-2).

/// An assigned ISO 3166-1 alpha-2 code, upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country(pub [u8; 2]);

/// A continent, by its two-letter code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Continent(pub [u8; 2]);

/// An ISO 3166-2 code such as `US-CA`; the part behind the dash has 1 to 3 characters, padded with NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subdivision {
    /// The country's part.
    pub country: [u8; 2],
    /// The subdivision's part, padded with NUL.
    pub part: [u8; 3],
}
