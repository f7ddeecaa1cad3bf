//! The control thread's loop: orders, signals, changed files, names, and the end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use super::changes::Changes;
use super::handover::{NoHeir, PATIENCE, Successor};
use super::instance::{Signals, Watch, load_tested};
use super::keys::Fetching;
use super::listeners::Listeners;
use super::names::{self, Change};
use super::revocation;
use super::supervisor::{Supervisor, all_answer, keep_alive};
use super::watch::FileWatch;
use crate::admin::doors::{Doors, Prepared};
use crate::admin::{View, shadow};
use crate::config::context::Memory;
use crate::config::{Diagnostic, Input, Report};
use crate::identity::revocation::Added;
use crate::observe::access_log::Logger;
use crate::observe::metrics::{self, Metrics};
use crate::server::acme::{self, Issuing};
use crate::server::admission::Admission;
use crate::server::inherited::{Inherited, Role, Tidings};
use crate::server::worker::Command;
use crate::snapshot::store::Publisher;
use crate::upstream::registry::millis;

/// What the control thread can be asked.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration anew.
    Reload(oneshot::Sender<Result<u64, Box<Report>>>),
    /// Open log files anew.
    Reopen,
    /// How are you?
    Status(oneshot::Sender<serde_json::Value>),
    /// Stop accepting and end when requests in flight have ended, within `drain_timeout`.
    Drain,
    /// End now.
    Stop,
}

/// Everything the control thread owns.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) input: Input,
    pub(super) memory: Memory,
    pub(super) publisher: Publisher,
    pub(super) listeners: Listeners,
    pub(super) workers: Vec<UnboundedSender<Command>>,
    /// Yields nothing, and ends when the last worker has.
    pub(super) gone: mpsc::Receiver<()>,
    pub(super) logger: Logger,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Metrics,
    pub(super) orders: UnboundedReceiver<Order>,
    pub(super) doors: Doors,
    pub(super) view: View,
    /// When the newest load began.
    pub(super) loaded: SystemTime,
    pub(super) fetching: Fetching,
    pub(super) issuing: Issuing,
    pub(super) last_reload: Option<(Timestamp, bool)>,
    pub(super) inherited: Inherited,
    pub(super) successor: Option<Successor>,
    pub(super) supervisor: Supervisor,
    pub(super) changes: Changes,
}

/// How the loop came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Within the drain time.
    Drain,
    /// When the last request has ended.
    Patient,
    /// Now.
    Stop,
    /// Within the drain time; another process serves already.
    Succeeded,
}

