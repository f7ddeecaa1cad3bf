//! The task of one authority: looks after the certificates of its names, one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::order::{self, OrderError};
use super::schedule::{self, Lot};
use super::storage::{Failures, Folder};
use super::wire::Wire;
use crate::snapshot::Snapshot;
use crate::snapshot::acme::{Challenges, Outcome, Settings, Slot};

type Names = Vec<Arc<Slot>>;

/// The tasks of the configuration in force. Dropped, they end, and so does an order that is under way.
#[derive(Debug, Default)]
pub struct Issuing {
    tasks: Vec<Task>,
}

#[derive(Debug)]
struct Task {
    settings: Arc<Settings>,
    names: watch::Sender<Names>,
    _running: AbortOnDropHandle<()>,
}

/// Serves what was kept for names that have no certificate yet. Called before the configuration is in force.
pub fn fill(snapshot: &Snapshot) {
    for issuance in &snapshot.issuances {
        let folder = Folder::new(&issuance.settings);
        let empty = issuance.names.iter();
        for slot in empty.filter(|slot| slot.certificate().is_none()) {
            match folder.certificate(slot.name()) {
                Ok(Some(certificate)) => slot.fill(Arc::new(certificate)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(name = slot.name(), cause = cause(&error), %error, "the certificate that was kept cannot be used");
                }
            }
        }
    }
}

impl Issuing {
    /// Looks after what `snapshot` names from now on, and nothing else. An order under way goes on where its settings are the
    /// same. Needs a runtime.
    pub fn follow(&mut self, snapshot: &Snapshot) {
        let wanted = &snapshot.issuances;
        self.tasks.retain(|task| {
            wanted
                .iter()
                .any(|issuance| issuance.settings.same(&task.settings))
        });
        for issuance in wanted {
            let known = self.tasks.iter();
            let mut known = known.filter(|task| task.settings.same(&issuance.settings));
            if let Some(task) = known.next() {
                task.names.send_replace(issuance.names.clone());
                continue;
            }
            let (names, given) = watch::channel(issuance.names.clone());
            let keeper = Keeper {
                folder: Folder::new(&issuance.settings),
                wire: Wire::new(Arc::clone(&issuance.settings)),
                settings: Arc::clone(&issuance.settings),
                challenges: Arc::clone(&snapshot.challenges),
                plans: BTreeMap::new(),
            };
            self.tasks.push(Task {
                settings: Arc::clone(&issuance.settings),
                names,
                _running: AbortOnDropHandle::new(tokio::spawn(keeper.run(given))),
            });
        }
    }
}

/// What is known of a name.
#[derive(Debug, Clone, Copy)]
struct Plan {
    due: Timestamp,
    failures: u32,
}

struct Keeper {
    settings: Arc<Settings>,
    folder: Folder,
    wire: Wire,
    challenges: Arc<Challenges>,
    plans: BTreeMap<Box<str>, Plan>,
}

/// How an attempt came out.
enum Attempt {
    /// A certificate is in use that needs none of our work before this time.
    Good(Timestamp),
    /// Another process orders.
    Busy,
    Failed(OrderError),
}

