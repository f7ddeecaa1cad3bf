//! A place at an endpoint for one request, and the queue for one.
//!
//! Where `max_connections` is set, places are counted by all workers together, exactly. Who finds none waits, first come first
//! served over all workers, as many as `queue` allows and no longer than `connect_timeout`; everybody else is refused at once.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::clock::{Clock, Phase};
use super::forward::Patience;
use super::pool::{Ahead, Found, Member, Pool, Wish};
use super::registry::Group;
use crate::value::failure::Failure;

/// One request at an endpoint. Dropping it frees the place.
#[derive(Debug)]
pub struct Seat {
    pub(super) member: Rc<Member>,
    /// Whom to tell that a place is free, where places are limited.
    limited: Option<Arc<Group>>,
}

impl Seat {
    /// A place where there is no limit.
    pub(super) fn take(member: &Rc<Member>) -> Self {
        member.busy.set(member.busy.get() + 1);
        Self {
            member: Rc::clone(member),
            limited: None,
        }
    }

    /// A place, if fewer than `limit` are taken.
    pub(super) fn take_within(member: &Rc<Member>, limit: u32, group: &Arc<Group>) -> Option<Self> {
        let seats = &member.endpoint.state.seats;
        let one_more = |taken: u32| (taken < limit).then_some(taken + 1);
        seats
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        let mut seat = Self::take(member);
        seat.limited = Some(Arc::clone(group));
        Some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.member.busy.set(self.member.busy.get() - 1);
        if let Some(group) = &self.limited {
            let seats = &self.member.endpoint.state.seats;
            seats.fetch_sub(1, Ordering::Relaxed);
            group.freed.notify_one();
        }
    }
}

/// A place in the queue. Dropping it leaves the queue.
struct Ticket<'a>(&'a Group);

impl<'a> Ticket<'a> {
    fn draw(group: &'a Group, queue: u32) -> Option<Self> {
        let one_more = |waiting: u32| (waiting < queue).then_some(waiting + 1);
        let waiting = &group.waiting;
        let drawn = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        drawn.ok().map(|_| Self(group))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place for a request, at an endpoint that it has not tried if there is one.
///
/// # Errors
/// [`Failure::UpstreamBusy`] where all places are taken and the queue is full or takes too long,
/// [`Failure::UpstreamDrained`] where no endpoint may be used.
pub(super) async fn admit(
    pool: &Pool,
    wish: &Wish,
    tried: &[Rc<Member>],
    patience: Patience,
    clock: &Clock,
) -> Result<Seat, Failure> {
    match pool.find(wish, tried, Ahead::Respect) {
        Found::Seat(seat) => Ok(seat),
        Found::Nobody => Err(Failure::UpstreamDrained),
        // Boxed: waiting is rare, and its state would make every request's future larger.
        Found::Full => Box::pin(wait(pool, wish, tried, patience, clock)).await,
    }
}

async fn wait(
    pool: &Pool,
    wish: &Wish,
    tried: &[Rc<Member>],
    patience: Patience,
    clock: &Clock,
) -> Result<Seat, Failure> {
    let group = Arc::clone(&pool.group);
    let Some(_ticket) = Ticket::draw(&group, pool.upstream.queue) else {
        return Err(Failure::UpstreamBusy);
    };
    clock.enter(Phase::Connect, patience.connect);
    let waiting = async {
        loop {
            let mut freed = pin!(group.freed.notified());
            // Listening first, looking then: a place that is given back in between is not missed.
            freed.as_mut().enable();
            match pool.find(wish, tried, Ahead::Pass) {
                Found::Seat(seat) => return Ok(seat),
                Found::Nobody => return Err(Failure::UpstreamDrained),
                Found::Full => freed.await,
            }
        }
    };
    let waited = clock.within(waiting).await;
    waited.unwrap_or(Err(Failure::UpstreamBusy))
}
