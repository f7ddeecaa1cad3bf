//! Lists of any length: rows of bits for groups of rules.
//!
//! Rules that look at the same attributes form a group. Within a group every attribute has rows: for each number (a country, a
//! set of addresses, a path …) the rules that ask for it. A request's own numbers pick a few rows of each attribute; the rules
//! in all of them are candidates, and those in the row of an exception that surely holds are none.
//!
//! Groups that need no region come before those that do, rules without anything to index at the end. A rule behind the best
//! one found is never looked at.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use super::super::condition::Condition;
use super::super::evaluate::{Judge, Matched};
use super::super::facts::Identity;
use super::super::text::Side;
use super::forms::Forms;
use super::keys::{self, Asked, Attribute};
use super::rows::{ROW_MAX, Row, Rows, Stretch};
use super::{Found, Wish};

/// The index of one list.
#[derive(Debug)]
pub(in crate::policy) struct Long {
    side: Side,
    forms: Forms,
    groups: Box<[Group]>,
    rows: Rows,
}

/// Rules that look at the same attributes.
#[derive(Debug)]
struct Group {
    /// By number within the group: the place in the list. INVARIANT: ascending; not empty; at most [`ROW_MAX`].
    places: Box<[u32]>,
    /// Whether no rule of the group can hold before it is known who asks.
    needs_identity: bool,
    /// What every rule of the group looks at. INVARIANT: those that need a region are last.
    filters: Box<[Filter]>,
    /// Exceptions of a single test.
    exceptions: Box<[Filter]>,
}

/// The rows of one attribute in a group.
#[derive(Debug)]
struct Filter {
    attribute: Attribute,
    /// INVARIANT: ascending.
    numbers: Box<[u32]>,
    /// By place in `numbers`.
    rows: Box<[Row]>,
}

impl Filter {
    fn row(&self, number: u32) -> Option<Row> {
        // Dense numbers (roles, small sets of everything) are often their own place.
        let straight = usize::try_from(number).ok();
        let at = straight
            .filter(|at| self.numbers.get(*at) == Some(&number))
            .or_else(|| self.numbers.binary_search(&number).ok())?;
        self.rows.get(at).copied()
    }
}

/// The rows of the filters that are in use for a request.
#[derive(Default)]
struct Lanes {
    rows: SmallVec<[Row; ROWS_MAX]>,
    /// Where each filter's rows end in `rows`.
    ends: SmallVec<[usize; Attribute::ALL.len()]>,
}

impl Lanes {
    fn each(&self) -> impl Iterator<Item = &[Row]> {
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let lane = self.rows.get(from..*end).unwrap_or_default();
            from = *end;
            lane
        })
    }
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    On,
    Stop,
}

/// One search through a list.
struct Search<'s, V> {
    index: &'s Long,
    judge: &'s Judge<'s>,
    verify: V,
    asked: &'s mut Asked,
    /// The place of the first rule that is known to hold.
    best: usize,
    open: bool,
    /// Whether any open rule will do.
    any: bool,
}

impl Long {
    /// What the list says. `verify` judges the rule at a place.
    pub(super) fn search(
        &self,
        judge: &Judge<'_>,
        wish: Wish,
        asked: &mut Asked,
        verify: impl FnMut(usize) -> Matched,
    ) -> Found {
        let mut search = Search {
            index: self,
            judge,
            verify,
            asked,
            best: usize::MAX,
            open: false,
            any: false,
        };
        let unknown = matches!(judge.identity, Identity::Open);
        for group in &self.groups {
            if unknown && group.needs_identity {
                // None of these can hold: they matter only where nothing else does.
                if wish == Wish::Certain || search.best < usize::MAX || search.open {
                    break;
                }
                search.any = true;
            } else if wish == Wish::Open || (wish == Wish::Rest && !group.needs_identity) {
                continue;
            }
            if search.group(group) == Next::Stop {
                break;
            }
        }
        Found {
            holds: (search.best < usize::MAX).then_some(search.best),
            open: search.open,
            // Rules that wait are looked at only while none of the others is open.
            unsettled: search.open && !search.any,
        }
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        let filter = |filter: &Filter| {
            size_of::<Filter>() + filter.numbers.len() * 4 + filter.rows.len() * size_of::<Row>()
        };
        let group = |group: &Group| {
            let filters = group.filters.iter().chain(&group.exceptions);
            size_of::<Group>() + group.places.len() * 4 + filters.map(filter).sum::<usize>()
        };
        size_of::<Self>() + self.rows.bytes() + self.groups.iter().map(group).sum::<usize>()
    }
}

