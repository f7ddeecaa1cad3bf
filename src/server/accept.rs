//! Accepting connections from a listener that every worker watches.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::conn;
use super::socket::ListenerKey;
use super::worker::Worker;

/// Accepts until told to stop.
pub(crate) async fn run(
    worker: Rc<Worker>,
    key: ListenerKey,
    socket: TcpListener,
    stop: CancellationToken,
) {
    let mut pausing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pausing = false;
                let lease = worker.gate.lease();
                let mut same = lease
                    .listeners
                    .iter()
                    .filter(|listener| listener.address == key.address);
                let Some(listener) = same.nth(key.nth).cloned() else {
                    // The listener is being taken away.
                    continue;
                };
                drop(lease);
                let guest = worker.receive();
                let serving = conn::serve(Rc::clone(&worker), listener, stream, peer);
                tokio::task::spawn_local(async move {
                    serving.await;
                    drop(guest);
                });
            }
            // The client left the queue before its turn.
            Err(error) if passing(&error) => {}
            Err(error) => {
                // Mostly "too many open files": wait for connections to end instead of spinning, and tell the first of a row.
                if !pausing {
                    pausing = true;
                    tracing::warn!(address = %key.address, %error, "accept failed; pausing");
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

fn passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

const BACK_OFF: Duration = Duration::from_millis(100);
