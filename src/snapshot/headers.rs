//! Header edits, and how the target of a request is rewritten for its upstream.

use http::header::{Entry, HeaderMap, HeaderName, HeaderValue};

use super::Template;

/// Header edits, in the order in which they are made.
#[derive(Debug, Clone, Default)]
pub struct HeaderEdits {
    edits: Box<[Edit]>,
    templates: usize,
}

/// One edit.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Of which field.
    pub name: HeaderName,
    /// What is done.
    pub action: Action,
}

/// What is done to a field.
#[derive(Debug, Clone)]
pub enum Action {
    /// All fields of the name go.
    Remove,
    /// This one takes the place of all of the name.
    Set(Value),
    /// This one is added where there is none.
    Add(Value),
    /// This one is added.
    Append(Value),
}

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// As written.
    Fixed(HeaderValue),
    /// With words of the request.
    Filled(Template),
}

impl HeaderEdits {
    /// Edits in their order.
    #[must_use]
    pub fn new(edits: Vec<Edit>) -> Self {
        let mut all = Self {
            edits: edits.into(),
            templates: 0,
        };
        all.templates = all.templates().count();
        all
    }

    /// The edits.
    #[must_use]
    pub const fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Whether some value has words of the request.
    #[must_use]
    pub const fn fills(&self) -> bool {
        self.templates > 0
    }

    /// The values with words of the request, in their order.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.edits.iter().filter_map(|edit| match &edit.action {
            Action::Remove => None,
            Action::Set(value) | Action::Add(value) | Action::Append(value) => match value {
                Value::Fixed(_) => None,
                Value::Filled(template) => Some(template),
            },
        })
    }

    /// Makes the edits. `filled` are the values of [`Self::templates`]; an edit whose value is not known is left out.
    pub fn apply(&self, headers: &mut HeaderMap, filled: &[Option<HeaderValue>]) {
        let mut filled = filled.iter();
        let mut known = |value: &Value| match value {
            Value::Fixed(value) => Some(value.clone()),
            Value::Filled(_) => filled.next().cloned().flatten(),
        };
        for Edit { name, action } in &self.edits {
            match action {
                Action::Remove => {
                    headers.remove(name);
                }
                Action::Set(value) => {
                    if let Some(value) = known(value) {
                        headers.insert(name, value);
                    }
                }
                Action::Add(value) => {
                    if let (Some(value), Entry::Vacant(place)) = (known(value), headers.entry(name))
                    {
                        place.insert(value);
                    }
                }
                Action::Append(value) => {
                    if let Some(value) = known(value) {
                        headers.append(name, value);
                    }
                }
            }
        }
    }
}

/// How a request's target and an answer's `Location` are rewritten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// `strip_prefix`: the literal segments before the first `*` of the pattern, such as `/api`, which are cut off.
    pub strip: Option<Box<str>>,
    /// `add_prefix`: what is put before the path, without a slash at its end.
    pub add: Option<Box<str>>,
    /// `rewrite_location`.
    pub location: Location,
}

/// Whether `Location` is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Location {
    /// It goes down as it came.
    #[default]
    Keep,
    /// It is put into the client's view.
    Rewrite,
}