impl<V: FnMut(usize) -> Matched> Search<'_, V> {
    fn group(&mut self, group: &Group) -> Next {
        if group.place(0).is_none_or(|first| first >= self.best) {
            return Next::On;
        }
        let mut lanes = Lanes::default();
        let at_once = group.filters.iter().filter(|f| !f.attribute.is_geo());
        if !at_once
            .into_iter()
            .all(|filter| self.lane(filter, &mut lanes))
        {
            return Next::On;
        }
        if let Some(next) = self.few(group, &lanes) {
            return next;
        }
        let mut later = group.filters.iter().filter(|f| f.attribute.is_geo());
        if let Some(first) = later.next() {
            // The region is looked up only where its absence leaves something to look at.
            if !lanes.ends.is_empty() && !self.any_in(group, &lanes) {
                return Next::On;
            }
            let mut geo = std::iter::once(first).chain(later);
            if !geo.all(|filter| self.lane(filter, &mut lanes)) {
                return Next::On;
            }
        }
        self.all(group, &lanes)
    }

    /// Adds the rows of a filter; false where no rule of the group can pass it.
    fn lane(&mut self, filter: &Filter, lanes: &mut Lanes) -> bool {
        let Long { side, forms, .. } = self.index;
        let from = lanes.rows.len();
        let Some(numbers) = self.asked.of(filter.attribute, self.judge, *side, forms) else {
            return true;
        };
        for row in numbers.iter().filter_map(|number| filter.row(*number)) {
            if lanes.rows.len() >= ROWS_MAX {
                lanes.rows.truncate(from);
                return true;
            }
            lanes.rows.push(row);
        }
        let some = lanes.rows.len() > from;
        if some {
            lanes.ends.push(lanes.rows.len());
        }
        some
    }

    /// Where one filter leaves only a handful of rules, these are looked at and nothing else.
    fn few(&mut self, group: &Group, lanes: &Lanes) -> Option<Next> {
        let mut lane = lanes
            .each()
            .find(|lane| lane.iter().all(|row| row.single().is_some()))?
            .iter();
        let others = |number: usize| {
            let rows = &self.index.rows;
            let mut lanes = lanes.each();
            lanes.all(|lane| lane.iter().any(|row| rows.contains(*row, number)))
        };
        let mut numbers: SmallVec<[usize; ROWS_MAX]> = SmallVec::new();
        numbers.extend(
            lane.by_ref()
                .filter_map(|row| row.single())
                .filter(|n| others(*n)),
        );
        for number in numbers {
            if group.place(number).is_some_and(|place| place < self.best)
                && self.candidate(group, number) == Next::Stop
                && self.any
            {
                return Some(Next::Stop);
            }
        }
        Some(Next::On)
    }

    /// Whether any rule is in all lanes.
    fn any_in(&self, group: &Group, lanes: &Lanes) -> bool {
        let mut any = false;
        walk(&self.index.rows, group, lanes, |_, _, _| {
            any = true;
            Next::Stop
        });
        any
    }

    /// Looks at every rule that is in all lanes.
    fn all(&mut self, group: &Group, lanes: &Lanes) -> Next {
        let (mut failed, mut next) = (0, Next::On);
        let mut exceptions: Option<SmallVec<[Row; ROWS_MAX]>> = None;
        let index = self.index;
        walk(&index.rows, group, lanes, |top, mid, mut leaf| {
            if failed >= FAILED_MAX && exceptions.is_none() {
                exceptions = Some(self.exceptions(group));
            }
            for row in exceptions.iter().flatten() {
                leaf &= !index.rows.leaf(index.rows.stretch(*row, top), mid);
            }
            let base = usize::try_from(top * 4096 + mid * 64).unwrap_or(usize::MAX);
            while leaf != 0 {
                let number = base + usize::try_from(leaf.trailing_zeros()).unwrap_or(0);
                leaf &= leaf - 1;
                if group.place(number).is_none_or(|place| place >= self.best) {
                    return Next::Stop;
                }
                if self.candidate(group, number) == Next::Stop {
                    next = if self.any { Next::Stop } else { Next::On };
                    return Next::Stop;
                }
                failed += 1;
            }
            Next::On
        });
        next
    }

    /// The rows of exceptions that surely hold.
    fn exceptions(&mut self, group: &Group) -> SmallVec<[Row; ROWS_MAX]> {
        let Long { side, forms, .. } = self.index;
        let mut held = SmallVec::new();
        for filter in &group.exceptions {
            let numbers = self.asked.of(filter.attribute, self.judge, *side, forms);
            for row in numbers
                .iter()
                .copied()
                .flatten()
                .filter_map(|n| filter.row(*n))
            {
                if held.len() < ROWS_MAX {
                    held.push(row);
                }
            }
        }
        held
    }

    /// Judges a rule; stops where no other of its group matters any more.
    fn candidate(&mut self, group: &Group, number: usize) -> Next {
        let Some(place) = group.place(number) else {
            return Next::Stop;
        };
        match (self.verify)(place) {
            Matched::Holds => {
                self.best = place;
                Next::Stop
            }
            Matched::Open => {
                self.open = true;
                if self.any { Next::Stop } else { Next::On }
            }
            Matched::Fails => Next::On,
        }
    }
}

