//! Decision diagrams: functions from requests to a small value, stored once each.
//!
//! A node asks one attribute, and has a child for every atom of it: one for atom 0, and one for each atom that differs from
//! that (so an attribute with a thousand atoms of which a rule names three has nodes with three edges). Attributes are asked
//! in ascending order. Nodes are hash-consed: two functions are equal exactly where their nodes are.
//!
//! Leaf 0 is [`FALSE`], leaf 1 [`TRUE`]; further leaves are any number the user of a store likes. Work is bounded: a store
//! that has spent its budget is *exhausted*, and what it answers from then on means nothing. Look at
//! [`Store::is_exhausted`] before you believe it.

use std::collections::HashMap;

/// A function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Diagram(u32);

/// Nowhere; the number 0.
pub(crate) const FALSE: Diagram = Diagram(0);
/// Everywhere; the number 1.
pub(crate) const TRUE: Diagram = Diagram(1);

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node<'s> {
    /// A number.
    Leaf(u32),
    /// A question.
    Asks(Edges<'s>),
}

/// The children of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edges<'s> {
    /// The attribute that is asked.
    pub(crate) attribute: u32,
    /// The child for every atom that is not excepted; atom 0 never is.
    pub(crate) default: Diagram,
    /// Atoms with another child, ascending.
    pub(crate) except: &'s [(u32, Diagram)],
}

/// Diagrams that share their nodes.
#[derive(Debug)]
pub(crate) struct Store {
    nodes: Vec<Row>,
    edges: Vec<(u32, Diagram)>,
    /// The newest node by the hash of its contents; older ones are chained.
    known: HashMap<u64, u32, foldhash::fast::RandomState>,
    leaves: HashMap<u32, Diagram, foldhash::fast::RandomState>,
    memo: HashMap<(Work, Diagram, Diagram), Diagram, foldhash::fast::RandomState>,
    budget: usize,
    spent: usize,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// The attribute; [`LEAF`] for a leaf.
    attribute: u32,
    /// The default child, or the number of a leaf.
    default: u32,
    from: u32,
    to: u32,
    /// The next older node with the same hash.
    older: u32,
}

/// What is done to two functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    /// The first where the second is true, else 0.
    Within,
    /// The first where it is not 0, else the second.
    Over,
    /// The first where the second is 0, else 0.
    Without,
    /// Both numbers in one.
    Pair,
    /// A function that equals the first where the second is not 0, and is smaller.
    Simple,
    /// 1 where the first has the number of the second, which is a leaf.
    Is,
    /// Whatever the first attribute of the function is: 1 where some atom leads to 1.
    Some,
}

const LEAF: u32 = u32::MAX;
const NOBODY: u32 = u32::MAX;

impl Store {
    /// An empty store that may do about `budget` steps, each of well under a microsecond and 100 bytes.
    #[must_use]
    pub(crate) fn new(budget: usize) -> Self {
        let mut store = Self {
            nodes: Vec::new(),
            edges: Vec::new(),
            known: HashMap::default(),
            leaves: HashMap::default(),
            memo: HashMap::default(),
            budget,
            spent: 0,
        };
        store.leaf(0);
        store.leaf(1);
        store
    }

