//! Which form a client gets: HTML, plain text or JSON (RFC 9110 §12.5.1).
//!
//! Each form is worth the weight of the most specific range that covers it; of equal weights, the one that was named
//! more specifically; of equals still, JSON before plain text before HTML. So a browser's `text/html, …, */*;q=0.8` gets HTML,
//! `*/*`, nothing and nonsense get JSON, and a list that names both equally gets JSON: HTML must be preferred, not only allowed.
//! HTML is only for people: not for `api = true`, and not for a script's `fetch`, which says so in `Sec-Fetch-Mode`.

use http::header::{ACCEPT, HeaderMap, HeaderName};

use super::{grpc, weighted};

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// gRPC's own, to its requests.
    Grpc,
    /// A page.
    Html,
    /// `text/plain`.
    Plain,
    /// JSON in the configured shape.
    Json,
}

/// The form for a request.
pub(super) fn form(headers: &HeaderMap, api: bool) -> Form {
    if grpc::media(headers).is_some() {
        return Form::Grpc;
    }
    let (mut html, mut plain, mut json) = (Worth::default(), Worth::default(), Worth::default());
    for (range, weight) in weighted::items(headers, &ACCEPT) {
        let Some((kind, subtype)) = range.split_once('/') else {
            continue;
        };
        let is = |text: &str, word: &str| text.eq_ignore_ascii_case(word);
        if is(kind, "*") && subtype == "*" {
            for worth in [&mut html, &mut plain, &mut json] {
                worth.claim(1, weight);
            }
        } else if is(kind, "text") {
            match subtype {
                "*" => {
                    html.claim(2, weight);
                    plain.claim(2, weight);
                }
                _ if is(subtype, "html") => html.claim(3, weight),
                _ if is(subtype, "plain") => plain.claim(3, weight),
                _ => {}
            }
        } else if is(kind, "application") {
            match subtype {
                "*" => json.claim(2, weight),
                _ if is_json(subtype) => json.claim(3, weight),
                _ => {}
            }
        }
    }
    let best = json.max(plain);
    if html.weight > 0 && html > best && !api && person(headers) {
        Form::Html
    } else if plain.weight > 0 && plain > json {
        Form::Plain
    } else {
        Form::Json
    }
}

/// Whether a subtype is JSON, or says that its structure is (RFC 6839 §3.1).
pub(super) fn is_json(subtype: &str) -> bool {
    let tail = |length: usize| {
        subtype
            .len()
            .checked_sub(length)
            .and_then(|at| subtype.get(at..))
    };
    subtype.eq_ignore_ascii_case("json")
        || tail(5).is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// A browser says how it asks; `navigate` is a person. Clients that say nothing are believed by their `Accept`.
fn person(headers: &HeaderMap) -> bool {
    headers
        .get(SEC_FETCH_MODE)
        .is_none_or(|mode| mode.as_bytes() == b"navigate")
}

/// What a form is worth to the client. Compared by weight, then by how specifically it was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Worth {
    weight: u16,
    specific: u8,
}