/// Visits the words of the intersection of all lanes, in order.
fn walk(rows: &Rows, group: &Group, lanes: &Lanes, mut visit: impl FnMut(u32, u32, u64) -> Next) {
    let size = group.places.len();
    let either = |lane: &[Row]| lane.iter().fold(0, |bits, row| bits | rows.top(*row));
    let mut tops = lanes
        .each()
        .fold(below(size.div_ceil(4096)), |bits, lane| bits & either(lane));
    let mut stretches: SmallVec<[Stretch; ROWS_MAX]> = SmallVec::new();
    while tops != 0 {
        let top = tops.trailing_zeros();
        tops &= tops - 1;
        stretches.clear();
        stretches.extend(lanes.rows.iter().map(|row| rows.stretch(*row, top)));
        let start = usize::try_from(top).unwrap_or(0) * 4096;
        let mut mids = below(size.saturating_sub(start).div_ceil(64));
        each(&lanes.ends, &stretches, |lane| {
            mids &= lane.iter().fold(0, |bits, stretch| bits | stretch.leaves);
            mids != 0
        });
        while mids != 0 {
            let mid = mids.trailing_zeros();
            mids &= mids - 1;
            let start = start + usize::try_from(mid).unwrap_or(0) * 64;
            let mut leaf = below(size.saturating_sub(start));
            each(&lanes.ends, &stretches, |lane| {
                let either = |bits, stretch: &Stretch| bits | rows.leaf(*stretch, mid);
                leaf &= lane.iter().fold(0, either);
                leaf != 0
            });
            if leaf != 0 && visit(top, mid, leaf) == Next::Stop {
                return;
            }
        }
    }
}

/// Goes through the lanes until the answer is known.
fn each(ends: &[usize], stretches: &[Stretch], mut go_on: impl FnMut(&[Stretch]) -> bool) {
    let mut from = 0;
    for end in ends {
        if !go_on(stretches.get(from..*end).unwrap_or_default()) {
            return;
        }
        from = *end;
    }
}

/// A word with the lowest `count` bits set.
fn below(count: usize) -> u64 {
    let bit = u32::try_from(count)
        .ok()
        .and_then(|count| 1u64.checked_shl(count));
    bit.map_or(u64::MAX, |bit| bit - 1)
}

impl Group {
    fn place(&self, number: usize) -> Option<usize> {
        usize::try_from(*self.places.get(number)?).ok()
    }
}

/// Rows that a search keeps at a time. A filter that does not fit is left out: the plain evaluator sees to it.
const ROWS_MAX: usize = 48;
/// After so many candidates in vain the rows of exceptions are worth a look.
const FAILED_MAX: usize = 2;
/// Groups of a list; each has its own rows to look up.
const GROUPS_MAX: usize = 24;

/// One number of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Posting {
    pub(super) attribute: u8,
    pub(super) exception: bool,
    pub(super) number: u32,
    pub(super) place: u32,
}

