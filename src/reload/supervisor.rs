//! What the supervisor (systemd, `Type=notify-reload`) is told: readiness, reloads, the end, and that this process lives.
//!
//! See `sd_notify(3)`. Without `NOTIFY_SOCKET` nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc::{self, UnboundedSender};

use crate::server::worker::Command;

/// Tells the supervisor, where this process has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Supervisor {
    /// This process speaks for itself.
    Told,
    /// An instance inside another program: that program speaks.
    #[default]
    Untold,
}

impl Supervisor {
    /// The instance serves, and this is the generation.
    pub(super) fn ready(self, generation: u64) {
        let status = format!("serving generation {generation}");
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// A reload begins. [`Self::ready`] or [`Self::refused`] must follow.
    pub(super) fn reloading(self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "no clock for the supervisor"),
        }
    }

    /// The reload is over and changed nothing.
    pub(super) fn refused(self, generation: u64) {
        let status =
            format!("the newest configuration is refused; serving generation {generation}");
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// The end has begun.
    pub(super) fn stopping(self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    }

    /// Another process is the service from now on.
    pub(super) fn succeeded_by(self, pid: u32) {
        self.tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
    }

    /// How often the supervisor wants to hear that we live (`WATCHDOG_USEC`).
    pub(super) fn watchdog(self) -> Option<Duration> {
        match self {
            Self::Told => sd_notify::watchdog_enabled(),
            Self::Untold => None,
        }
    }

    fn tell(self, words: &[NotifyState<'_>]) {
        if self == Self::Told
            && let Err(error) = sd_notify::notify(words)
        {
            tracing::warn!(%error, "the supervisor cannot be told");
        }
    }
}

/// Whether every worker answers in time.
pub(super) async fn all_answer(workers: &[UnboundedSender<Command>], patience: Duration) -> bool {
    let (answer, mut answers) = mpsc::unbounded_channel();
    for worker in workers {
        drop(worker.send(Command::Ping(answer.clone())));
    }
    drop(answer);
    let counting = async {
        let mut count = 0_usize;
        while let Some(()) = answers.recv().await {
            count += 1;
        }
        count
    };
    let counted = tokio::time::timeout(patience, counting).await;
    counted.is_ok_and(|count| count == workers.len())
}

/// Tells the supervisor's watchdog that we live for as long as every worker answers. Runs on the control thread, so that thread is
/// watched too.
pub(super) async fn keep_alive(
    supervisor: Supervisor,
    every: Duration,
    workers: Vec<UnboundedSender<Command>>,
) {
    let mut beat = tokio::time::interval(every / 3);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if all_answer(&workers, every / 3).await {
            // A supervisor that does not read lets its queue fill up, and the call wait: not on this thread.
            let telling =
                tokio::task::spawn_blocking(move || supervisor.tell(&[NotifyState::Watchdog]));
            drop(telling.await);
        } else {
            tracing::error!(
                "a worker does not answer; the supervisor's watchdog is not told that we live"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn one_silent_worker_is_noticed() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        for (silent, answered, why) in [
            (false, true, "both answer"),
            (true, false, "one is stuck and keeps the question"),
        ] {
            runtime.block_on(async {
                let (one, mut first) = mpsc::unbounded_channel();
                let (two, mut second) = mpsc::unbounded_channel();
                tokio::spawn(async move {
                    while let Some(command) = first.recv().await {
                        if let Command::Ping(answer) = command {
                            answer.send(()).unwrap();
                        }
                    }
                });
                tokio::spawn(async move {
                    let asked = second.recv().await;
                    if silent {
                        std::future::pending::<()>().await;
                    }
                    if let Some(Command::Ping(answer)) = asked {
                        answer.send(()).unwrap();
                    }
                });
                let workers = [one, two];
                let outcome = all_answer(&workers, Duration::from_millis(300)).await;
                assert_eq!(outcome, answered, "{why}");
            });
        }
    }
}
