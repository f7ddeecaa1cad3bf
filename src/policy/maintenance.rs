//! Whom a closed site keeps out. Whether it is closed is not known here: that is a switch (`snapshot::maintenance`).

use super::Policy;
use super::decision::Place;
use super::evaluate::{Failed, Judge, Matched, Unresolved, seen};
use super::facts::Facts;
use super::text::Side;

/// What the maintenance of a site makes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is kept out, whoever asks.
    Out,
    /// It is excepted.
    Excepted,
    /// It depends on who asks.
    Open,
}

impl Policy {
    /// Judges the exceptions of a closed site before anybody has signed in. A failed fact excepts nobody.
    #[must_use]
    pub fn kept_out(&self, facts: &Facts<'_>, place: Place) -> Kept {
        self.kept(facts, place, self.unseen(place))
    }

    /// Judges them again, with the identity that signing in brought forth.
    #[must_use]
    pub fn kept_out_after_all(&self, facts: &Facts<'_>, place: Place) -> Kept {
        self.kept(facts, place, seen(facts.identity))
    }

    fn kept(&self, facts: &Facts<'_>, place: Place, identity: super::Identity<'_>) -> Kept {
        let Some(site) = self.site_at(place) else {
            return Kept::Excepted;
        };
        let judge = Judge::new(self, facts, identity, Failed::Hurts, Unresolved::Fails);
        match judge.condition(&site.maintained, Side::Hurts) {
            Matched::Holds => Kept::Out,
            Matched::Fails => Kept::Excepted,
            Matched::Open => Kept::Open,
        }
    }
}