impl Long {
    /// The index of a list.
    pub(super) fn new<'c>(
        conditions: impl ExactSizeIterator<Item = &'c Condition>,
        side: Side,
    ) -> Self {
        let mut forms = Forms::default();
        let mut postings = Vec::with_capacity(conditions.len() * 3);
        let mut profiles = Vec::with_capacity(conditions.len());
        for (place, condition) in (0u32..).zip(conditions) {
            profiles.push(profile(condition, place, &mut forms, &mut postings));
        }
        let order = by_worth(&postings);
        let masks = signatures(&profiles, &order);
        let mut numbers: HashMap<(Profile, u32), u32, FixedState> = HashMap::default();
        let (mut groups, mut homes): (Vec<Vec<u32>>, Vec<(u32, u32)>) = (Vec::new(), Vec::new());
        let mut made: Vec<Profile> = Vec::new();
        let limit = u32::try_from(ROW_MAX).unwrap_or(u32::MAX);
        let mut sizes: HashMap<Profile, u32, FixedState> = HashMap::default();
        for (place, (profile, mask)) in (0u32..).zip(profiles.iter().zip(&masks)) {
            let profile = Profile {
                mask: *mask,
                ..*profile
            };
            let size = sizes.entry(profile).or_default();
            let next = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            let group = *numbers.entry((profile, *size / limit)).or_insert(next);
            if group == next {
                groups.push(Vec::new());
                made.push(profile);
            }
            homes.push((group, *size % limit));
            *size += 1;
            if let Some(places) = usize::try_from(group).ok().and_then(|g| groups.get_mut(g)) {
                places.push(place);
            }
        }
        let mut rows = Rows::default();
        let mut filters = filters(postings, &homes, &masks, groups.len(), &mut rows);
        rows.shrink();
        let parts = groups.into_iter().zip(made).zip(filters.drain(..));
        let mut groups: Vec<Group> = parts
            .map(|((places, profile), (mut filters, exceptions))| {
                let worth = |filter: &Filter| {
                    let bit = filter.attribute.bit();
                    order.iter().position(|known| *known == bit)
                };
                filters.sort_by_key(|f| (f.attribute.is_geo(), worth(f)));
                Group {
                    places: places.into(),
                    needs_identity: profile.needs_identity,
                    filters: filters.into(),
                    exceptions: exceptions.into(),
                }
            })
            .collect();
        groups.sort_by_key(|group| {
            let geo = group.filters.iter().any(|f| f.attribute.is_geo());
            let first = group.places.first().copied();
            (group.needs_identity, group.filters.is_empty(), geo, first)
        });
        Self {
            side,
            forms,
            groups: groups.into(),
            rows,
        }
    }
}

/// What kind of rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Profile {
    pub(super) needs_identity: bool,
    /// The attributes that it looks at and that are indexed.
    pub(super) mask: u32,
}

/// What kind of rule a rule is, and its numbers.
pub(super) fn profile(
    condition: &Condition,
    place: u32,
    forms: &mut Forms,
    postings: &mut Vec<Posting>,
) -> Profile {
    let mut mask = 0;
    for test in &condition.tests {
        let Some((attribute, numbers)) = keys::wanted(&test.matcher, forms) else {
            continue;
        };
        // A second test of one kind is left to the plain evaluator.
        if mask & attribute.bit() != 0 {
            continue;
        }
        mask |= attribute.bit();
        postings.extend(numbers.into_iter().map(|number| Posting {
            attribute: attribute.number(),
            exception: false,
            number,
            place,
        }));
    }
    for excepted in &condition.unless {
        let ([test], [], None) = (&*excepted.tests, &*excepted.unless, excepted.until) else {
            continue;
        };
        let Some((attribute, numbers)) = keys::wanted(&test.matcher, forms) else {
            continue;
        };
        if attribute.is_exact() {
            postings.extend(numbers.into_iter().map(|number| Posting {
                attribute: attribute.number(),
                exception: true,
                number,
                place,
            }));
        }
    }
    Profile {
        needs_identity: keys::needs_identity(condition),
        mask,
    }
}

