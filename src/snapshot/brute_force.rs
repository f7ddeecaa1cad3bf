//! `[site.brute_force]`: the failed sign-ins of a site. What has been counted outlives a reload that leaves the settings as
//! they are.

use std::sync::{Arc, Weak};

use crate::identity::failures::{Failures, Settings};
use crate::value::source::Source;

/// `[site.brute_force]`.
#[derive(Debug, Clone)]
pub struct BruteForce {
    /// What has failed; shared by all workers.
    pub failures: Arc<Failures>,
    /// Where it is written.
    pub source: Source,
}

/// The failed sign-ins of the process by site; handed from load to load.
#[derive(Debug, Default, Clone)]
pub struct Known(Vec<(Arc<str>, Weak<Failures>)>);

impl Known {
    /// Those of a site: what is known already under the same settings, or a new count.
    pub fn of(&mut self, site: &Arc<str>, settings: Settings) -> Arc<Failures> {
        self.0.retain(|(_, known)| known.strong_count() > 0);
        let mut same = self.0.iter().filter(|(name, _)| name == site);
        let known = same.find_map(|(_, known)| {
            let known = known.upgrade()?;
            (*known.settings() == settings).then_some(known)
        });
        known.unwrap_or_else(|| {
            let new = Arc::new(Failures::new(settings));
            self.0.push((Arc::clone(site), Arc::downgrade(&new)));
            new
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reload_forgets_nothing_unless_the_settings_change() {
        let settings = Settings {
            failures: 3,
            per: Duration::from_secs(60),
            hold: Duration::from_secs(60),
        };
        let mut known = Known::default();
        let (one, other) = (Arc::from("one"), Arc::from("other"));
        let first = known.of(&one, settings);
        assert!(Arc::ptr_eq(&first, &known.of(&one, settings)), "the same");
        assert!(!Arc::ptr_eq(&first, &known.of(&other, settings)));
        let more = Settings {
            failures: 4,
            ..settings
        };
        assert!(!Arc::ptr_eq(&first, &known.of(&one, more)));
        drop(first);
        known.of(&other, settings);
        assert_eq!(known.0.len(), 1, "what nobody holds goes");
    }
}