impl Control {
    /// Runs until the proxy ends.
    pub(super) fn run(mut self, admin: Prepared, signals: Signals, watch: Watch) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(async {
            let mut signals = if signals == Signals::Answer {
                Some(Received::new()?)
            } else {
                None
            };
            self.doors.apply(admin, &self.view);
            self.fetching
                .follow(&self.publisher.newest(), &mut self.memory);
            self.issuing.follow(&self.publisher.newest());
            let (tell, mut told) = mpsc::channel(1);
            let mut files = (watch == Watch::Files).then(|| FileWatch::new(tell.clone()));
            self.watch(files.as_mut());
            self.announce().await;
            let ending = self.attend(&mut signals, files.as_mut(), &mut told).await;
            drop(tell);
            self.end(ending, &mut signals).await;
            Ok(())
        });
        self.logger.shutdown();
        runtime.shutdown_background();
        outcome
    }

    /// Tells whoever waits for it that we serve.
    async fn announce(&mut self) {
        if !all_answer(&self.workers, START_PATIENCE).await {
            tracing::error!("not every worker has started");
            let why = "not every worker has started".to_owned();
            return self.inherited.tell(&Tidings::Failed(why));
        }
        self.inherited.tell(&Tidings::Ready);
        self.inherited.settle();
        self.doors.own();
        // What the process before us was told while we loaded.
        revocation::tidy(&self.memory.revoked, Timestamp::now());
        let supervisor = self.supervisor;
        supervisor.ready(self.publisher.newest().generation);
        if let Some(every) = supervisor.watchdog() {
            tokio::spawn(keep_alive(supervisor, every, self.workers.clone()));
        }
    }

    async fn attend(
        &mut self,
        signals: &mut Option<Received>,
        mut files: Option<&mut FileWatch>,
        told: &mut mpsc::Receiver<()>,
    ) -> Ending {
        let mut names = tokio::time::interval(NAMES_EVERY);
        names.reset();
        let mut revoked = tokio::time::interval(REVOKED_EVERY);
        revoked.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Reload(answer)) => {
                        let outcome = self.reload_all(files.as_deref_mut());
                        drop(answer.send(outcome));
                    }
                    Some(Order::Reopen) => self.logger.reopen(),
                    Some(Order::Status(answer)) => drop(answer.send(self.status())),
                    Some(Order::Drain) => return Ending::Drain,
                    Some(Order::Stop) | None => return Ending::Stop,
                },
                signal = next(signals) => match signal {
                    Word::Reload => {
                        report(&self.reload_all(files.as_deref_mut()));
                    }
                    Word::Reopen => self.logger.reopen(),
                    Word::HandOver => if let Some(ending) = self.hand_over(signals).await {
                        return ending;
                    },
                    Word::Drain => return Ending::Drain,
                    Word::Patient => return Ending::Patient,
                },
                Some(()) = told.recv() => {
                    tokio::time::sleep(SETTLE).await;
                    if files.as_deref_mut().is_some_and(FileWatch::changed) {
                        report(&self.reload_all(files.as_deref_mut()));
                    }
                }
                _ = revoked.tick() => revocation::tidy(&self.memory.revoked, Timestamp::now()),
                _ = names.tick() => {
                    let wanted = self.memory.wanted_names.clone();
                    if names::refresh(&mut self.memory, &wanted, Timestamp::now()) == Change::Changed {
                        report(&self.reload_all(files.as_deref_mut()));
                    }
                }
            }
        }
    }

    /// Starts the binary anew and lets it take over. The answer is how we end, or nothing where we go on.
    async fn hand_over(&mut self, signals: &mut Option<Received>) -> Option<Ending> {
        let Some(successor) = &self.successor else {
            tracing::warn!("handing over is for a process of its own; nothing done");
            return None;
        };
        let heir = self.legacy().map_err(NoHeir::Deaf);
        let mut heir = match heir.and_then(|sockets| successor.start(sockets)) {
            Ok(heir) => heir,
            Err(error) => {
                stays(&error);
                return None;
            }
        };
        let pid = heir.pid();
        tracing::info!(pid, "handing over to a new process");
        let outcome = loop {
            let word = tokio::select! {
                outcome = heir.serves(PATIENCE) => break outcome,
                word = next(signals) => word,
            };
            match word {
                Word::Drain | Word::Patient => {
                    heir.dismiss();
                    return Some(if word == Word::Drain {
                        Ending::Drain
                    } else {
                        Ending::Patient
                    });
                }
                Word::Reload | Word::HandOver => {
                    tracing::warn!("busy handing over; ask again if it does not succeed");
                }
                Word::Reopen => self.logger.reopen(),
            }
        };
        match outcome {
            Ok(()) => {
                tracing::info!(pid, "the new process serves");
                self.doors.disown();
                self.doors.close();
                self.supervisor.succeeded_by(pid);
                Some(Ending::Succeeded)
            }
            Err(error) => {
                heir.dismiss();
                stays(&error);
                None
            }
        }
    }

    /// Every socket that an heir gets, by its name.
    fn legacy(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let inherited = &self.inherited;
        let mut sockets: Vec<(String, OwnedFd)> = Vec::new();
        for socket in inherited.supervisors()? {
            sockets.push((OF_SUPERVISOR.to_owned(), socket));
        }
        for (key, address, socket) in self.listeners.copies()? {
            if !inherited.is_supervisors(address) {
                sockets.push((Role::Listener(key).name(), socket.into()));
            }
        }
        for (role, socket) in self.doors.copies(inherited)? {
            sockets.push((role.name(), socket));
        }
        Ok(sockets)
    }

    /// Reloads, and watches what is read now.
    fn reload_all(&mut self, mut files: Option<&mut FileWatch>) -> Result<u64, Box<Report>> {
        if let Some(files) = &mut files {
            // What changed until now is about to be read.
            let _noted = files.changed();
        }
        self.supervisor.reloading();
        let outcome = self.reload();
        self.watch(files);
        let generation = self.publisher.newest().generation;
        match outcome {
            Ok(_) => self.supervisor.ready(generation),
            Err(_) => self.supervisor.refused(generation),
        }
        outcome
    }

    /// Compiles beside the running configuration and swaps, or changes nothing.
    fn reload(&mut self) -> Result<u64, Box<Report>> {
        let outcome = self.try_reload();
        let now = Timestamp::now();
        self.last_reload = Some((now, outcome.is_ok()));
        let counted = match outcome {
            Ok(_) => metrics::Reload::Applied,
            Err(_) => metrics::Reload::Refused,
        };
        self.metrics.reloaded(counted, now);
        outcome
    }

    fn try_reload(&mut self) -> Result<u64, Box<Report>> {
        self.loaded = SystemTime::now();
        let before = self.publisher.newest();
        let (loaded, memory) = load_tested(
            &self.input,
            std::mem::take(&mut self.memory),
            before.generation + 1,
        );
        self.memory = memory;
        let Some(mut snapshot) = loaded.snapshot else {
            return Err(Box::new(loaded.report));
        };
        let mut refuse = loaded.report;
        let mut refused = |code, message: String| {
            refuse.diagnostics.push(Diagnostic::global(code, message));
            Err(Box::new(std::mem::take(&mut refuse)))
        };
        if snapshot.server.workers != before.server.workers {
            tracing::warn!("`workers` changes with the next start only");
            snapshot.server.workers = before.server.workers;
        }
        let prepared = match self.listeners.prepare(
            &snapshot.listeners,
            snapshot.server.workers,
            &mut self.inherited,
        ) {
            Ok(prepared) => prepared,
            Err(error) => return refused("cannot-listen", format!("{error}: {}", error.source)),
        };
        let doors = match self.doors.prepare(&snapshot.admin, &mut self.inherited) {
            Ok(doors) => doors,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let message = format!("{error}: {}", cause.unwrap_or_default());
                return refused("cannot-listen", message);
            }
        };
        if let Err(error) = self.logger.configure(&snapshot.access_logs) {
            return refused("cannot-open-log", error.to_string());
        }
        let generation = snapshot.generation;
        self.view.upstreams.adopt(&snapshot);
        acme::fill(&snapshot);
        let snapshot = Arc::new(snapshot);
        self.publisher.publish(Arc::clone(&snapshot));
        revocation::follow(&snapshot.revocation);
        self.fetching.follow(&snapshot, &mut self.memory);
        self.issuing.follow(&snapshot);
        self.changes.tell(before, snapshot);
        self.listeners.apply(prepared, &self.workers);
        self.doors.apply(doors, &self.view);
        Ok(generation)
    }

    fn watch(&self, files: Option<&mut FileWatch>) {
        let Some(files) = files else { return };
        let mut watched: Vec<PathBuf> = self.publisher.newest().watch.clone();
        if let Input::File(root) = &self.input {
            watched.push(root.clone());
        }
        files.set(watched, self.loaded);
    }

    fn status(&self) -> serde_json::Value {
        let snapshot = self.publisher.newest();
        let addresses: Vec<String> = self
            .listeners
            .addresses(&snapshot.listeners)
            .iter()
            .map(ToString::to_string)
            .collect();
        let started = self.view.started;
        let uptime = Timestamp::now().duration_since(started).as_secs();
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started": started.to_string(),
            "uptime_seconds": uptime,
            "generation": snapshot.generation,
            "config": self.input.name(),
            "last_reload": self.last_reload.map(|(at, good)| serde_json::json!({
                "at": at.to_string(),
                "result": if good { "applied" } else { "refused" },
            })),
            "workers": snapshot.server.workers,
            "connections": self.admission.open(),
            "listeners": addresses,
            "admin": self.doors.address().map(|address| address.to_string()),
            "sites": snapshot.sites.len(),
            "routes": snapshot.sites.iter().map(|site| site.routes.len()).sum::<usize>(),
            "upstreams": snapshot.upstreams.len(),
            "endpoints": self.endpoints(),
            "shadow": shadow::summary(&snapshot, &self.metrics, shadow::FEW),
            "access_log": {
                "written": self.logger.written_lines(),
                "dropped": self.logger.dropped_lines(),
            },
        })
    }

    /// Every endpoint of every upstream, and how it is.
    fn endpoints(&self) -> Vec<serde_json::Value> {
        let now = millis();
        let mut all = Vec::new();
        for group in self.view.upstreams.groups() {
            for endpoint in group.endpoints() {
                all.push(serde_json::json!({
                    "upstream": *group.name,
                    "endpoint": *endpoint.label,
                    "state": endpoint.state.condition(now).word(),
                    "in_flight": endpoint.state.in_flight(),
                }));
            }
        }
        all
    }

    async fn end(&mut self, ending: Ending, signals: &mut Option<Received>) {
        let order = |command: fn() -> Command, workers: &[UnboundedSender<Command>]| {
            for worker in workers {
                drop(worker.send(command()));
            }
        };
        self.view.draining.store(true, Ordering::Relaxed);
        // Whoever comes after us may order from now on.
        self.issuing = Issuing::default();
        if ending != Ending::Succeeded {
            self.supervisor.stopping();
        }
        // Nobody may wait in the queue of a socket from which nobody accepts.
        self.listeners = Listeners::default();
        self.inherited = Inherited::default();
        if ending != Ending::Stop {
            tracing::info!("draining");
            order(|| Command::Drain, &self.workers);
            let patience = match ending {
                Ending::Drain | Ending::Succeeded => self.publisher.newest().server.drain_timeout,
                Ending::Patient | Ending::Stop => FOREVER,
            };
            let orders = &mut self.orders;
            tokio::select! {
                _ = self.gone.recv() => {}
                () = tokio::time::sleep(patience) => tracing::warn!("drain time is over; closing what is left"),
                // A second word means now.
                _ = next(signals) => tracing::warn!("closing what is left"),
                () = stopped(orders) => {}
                // What lasts here may be revoked where the process after us is asked.
                () = heed(&self.memory.revoked) => {}
            }
        }
        order(|| Command::Stop, &self.workers);
        drop(tokio::time::timeout(STOP_PATIENCE, self.gone.recv()).await);
        self.doors.close();
        tracing::info!("ended");
    }
}