    /// Whether the budget is spent: nothing that the store answered since it was last seen unspent can be believed.
    #[must_use]
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.spent > self.budget
    }

    /// The steps done.
    #[must_use]
    pub(crate) const fn spent(&self) -> usize {
        self.spent
    }

    /// A number, everywhere.
    pub(crate) fn leaf(&mut self, number: u32) -> Diagram {
        if let Some(known) = self.leaves.get(&number) {
            return *known;
        }
        let made = Diagram(small(self.nodes.len()));
        self.nodes.push(Row {
            attribute: LEAF,
            default: number,
            from: 0,
            to: 0,
            older: NOBODY,
        });
        self.leaves.insert(number, made);
        made
    }

    /// What a diagram is.
    #[must_use]
    pub(crate) fn node(&self, diagram: Diagram) -> Node<'_> {
        let row = self.row(diagram);
        if row.attribute == LEAF {
            Node::Leaf(row.default)
        } else {
            Node::Asks(self.edges(row))
        }
    }

    /// The function that asks an attribute: `except` are atoms in ascending order, never atom 0.
    pub(crate) fn ask(
        &mut self,
        attribute: u32,
        default: Diagram,
        mut except: Vec<(u32, Diagram)>,
    ) -> Diagram {
        except.retain(|(_, child)| *child != default);
        if except.is_empty() || self.is_exhausted() {
            return default;
        }
        let hash = hash(attribute, default, &except);
        let mut at = self.known.get(&hash).copied().unwrap_or(NOBODY);
        while let Some(row) = self.nodes.get(wide(at)).copied() {
            let same = row.attribute == attribute && row.default == default.0;
            if same && *self.edges(row).except == *except {
                return Diagram(at);
            }
            at = row.older;
        }
        self.spent += 1 + except.len();
        let from = small(self.edges.len());
        self.edges.extend_from_slice(&except);
        let made = small(self.nodes.len());
        let older = self.known.insert(hash, made).unwrap_or(NOBODY);
        self.nodes.push(Row {
            attribute,
            default: default.0,
            from,
            to: small(self.edges.len()),
            older,
        });
        Diagram(made)
    }

    /// True where an attribute of `count` atoms has one of these, which are ascending.
    pub(crate) fn one_of(&mut self, attribute: u32, atoms: &[u32], count: u32) -> Diagram {
        if atoms.first() == Some(&0) {
            let outside = (1..count).filter(|atom| atoms.binary_search(atom).is_err());
            let outside: Vec<u32> = outside.collect();
            return self.none_of(attribute, &outside);
        }
        let except = atoms.iter().map(|atom| (*atom, TRUE));
        self.ask(attribute, FALSE, except.collect())
    }

    /// True where an attribute has none of these atoms, ascending, atom 0 not among them.
    pub(crate) fn none_of(&mut self, attribute: u32, atoms: &[u32]) -> Diagram {
        let except = atoms.iter().map(|atom| (*atom, FALSE));
        self.ask(attribute, TRUE, except.collect())
    }

    /// `f` where `g` (true or false) is true, else 0.
    pub(crate) fn within(&mut self, f: Diagram, g: Diagram) -> Diagram {
        self.apply(Work::Within, f, g)
    }

    /// `f` where it is not 0, else `g`. On true and false: *or*.
    pub(crate) fn over(&mut self, f: Diagram, g: Diagram) -> Diagram {
        self.apply(Work::Over, f, g)
    }

    /// `f` where `g` is 0, else 0. On true and false: *and not*.
    pub(crate) fn without(&mut self, f: Diagram, g: Diagram) -> Diagram {
        self.apply(Work::Without, f, g)
    }

    /// True where `f` is 0.
    pub(crate) fn not(&mut self, f: Diagram) -> Diagram {
        self.apply(Work::Without, TRUE, f)
    }

    /// Both functions in one: leaf `f << 16 | g`, both numbers under 65 536.
    pub(crate) fn pair(&mut self, f: Diagram, g: Diagram) -> Diagram {
        self.apply(Work::Pair, f, g)
    }

    /// True where `f` has a number.
    pub(crate) fn is(&mut self, f: Diagram, number: u32) -> Diagram {
        let leaf = self.leaf(number);
        self.apply(Work::Is, f, leaf)
    }

    /// A function that equals `f` wherever `care` is true, and is as simple as can be found elsewhere.
    pub(crate) fn simple(&mut self, f: Diagram, care: Diagram) -> Diagram {
        if care == FALSE {
            return f;
        }
        self.apply(Work::Simple, f, care)
    }

    /// *or* over many, in a balanced way.
    pub(crate) fn any(&mut self, mut all: Vec<Diagram>) -> Diagram {
        while all.len() > 1 {
            let mut half = Vec::with_capacity(all.len().div_ceil(2));
            for two in all.chunks(2) {
                half.push(match two {
                    [one, other] => self.over(*one, *other),
                    [one] => *one,
                    _ => FALSE,
                });
            }
            all = half;
        }
        all.first().copied().unwrap_or(FALSE)
    }

    /// Every number that a function can have, ascending.
    #[must_use]
    pub(crate) fn numbers(&self, f: Diagram) -> Vec<u32> {
        let mut found = std::collections::BTreeSet::new();
        let mut seen = std::collections::HashSet::new();
        let mut todo = vec![f];
        while let Some(next) = todo.pop() {
            if !seen.insert(next) {
                continue;
            }
            match self.node(next) {
                Node::Leaf(number) => {
                    found.insert(number);
                }
                Node::Asks(edges) => {
                    todo.push(edges.default);
                    todo.extend(edges.except.iter().map(|(_, child)| *child));
                }
            }
        }
        found.into_iter().collect()
    }

    /// The number at a point: `atom` answers for each attribute.
    pub(crate) fn number_at(&self, f: Diagram, atom: &mut dyn FnMut(u32) -> u32) -> u32 {
        let mut at = f;
        loop {
            match self.node(at) {
                Node::Leaf(number) => return number,
                Node::Asks(edges) => at = edges.child(atom(edges.attribute)),
            }
        }
    }

    /// A point where a function is not 0: the atoms of the attributes that matter; atom 0 is preferred. None where there is no such point.
    #[must_use]
    pub(crate) fn point(&self, f: Diagram) -> Option<Vec<(u32, u32)>> {
        let mut point = Vec::new();
        let mut at = f;
        loop {
            match self.node(at) {
                Node::Leaf(0) => return None,
                Node::Leaf(_) => return Some(point),
                Node::Asks(edges) => {
                    // Every node but `FALSE` leads to something else.
                    let (atom, child) = if edges.default == FALSE {
                        *edges.except.iter().find(|(_, child)| *child != FALSE)?
                    } else {
                        (0, edges.default)
                    };
                    point.push((edges.attribute, atom));
                    at = child;
                }
            }
        }
    }

    fn apply(&mut self, work: Work, f: Diagram, g: Diagram) -> Diagram {
        if let Some(known) = self.known_answer(work, f, g) {
            return known;
        }
        let key = (work, f, g);
        if let Some(known) = self.memo.get(&key) {
            return *known;
        }
        if self.is_exhausted() {
            return FALSE;
        }
        self.spent += 1;
        let made = match work {
            Work::Some => self.some(f),
            Work::Simple => self.simplify(f, g),
            Work::Within | Work::Over | Work::Without | Work::Pair | Work::Is => {
                self.merge(work, f, g)
            }
        };
        self.memo.insert(key, made);
        made
    }

    /// The answer where it is plain to see.
    fn known_answer(&mut self, work: Work, f: Diagram, g: Diagram) -> Option<Diagram> {
        match work {
            Work::Within => match (f, g) {
                (FALSE, _) | (_, FALSE) => Some(FALSE),
                (_, TRUE) => Some(f),
                _ if f == g => Some(f),
                _ => None,
            },
            Work::Over => match (f, g) {
                (FALSE, _) => Some(g),
                (_, FALSE) => Some(f),
                _ if f == g || self.is_leaf(f) => Some(f),
                _ => None,
            },
            Work::Without => match (f, g) {
                (FALSE, _) => Some(FALSE),
                (_, FALSE) => Some(f),
                _ if self.is_leaf(g) => Some(FALSE),
                _ => None,
            },
            Work::Pair => match (self.node(f), self.node(g)) {
                (Node::Leaf(one), Node::Leaf(other)) => Some(self.leaf(one << 16 | other & 0xFFFF)),
                _ => None,
            },
            Work::Is => match self.node(f) {
                Node::Leaf(_) => Some(if f == g { TRUE } else { FALSE }),
                Node::Asks(_) => None,
            },
            Work::Simple => (g == TRUE || self.is_leaf(f)).then_some(f),
            Work::Some => self.is_leaf(f).then_some(f),
        }
    }

    fn merge(&mut self, work: Work, f: Diagram, g: Diagram) -> Diagram {
        let (one, other) = (self.row(f), self.row(g));
        let attribute = one.attribute.min(other.attribute);
        let of = |row: Row| row.attribute == attribute;
        let (f0, mut fs) = self.split(f, of(one));
        let (g0, mut gs) = self.split(g, of(other));
        let default = self.apply(work, f0, g0);
        let mut except = Vec::with_capacity(fs.len().max(gs.len()));
        loop {
            let (a, b) = (self.edge(fs.start), self.edge(gs.start));
            let a = a.filter(|_| !fs.is_empty());
            let b = b.filter(|_| !gs.is_empty());
            let (atom, left, right) = match (a, b) {
                (None, None) => break,
                (Some((atom, child)), None) => (atom, child, g0),
                (None, Some((atom, child))) => (atom, f0, child),
                (Some((one, left)), Some((other, _))) if one < other => (one, left, g0),
                (Some((one, _)), Some((other, right))) if other < one => (other, f0, right),
                (Some((atom, left)), Some((_, right))) => (atom, left, right),
            };
            if a.is_some_and(|(at, _)| at == atom) {
                fs.start += 1;
            }
            if b.is_some_and(|(at, _)| at == atom) {
                gs.start += 1;
            }
            self.spent += 1;
            except.push((atom, self.apply(work, left, right)));
        }
        self.ask(attribute, default, except)
    }

    fn simplify(&mut self, f: Diagram, care: Diagram) -> Diagram {
        let (one, other) = (self.row(f), self.row(care));
        if other.attribute < one.attribute {
            let wider = self.apply(Work::Some, care, TRUE);
            return self.apply(Work::Simple, f, wider);
        }
        let attribute = one.attribute;
        let (f0, fs) = self.split(f, true);
        let (care0, cares) = self.split(care, other.attribute == attribute);
        let fs: Vec<(u32, Diagram)> = self.slice(fs);
        let cares: Vec<(u32, Diagram)> = self.slice(cares);
        let mut atoms: Vec<u32> = fs.iter().chain(&cares).map(|(atom, _)| *atom).collect();
        atoms.sort_unstable();
        atoms.dedup();
        let child = |of: &[(u32, Diagram)], default: Diagram, atom: u32| match of
            .binary_search_by_key(&atom, |(at, _)| *at)
        {
            Ok(at) => of.get(at).map_or(default, |(_, child)| *child),
            Err(_) => default,
        };
        let default = (care0 != FALSE).then(|| self.apply(Work::Simple, f0, care0));
        let mut except: Vec<(u32, Option<Diagram>)> = Vec::with_capacity(atoms.len());
        let mut children: std::collections::BTreeSet<Diagram> = default.into_iter().collect();
        for atom in atoms {
            self.spent += 1;
            let care = child(&cares, care0, atom);
            let simple = (care != FALSE).then(|| {
                let f = child(&fs, f0, atom);
                self.apply(Work::Simple, f, care)
            });
            children.extend(simple);
            except.push((atom, simple));
        }
        // Atoms that nobody cares for: where all others go, so that nothing is asked; else to 0, so that what is told is narrow.
        let free = match children.into_iter().collect::<Vec<_>>().as_slice() {
            [one] => *one,
            _ => FALSE,
        };
        let except = except
            .into_iter()
            .map(|(atom, child)| (atom, child.unwrap_or(free)));
        let except = except.collect();
        self.ask(attribute, default.unwrap_or(free), except)
    }

    /// *or* over all atoms of the first attribute.
    fn some(&mut self, f: Diagram) -> Diagram {
        let (default, rest) = self.split(f, true);
        let mut all: Vec<Diagram> = self
            .slice(rest)
            .into_iter()
            .map(|(_, child)| child)
            .collect();
        all.push(default);
        all.sort_unstable();
        all.dedup();
        self.any(all)
    }

    /// The default child and the range of the others; of a node that does not ask the attribute: itself, and none.
    fn split(&self, f: Diagram, asks: bool) -> (Diagram, std::ops::Range<usize>) {
        let row = self.row(f);
        if asks && row.attribute != LEAF {
            (Diagram(row.default), wide(row.from)..wide(row.to))
        } else {
            (f, 0..0)
        }
    }

    fn slice(&self, range: std::ops::Range<usize>) -> Vec<(u32, Diagram)> {
        self.edges.get(range).unwrap_or_default().to_vec()
    }

    fn edge(&self, at: usize) -> Option<(u32, Diagram)> {
        self.edges.get(at).copied()
    }

    fn edges(&self, row: Row) -> Edges<'_> {
        Edges {
            attribute: row.attribute,
            default: Diagram(row.default),
            except: self
                .edges
                .get(wide(row.from)..wide(row.to))
                .unwrap_or_default(),
        }
    }

    fn row(&self, diagram: Diagram) -> Row {
        let row = self.nodes.get(wide(diagram.0)).copied();
        // A diagram of another store is a mistake of the caller; it is nowhere.
        row.unwrap_or(Row {
            attribute: LEAF,
            default: 0,
            from: 0,
            to: 0,
            older: NOBODY,
        })
    }

    fn is_leaf(&self, f: Diagram) -> bool {
        self.row(f).attribute == LEAF
    }
}

impl Edges<'_> {
    /// The child for an atom.
    #[must_use]
    pub(crate) fn child(&self, atom: u32) -> Diagram {
        match self.except.binary_search_by_key(&atom, |(at, _)| *at) {
            Ok(at) => self
                .except
                .get(at)
                .map_or(self.default, |(_, child)| *child),
            Err(_) => self.default,
        }
    }
}

fn hash(attribute: u32, default: Diagram, except: &[(u32, Diagram)]) -> u64 {
    let mix = |hash: u64, word: u32| {
        let mixed = (hash ^ u64::from(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 29)
    };
    let start = mix(mix(0x51_7C_C1_B7, attribute), default.0);
    except
        .iter()
        .fold(start, |hash, (atom, child)| mix(mix(hash, *atom), child.0))
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn wide(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
