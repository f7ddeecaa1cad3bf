//! One whole proxy in this process.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::control::{Control, Order};
use super::handover::Successor;
use super::listeners::{BindError, Listeners};
use super::names::{self, Change};
use super::supervisor::Supervisor;
use crate::admin::View;
use crate::admin::doors::{DoorError, Doors};
use crate::config::compile::tests;
use crate::config::{self, Diagnostic, Input, Loaded, Report};
use crate::observe::access_log::Logger;
use crate::observe::metrics::Metrics;
use crate::server::admission::Admission;
use crate::server::descriptors;
use crate::server::inherited::{Inherited, Tidings};
use crate::server::worker::{self, Command};
use crate::snapshot::store::Publisher;
use crate::upstream::keeper;
use crate::upstream::registry::Registry;

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// The configuration.
    pub input: Input,
    /// Whether this process' signals are ours to answer.
    pub signals: Signals,
    /// Whether changed files reload by themselves.
    pub watch: Watch,
}

/// Whether signals are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signals {
    /// HUP, TERM, INT, QUIT, USR1, and USR2 where there is a [`Successor`].
    Answer,
    /// None.
    Leave,
}

/// Whether files are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// A changed file reloads.
    Files,
    /// Only an order reloads.
    Nothing,
}

/// What an instance has that is a process of its own. By default nothing.
#[derive(Debug, Default)]
pub struct Process {
    /// Sockets that were opened for it.
    pub inherited: Inherited,
    /// How the binary that replaces it is started.
    pub successor: Option<Successor>,
    /// Whom it tells how it is.
    pub supervisor: Supervisor,
}

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error("the configuration is refused")]
    Config(Box<Report>),
    /// A socket cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An access log cannot be opened.
    #[error(transparent)]
    Log(#[from] crate::observe::access_log::OpenError),
    /// The admin cannot be reached where the configuration says.
    #[error(transparent)]
    Admin(#[from] DoorError),
    /// A thread or a runtime cannot be made.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl StartError {
    /// In one line, without the lines of a file, where a secret may stand.
    fn in_short(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        if let Self::Config(report) = self {
            for finding in report.lines() {
                text.push_str("; ");
                text.push_str(&finding.to_string());
            }
        }
        text
    }
}

/// A running proxy. Dropping it stops it.
#[derive(Debug)]
pub struct Instance {
    orders: mpsc::UnboundedSender<Order>,
    addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    report: Report,
    control: Option<JoinHandle<()>>,
}

impl Instance {
    /// Starts with a configuration file, for a process that has other things to do: no signals, no watching.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(config: &Path) -> Result<Self, StartError> {
        let input = Input::File(config.to_owned());
        Self::start_with(Options {
            input,
            signals: Signals::Leave,
            watch: Watch::Nothing,
        })
    }

    /// Starts.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_with(options: Options) -> Result<Self, StartError> {
        Self::start_process(options, Process::default())
    }

    /// Starts as a process of its own. The process before this one, if there is one, is told how it went.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_process(options: Options, mut process: Process) -> Result<Self, StartError> {
        Self::begin(options, &mut process).inspect_err(|error| {
            process.inherited.tell(&Tidings::Failed(error.in_short()));
        })
    }

    fn begin(options: Options, process: &mut Process) -> Result<Self, StartError> {
        let loading = SystemTime::now();
        let (loaded, memory) = load_tested(&options.input, config::context::Memory::default(), 1);
        let Loaded {
            snapshot, report, ..
        } = loaded;
        let Some(snapshot) = snapshot else {
            return Err(StartError::Config(Box::new(report)));
        };
        crate::server::acme::fill(&snapshot);
        let snapshot = Arc::new(snapshot);
        super::revocation::follow(&snapshot.revocation);
        let workers = snapshot.server.workers;

        let mut listeners = Listeners::default();
        let prepared = listeners.prepare(&snapshot.listeners, workers, &mut process.inherited)?;
        let logger = Logger::new();
        logger.configure(&snapshot.access_logs)?;
        let doors = Doors::default();
        let admin = doors.prepare(&snapshot.admin, &mut process.inherited)?;
        let admin_address = admin.address();

        let upstreams = Registry::default();
        upstreams.adopt(&snapshot);
        let publisher = Publisher::new(Arc::clone(&snapshot));
        let most = descriptors::most().map(|most| descriptors::for_clients(most, workers));
        let wanted = snapshot.server.limits.connections;
        if let Some(most) = most.filter(|most| *most < wanted) {
            tracing::warn!(
                connections = most,
                wanted,
                "the limit of open files allows fewer client connections than the configuration"
            );
        }
        let admission = Arc::new(Admission::of(most.unwrap_or(usize::MAX)));
        let metrics = Metrics::new(Timestamp::now());
        let (alive, gone) = mpsc::channel::<()>(1);
        let mut commands = Vec::with_capacity(workers);
        for number in 0..workers {
            let (sender, receiver) = mpsc::unbounded_channel::<Command>();
            let parts = worker::Parts {
                snapshots: publisher.subscribe(),
                commands: receiver,
                log: logger.worker(),
                metrics: metrics.worker(),
                upstreams: upstreams.clone(),
                admission: Arc::clone(&admission),
            };
            let alive = alive.clone();
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            let spawned = thread.spawn(move || {
                let _alive = alive;
                if let Err(error) = worker::run(parts) {
                    tracing::error!(%error, "a worker ended");
                }
            });
            drop(spawned.map_err(StartError::Thread)?);
            commands.push(sender);
        }
        drop(alive);
        let (snapshots, known) = (publisher.subscribe(), upstreams.clone());
        let thread = std::thread::Builder::new().name("upstreams".to_owned());
        let spawned = thread.spawn(move || {
            if let Err(error) = keeper::run(snapshots, &known) {
                tracing::error!(%error, "upstreams are not looked after");
            }
        });
        drop(spawned.map_err(StartError::Thread)?);
        listeners.apply(prepared, &commands);
        let addresses = listeners.addresses(&snapshot.listeners);
        let (orders, orders_in) = mpsc::unbounded_channel();
        let view = View {
            snapshots: publisher.subscribe(),
            metrics: metrics.clone(),
            logger: logger.clone(),
            admission: Arc::clone(&admission),
            upstreams,
            draining: Arc::default(),
            started: Timestamp::now(),
            workers: commands.as_slice().into(),
            orders: orders.clone(),
        };
        let control = Control {
            input: options.input,
            memory,
            publisher,
            listeners,
            workers: commands,
            gone,
            logger,
            admission,
            metrics,
            orders: orders_in,
            doors,
            view,
            loaded: loading,
            fetching: super::keys::Fetching::default(),
            issuing: crate::server::acme::Issuing::default(),
            last_reload: None,
            inherited: std::mem::take(&mut process.inherited),
            successor: process.successor.take(),
            supervisor: process.supervisor,
            changes: super::changes::Changes::default(),
        };
        let thread = std::thread::Builder::new().name("control".to_owned());
        let control = thread
            .spawn(move || {
                if let Err(error) = control.run(admin, options.signals, options.watch) {
                    tracing::error!(%error, "the control thread ended");
                }
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            orders,
            addresses,
            admin_address,
            report,
            control: Some(control),
        })
    }

    /// The bound addresses, one per `[[listener]]` in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// The bound address of the admin on TCP, as it was at the start.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// What the first load found: warnings and notes.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// Reads the configuration anew. Blocks until it is in force or refused; answers its generation.
    ///
    /// # Errors
    /// The report, where the configuration is refused; nothing has changed then.
    pub fn reload(&self) -> Result<u64, Box<Report>> {
        let (answer, answered) = oneshot::channel();
        drop(self.orders.send(Order::Reload(answer)));
        let gone = || Err(Box::new(Report::default()));
        answered.blocking_recv().unwrap_or_else(|_gone| gone())
    }

    /// Opens log files anew, for rotation.
    pub fn reopen_logs(&self) {
        drop(self.orders.send(Order::Reopen));
    }

    /// Stops accepting, lets requests in flight end within `drain_timeout`, and ends. Blocks until then.
    pub fn shutdown(mut self) {
        drop(self.orders.send(Order::Drain));
        self.join();
    }

    /// Blocks until the proxy has ended by a signal.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(control) = self.control.take()
            && control.join().is_err()
        {
            tracing::error!("the control thread panicked");
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.control.is_some() {
            drop(self.orders.send(Order::Stop));
            self.join();
        }
    }
}

