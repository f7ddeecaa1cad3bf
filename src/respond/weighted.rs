//! Lists with q-values, as `Accept` and `Accept-Language` are (RFC 9110 §12.4.2).

use http::header::{HeaderMap, HeaderName};

/// An item of the list, without its parameters, and its weight in thousandths (0: not acceptable; 1000: the default).
/// All fields of the name make one list. An item with a malformed weight is left out; a field with bytes outside
/// visible ASCII is left out whole.
pub(super) fn items<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = (&'h str, u16)> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| split(text, ','))
        .filter_map(item)
}

fn item(text: &str) -> Option<(&str, u16)> {
    let mut parts = split(text, ';');
    let name = parts.next()?.trim();
    let mut weight = 1000;
    for parameter in parts {
        // Everything after `q` would belong to the list, not to the item; nobody ever defined any.
        if let Some((key, value)) = parameter.split_once('=')
            && key.trim().eq_ignore_ascii_case("q")
        {
            weight = thousandths(value.trim())?;
            break;
        }
    }
    (!name.is_empty()).then_some((name, weight))
}

/// `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    if digits.len() > 3 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let fraction = digits
        .bytes()
        .chain([b'0'; 3])
        .take(3)
        .fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match (whole, fraction) {
        ("0", _) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// Splits at a mark that stands outside quoted strings.
fn split(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        }
        !quoted && c == mark
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use http::header::{ACCEPT, HeaderValue};

    #[test]
    fn lists_are_read_item_by_item() {
        for (text, want, why) in [
            ("a", &[("a", 1000)][..], "no weight is 1"),
            (
                "a;q=0.5, b;Q=1",
                &[("a", 500), ("b", 1000)],
                "weights, the letter in any case",
            ),
            ("a ; q = 0.25", &[("a", 250)], "white space"),
            ("a;q=0", &[("a", 0)], "not acceptable"),
            (
                "a;q=0.123,b;q=1.000,c;q=0.",
                &[("a", 123), ("b", 1000), ("c", 0)],
                "the grammar's edges",
            ),
            (
                "a;q=1.001,b;q=2,c;q=-1,d;q=x,e;q=,f;q=0.1234",
                &[],
                "malformed weights",
            ),
            (
                "a;x=\"1,2;q=0\";q=0.1",
                &[("a", 100)],
                "marks inside quotes",
            ),
            (
                "a;x=\"\\\"\";q=0.1,b",
                &[("a", 100), ("b", 1000)],
                "an escaped quote",
            ),
            (
                "a;x=\"open,b",
                &[("a", 1000)],
                "a quote that never ends takes the rest",
            ),
            (",, ,a,", &[("a", 1000)], "empty items"),
            ("a;q=0.2;q=1", &[("a", 200)], "the first weight counts"),
            (";q=1", &[], "no name"),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(ACCEPT, HeaderValue::from_str(text).unwrap());
            assert_eq!(items(&headers, &ACCEPT).collect::<Vec<_>>(), want, "{why}");
        }
    }
}
