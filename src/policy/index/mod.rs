//! Lists of rules: which of them can matter to a request, without a look at the others.
//!
//! What rules ask for and what a request has are small numbers of the same kinds (`keys`), found once per request. A list of
//! up to 64 rules is one word per number ([`short`]); a longer one has rows of such words with summaries ([`long`]). Either
//! way the rules that surely fail fall away, and the plain evaluator has the last word on the others: a hash that two texts
//! share, or an opaque test (regular expression, header, query, cookie, time, claim), costs time and never a wrong decision.
//!
//! The order of a search: rules that can be certain whoever asks come first; rules that need an identity last, and while that
//! is open only as far as it matters whether *any* of them is open. The region is looked up where a rule that asks for it is
//! still a candidate without it.

mod forms;
mod keys;
mod long;
mod paths;
mod rows;
mod short;

pub(super) use keys::Asked;
pub(super) use paths::PathTests;

use self::long::Long;
use self::short::Short;
use super::condition::Condition;
use super::evaluate::{Judge, Matched};
use super::facts::Identity;
use super::text::Side;

/// Lists up to this length are scanned: a scan of so few rules costs less than finding them.
pub(super) const SCAN_MAX: usize = 3;
/// Lists up to this length have one word for each number.
pub(super) const SHORT_MAX: usize = 64;

/// What is to be found while it is open who asks. Once that is known, everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The first rule that holds, or else whether one is open.
    All,
    /// The first rule that holds. Rules that wait for an identity may be left out.
    Certain,
    /// Whether a rule is open that [`Wish::Certain`] left out.
    Open,
    /// All, now that it is known who asks, of a list that [`Found::is_settled`] while that was open.
    Rest,
}

/// What a list of rules says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// The first rule that holds.
    pub(super) holds: Option<usize>,
    /// Whether a rule is open. Certain only where none holds.
    pub(super) open: bool,
    /// Whether one of those is open that do not wait for an identity by their form.
    pub(super) unsettled: bool,
}

impl Found {
    /// Whether every rule fails, whoever asks, but for those that wait for an identity by their form.
    pub(super) const fn is_settled(self) -> bool {
        self.holds.is_none() && !self.unsettled
    }
}

/// The index of one list.
#[derive(Debug)]
pub(super) enum Index {
    /// Of a few rules.
    Short(Short),
    /// Of many.
    Long(Box<Long>),
}

impl Index {
    /// The index of a list; none where a scan is as good. `side` is what a match does for the client.
    pub(super) fn new<'c>(
        conditions: impl ExactSizeIterator<Item = &'c Condition>,
        side: Side,
    ) -> Option<Self> {
        let size = conditions.len();
        if size <= SCAN_MAX {
            None
        } else if size <= SHORT_MAX {
            Some(Self::Short(Short::new(conditions, side)))
        } else {
            Some(Self::Long(Box::new(Long::new(conditions, side))))
        }
    }

    /// What the list says. `verify` judges the rule at a place.
    pub(super) fn search(
        &self,
        judge: &Judge<'_>,
        wish: Wish,
        asked: &mut Asked,
        verify: impl FnMut(usize) -> Matched,
    ) -> Found {
        asked.begin();
        let unknown = matches!(judge.identity, Identity::Open);
        match self {
            // Nothing has been left out.
            Self::Short(_) | Self::Long(_) if wish == Wish::Open && !unknown => Found::default(),
            Self::Short(short) => short.search(judge, wish, asked, verify),
            Self::Long(long) => long.search(judge, wish, asked, verify),
        }
    }

    /// Whether the list is a long one.
    pub(super) const fn is_long(&self) -> bool {
        matches!(self, Self::Long(_))
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Short(short) => short.bytes(),
            Self::Long(long) => long.bytes(),
        }
    }
}
