//! An upgraded connection: bytes both ways until one side is done, nothing moves for too long, or the right to it is gone.
//!
//! A right that is gone ends the tunnel between two frames that go to the client, with a Close of code 1008; where the frame
//! that has begun does not end soon, without a word.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};

use super::io::{ClientIo, Meter};
use super::websocket::{CLOSE, Frames, Watched};
use crate::proxy::again::Again;
use crate::proxy::connection::Tunnel;
use crate::proxy::exchange::Exchange;
use crate::upstream::forward::Upgrading;
use crate::upstream::{Clock, Phase};

/// How a tunnel came to its end.
enum End {
    /// By itself.
    Over(io::Result<()>),
    /// The right to it is gone.
    Gone,
}

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
    let frames = Frames::default();
    let end = {
        let mut watched = Watched {
            io: &mut client,
            frames: &frames,
        };
        let copying = async {
            // What either side sent before the other's end was ready.
            server.write_all(&early).await?;
            watched.write_all(&upgraded.read).await?;
            copy_bidirectional(&mut watched, &mut server).await?;
            Ok(())
        };
        bounded(copying, &mut exchange, &frames, clock).await
    };
    drop((server, seat));
    match end {
        End::Over(Ok(())) => {}
        End::Over(Err(error)) => tracing::debug!(%error, "tunnel ended"),
        End::Gone if frames.between() => {
            drop(tokio::time::timeout(FAREWELL, farewell(&mut client)).await);
        }
        End::Gone => tracing::debug!("tunnel cut inside a frame"),
    }
    let [up, down] = &meter.tunnel;
    exchange.tally.bytes.set(up.get() + early.len() as u64);
    exchange.record.response_body = down.get();
}

/// Runs until the clock's deadline, which every byte from and to the client moves, or until the right to it is gone.
async fn bounded(
    work: impl Future<Output = io::Result<()>>,
    exchange: &mut Exchange,
    frames: &Frames,
    clock: &Clock,
) -> End {
    let mut work = pin!(work);
    let mut again = Again::default();
    let mut gone = false;
    let mut armed = clock.deadline();
    let mut timer = pin!(tokio::time::sleep_until(armed.into()));
    std::future::poll_fn(|cx| {
        // A stream of HTTP/2 has a clock of its own, and nobody else drives it.
        clock.attach(cx.waker());
        if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
            return Poll::Ready(if gone { End::Gone } else { End::Over(outcome) });
        }
        if !gone && let Poll::Ready(Some(judged)) = again.poll(exchange, cx) {
            gone = true;
            exchange.cut(&judged);
            frames.stop();
            armed = Instant::now() + FRAME_PATIENCE;
            timer.as_mut().reset(armed.into());
        }
        if gone && frames.between() {
            return Poll::Ready(End::Gone);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let deadline = if gone { armed } else { clock.deadline() };
            if deadline <= Instant::now() {
                return Poll::Ready(if gone {
                    End::Gone
                } else {
                    End::Over(Err(io::ErrorKind::TimedOut.into()))
                });
            }
            armed = deadline;
            timer.as_mut().reset(armed.into());
        }
        Poll::Pending
    })
    .await
}

/// Says Close, and reads on until the client has seen it.
async fn farewell(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    client.write_all(&CLOSE).await?;
    client.shutdown().await?;
    let mut rest = [0; 2048];
    while client.read(&mut rest).await? > 0 {}
    Ok(())
}

/// How long the frame that has begun may take.
const FRAME_PATIENCE: Duration = Duration::from_secs(5);
/// How long the client may take to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(2);
