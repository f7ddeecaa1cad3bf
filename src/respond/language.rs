//! Which language of a page a client gets (RFC 9110 §12.5.4, RFC 4647 §3.4).
//!
//! `nl-BE` takes `403.nl-be.html`, else `403.nl.html`; `nl` takes `403.nl-be.html` where there is no plainer one. The page without a
//! language in its name is in the `default_language`, and is the last resort of everybody.

use http::header::{ACCEPT_LANGUAGE, HeaderMap};

use super::weighted;
use crate::snapshot::notice::{Page, Variant};

/// The variant for a request; none only for a page without variants.
pub(super) fn variant<'p>(
    page: &'p Page,
    headers: &HeaderMap,
    default: Option<&str>,
) -> Option<&'p Variant> {
    let first = page.variants.first();
    if page.variants.len() < 2 {
        return first;
    }
    let language = |variant: &'p Variant| variant.language.as_deref().or(default);
    let closest = |range: &str| {
        let near = |variant: &'p Variant| {
            let close = closeness(range, language(variant)?);
            // Of equally close ones the page whose name says its language, and of these the first.
            (close > 0).then_some(((close, variant.language.is_some()), variant))
        };
        let nearest = page.variants.iter().rev().filter_map(near);
        nearest.max_by_key(|(close, _)| *close)
    };
    let mut best: Option<(u16, &Variant)> = None;
    for (range, weight) in weighted::items(headers, &ACCEPT_LANGUAGE) {
        if weight > best.map_or(0, |(best, _)| best)
            && let Some((_, variant)) = closest(range)
        {
            best = Some((weight, variant));
        }
    }
    best.map(|(_, variant)| variant)
        .or_else(|| closest(default?).map(|(_, variant)| variant))
        .or_else(|| {
            let plain = |variant: &&Variant| variant.language.is_none();
            page.variants.iter().find(plain)
        })
        .or(first)
}

/// How well a variant's language fits a range; 0: not at all.
fn closeness(range: &str, language: &str) -> usize {
    let mut wanted = range.split('-');
    let mut offered = language.split('-');
    let mut same = 0;
    loop {
        match (wanted.next(), offered.next()) {
            (Some(wanted), Some(offered)) if wanted.eq_ignore_ascii_case(offered) => same += 2,
            (None, None) => return same + 1,
            // `zh-Hans` is no `zh-Hant`: where both go on and differ, the shorter common part does not count.
            (Some(_), Some(_)) => return 0,
            (Some(_), None) | (None, Some(_)) => return same,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use crate::snapshot::notice::Template;
    use http::HeaderValue;

    #[test]
    fn the_language_follows_the_client() {
        for (accept, variants, default, want, why) in [
            ("nl", &["", "nl"][..], None, "nl", "named"),
            ("NL-be", &["", "nl"], None, "nl", "the region is dropped"),
            ("nl-BE", &["", "nl", "nl-be"], None, "nl-be", "the closest"),
            ("nl", &["", "nl-be", "nl"], None, "nl", "the plainest"),
            (
                "nl",
                &["", "nl-be"],
                None,
                "nl-be",
                "a region is better than another language",
            ),
            (
                "zh-Hant",
                &["", "zh-hans"],
                None,
                "",
                "another script is another language",
            ),
            ("fr", &["", "nl"], None, "", "not there: the plain page"),
            (
                "fr",
                &["", "nl"],
                Some("nl"),
                "nl",
                "not there: the default language",
            ),
            (
                "",
                &["", "nl", "de"],
                Some("de"),
                "de",
                "no wish: the default language",
            ),
            (
                "",
                &["", "nl"],
                None,
                "",
                "no wish, no default: the plain page",
            ),
            ("", &["nl", "de"], None, "nl", "no plain page: the first"),
            (
                "de;q=0.5, nl;q=0.8",
                &["", "de", "nl"],
                None,
                "nl",
                "by weight",
            ),
            (
                "de, nl",
                &["", "nl", "de"],
                None,
                "de",
                "of equal weights the first",
            ),
            ("nl;q=0", &["", "nl"], None, "", "not acceptable"),
            (
                "en, nl;q=0.5",
                &["", "nl"],
                Some("en"),
                "",
                "the plain page is in the default language",
            ),
            (
                "en, nl;q=0.5",
                &["", "nl"],
                None,
                "nl",
                "nobody says what language the plain page is in",
            ),
            (
                "en",
                &["", "en"],
                Some("en"),
                "en",
                "the page whose name says so",
            ),
            ("*", &["", "nl"], None, "", "any"),
            ("nl-", &["", "nl"], None, "nl", "an empty part"),
            ("-", &["", "nl"], None, "", "garbage"),
        ] {
            let variant_of = |tag: &&str| Variant {
                language: (!tag.is_empty()).then(|| Box::from(*tag)),
                template: Template::parse("x").unwrap(),
            };
            let page = Page {
                variants: variants.iter().map(variant_of).collect(),
            };
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_str(accept).unwrap());
            let got = variant(&page, &headers, default).unwrap();
            assert_eq!(got.language.as_deref().unwrap_or(""), want, "{why}");
        }
    }
}
