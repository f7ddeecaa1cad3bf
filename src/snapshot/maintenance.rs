//! `[site.maintenance]`: whether a site is closed, as configured or as switched while running.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::Timestamp;

/// The maintenance of a site.
#[derive(Debug, Clone, Default)]
pub struct Maintenance {
    /// What an operator said while running; outlives reloads.
    pub switch: Arc<Switch>,
    /// `on`: as configured.
    pub configured: Position,
    /// When it ends.
    pub until: Option<Timestamp>,
    /// A text for people.
    pub message: Option<Arc<str>>,
}

/// Open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Position {
    /// The site is served.
    #[default]
    Off,
    /// It is closed.
    On,
}

/// What an operator said while running.
#[derive(Debug, Default)]
pub struct Switch(AtomicU8);

impl Switch {
    /// Turns it; none: as configured.
    pub fn turn(&self, to: Option<Position>) {
        let word = match to {
            None => CONFIGURED,
            Some(Position::Off) => OFF,
            Some(Position::On) => ON,
        };
        self.0.store(word, Ordering::Relaxed);
    }

    /// Where it stands; none: as configured.
    #[must_use]
    pub fn stands(&self) -> Option<Position> {
        match self.0.load(Ordering::Relaxed) {
            ON => Some(Position::On),
            OFF => Some(Position::Off),
            _ => None,
        }
    }
}

impl Maintenance {
    /// Whether the site is closed at a time. The end ends what was configured; a switch stays as it was turned.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> bool {
        match self.switch.stands() {
            Some(position) => position == Position::On,
            None => self.configured == Position::On && self.until.is_none_or(|end| now < end),
        }
    }
}

const CONFIGURED: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;
