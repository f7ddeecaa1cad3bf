//! What became of the lines, counted; bounded whatever the log holds.

use std::collections::BTreeMap;

/// What became of a line's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    /// It was refused, and would pass.
    WouldAllow,
    /// It passed, and would not.
    WouldDeny,
    /// It is refused as before, with another answer.
    Changed,
    /// The same answer.
    Unchanged,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lines: u64,
    pub(super) unchanged: u64,
    pub(super) unreadable: Seen,
    pub(super) not_replayable: BTreeMap<String, Seen>,
    pub(super) groups: BTreeMap<Key, Group>,
}

/// How many, and the first line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) count: u64,
    /// From 1.
    pub(super) first: u64,
}

/// Lines that changed in the same way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) sort: Sort,
    /// The answer as logged, with its rule.
    pub(super) old: String,
    /// The answer that it would get.
    pub(super) new: String,
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) seen: Seen,
    /// The id of the first request, where it has one.
    pub(super) example: Option<String>,
    /// What the first request asked for.
    pub(super) request: String,
    pub(super) routes: BTreeMap<String, u64>,
    pub(super) countries: BTreeMap<String, u64>,
}

/// One line that changed.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) line: u64,
    pub(super) id: Option<String>,
    pub(super) request: String,
    pub(super) route: String,
    pub(super) country: String,
}

impl Sort {
    /// The sorts in which something changes.
    pub(super) const CHANGES: [Self; 3] = [Self::WouldAllow, Self::WouldDeny, Self::Changed];

    /// The word for machines.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::WouldAllow => "would_allow",
            Self::WouldDeny => "would_deny",
            Self::Changed => "changed_answer",
            Self::Unchanged => "unchanged",
        }
    }
}

impl Seen {
    fn note(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 || other.first < self.first {
            self.first = other.first;
        }
        self.count += other.count;
    }

    const fn one(line: u64) -> Self {
        Self {
            count: 1,
            first: line,
        }
    }
}

impl Tally {
    /// How many lines of a sort.
    pub(super) fn count(&self, sort: Sort) -> u64 {
        if sort == Sort::Unchanged {
            return self.unchanged;
        }
        let groups = self.groups.iter().filter(|(key, _)| key.sort == sort);
        groups.map(|(_, group)| group.seen.count).sum()
    }

    /// A line that is none.
    pub(super) fn unreadable(&mut self, line: u64) {
        self.lines += 1;
        self.unreadable.note(Seen::one(line));
    }

    /// A line that cannot be judged.
    pub(super) fn not_replayable(&mut self, why: &str, line: u64) {
        self.lines += 1;
        self.miss(why, Seen::one(line));
    }

    fn miss(&mut self, why: &str, seen: Seen) {
        if let Some(known) = self.not_replayable.get_mut(why) {
            return known.note(seen);
        }
        let full = self.not_replayable.len() >= WHYS_MAX;
        let why = if full { "other reasons" } else { why };
        let known = self.not_replayable.entry(why.to_owned()).or_default();
        known.note(seen);
    }

    /// A line with the same answer.
    pub(super) const fn same(&mut self) {
        self.lines += 1;
        self.unchanged += 1;
    }

    /// A line whose answer changes.
    pub(super) fn change(&mut self, change: Change) {
        self.lines += 1;
        let group = self.group(change.key);
        if group.seen.count == 0 || change.line < group.seen.first {
            group.example = change.id;
            group.request = change.request;
        }
        group.seen.note(Seen::one(change.line));
        count(&mut group.routes, change.route, 1);
        count(&mut group.countries, change.country, 1);
    }

    fn group(&mut self, key: Key) -> &mut Group {
        let full = self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key);
        let key = if full {
            Key {
                old: "others".to_owned(),
                new: "others".to_owned(),
                ..key
            }
        } else {
            key
        };
        self.groups.entry(key).or_default()
    }

    /// Adds what another thread has counted.
    pub(super) fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.unchanged += other.unchanged;
        self.unreadable.note(other.unreadable);
        for (why, seen) in other.not_replayable {
            self.miss(&why, seen);
        }
        for (key, more) in other.groups {
            let group = self.group(key);
            if group.seen.count == 0 || more.seen.first < group.seen.first {
                group.example = more.example;
                group.request = more.request;
            }
            group.seen.note(more.seen);
            for (route, number) in more.routes {
                count(&mut group.routes, route, number);
            }
            for (country, number) in more.countries {
                count(&mut group.countries, country, number);
            }
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: String, number: u64) {
    let full = counts.len() >= NAMES_MAX && !counts.contains_key(&name);
    let name = if full { "others".to_owned() } else { name };
    *counts.entry(name).or_default() += number;
}

/// The most frequent names of a count, and how many are in none of them.
pub(super) fn top(counts: &BTreeMap<String, u64>, most: usize) -> (Vec<(&str, u64)>, u64) {
    let mut all: Vec<(&str, u64)> = counts.iter().map(|(name, n)| (&**name, *n)).collect();
    all.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    let rest = all.iter().skip(most).map(|(_, number)| number).sum();
    all.truncate(most);
    (all, rest)
}

/// Reasons that are told apart.
const WHYS_MAX: usize = 200;
/// Groups that are told apart.
const GROUPS_MAX: usize = 5000;
/// Routes, and countries, of a group that are told apart.
const NAMES_MAX: usize = 300;
