//! What a sticky cookie says, and what a request says that decides where it goes.
//!
//! The value is a hash of the server's place in `servers`, so it tells nobody an address and is the same in every process and
//! instance that runs this configuration. Of a name's many addresses twelve bits of a hash tell which: too few to find one.

use http::HeaderMap;
use http::header::COOKIE;

use super::balance::{hash, hash_address};
use super::forward::Caller;
use super::pool::Wish;
use super::registry::Endpoint;
use crate::snapshot::{Balance, HashBy};

/// What the cookie says of an endpoint.
pub(super) fn code(upstream: &str, cookie: &str, endpoint: &Endpoint) -> String {
    let place = hash(format!("{upstream}\n{cookie}\n{}", endpoint.ordinal).as_bytes());
    let place = place >> 32;
    match endpoint.address {
        None => format!("{place:08x}"),
        Some(address) => {
            let which = hash(format!("{upstream}\n{address}").as_bytes()) >> 52;
            format!("{place:08x}{which:03x}")
        }
    }
}

/// What a request's head and its client say about where it goes.
pub(super) fn wish(balance: &Balance, headers: &HeaderMap, caller: &Caller) -> Wish {
    match balance {
        Balance::RoundRobin | Balance::LeastConnections => Wish::Next,
        Balance::Hash(HashBy::Client) => Wish::Key(hash_address(caller.client)),
        // Without the field all would go to one endpoint; by turns they do not.
        Balance::Hash(HashBy::Header(name)) => headers
            .get(name)
            .map_or(Wish::Next, |value| Wish::Key(hash(value.as_bytes()))),
        Balance::Hash(HashBy::Cookie(name)) => {
            cookie(headers, name).map_or(Wish::Next, |value| Wish::Key(hash(value)))
        }
        Balance::Cookie(name) => {
            let sent = cookie(headers, name).and_then(|value| std::str::from_utf8(value).ok());
            Wish::Code(
                sent.filter(|sent| sent.len() <= CODE_MAX)
                    .map(str::to_owned),
            )
        }
    }
}

/// The first cookie of this name (RFC 6265 §5.4).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let fields = headers.get_all(COOKIE).iter();
    let mut pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value)
    })
}

/// No code is longer.
const CODE_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_first_cookie_of_the_name_counts() {
        for (fields, want, why) in [
            (&[][..], None, "none"),
            (&["sid=1"], Some("1"), "alone"),
            (&["a=2; sid=1; sid=3"], Some("1"), "the first"),
            (
                &["a=2", "b=4;sid=1"],
                Some("1"),
                "in another field, no space",
            ),
            (
                &["xsid=1; sidx=2; sid"],
                None,
                "others' names, and no value",
            ),
            (&["sid="], Some(""), "empty is a value"),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(COOKIE, HeaderValue::from_static(field));
            }
            let got = cookie(&headers, "sid");
            assert_eq!(got, want.map(str::as_bytes), "{why}");
        }
    }
}
