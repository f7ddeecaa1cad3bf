//! Answers for people: which page, and the plain text.
//!
//! The rule's own page; then, nearest first (route, site, global), the `page` of refusals and the `pages` folder by reason and
//! by status; then the built-in page. A page that fails while it is written is passed over and the operator told: nobody gets an
//! empty answer because of a broken page.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderValue;

use super::reasons::Words;
use super::{Asker, Notice, language};
use crate::snapshot::notice::{Page, Template, Values};
use crate::value::reason::Reason;

/// A page, written.
pub(super) struct Written {
    pub(super) body: Bytes,
    /// `Content-Security-Policy`: for the built-in page only. A page of the operator may use what it likes; its own
    /// policy goes into `response_headers`.
    pub(super) security: Option<HeaderValue>,
    pub(super) language: Option<HeaderValue>,
}

/// The page for a notice; none only if the built-in page were broken.
pub(super) fn page(notice: &Notice<'_>, reason: &Reason, asker: &Asker<'_>) -> Option<Written> {
    let words = Words::of(notice, reason);
    let time = asker.now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let contact = asker.denial.contact.as_ref();
    let values = Values {
        status: notice.status.as_u16(),
        title: words.title,
        message: words.message,
        advice: words.advice,
        reason: reason.as_str(),
        request_id: asker.request_id,
        time: &time,
        contact: contact.map_or("", |contact| &contact.text),
        contact_url: contact
            .and_then(|contact| contact.url.as_deref())
            .unwrap_or(""),
        upgrade_url: notice.upgrade_url.and_then(web_address).unwrap_or(""),
        tone: words.tone.word(),
        icon: words.tone.icon(),
    };
    candidates(notice, reason, asker)
        .find_map(|page| own(page, &values, asker))
        .or_else(|| built_in(&values))
}

/// The operator's pages that fit, best first.
fn candidates<'a>(
    notice: &Notice<'a>,
    reason: &'a Reason,
    asker: &Asker<'a>,
) -> impl Iterator<Item = &'a Page> {
    let status = notice.status;
    let refusal = matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS
    );
    let levels = asker.denial.levels.iter().flat_map(move |level| {
        let folder = level.folder.as_ref();
        [
            level.page.as_ref().filter(|_| refusal),
            folder.and_then(|folder| folder.get(reason.as_str())),
            folder.and_then(|folder| folder.get(status.as_str())),
        ]
    });
    let names = levels.flatten().map(AsRef::as_ref);
    let pages = asker.pages;
    notice
        .page
        .into_iter()
        .chain(names)
        .filter_map(move |name| pages.get(name))
}

fn own(page: &Page, values: &Values<'_>, asker: &Asker<'_>) -> Option<Written> {
    let variant = language::variant(page, asker.headers, asker.default_language)?;
    let body = variant
        .template
        .render(values)
        .inspect_err(|error| tracing::warn!(%error, "a denial page could not be written"))
        .ok()?;
    Some(Written {
        body: Bytes::from(body),
        security: None,
        language: variant
            .language
            .as_deref()
            .and_then(|language| HeaderValue::from_str(language).ok()),
    })
}

fn built_in(values: &Values<'_>) -> Option<Written> {
    let (template, security) = BUILT_IN.as_ref()?;
    Some(Written {
        body: Bytes::from(template.render(values).ok()?),
        security: Some(security.clone()),
        language: Some(HeaderValue::from_static("en")),
    })
}

/// Only a web address becomes a link.
fn web_address(url: &str) -> Option<&str> {
    ["https://", "http://", "/"]
        .iter()
        .any(|start| url.starts_with(start))
        .then_some(url)
}

/// The answer as plain text.
pub(super) fn plain(notice: &Notice<'_>, reason: &Reason, asker: &Asker<'_>) -> Bytes {
    let status = notice.status;
    let phrase = status.canonical_reason().unwrap_or("Error");
    let mut out = String::with_capacity(256);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{} {phrase}\n", status.as_str());
    one_line(&mut out, Words::message(notice, reason));
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(name);
            one_line(&mut out, value);
        }
    };
    fact("\nReason: ", reason.as_str());
    fact("Request ID: ", asker.request_id);
    let contact = asker.denial.contact.as_ref();
    fact("Contact: ", contact.map_or("", |contact| &contact.text));
    fact("Plans: ", notice.upgrade_url.unwrap_or(""));
    Bytes::from(out)
}

/// A value stays on its line, so that none can pose as another.
fn one_line(out: &mut String, value: &str) {
    let tame = |c: char| if c.is_control() { ' ' } else { c };
    out.extend(value.chars().map(tame));
    out.push('\n');
}

/// The built-in page and its policy: no script, no other resource, this very style sheet and no other.
static BUILT_IN: LazyLock<Option<(Template, HeaderValue)>> = LazyLock::new(|| {
    let template = Template::parse(SOURCE).ok()?;
    let (_, rest) = SOURCE.split_once("<style>")?;
    let (style, _) = rest.split_once("</style>")?;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, style.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    Some((template, HeaderValue::try_from(policy).ok()?))
});

/// An ordinary page: copy it to begin one of your own.
const SOURCE: &str = include_str!("../../config/pages/denial.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_page_compiles_and_is_small() {
        assert!(BUILT_IN.is_some());
        assert!(SOURCE.len() < 6 * 1024, "{} bytes", SOURCE.len());
    }
}
