//! What a policy does to every request at once, and what changes between two. As pure as [`crate::policy`]: no files, no clock.
//!
//! It decides nothing about a request that is being served. It must not know a configuration file, a network or a database.
//!
//! How it goes:
//!
//! 1. `book::Book` writes the rules of one policy, or of two, down in terms that they share: the same question is one term,
//!    whoever asks, whatever its set is called; the role hierarchy is worked in. Conditions that say the same are one clause.
//! 2. `book::Book::hosts` are the kinds of hosts that no rule tells apart; `book::Book::cells` the requests of such a kind
//!    that belong to one route (or to none) in every policy, each with the rules that guard it: a `cell::Cell`.
//! 3. `cell::Cell::space` cuts the requests of a cell into points: attributes with atoms (`space`, `path`), only what
//!    the cell's own rules tell apart. Sets of points are `diagram`s in `space.store`.
//! 4. `space.clause(rule.clause, view, Seen::Wholly)` is where a rule's condition holds; `cell::Cell::requests` the requests
//!    of the cell; `cell::Cell::judged` how they end, in both stages.
//! 5. `space.witness(region)` is a request of a region (`witness`), to be judged before it is told.
//!
//! A region that is `FALSE` is certain, as long as `space.store.is_exhausted()` is false when all is done: no request is in
//! it. A region that is not may still hold no request where it rests on what cannot be looked into (a header, a regular
//! expression, a window of time), or on facts that never come together (a country and a continent). Facts are taken as
//! available, requests as well-formed, and the moment as not before `now`.
//!
//! ```text
//! let book = Book::new(vec![&policy], now);
//! for hosts in book.hosts() {
//!     for cell in book.cells(&hosts) {
//!         let Some(mut space) = cell.space(&book, BUDGET) else { continue /* cannot tell */ };
//!         let all = cell.requests(&mut space);
//!         for deny in cell.views[0].denies() {
//!             let holds = space.clause(deny.clause, 0, Seen::Wholly);
//!             let here = space.store.within(holds, all);
//!             if here == FALSE && !space.store.is_exhausted() { /* it can never match here */ }
//!         }
//!     }
//! }
//! ```

mod addresses;
pub(crate) mod book;
pub(crate) mod cell;
pub(crate) mod diagram;
pub mod diff;
pub mod findings;
mod path;
pub mod reach;
pub(crate) mod space;
pub(crate) mod witness;
mod words;

#[cfg(test)]
mod tests;

pub use book::Ending;
