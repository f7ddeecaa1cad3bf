//! Header compression (RFC 7541) as the tests need it: an encoder that writes every byte as it is given, and a strict decoder.

use std::collections::VecDeque;

use super::client::{latin1, text};

/// Fields as literals without indexing and without Huffman codes; each character of a string is one byte.
pub(crate) fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for part in [name, value] {
            let bytes = latin1(part);
            integer(bytes.len(), &mut block);
            block.extend_from_slice(&bytes);
        }
    }
    block
}

/// A string length: seven bits, the first of its byte left for "no Huffman code".
fn integer(value: usize, out: &mut Vec<u8>) {
    if value < 127 {
        out.push(value as u8);
        return;
    }
    out.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        out.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// The decoder of one direction of a connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    dynamic: VecDeque<(String, String)>,
    size: usize,
    size_max: usize,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            dynamic: VecDeque::new(),
            size: 0,
            size_max: TABLE_SIZE,
        }
    }

    /// The fields of one header block.
    pub(crate) fn decode(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, String> {
        let mut fields = Vec::new();
        let mut rest = block;
        while let Some(first) = rest.first().copied() {
            if first & 0x80 != 0 {
                let index = take_integer(&mut rest, 7)?;
                fields.push(self.entry(index)?);
            } else if first & 0xe0 == 0x20 {
                if !fields.is_empty() {
                    return Err("a table size within a block".into());
                }
                self.size_max = take_integer(&mut rest, 5)?;
                if self.size_max > TABLE_SIZE {
                    return Err("a table larger than allowed".into());
                }
                self.evict();
            } else {
                let indexed = first & 0x40 != 0;
                let index = take_integer(&mut rest, if indexed { 6 } else { 4 })?;
                let name = match index {
                    0 => take_string(&mut rest)?,
                    _ => self.entry(index)?.0,
                };
                let field = (name, take_string(&mut rest)?);
                if indexed {
                    self.size += cost(&field);
                    self.dynamic.push_front(field.clone());
                    self.evict();
                }
                fields.push(field);
            }
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> Result<(String, String), String> {
        let found = match index.checked_sub(STATIC.len() + 1) {
            None => index
                .checked_sub(1)
                .and_then(|at| STATIC.get(at))
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            Some(at) => self.dynamic.get(at).cloned(),
        };
        found.ok_or_else(|| format!("no table entry {index}"))
    }

    fn evict(&mut self) {
        while self.size > self.size_max {
            let Some(field) = self.dynamic.pop_back() else {
                return;
            };
            self.size -= cost(&field);
        }
    }
}

fn cost((name, value): &(String, String)) -> usize {
    name.len() + value.len() + 32
}

fn take_integer(rest: &mut &[u8], bits: u32) -> Result<usize, String> {
    let mut next = || {
        let (first, after) = rest.split_first().ok_or("a block that breaks off")?;
        *rest = after;
        Ok::<usize, String>(usize::from(*first))
    };
    let mask = (1 << bits) - 1;
    let mut value = next()? & mask;
    if value == mask {
        for shift in [0, 7, 14, 21] {
            let byte = next()?;
            value += (byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        return Err("an integer that is too long".into());
    }
    Ok(value)
}

fn take_string(rest: &mut &[u8]) -> Result<String, String> {
    let coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(rest, 7)?;
    let (bytes, after) = rest
        .split_at_checked(length)
        .ok_or("a string that breaks off")?;
    *rest = after;
    if coded {
        huffman(bytes)
    } else {
        Ok(text(bytes))
    }
}

/// The code is canonical: it follows from the lengths of its words alone.
fn huffman(bytes: &[u8]) -> Result<String, String> {
    let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let mut out = Vec::new();
    let (mut word, mut length) = (0_u64, 0_u8);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        word = word << 1 | u64::from(bit);
        length += 1;
        if let Some(symbol) = symbol(&order, word, length) {
            out.push(u8::try_from(symbol).ok().ok_or("an end mark in a string")?);
            (word, length) = (0, 0);
        }
        if length > 30 {
            return Err("no such Huffman word".into());
        }
    }
    if length > 7 || word + 1 != 1 << length {
        return Err("bad padding".into());
    }
    Ok(text(&out))
}

fn symbol(order: &[usize], word: u64, length: u8) -> Option<usize> {
    let (mut first, mut at) = (0_u64, 0);
    for size in 1..=length {
        first <<= 1;
        let count = order[at..]
            .iter()
            .take_while(|symbol| LENGTHS[**symbol] == size)
            .count();
        if size == length {
            let place = word.checked_sub(first)? as usize;
            return (place < count).then(|| order[at + place]);
        }
        first += count as u64;
        at += count;
    }
    None
}

/// What we let the other side remember (the value of RFC 9113 §6.5.2 without a setting).
const TABLE_SIZE: usize = 4096;

/// RFC 7541, appendix B: the length of each symbol's word.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// The examples of RFC 7541, appendix C.6: three answers on one connection, Huffman codes and a table of 256 bytes.
#[test]
fn examples_of_the_rfc_are_decoded() {
    let bytes = |hex: &str| -> Vec<u8> {
        let hex = hex.replace(' ', "");
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap())
            .collect()
    };
    let mut decoder = Decoder::new();
    decoder.decode(&bytes("3fe101")).unwrap();
    for (block, status, fields) in [
        (
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "302",
            4,
        ),
        ("4883 640e ffc1 c0bf", "307", 4),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            "200",
            6,
        ),
    ] {
        let decoded = decoder.decode(&bytes(block)).unwrap();
        assert_eq!(
            (decoded[0].1.as_str(), decoded.len()),
            (status, fields),
            "{decoded:?}"
        );
        assert_eq!(
            decoded.iter().find(|(name, _)| name == "location"),
            Some(&("location".into(), "https://www.example.com".into()))
        );
    }
    let long = "x".repeat(300);
    let fields = [("x-a", long.as_str()), (":path", "/\u{ff}")];
    let decoded = decoder.decode(&encode(&fields)).unwrap();
    assert_eq!(decoded[0].1, long, "what is encoded is decoded");
    assert_eq!(decoded[1].1, "/\u{ff}");
}