/// Goes on listening to what another process revokes.
async fn heed(revoked: &Added) {
    loop {
        tokio::time::sleep(REVOKED_EVERY).await;
        revocation::tidy(revoked, Timestamp::now());
    }
}

async fn stopped(orders: &mut UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        if matches!(order, Order::Stop) {
            return;
        }
    }
    std::future::pending().await
}

/// Says why there is no heir.
fn stays(error: &NoHeir) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let cause = cause.unwrap_or_default();
    tracing::error!(%error, cause, "handing over failed; this process goes on");
}

fn report(outcome: &Result<u64, Box<Report>>) {
    match outcome {
        Ok(generation) => tracing::info!(generation, "configuration reloaded"),
        Err(report) => {
            tracing::error!("configuration refused, the old one stays");
            // Lines and not excerpts: no secret that stands in a file may reach a log.
            for finding in report.lines() {
                tracing::error!("{finding}");
            }
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Reload,
    Reopen,
    HandOver,
    Drain,
    Patient,
}

/// The signals that we answer (DESIGN section 8).
#[derive(Debug)]
struct Received {
    hup: Signal,
    usr1: Signal,
    usr2: Signal,
    term: Signal,
    int: Signal,
    quit: Signal,
}

impl Received {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }
}

async fn next(signals: &mut Option<Received>) -> Word {
    let Some(signals) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = signals.hup.recv() => Word::Reload,
        _ = signals.usr1.recv() => Word::Reopen,
        _ = signals.usr2.recv() => Word::HandOver,
        _ = signals.term.recv() => Word::Drain,
        _ = signals.int.recv() => Word::Drain,
        _ = signals.quit.recv() => Word::Patient,
    }
}

/// What a supervisor's socket is called on its way to an heir.
const OF_SUPERVISOR: &str = "supervisor";
/// How long workers may take to come up.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// How often `dns:` names are asked for.
const NAMES_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked for what another process on the same file has revoked.
const REVOKED_EVERY: Duration = Duration::from_secs(2);
/// How long files are left to settle before they are read: editors and package managers write several.
const SETTLE: Duration = Duration::from_millis(200);
/// QUIT waits for the last request, however long it takes.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);
/// How long a stopped worker may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
