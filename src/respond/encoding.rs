//! Which content coding a client gets (RFC 9110 §12.5.3).
//!
//! The one with the highest weight; of equal weights the cheapest for what it saves: Zstandard, Brotli, gzip. `*` alone means
//! gzip, which everything reads. A client that likes `identity` better gets no coding, and so does one that says nothing.

use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};

use super::weighted;

/// A content coding that we can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `zstd` (RFC 8878).
    Zstd,
    /// `br` (RFC 7932).
    Brotli,
    /// `gzip` (RFC 1952).
    Gzip,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    #[must_use]
    pub const fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        })
    }
}

/// The coding for a request, if it wants one.
#[must_use]
pub fn coding(headers: &HeaderMap) -> Option<Coding> {
    // In the order of our preference.
    let mut named = [
        (Coding::Zstd, None),
        (Coding::Brotli, None),
        (Coding::Gzip, None),
    ];
    let (mut any, mut identity) = (None, None);
    for (name, weight) in weighted::items(headers, &ACCEPT_ENCODING) {
        let coding = match name {
            _ if name.eq_ignore_ascii_case("zstd") => Coding::Zstd,
            _ if name.eq_ignore_ascii_case("br") => Coding::Brotli,
            _ if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                Coding::Gzip
            }
            _ if name.eq_ignore_ascii_case("identity") => {
                identity = Some(weight);
                continue;
            }
            "*" => {
                any = Some(weight);
                continue;
            }
            _ => continue,
        };
        for (known, its) in &mut named {
            if *known == coding {
                *its = Some(weight);
            }
        }
    }
    let mut best: Option<(Coding, u16)> = None;
    for (coding, weight) in named {
        let weight = weight.or_else(|| any.filter(|_| coding == Coding::Gzip));
        if let Some(weight) = weight
            && weight > best.map_or(0, |(_, best)| best)
        {
            best = Some((coding, weight));
        }
    }
    let (coding, weight) = best?;
    // Not named, it is worth less than any coding that is (RFC 9110 §12.5.3).
    (weight >= identity.unwrap_or(0)).then_some(coding)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn the_client_chooses_and_we_break_ties() {
        use Coding::{Brotli, Gzip, Zstd};
        for (text, want, why) in [
            ("", None, "an empty field: no coding"),
            ("identity", None, "none wanted"),
            ("compress, lzma", None, "none that we know"),
            ("gzip", Some(Gzip), "one"),
            ("GZip", Some(Gzip), "names have no case"),
            ("x-gzip", Some(Gzip), "its old name (RFC 9110 §8.4.1.3)"),
            ("gzip, deflate, br, zstd", Some(Zstd), "a browser"),
            ("gzip, deflate, br", Some(Brotli), "an older browser"),
            (
                "br;q=0.5, gzip;q=0.8, zstd;q=0.1",
                Some(Gzip),
                "the weights decide",
            ),
            ("gzip;q=0, br;q=0", None, "refused"),
            (
                "gzip;q=0, *",
                None,
                "refused by name, though all others are liked",
            ),
            ("*", Some(Gzip), "anything: what everything reads"),
            ("*;q=0", None, "nothing"),
            ("*;q=0, br", Some(Brotli), "nothing but this"),
            ("br;q=0.2, *;q=0.8", Some(Gzip), "others are liked better"),
            ("identity;q=1, gzip;q=0.5", None, "plain is liked better"),
            ("identity;q=0.5, gzip;q=0.5", Some(Gzip), "as much as plain"),
            ("identity;q=0, gzip;q=0.1", Some(Gzip), "plain is refused"),
            ("gzip;q=2, br;q=x", None, "malformed weights"),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(text).unwrap());
            assert_eq!(coding(&headers), want, "{text}: {why}");
        }
        assert_eq!(coding(&HeaderMap::new()), None, "it says nothing");
    }
}
