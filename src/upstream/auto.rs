//! The protocol that each server chooses, in the TLS handshake that there is anyway (ALPN, RFC 7301): no request is spent on it.
//!
//! What a server chose is remembered by its connections: while one is open, requests take it. A new connection asks anew, so a
//! server that is replaced by one that speaks otherwise is found out by the first request that needs a connection.

use std::time::Instant;

use http::{Request, Response};

use super::body::{RequestBody, Tally};
use super::clock::Clock;
use super::connect::Offer;
use super::forward::{Added, Begun, Terms, Trace, Tries, Up, UpstreamBody, dial, lean, relayed};
use super::h1::wire::Wire;
use super::http2::{self, Stopped};
use super::io::UpstreamIo;
use super::pool::Pool;
use super::seat::admit;
use super::sticky;
use crate::value::failure::Failure;

/// Where a request goes on.
enum Chosen {
    Http1(Begun<Box<Wire>>),
    Http2(Begun<UpstreamIo>),
}

/// Forwards a request as [`super::forward()`] does.
pub(super) async fn forward(
    request: Request<RequestBody>,
    pool: &Pool,
    terms: &Terms,
    clock: &Clock,
    tally: &Tally,
    trace: &mut Trace,
) -> Result<Response<UpstreamBody>, Failure> {
    let mut tries = Tries::begin(pool);
    let wish = sticky::wish(&pool.upstream.balance, request.headers(), &terms.caller);
    let chosen = loop {
        let seat = admit(pool, &wish, &tries.tried, terms.patience, clock).await?;
        if seat.member.shared().is_some() {
            let conn = None;
            break Chosen::Http2(Begun { tries, seat, conn });
        }
        if let Some(wire) = seat.member.check_out_lean() {
            let conn = Some((wire, true));
            break Chosen::Http1(Begun { tries, seat, conn });
        }
        match dial(pool, &seat, terms, clock, trace, Offer::Either).await {
            Ok(io) if io.speaks_http2() => {
                let conn = Some((io, false));
                break Chosen::Http2(Begun { tries, seat, conn });
            }
            Ok(io) => {
                let conn = Some((io, false));
                break Chosen::Http1(wired(Begun { tries, seat, conn }));
            }
            Err(failure) => tries.next(seat, failure, trace)?,
        }
    };
    let (request, begun) = match chosen {
        Chosen::Http1(begun) => (request, begun),
        Chosen::Http2(begun) => {
            let answering = http2::forward(request, Some(begun), pool, terms, clock, tally, trace);
            match answering.await {
                Ok(answered) => {
                    return Ok(relayed(answered));
                }
                Err(Stopped::Failure(failure)) => return Err(failure),
                Err(Stopped::Http1(back)) => (back.request, wired(back.begun)),
            }
        }
    };
    let (head, body) = request.into_parts();
    let added = Added::new();
    let up = Up {
        head: &head,
        added: &added,
    };
    let answered = lean(up, body, Some(begun), pool, terms, clock, trace).await?;
    Ok(answered.map(UpstreamBody::Lean))
}

/// The same for our own client.
fn wired(begun: Begun<UpstreamIo>) -> Begun<Box<Wire>> {
    let wire = |(io, reused)| (Box::new(Wire::new(io, Instant::now())), reused);
    Begun {
        tries: begun.tries,
        seat: begun.seat,
        conn: begun.conn.map(wire),
    }
}
