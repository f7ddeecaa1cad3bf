//! Handing over to a new binary: the heir gets our sockets, loads the configuration, and says that it serves; only then do we stop
//! accepting. No socket closes in between, so nobody is refused. Where the heir does not come up, we go on as before.
//!
//! The sockets travel as `LISTEN_FDS` does (`sd_listen_fds(3)`), with names that [`Role`] reads. The last one is a socket pair on
//! which the heir tells how its start went.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use tokio::net::UnixDatagram;

use crate::server::inherited::{Role, TIDINGS_BYTES_MAX, Tidings};

/// How the binary that replaces this one is started.
#[derive(Debug, Clone)]
pub struct Successor {
    program: PathBuf,
    name: Option<OsString>,
    arguments: Vec<OsString>,
}

/// Why there is no heir.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHeir {
    /// It cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// The binary.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says that it does not serve.
    #[error("the new process does not start: {0}")]
    Refuses(String),
    /// It has ended.
    #[error("the new process ended ({0}) before it was ready")]
    Ended(ExitStatus),
    /// It cannot be heard.
    #[error("the new process cannot be heard")]
    Deaf(#[source] io::Error),
    /// It takes too long.
    #[error("the new process was not ready within {} s", PATIENCE.as_secs())]
    Late,
}

/// A process that has been started and has not yet spoken.
#[derive(Debug)]
pub(super) struct Heir {
    child: Child,
    herald: UnixDatagram,
}

impl Successor {
    /// The file that this process was started from, under the name it was called by, with the same arguments. Call it at the
    /// start: later the file may be another one, which is the point.
    ///
    /// # Errors
    /// Where the system does not say which file it is.
    pub fn of_this_process() -> io::Result<Self> {
        let running = std::env::current_exe()?;
        let mut arguments = std::env::args_os();
        let name = arguments.next();
        // A link that is set to the next version counts as it was called.
        let called = name.as_ref().map(Path::new);
        let called = called.filter(|name| name.components().count() > 1);
        let called = called.and_then(|name| std::path::absolute(name).ok());
        let same = |name: &PathBuf| {
            let file = std::fs::canonicalize(name);
            file.is_ok_and(|file| file == running)
        };
        Ok(Self {
            program: called.filter(same).unwrap_or(running),
            name,
            arguments: arguments.collect(),
        })
    }

    /// Starts the heir with these sockets.
    pub(super) fn start(&self, mut sockets: Vec<(String, OwnedFd)>) -> Result<Heir, NoHeir> {
        let fail = |source| NoHeir::Start {
            program: self.program.clone(),
            source,
        };
        let (ours, theirs) = StdUnixDatagram::pair().map_err(fail)?;
        ours.set_nonblocking(true).map_err(fail)?;
        let herald = UnixDatagram::from_std(ours).map_err(fail)?;
        sockets.push((Role::Herald.name(), theirs.into()));
        let count = sockets.len();
        let mut names = Vec::with_capacity(count);
        let mut mappings = Vec::with_capacity(count);
        for (child_fd, (name, parent_fd)) in (FIRST_DESCRIPTOR..).zip(sockets) {
            names.push(name);
            mappings.push(FdMapping {
                parent_fd,
                child_fd,
            });
        }
        let mut command = Command::new(&self.program);
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        command
            .args(&self.arguments)
            .env("LISTEN_FDS", count.to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            // They name this process.
            .env_remove("LISTEN_PID")
            .env_remove("WATCHDOG_PID");
        let mapped = command.fd_mappings(mappings);
        mapped.map_err(|error| fail(io::Error::other(error)))?;
        let child = command.spawn().map_err(fail)?;
        Ok(Heir { child, herald })
    }
}

impl Heir {
    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it serves.
    pub(super) async fn serves(&mut self, patience: Duration) -> Result<(), NoHeir> {
        let waiting = async {
            let mut word = [0_u8; TIDINGS_BYTES_MAX];
            let mut look = tokio::time::interval(LOOK_EVERY);
            loop {
                tokio::select! {
                    biased;
                    heard = self.herald.recv(&mut word) => {
                        let length = heard.map_err(NoHeir::Deaf)?;
                        match Tidings::read(word.get(..length).unwrap_or_default()) {
                            Some(Tidings::Ready) => return Ok(()),
                            Some(Tidings::Failed(why)) => return Err(NoHeir::Refuses(why)),
                            None => {}
                        }
                    }
                    _ = look.tick() => {
                        if let Some(status) = self.child.try_wait().map_err(NoHeir::Deaf)? {
                            // What it said last may still lie there.
                            let last = self.herald.try_recv(&mut word).unwrap_or_default();
                            return Err(match Tidings::read(word.get(..last).unwrap_or_default()) {
                                Some(Tidings::Failed(why)) => NoHeir::Refuses(why),
                                Some(Tidings::Ready) | None => NoHeir::Ended(status),
                            });
                        }
                    }
                }
            }
        };
        let waited = tokio::time::timeout(patience, waiting).await;
        waited.unwrap_or(Err(NoHeir::Late))
    }

    /// Ends it.
    pub(super) fn dismiss(mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            tracing::warn!(pid = self.child.id(), %error, "the new process cannot be ended");
        }
    }
}

/// The first inherited descriptor (`SD_LISTEN_FDS_START`).
const FIRST_DESCRIPTOR: i32 = 3;
/// How long an heir may take to serve: it compiles the configuration, which for hundreds of thousands of networks takes seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often we look whether it still runs.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "tests may stop at the first surprise"
    )]
    use super::*;

    fn heir(script: &str) -> Result<Heir, NoHeir> {
        let successor = Successor {
            program: PathBuf::from("/bin/sh"),
            name: None,
            arguments: ["-c", script].map(OsString::from).into(),
        };
        successor.start(Vec::new())
    }

    #[test]
    fn an_heir_that_says_nothing_is_not_waited_for_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut silent = heir("exec sleep 600").unwrap();
            let outcome = silent.serves(Duration::from_millis(120)).await;
            assert!(matches!(outcome, Err(NoHeir::Late)), "{outcome:?}");
            let pid = silent.pid();
            silent.dismiss();
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it is ended");
        });
    }

    #[test]
    fn what_an_heir_says_last_is_heard() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for (script, want) in [("exit 3", "exit status: 3"), ("kill -9 $$", "signal: 9")] {
                let outcome = heir(script).unwrap().serves(PATIENCE).await;
                let error = outcome.unwrap_err().to_string();
                assert!(error.contains(want), "{script}: {error}");
            }
        });
    }
}
