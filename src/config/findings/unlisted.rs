//! `unlisted`: a deny that names countries or continents says nothing of addresses that stand in no database, private ones
//! among them, so that they pass it. A rule that names who may pass refuses them already: a note.
//!
//! A deny that names `"unlisted"` in the same place or around it answers the question for all.

use super::Scene;
use crate::config::{Context, Diagnostic};
use crate::policy::condition::{Condition, Matcher};
use crate::policy::draft::{Deny, Grant};
use crate::policy::{RuleId, RuleKind};

/// The denies by country that forget addresses without one; those that let one pass are told once that is known. Notes
/// allow-lists that refuse them.
pub(super) fn find(scene: &Scene<'_>, cx: &mut Context) -> Vec<RuleId> {
    let mut found = Vec::new();
    let draft = scene.draft;
    let everywhere = answered(&draft.denies);
    denies(scene, &draft.denies, everywhere, &mut found, cx);
    for site in &draft.sites {
        let site_wide = everywhere.or(answered(&site.denies));
        denies(scene, &site.denies, site_wide, &mut found, cx);
        for route in &site.routes {
            denies(
                scene,
                &route.denies,
                site_wide.or(answered(&route.denies)),
                &mut found,
                cx,
            );
            if let Grant::Rules(allows) = &route.grant {
                for allow in allows {
                    let places = Places::of(&allow.condition);
                    if places.listed && !places.unlisted && !names_private(scene, &allow.condition)
                    {
                        note(scene, allow.rule, cx);
                    }
                }
            }
        }
    }
    found
}

/// Whether the tests of a table name places of the world.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    listed: bool,
    unlisted: bool,
}

impl Places {
    fn of(condition: &Condition) -> Self {
        let mut places = Self::default();
        for test in &condition.tests {
            let unlisted = if let Matcher::Country(countries) = &test.matcher {
                countries.unlisted
            } else if let Matcher::Continent(continents) = &test.matcher {
                continents.unlisted
            } else {
                continue;
            };
            places.listed = true;
            places.unlisted |= unlisted;
        }
        places
    }

    const fn or(self, other: Self) -> Self {
        Self {
            listed: self.listed | other.listed,
            unlisted: self.unlisted | other.unlisted,
        }
    }
}

/// Whether some of these denies refuse addresses without a country.
fn answered(denies: &[Deny]) -> Places {
    let all = denies.iter().map(|deny| {
        let own = Places::of(&deny.condition);
        let excepted = deny.condition.unless.iter().map(Places::of);
        let excepted = excepted.fold(Places::default(), Places::or);
        Places {
            listed: own.listed,
            // `unless` with countries and without "unlisted" leaves them refused.
            unlisted: own.unlisted || (!own.listed && excepted.listed && !excepted.unlisted),
        }
    });
    all.fold(Places::default(), Places::or)
}

fn denies(
    scene: &Scene<'_>,
    denies: &[Deny],
    around: Places,
    found: &mut Vec<RuleId>,
    cx: &mut Context,
) {
    for deny in denies {
        let own = Places::of(&deny.condition);
        let excepted = deny.condition.unless.iter().map(Places::of);
        let excepted = excepted.fold(Places::default(), Places::or);
        if own.listed && !own.unlisted && !around.unlisted {
            found.push(deny.rule);
        } else if !own.listed
            && excepted.listed
            && !excepted.unlisted
            && !names_private(scene, &deny.condition)
        {
            note(scene, deny.rule, cx);
        }
    }
}

/// Whether a condition or what it excepts names private addresses: then somebody thought of them.
fn names_private(scene: &Scene<'_>, condition: &Condition) -> bool {
    let private = crate::value::cidr::Class::Private.networks();
    let own = condition.tests.iter().any(|test| {
        let Matcher::Client(test) = &test.matcher else {
            return false;
        };
        let set = usize::try_from(test.set.0).ok();
        let set = set.and_then(|set| scene.draft.addresses.get(set));
        set.is_some_and(|set| {
            set.iter().any(|network| {
                private
                    .iter()
                    .any(|private| private.contains(network) || network.contains(private))
            })
        })
    });
    own || condition
        .unless
        .iter()
        .any(|excepted| names_private(scene, excepted))
}

fn note(scene: &Scene<'_>, rule: RuleId, cx: &mut Context) {
    let info = scene.policy.rule(rule);
    let name = &info.name;
    let kind = match info.kind {
        RuleKind::Deny => "deny",
        RuleKind::Allow => "allow",
    };
    let message = format!(
        "{kind} `{name}` refuses every address that stands in no database, private ones among them"
    );
    let note = Diagnostic::note("unlisted", scene.span(rule), message).about(name.clone());
    cx.say(note.help("where your own networks must pass, name them: `ip = \"@private\"`"));
}