impl Keeper {
    async fn run(mut self, mut names: watch::Receiver<Names>) {
        loop {
            let wanted = names.borrow_and_update().clone();
            let Some((slot, due)) = self.next(&wanted) else {
                if names.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let wait = due
                .duration_since(Timestamp::now())
                .max(SignedDuration::ZERO);
            // Looked at again after a while: clocks are set, and machines sleep.
            let wait = wait.unsigned_abs();
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait.min(LOOK_EVERY)) => {}
                    changed = names.changed() => if changed.is_err() {
                        return;
                    },
                }
                continue;
            }
            let attempt = self.attempt(&slot).await;
            self.plan(&slot, attempt);
        }
    }

    /// The name that is due first.
    fn next(&mut self, wanted: &Names) -> Option<(Arc<Slot>, Timestamp)> {
        self.plans
            .retain(|name, _| wanted.iter().any(|slot| slot.name() == &**name));
        for slot in wanted {
            if !self.plans.contains_key(slot.name()) {
                let plan = self.first_plan(slot);
                self.plans.insert(Box::from(slot.name()), plan);
            }
        }
        let due = |slot: &&Arc<Slot>| self.plans.get(slot.name()).map(|plan| plan.due);
        let slot = wanted.iter().min_by_key(due)?;
        Some((Arc::clone(slot), due(&slot)?))
    }

    /// When a name is due that this process has not ordered for yet. Failures of the process before count: one that is started
    /// again and again must not ask each time.
    fn first_plan(&self, slot: &Slot) -> Plan {
        let now = Timestamp::now();
        let due = renewal(slot).unwrap_or(now);
        let failed = self.folder.failures(slot.name());
        let last = failed.and_then(|failed| Timestamp::from_second(failed.last).ok());
        let (Some(failed), Some(last)) = (failed, last.filter(|last| *last <= now)) else {
            return Plan { due, failures: 0 };
        };
        let pause = schedule::pause(failed.count, lives(slot, now), lot());
        let again = last + SignedDuration::try_from(pause).unwrap_or_default();
        if again > now && again > due {
            tracing::info!(name = slot.name(), failures = failed.count, next = %again, "earlier orders failed; waiting");
        }
        Plan {
            due: due.max(again),
            failures: failed.count,
        }
    }

    async fn attempt(&mut self, slot: &Arc<Slot>) -> Attempt {
        let _lock = match self.folder.lock() {
            Ok(Some(lock)) => lock,
            Ok(None) => return Attempt::Busy,
            Err(error) => return Attempt::Failed(error.into()),
        };
        if let Some(due) = self.adopt(slot) {
            return Attempt::Good(due);
        }
        // A task of its own: whatever an authority sends, the loop outlives it.
        let work = order_one(
            Arc::clone(&self.settings),
            self.folder.clone(),
            self.wire.clone(),
            slot.name().to_owned(),
            Arc::clone(&self.challenges),
        );
        let working = AbortOnDropHandle::new(tokio::spawn(work));
        let outcome = match tokio::time::timeout(ORDER_PATIENCE, working).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panicked)) => Err(OrderError::Panicked),
            Err(_late) => Err(OrderError::Late),
        };
        match outcome {
            Ok(ordered) => {
                slot.ordered(Outcome::Issued);
                slot.fill(Arc::new(ordered.certificate));
                if let Err(error) = self.folder.keep(slot.name(), &ordered.pem) {
                    // It serves, but the next start will have to order anew.
                    tracing::error!(name = slot.name(), cause = cause(&error), %error, "the certificate cannot be kept");
                }
                Attempt::Good(renewal(slot).unwrap_or_else(Timestamp::now))
            }
            Err(error) => Attempt::Failed(error),
        }
    }

    /// Takes what another process has ordered meanwhile, if that is better than what is in use; answers when it is due.
    fn adopt(&self, slot: &Slot) -> Option<Timestamp> {
        let kept = self.folder.certificate(slot.name()).ok()??;
        let held = slot.certificate().map(|held| held.not_after());
        if held.is_some_and(|held| kept.not_after() <= held) {
            return None;
        }
        slot.fill(Arc::new(kept));
        let due = renewal(slot)?;
        (due > Timestamp::now()).then_some(due)
    }

    fn plan(&mut self, slot: &Slot, attempt: Attempt) {
        let now = Timestamp::now();
        let name = slot.name();
        let before = self.plans.get(name).map_or(0, |plan| plan.failures);
        let after = |pause: Duration| now + SignedDuration::try_from(pause).unwrap_or_default();
        let plan = match attempt {
            Attempt::Good(due) => {
                if let Some(certificate) = slot.certificate() {
                    let until = certificate.not_after();
                    tracing::info!(name, %until, renewal = %due, "certificate in use");
                }
                self.note(name, None);
                // Never at once again, whatever life the authority gives.
                let due = due.max(after(LEAST_APART));
                Plan { due, failures: 0 }
            }
            Attempt::Busy => Plan {
                due: after(BUSY_PAUSE),
                failures: before,
            },
            Attempt::Failed(error) => {
                slot.ordered(Outcome::Failed);
                let failures = before.saturating_add(1);
                let lives = lives(slot, now);
                let mut pause = schedule::pause(failures, lives, lot());
                if let Some(later) = self.wire.later() {
                    pause = pause.max(later);
                }
                let due = after(pause);
                let cause = cause(&error);
                match slot.certificate().filter(|_| lives.is_some()) {
                    Some(held) => {
                        let until = held.not_after();
                        tracing::warn!(name, %error, cause, failures, next = %due, %until, "no new certificate; the last good one stays");
                    }
                    None => {
                        tracing::error!(name, %error, cause, failures, next = %due, "no certificate");
                    }
                }
                self.note(
                    name,
                    Some(Failures {
                        count: failures,
                        last: now.as_second(),
                    }),
                );
                if error.is_limit() {
                    // It is we who are limited, not only this name.
                    for other in self.plans.values_mut() {
                        other.due = other.due.max(due);
                    }
                }
                Plan { due, failures }
            }
        };
        self.plans.insert(Box::from(name), plan);
    }

    fn note(&self, name: &str, failures: Option<Failures>) {
        if let Err(error) = self.folder.note(name, failures) {
            tracing::warn!(name, cause = cause(&error), %error, "failures cannot be noted");
        }
    }
}

async fn order_one(
    settings: Arc<Settings>,
    folder: Folder,
    wire: Wire,
    name: String,
    challenges: Arc<Challenges>,
) -> Result<order::Ordered, OrderError> {
    let account = order::account(&settings, &folder, &wire).await?;
    let ordered = order::order(&account, &name, settings.challenge, &challenges).await;
    match ordered {
        Err(error) if error.is_stranger() => {
            tracing::warn!(directory = %settings.url, "the authority does not know the account; making another");
            folder.drop_account()?;
            let account = order::account(&settings, &folder, &wire).await?;
            order::order(&account, &name, settings.challenge, &challenges).await
        }
        ordered => ordered,
    }
}

/// When the certificate in use is due.
fn renewal(slot: &Slot) -> Option<Timestamp> {
    let held = slot.certificate()?;
    Some(schedule::renewal(
        held.not_before(),
        held.not_after(),
        lot(),
    ))
}

/// The whole life of the certificate in use, and what is left of it; nothing where it is over.
fn lives(slot: &Slot, now: Timestamp) -> Option<(SignedDuration, SignedDuration)> {
    let held = slot.certificate()?;
    let left = held.not_after().duration_since(now);
    let life = held.not_after().duration_since(held.not_before());
    left.is_positive().then_some((life, left))
}

fn lot() -> Lot {
    let mut bytes = [0; 4];
    // Without chance, all are as early as can be.
    if rand::fill(&mut bytes).is_err() {
        bytes = [0; 4];
    }
    Lot::new(bytes)
}

/// The causes of an error, on one line.
fn cause(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

/// How long a whole order may take.
const ORDER_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long until a lock is asked for again.
const BUSY_PAUSE: Duration = Duration::from_secs(30);
/// How far orders of one name are apart at least.
const LEAST_APART: Duration = Duration::from_secs(10);
/// How often a plan is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
