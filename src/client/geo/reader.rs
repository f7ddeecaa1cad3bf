//! Reads a database file into a [`Database`], or says why it cannot be served.

use std::collections::HashMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use jiff::Timestamp;
use thiserror::Error;

use super::data::{Checker, Data};
use super::shape;
use super::table::{self, Parts, Table};
use super::walk::{SEPARATOR, Tree, Visit};
use crate::value::region::{GeoFacts, Region};

/// One database: what it says of addresses, and of itself.
#[derive(Debug)]
pub struct Database {
    table: Table,
    provides: GeoFacts,
    about: About,
}

/// What a database says of itself, and how large it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its type, `GeoLite2-City` for example.
    pub kind: String,
    /// When it was built; nothing where the time written is no time (before 1970, or beyond year 9999).
    pub built: Option<Timestamp>,
    /// 4 or 6: the address family of the tree; 6 holds both.
    pub ip_version: u16,
    /// Bits of a tree record: 24, 28 or 32.
    pub record_size: u16,
    /// Nodes of the tree.
    pub node_count: u32,
    /// Languages of its names.
    pub languages: Vec<String>,
    /// Networks with a record, aliases of IPv4 not counted.
    pub networks: u64,
    /// Different regions among them.
    pub regions: usize,
}

/// Why a file is no database that can be served.
#[derive(Debug, Error)]
pub enum Broken {
    /// The metadata cannot be read, or the layout that it states does not fit the file.
    #[error("its metadata or layout is broken")]
    Metadata(#[from] maxminddb::MaxMindDbError),
    /// A record of the tree points nowhere, or the tree is deeper than an address.
    #[error("its search tree is broken")]
    Tree,
    /// A value ends beyond its section.
    #[error("a value reaches beyond the data section")]
    Truncated,
    /// A type that the format does not have.
    #[error("a value has an unknown type")]
    UnknownType,
    /// A number of the wrong width.
    #[error("a value has a size that its type does not have")]
    WrongSize,
    /// A map key that is no text.
    #[error("a map key is no text")]
    Key,
    /// A pointer that points at a pointer.
    #[error("a pointer points at a pointer")]
    PointerToPointer,
    /// A value that holds itself.
    #[error("a value contains itself")]
    Cycle,
    /// Values nested beyond any use.
    #[error("values are nested too deeply")]
    TooDeep,
    /// Values or subtrees shared until a walk explodes.
    #[error("reading it takes more work than its size allows")]
    TooMuchWork,
    /// More different records than a number can tell apart.
    #[error("it has too many records")]
    TooLarge,
}

impl Database {
    /// Reads and checks a whole file: every node of its tree, every record, every value. The bytes are not kept. Takes time
    /// and memory in proportion to the file, whatever is in it.
    ///
    /// # Errors
    /// If anything in it is broken: half a database is none.
    pub fn read(bytes: &[u8]) -> Result<Self, Broken> {
        let opened = maxminddb::Reader::from_source(bytes)?;
        let metadata = opened.metadata();
        let node_count = usize::try_from(metadata.node_count)
            .ok()
            .ok_or(Broken::TooLarge)?;
        let record_size = usize::from(metadata.record_size);
        let tree_size = node_count
            .checked_mul(record_size / 4)
            .ok_or(Broken::TooLarge)?;
        let (tree, rest) = bytes.split_at_checked(tree_size).ok_or(Broken::Tree)?;
        let marker = rest
            .windows(MARKER.len())
            .rposition(|window| window == MARKER);
        let data = marker
            .and_then(|end| rest.get(SEPARATOR..end))
            .ok_or(Broken::Truncated)?;
        let data = Data(data);
        let tree = Tree {
            bytes: tree,
            node_count,
            record_size,
            ip_version: metadata.ip_version,
        };
        let mut collect = Collect {
            data,
            checker: Checker::new(data),
            offsets: HashMap::default(),
            regions: HashMap::default(),
            provides: GeoFacts::NONE,
            networks: 0,
            parts: Parts {
                records: vec![Region::default()],
                ..Parts::default()
            },
        };
        collect.regions.insert(Region::default(), 0);
        tree.walk(&mut collect)?;
        let about = About {
            kind: metadata.database_type.clone(),
            built: built(metadata.build_epoch),
            ip_version: metadata.ip_version,
            record_size: metadata.record_size,
            node_count: metadata.node_count,
            languages: metadata.languages.clone(),
            networks: collect.networks,
            regions: collect.regions.len() - 1,
        };
        Ok(Self {
            table: Table::new(collect.parts),
            provides: collect.provides,
            about,
        })
    }

    /// The facts for which its records have a place.
    #[must_use]
    pub const fn provides(&self) -> GeoFacts {
        self.provides
    }

    /// What it says of itself.
    #[must_use]
    pub const fn about(&self) -> &About {
        &self.about
    }

    /// What it says of an address. Allocates nothing and cannot fail.
    #[must_use]
    pub fn region(&self, address: IpAddr) -> Region {
        self.table.find(address.to_canonical())
    }
}

/// The network of a database file that holds an address, whether or not it has a record there.
///
/// For a person who asks about one address; requests use [`Database::region`].
///
/// # Errors
/// If the file is broken.
pub fn network(bytes: &[u8], address: IpAddr) -> Result<Option<IpNet>, Broken> {
    let opened = maxminddb::Reader::from_source(bytes)?;
    if opened.metadata().ip_version == 4 && address.is_ipv6() {
        return Ok(None);
    }
    let network = opened.lookup(address)?.network()?;
    Ok(IpNet::new(network.ip(), network.prefix()).ok())
}

pub(super) fn load(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    // A pipe or a device could be read for ever.
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        let word = "not a regular file of at most 2 GiB";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, word));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn built(epoch: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(epoch).ok()?).ok()
}

/// Gathers ranges and interned records while the tree is walked.
struct Collect<'d> {
    data: Data<'d>,
    checker: Checker<'d>,
    /// By offset in the data section: the number of the record.
    offsets: HashMap<usize, u32, foldhash::fast::RandomState>,
    regions: HashMap<Region, u32, foldhash::fast::RandomState>,
    provides: GeoFacts,
    networks: u64,
    parts: Parts,
}

impl Collect<'_> {
    fn record(&mut self, value: Option<usize>) -> Result<u32, Broken> {
        let Some(offset) = value else {
            return Ok(0);
        };
        self.networks += 1;
        if let Some(known) = self.offsets.get(&offset) {
            return Ok(*known);
        }
        self.checker.check(offset)?;
        let (region, provides) = shape::region(self.data, offset)?;
        self.provides = self.provides.union(provides);
        let next = u32::try_from(self.parts.records.len())
            .ok()
            .ok_or(Broken::TooLarge)?;
        let number = *self.regions.entry(region).or_insert(next);
        if number == next {
            self.parts.records.push(region);
        }
        self.offsets.insert(offset, number);
        Ok(number)
    }
}

impl Visit for Collect<'_> {
    fn v4(&mut self, first: u32, value: Option<usize>) -> Result<(), Broken> {
        let record = self.record(value)?;
        table::push(&mut self.parts.v4, first, record);
        Ok(())
    }

    fn v6(&mut self, first: u128, value: Option<usize>) -> Result<(), Broken> {
        let record = self.record(value)?;
        table::push(&mut self.parts.v6, first, record);
        Ok(())
    }

    fn alias(&mut self, prefix: u128, length: u8) {
        self.parts.aliases.push((prefix, length));
    }
}

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// The largest file that is read. Published databases are below 1 GiB.
const FILE_BYTES_MAX: u64 = 2 << 30;
