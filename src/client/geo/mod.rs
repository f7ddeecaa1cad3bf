//! Regions from MaxMind databases: any number of files, any of the record shapes in use.
//!
//! A database is read once, at load: [`Database::read`] walks the whole search tree (`walk`) and every record (`data`),
//! recognises the record shape from the records themselves (`shape`) and keeps a table of address ranges (`table`). So a
//! corrupt file is refused as a whole before it serves, a look-up can neither fail nor hang nor allocate, and the file's bytes
//! are not kept.
//!
//! Rules worth knowing:
//! - The country is `country.iso_code`, where the address *is*; `registered_country`, where its network was registered, is
//!   never used.
//! - A private, loopback or unlisted address has no facts; a record without country (a known network, an unknown region) has
//!   no country. Both are "unlisted", which rules can name.
//! - Of several databases, the first that has a value for a fact gives it; anonymizers are the union of all.
//! - A database older than a `max_age` that was written has *failed*: facts that it would decide are unknown, not unlisted.
//!
//! Writing databases is [`writer`]'s, the text they are written from [`csv`]'s. Nothing here knows of rules or requests.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::value::region::{GeoFacts, Region};

pub mod csv;
mod data;
pub mod demo;
mod reader;
mod shape;
mod table;
mod walk;
pub mod writer;

#[cfg(test)]
mod tests;

pub use reader::{About, Broken, Database, network};

/// All configured databases, open in memory, in the order in which they are asked.
#[derive(Debug, Default)]
pub struct Databases {
    sources: Vec<Source>,
    provides: GeoFacts,
}

/// One database and how long its word counts.
#[derive(Debug, Clone)]
pub struct Source {
    /// What to call it in messages: the path as written, or `embedded:demo`.
    pub name: Arc<str>,
    /// Where it is; empty for an embedded one.
    pub path: PathBuf,
    /// Its content.
    pub database: Arc<Database>,
    /// When its facts begin to count as failed; never, if no `max_age` was written.
    pub stale_after: Option<Timestamp>,
}

impl Source {
    /// A database whose word counts for ever.
    #[must_use]
    pub fn new(name: &str, path: &Path, database: Arc<Database>) -> Self {
        Self {
            name: Arc::from(name),
            path: path.to_owned(),
            database,
            stale_after: None,
        }
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        self.stale_after.is_some_and(|end| now > end)
    }
}

impl Databases {
    /// The databases in the order in which they are asked.
    #[must_use]
    pub fn new(sources: Vec<Source>) -> Self {
        let facts = sources.iter().map(|source| source.database.provides());
        let provides = facts.fold(GeoFacts::NONE, GeoFacts::union);
        Self { sources, provides }
    }

    /// The facts that some database provides, fresh or stale.
    #[must_use]
    pub const fn provides(&self) -> GeoFacts {
        self.provides
    }

    /// The databases, in the order in which they are asked.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// What the databases say of an address at `now`. Allocates nothing and cannot fail; facts whose source is stale are
    /// named in [`Region::failed`].
    #[must_use]
    pub fn region(&self, address: IpAddr, now: Timestamp) -> Region {
        let address = address.to_canonical();
        let mut region = Region::default();
        let mut open = GeoFacts::ALL;
        for source in &self.sources {
            let provided = source.database.provides();
            if source.is_stale(now) {
                let lost = open.intersection(provided);
                region.failed = region.failed.union(lost);
                // Whether an anonymizer is known elsewhere does not depend on the order.
                open = open.without(lost.without(GeoFacts::ANONYMIZER));
                continue;
            }
            let found = source.database.region(address);
            region.anonymizer = region.anonymizer.union(found.anonymizer);
            if open.intersects(GeoFacts::COUNTRY) && found.country.is_some() {
                region.country = found.country;
                open = open.without(GeoFacts::COUNTRY);
            }
            if open.intersects(GeoFacts::CONTINENT) && found.continent.is_some() {
                region.continent = found.continent;
                open = open.without(GeoFacts::CONTINENT);
            }
            if open.intersects(GeoFacts::SUBDIVISION) && found.subdivisions[0].is_some() {
                region.subdivisions = found.subdivisions;
                open = open.without(GeoFacts::SUBDIVISION);
            }
            if open.intersects(GeoFacts::ASN) && found.asn.is_some() {
                region.asn = found.asn;
                open = open.without(GeoFacts::ASN);
            }
        }
        region
    }
}

/// Reads a database file.
///
/// # Errors
/// [`OpenError::Unreadable`] if there is no such file or it cannot be read, [`OpenError::Broken`] if it is no database that can
/// be served.
pub fn open(path: &Path) -> Result<Database, OpenError> {
    let bytes = reader::load(path)?;
    Ok(Database::read(&bytes)?)
}

/// The bytes of a database file.
///
/// # Errors
/// If there is no such file, it is no regular file, it is larger than 2 GiB, or it cannot be read.
pub fn load(path: &Path) -> std::io::Result<Vec<u8>> {
    reader::load(path)
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file, or it cannot be read.
    #[error("the file cannot be read")]
    Unreadable(#[from] std::io::Error),
    /// The file is no database, or a corrupt one.
    #[error("the file is no usable database")]
    Broken(#[from] Broken),
}
