//! The text from which `geo build` makes a database: comma-separated values with a header line.
//!
//! ```text
//! # comments and empty lines are skipped
//! network,country,continent,subdivision,asn,as_org,anonymizers
//! 198.51.100.0/25,NL,EU,NL-NH,64500,"Example, Inc.",
//! 198.51.100.128/25,DE,EU,,64501,,vpn hosting
//! ```
//!
//! `network` is the only column that must be there; columns may stand in any order, and a field may be empty. A field with a
//! comma or a quote stands in double quotes, a quote in it is doubled (RFC 4180; a field never goes over a line's end). A
//! bare address is its own network. Where networks overlap, the more specific one wins; the same network twice is a mistake.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use super::writer::Entry;
use crate::value::country::UnknownCode;
use crate::value::region::{Anonymizers, Region};

/// A mistake in a table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct Mistake {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// The entries of a table.
///
/// # Errors
/// Every mistake in it, by line.
pub fn parse(text: &str) -> Result<Vec<Entry>, Vec<Mistake>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    let mut mistakes = Vec::new();
    let Some((line, header)) = lines.next() else {
        let message = format!(
            "no header line, such as `{}`",
            COLUMNS.map(|(name, _)| name).join(",")
        );
        return Err(vec![Mistake { line: 1, message }]);
    };
    let columns = match columns(header) {
        Ok(columns) => columns,
        Err(message) => return Err(vec![Mistake { line, message }]),
    };
    let mut entries = Vec::new();
    let mut first_line: HashMap<IpNet, usize, foldhash::fast::RandomState> = HashMap::default();
    for (line, row) in lines {
        match entry(&columns, row) {
            Ok(entry) => {
                if let Some(first) = first_line.insert(entry.network, line) {
                    let message = format!("`{}` stands in line {first} already", entry.network);
                    mistakes.push(Mistake { line, message });
                }
                entries.push(entry);
            }
            Err(message) => mistakes.push(Mistake { line, message }),
        }
    }
    if mistakes.is_empty() {
        Ok(entries)
    } else {
        Err(mistakes)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Network,
    Country,
    Continent,
    Subdivision,
    Asn,
    AsOrg,
    Anonymizers,
}

fn columns(header: &str) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for name in fields(header)? {
        let known = COLUMNS.iter().find(|(known, _)| *known == name.trim());
        let Some((known, column)) = known else {
            let names = COLUMNS.map(|(name, _)| name).join(", ");
            return Err(format!(
                "unknown column `{}` (the columns are {names})",
                name.trim()
            ));
        };
        if columns.contains(column) {
            return Err(format!("column `{known}` stands twice"));
        }
        columns.push(*column);
    }
    if columns.contains(&Column::Network) {
        Ok(columns)
    } else {
        Err("the header has no column `network`".to_owned())
    }
}

fn entry(columns: &[Column], row: &str) -> Result<Entry, String> {
    let fields = fields(row)?;
    if fields.len() > columns.len() {
        return Err(format!(
            "{} fields, but the header has {} columns",
            fields.len(),
            columns.len()
        ));
    }
    let mut network = None;
    let mut region = Region::default();
    let mut as_org = None;
    for (column, field) in columns.iter().zip(&fields) {
        let field = field.trim();
        if field.is_empty() {
            continue;
        }
        match column {
            Column::Network => network = Some(parse_network(field)?),
            Column::Country => region.country = Some(field.parse().map_err(unknown)?),
            Column::Continent => region.continent = Some(field.parse().map_err(unknown)?),
            Column::Subdivision => {
                let mut codes = field.split_ascii_whitespace();
                for (slot, code) in region.subdivisions.iter_mut().zip(codes.by_ref()) {
                    *slot = Some(code.parse().map_err(unknown)?);
                }
                if codes.next().is_some() {
                    return Err(format!("`{field}` has more than two subdivisions"));
                }
            }
            Column::Asn => region.asn = Some(parse_asn(field)?),
            Column::AsOrg => as_org = Some(field.to_owned()),
            Column::Anonymizers => {
                for word in field.split_ascii_whitespace() {
                    let kind = Anonymizers::named(word).ok_or_else(|| {
                        let known = Anonymizers::ALL.map(|(word, _)| word).join(" ");
                        format!("`{word}` is no anonymizer (known: {known})")
                    })?;
                    region.anonymizer = region.anonymizer.union(kind);
                }
            }
        }
    }
    for subdivision in region.subdivisions.iter().flatten() {
        if region
            .country
            .is_none_or(|country| country.0 != subdivision.country)
        {
            return Err(format!(
                "subdivision `{subdivision}` is not in the country of its line"
            ));
        }
    }
    Ok(Entry {
        network: network.ok_or("the network is empty")?,
        region,
        as_org,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn unknown(code: UnknownCode) -> String {
    let meant = code.suggestion.as_ref();
    meant.map_or_else(
        || code.to_string(),
        |meant| format!("{code}, did you mean `{meant}`"),
    )
}

fn parse_asn(field: &str) -> Result<u32, String> {
    let digits = field.strip_prefix("AS").unwrap_or(field);
    let number = digits.parse().ok().filter(|number| *number != 0);
    number.ok_or_else(|| format!("`{field}` is no AS number"))
}

fn parse_network(field: &str) -> Result<IpNet, String> {
    let network: Option<IpNet> = field.parse().ok();
    let network = network.or_else(|| field.parse::<IpAddr>().ok().map(IpNet::from));
    let network = network.ok_or_else(|| format!("`{field}` is no network"))?;
    if network.trunc() != network {
        return Err(format!(
            "`{field}` has host bits, did you mean `{}`",
            network.trunc()
        ));
    }
    if let IpNet::V6(net) = network {
        let upper = net.network().to_bits() >> 32;
        if net.prefix_len() >= 96 && (upper == 0 || upper == 0xffff) {
            return Err(format!(
                "`{field}` is IPv4 space, write it as an IPv4 network"
            ));
        }
    }
    Ok(network)
}

/// The fields of one line.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let trimmed = rest.trim_start_matches([' ', '\t']);
        let (field, after) = match trimmed.strip_prefix('"') {
            Some(inside) => {
                let (field, after) = quoted(inside).ok_or("a quote is not closed")?;
                (field, after.trim_start_matches([' ', '\t']))
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        if after.is_empty() {
            return Ok(fields);
        }
        rest = after
            .strip_prefix(',')
            .ok_or("text behind a closing quote")?;
    }
}

fn quoted(mut inside: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    loop {
        let (before, after) = inside.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(rest) => {
                field.push('"');
                inside = rest;
            }
            None => return Some((field, after)),
        }
    }
}

const COLUMNS: [(&str, Column); 7] = [
    ("network", Column::Network),
    ("country", Column::Country),
    ("continent", Column::Continent),
    ("subdivision", Column::Subdivision),
    ("asn", Column::Asn),
    ("as_org", Column::AsOrg),
    ("anonymizers", Column::Anonymizers),
];
