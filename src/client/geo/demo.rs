//! The demo's database: documentation address ranges (RFC 5737, RFC 3849) given to countries, so that every rule of the demo
//! policy can be tried with an address that is nobody's.

use super::csv;
use super::reader::{Broken, Database};
use super::writer::{Label, write};

/// What the demo's database is called in `[geoip] databases`.
pub const NAME: &str = "embedded:demo";

/// The table, as `geo build` takes it.
pub const TABLE: &str = include_str!("../../../config/demo-geo.csv");

/// Builds the database, as `geo build` would, and opens it.
///
/// # Errors
/// Never for the embedded table, which a test builds.
pub fn database(build_epoch: u64) -> Result<Database, Broken> {
    Database::read(&bytes(build_epoch)?)
}

/// The database as a file's content.
///
/// # Errors
/// Never for the embedded table.
pub fn bytes(build_epoch: u64) -> Result<Vec<u8>, Broken> {
    let label = Label {
        kind: "Portcullis-Demo",
        description: "Documentation addresses given to countries",
        build_epoch,
    };
    let entries = csv::parse(TABLE).ok().ok_or(Broken::Truncated)?;
    write(&entries, &label).ok().ok_or(Broken::TooLarge)
}
