//! What a client sees when we answer ourselves, as data: shape and pages of refusals, interception, CORS.
//!
//! Compiled by `config::compile::denial`, read by `respond`. A name here is a name of ours, never a rule's.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

mod page;
mod template;

pub use page::{Page, Pages, Variant};
pub use template::{BadTemplate, Template, VARIABLES, Values};

/// `[denial]`: global, of a site or of a route, with what it inherits.
#[derive(Debug, Clone, Default)]
pub struct Denial {
    /// The look of JSON.
    pub shape: Shape,
    /// Where to look for a page, nearest first: the route's words, then the site's, then the global ones.
    pub levels: Vec<Level>,
    /// Whom to ask.
    pub contact: Option<Contact>,
}

/// The look of a JSON refusal (DESIGN section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// `{"error":"…","message":"…","status":403,"request_id":"…"}`.
    #[default]
    Flat,
    /// `{"error":{"code":403,"message":"Forbidden","details":"…"}}`.
    Nested,
    /// `{"error":{"message":"…","status":403}}`.
    Node,
    /// RFC 9457 `application/problem+json`.
    Problem,
}

/// The pages that one `[denial]` table names.
#[derive(Debug, Clone)]
pub struct Level {
    /// `page`: shown for refusals (401, 403, 451), by its name in [`Pages`]. Not for a 404, which may hide, nor for failures.
    pub page: Option<Arc<str>>,
    /// `pages`.
    pub folder: Option<Folder>,
}

/// A folder of pages by reason code or status: `region_restricted`, `403` → a name in [`Pages`].
#[derive(Debug, Clone, Default)]
pub struct Folder(Arc<BTreeMap<Box<str>, Arc<str>>>);

impl Folder {
    /// A folder of these pages.
    #[must_use]
    pub fn new(pages: BTreeMap<Box<str>, Arc<str>>) -> Self {
        Self(Arc::new(pages))
    }

    /// The page for a reason code or a status in digits.
    #[must_use]
    pub fn get(&self, word: &str) -> Option<&Arc<str>> {
        self.0.get(word)
    }

    /// The reason codes and statuses that have a page, sorted.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }
}

/// `contact`: whom a refused person may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// As written.
    pub text: Arc<str>,
    /// `mailto:` or `https:` where the text is an e-mail address or a web address.
    pub url: Option<Arc<str>>,
}

impl Contact {
    /// A contact as an operator writes it: an e-mail address, a web address, or any words.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let address = |text: &str| {
            text.split_once('@')
                .is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
                && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        let url = if text.starts_with("https://") || text.starts_with("http://") {
            Some(Arc::from(text))
        } else if address(text) {
            Some(Arc::from(format!("mailto:{text}")))
        } else {
            None
        };
        Self {
            text: Arc::from(text),
            url,
        }
    }
}

/// `[site.intercept]`: answers of the upstream that a page of ours replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intercept {
    /// Which statuses.
    pub statuses: Vec<StatusCode>,
    /// When.
    pub when: InterceptWhen,
}

/// When an intercepted status is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InterceptWhen {
    /// Where the client prefers HTML and the upstream's body is not JSON.
    #[default]
    Helpful,
    /// Always (`force = true`).
    Always,
}

/// `[site.cors]`: whose scripts may read our refusals, and whose preflights we answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Which origins.
    pub origins: Origins,
    /// `Access-Control-Allow-Methods`; absent: whatever the preflight announces.
    pub methods: Option<HeaderValue>,
    /// `Access-Control-Allow-Headers`; absent: whatever the preflight announces.
    pub headers: Option<HeaderValue>,
    /// `Access-Control-Max-Age` in seconds.
    pub max_age: Option<HeaderValue>,
}

/// The origins of [`Cors`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// `"*"`: every origin, without credentials.
    Any,
    /// These, exactly as browsers write them; with credentials.
    Named(Vec<Box<str>>),
}