/// Loads what may come into force: a policy whose own tests fail is refused.
pub(super) fn load_tested(
    input: &Input,
    memory: config::context::Memory,
    generation: u64,
) -> (Loaded, config::context::Memory) {
    let (mut loaded, memory) = load(input, memory, generation);
    let failed = loaded.report.diagnostics.iter();
    let failed = failed.filter(|finding| finding.code == tests::FAILED);
    let message = match failed.count() {
        0 => return (loaded, memory),
        1 => "a test of the policy fails, so the policy is not loaded".to_owned(),
        count => format!("{count} tests of the policy fail, so the policy is not loaded"),
    };
    loaded.snapshot = None;
    let finding = Diagnostic::global("policy-tests-failed", message);
    let help = "mend the policy or the test; `portcullis explain` shows how a request is judged";
    loaded.report.diagnostics.push(finding.help(help));
    (loaded, memory)
}

/// Loads, asking for names that the configuration wants and nobody has asked for yet.
pub(crate) fn load(
    input: &Input,
    memory: config::context::Memory,
    generation: u64,
) -> (Loaded, config::context::Memory) {
    let now = Timestamp::now();
    let mut loaded = config::load(input.clone(), memory, generation, now);
    let mut memory = std::mem::take(&mut loaded.memory);
    let known = |name: &&String| !memory.names.contains_key(*name);
    let new = memory.wanted_names.iter().filter(known).cloned().collect();
    if names::refresh(&mut memory, &new, now) == Change::Changed {
        loaded = config::load(input.clone(), memory, generation, now);
        memory = std::mem::take(&mut loaded.memory);
    }
    (loaded, memory)
}
