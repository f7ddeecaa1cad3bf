//! Pages by name, each in the languages that were found.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::template::Template;

/// Every page of ours that the configuration names, by the name that refusals carry.
#[derive(Debug, Clone, Default)]
pub struct Pages(BTreeMap<Arc<str>, Arc<Page>>);

/// A page: at least one variant.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// `403.html` and `403.nl.html` are two variants of one page.
    pub variants: Vec<Variant>,
}

/// A page in one language.
#[derive(Debug, Clone)]
pub struct Variant {
    /// A language tag in lower case (RFC 5646); none for the page without one in its name.
    pub language: Option<Box<str>>,
    /// The page.
    pub template: Template,
}

impl Pages {
    /// Adds a page; a page of the same name is replaced.
    pub fn insert(&mut self, name: Arc<str>, page: Page) {
        self.0.insert(name, Arc::new(page));
    }

    /// The page of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Page> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// The name as refusals may share it, where such a page is there.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<Arc<str>> {
        self.0.get_key_value(name).map(|(name, _)| Arc::clone(name))
    }

    /// How many pages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
