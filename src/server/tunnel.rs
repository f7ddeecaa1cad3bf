//! An upgraded connection: bytes both ways until one side is done or nothing moves for too long.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};

use super::io::{ClientIo, Meter};
use crate::proxy::connection::Tunnel;
use crate::upstream::forward::Upgrading;
use crate::upstream::{Clock, Phase};

/// Makes a connection a tunnel and runs it to its end. `early` is what the client has sent already.
pub(crate) async fn run(mut client: ClientIo, early: Bytes, tunnel: Tunnel, clock: &Rc<Clock>) {
    client.tunnel(tunnel.patience);
    let meter = client.meter();
    carry(client, &meter, early, tunnel, clock).await;
}

/// Runs a tunnel to its end; the record closes with it. The client's side counts its bytes in `meter`, and moves the clock.
pub(crate) async fn carry(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    meter: &Meter,
    early: Bytes,
    tunnel: Tunnel,
    clock: &Rc<Clock>,
) {
    let Tunnel {
        upstream,
        patience,
        mut exchange,
    } = tunnel;
    let Upgrading { upgraded, seat } = upstream;
    let Ok(upgraded) = upgraded.await else { return };
    let mut server = upgraded.io;
    clock.enter(Phase::Tunnel, patience);
    let copying = async {
        // What either side sent before the other's end was ready.
        server.write_all(&early).await?;
        client.write_all(&upgraded.read).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    if let Err(error) = bounded(copying, clock).await {
        tracing::debug!(%error, "tunnel ended");
    }
    drop(seat);
    let [up, down] = &meter.tunnel;
    exchange.tally.bytes.set(up.get() + early.len() as u64);
    exchange.record.response_body = down.get();
}

/// Runs until the clock's deadline, which every byte from and to the client moves.
async fn bounded<T>(work: impl Future<Output = io::Result<T>>, clock: &Clock) -> io::Result<T> {
    let mut work = pin!(work);
    loop {
        let deadline = clock.deadline();
        match tokio::time::timeout_at(deadline.into(), work.as_mut()).await {
            Ok(outcome) => return outcome,
            Err(_late) if clock.deadline() > Instant::now() => {}
            Err(_late) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