impl Worth {
    /// A range that covers the form: the most specific counts, of equally specific ones the best.
    fn claim(&mut self, specific: u8, weight: u16) {
        if specific > self.specific || (specific == self.specific && weight > self.weight) {
            *self = Self { weight, specific };
        }
    }
}

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use http::HeaderValue;

    fn ask(accept: Option<&str>, mode: Option<&str>, api: bool) -> Form {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_bytes(accept.as_bytes()).unwrap());
        }
        if let Some(mode) = mode {
            headers.insert(SEC_FETCH_MODE, HeaderValue::from_str(mode).unwrap());
        }
        form(&headers, api)
    }

    #[test]
    fn the_form_follows_accept() {
        use Form::{Html, Json, Plain};
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8";
        for (accept, want, why) in [
            ("*/*", Json, "curl"),
            ("", Json, "empty"),
            ("application/json", Json, "a program"),
            ("application/problem+json", Json, "JSON by its suffix"),
            ("APPLICATION/VND.API+JSON", Json, "in any case"),
            (
                "image/avif,image/webp,*/*;q=0.5",
                Json,
                "an image: nothing that we have is named",
            ),
            ("image/png", Json, "nothing acceptable: JSON all the same"),
            ("garbage", Json, "no range at all"),
            ("text/html;q=high", Json, "a malformed weight"),
            ("text/html\u{e9}", Json, "bytes outside ASCII"),
            ("application/json, text/plain, */*", Json, "axios"),
            (
                "text/html, application/json",
                Json,
                "no preference among the two",
            ),
            ("application/json, text/html", Json, "nor in this order"),
            ("text/html;q=0.9, application/json", Json, "JSON preferred"),
            ("text/html;q=0.5, */*", Json, "anything rather than HTML"),
            ("text/html;q=0, */*", Json, "HTML excluded"),
            (
                "application/json;q=0, image/png",
                Json,
                "JSON excluded and nothing else left",
            ),
            ("*/*;q=0", Json, "nothing is acceptable"),
            (chrome, Html, "Chrome"),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Html,
                "Firefox, Safari",
            ),
            ("text/html", Html, "only HTML"),
            ("TEXT/HTML", Html, "in any case"),
            ("text/html, */*", Html, "named beats covered"),
            ("text/html, application/json;q=0.9", Html, "HTML preferred"),
            (
                "text/html;charset=utf-8, application/json;q=0.5",
                Html,
                "a parameter",
            ),
            (
                "text/html;level=\"1,2\", application/json;q=0.5",
                Html,
                "a comma in quotes",
            ),
            ("text/html;q=0.001", Html, "the smallest weight is a wish"),
            (
                "text/*;q=0.5, text/html;q=0.8",
                Html,
                "the specific range counts, not the first",
            ),
            (
                "application/json;q=0.2, text/html;q=0.3",
                Html,
                "small weights compared",
            ),
            (
                "text/html, text/*;q=0.5, image/*, application/*",
                Html,
                "w3m",
            ),
            ("text/html, */*; q=0.01", Html, "jQuery asking for HTML"),
            ("text/plain", Plain, "plain text"),
            ("text/plain, */*;q=0.1", Plain, "plain text preferred"),
            ("text/plain, text/html;q=0.9", Plain, "before HTML"),
            ("text/html, text/plain", Plain, "HTML must be preferred"),
            ("text/*", Plain, "any text"),
            ("text/*, text/html;q=0", Plain, "any text but HTML"),
            (
                "text/plain;q=0.5, application/json;q=0.4",
                Plain,
                "by weight",
            ),
            (
                "text/plain, application/json",
                Json,
                "no preference among the two",
            ),
            ("text/plain;q=0, */*", Json, "plain text excluded"),
        ] {
            assert_eq!(ask(Some(accept), None, false), want, "{why}: {accept}");
        }
        assert_eq!(ask(None, None, false), Json, "no Accept");
    }

    #[test]
    fn html_is_for_people() {
        use Form::{Html, Json, Plain};
        for (accept, mode, api, want, why) in [
            (
                "text/html",
                Some("navigate"),
                false,
                Html,
                "a top-level navigation",
            ),
            ("text/html", Some("cors"), false, Json, "fetch"),
            (
                "text/html",
                Some("no-cors"),
                false,
                Json,
                "an image or script",
            ),
            (
                "text/html",
                Some("same-origin"),
                false,
                Json,
                "fetch to the own origin",
            ),
            ("text/html", Some("websocket"), false, Json, "a socket"),
            (
                "text/html",
                Some("Navigate"),
                false,
                Json,
                "the value is case-sensitive",
            ),
            (
                "text/html",
                Some("navigate"),
                true,
                Json,
                "a site of programs",
            ),
            (
                "text/html, text/plain;q=0.5",
                Some("cors"),
                false,
                Plain,
                "the next best that is left",
            ),
            (
                "text/plain",
                None,
                true,
                Plain,
                "plain text is for programs too",
            ),
        ] {
            assert_eq!(ask(Some(accept), mode, api), want, "{why}");
        }
    }

    #[test]
    fn several_fields_make_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("application/json;q=0.5"));
        headers.append(ACCEPT, HeaderValue::from_static("text/html"));
        assert_eq!(form(&headers, false), Form::Html);
    }
}