/// The bits of the attributes that rules look at, those that tell rules apart best first.
pub(super) fn by_worth(postings: &[Posting]) -> Vec<u32> {
    #[derive(Default)]
    struct Tally {
        numbers: HashSet<u32, FixedState>,
        all: u32,
        rules: u32,
        last: Option<u32>,
    }
    let mut tallies: [Tally; Attribute::ALL.len()] = std::array::from_fn(|_| Tally::default());
    for posting in postings.iter().filter(|posting| !posting.exception) {
        if let Some(tally) = tallies.get_mut(usize::from(posting.attribute)) {
            tally.numbers.insert(posting.number);
            tally.all += 1;
            tally.rules += u32::from(tally.last != Some(posting.place));
            tally.last = Some(posting.place);
        }
    }
    let tallies = Attribute::ALL.into_iter().zip(&tallies);
    let mut attributes: Vec<(f64, u32)> = tallies
        .filter(|(_, tally)| tally.rules > 0)
        .map(|(attribute, tally)| {
            let distinct = u32::try_from(tally.numbers.len()).unwrap_or(u32::MAX);
            // The share of the rules that one number leaves, if all are alike.
            let left = f64::from(tally.all) / f64::from(tally.rules) / f64::from(distinct);
            (left, attribute.bit())
        })
        .collect();
    attributes.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    attributes.into_iter().map(|(_, bit)| bit).collect()
}

/// What each rule is grouped by: as many of its attributes as leave few enough groups, best first.
fn signatures(profiles: &[Profile], order: &[u32]) -> Vec<u32> {
    let groups_max = (profiles.len() / 32).clamp(4, GROUPS_MAX);
    let mut masks = Vec::new();
    for kept in [usize::MAX, 3, 2, 1] {
        let cut = |profile: &Profile| {
            let held = order.iter().filter(|bit| profile.mask & **bit != 0);
            held.take(kept).fold(0, |mask, bit| mask | bit)
        };
        masks = profiles.iter().map(cut).collect();
        let each = profiles.iter().zip(&masks);
        let each = each.map(|(profile, mask)| (profile.needs_identity, *mask));
        if each.collect::<HashSet<_, FixedState>>().len() <= groups_max {
            break;
        }
    }
    masks
}

type Filters = (Vec<Filter>, Vec<Filter>);

/// The rows of all groups.
fn filters(
    mut postings: Vec<Posting>,
    homes: &[(u32, u32)],
    masks: &[u32],
    groups: usize,
    rows: &mut Rows,
) -> Vec<Filters> {
    let at = |place: u32| usize::try_from(place).unwrap_or(usize::MAX);
    let home = |posting: &Posting| homes.get(at(posting.place)).copied().unwrap_or_default();
    postings.retain(|posting| {
        let mask = masks.get(at(posting.place)).copied().unwrap_or(0);
        posting.exception || mask & (1 << posting.attribute) != 0
    });
    // Group, kind, number and place in the group in one number, by which they are sorted: places ascend in every row.
    let mut keyed: Vec<(u64, u64)> = postings
        .iter()
        .map(|posting| {
            let (group, place) = home(posting);
            let kind = u32::from(posting.exception) << 8 | u32::from(posting.attribute);
            let high = u64::from(group) << 32 | u64::from(kind);
            (high, u64::from(posting.number) << 32 | u64::from(place))
        })
        .collect();
    drop(postings);
    keyed.sort_unstable();
    keyed.dedup();
    let mut filters: Vec<Filters> = (0..groups).map(|_| Filters::default()).collect();
    let mut places = Vec::new();
    for run in keyed.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((high, _)) = run.first() else {
            continue;
        };
        let attribute = usize::try_from(high & 0xFF).unwrap_or(usize::MAX);
        let Some(attribute) = Attribute::ALL.get(attribute) else {
            continue;
        };
        let (mut numbers, mut held) = (Vec::new(), Vec::new());
        for same in run.chunk_by(|(_, one), (_, other)| one >> 32 == other >> 32) {
            places.clear();
            places.extend(same.iter().map(|(_, low)| lower(*low)));
            numbers.extend(same.first().map(|(_, low)| lower(*low >> 32)));
            held.push(rows.add(&places));
        }
        let filter = Filter {
            attribute: *attribute,
            numbers: numbers.into(),
            rows: held.into(),
        };
        if let Some((filters, exceptions)) = filters.get_mut(at(lower(*high >> 32))) {
            if high & 0x100 == 0 {
                filters.push(filter);
            } else {
                exceptions.push(filter);
            }
        }
    }
    filters
}

/// The lower half of a number.
fn lower(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}
