//! Requests with bodies, answers that come early, connections that die, deadlines.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::upstream::forward::{Caller, Patience, Terms, Trace, lean};
use crate::upstream::{Clock, Phase};
use crate::value::failure::Failure;

type Feed = mpsc::UnboundedSender<Result<Bytes, Failure>>;

fn post(length: Option<u64>) -> (Feed, Request<RequestBody>) {
    let (feed, pieces) = mpsc::unbounded_channel();
    let request = Request::post("/up").header("host", "app.example");
    let request = request.body(RequestBody::Fed(pieces, length)).unwrap();
    (feed, request)
}

const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(20),
    response: Duration::from_secs(20),
};

const CALLER: Caller = Caller {
    client: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    source: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0),
    target: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0),
};

fn terms() -> Terms {
    Terms {
        patience: PATIENCE,
        caller: CALLER,
        began: Instant::now(),
    }
}

/// A pool in front of a socket of ours.
async fn behind_a_socket() -> (Rc<Pool>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (pool(Endpoint::Address(address)), listener)
}

async fn forward(
    pool: &Rc<Pool>,
    request: Request<RequestBody>,
    trace: &mut Trace,
) -> Result<http::Response<LeanBody>, Failure> {
    let clock = Rc::new(Clock::new(Duration::from_secs(20)));
    let (head, body) = request.into_parts();
    lean(up(&head), body, None, pool, &terms(), &clock, trace).await
}

/// Forwards and reads the whole answer.
async fn fetch(pool: &Rc<Pool>, request: Request<RequestBody>) -> (Result<Bytes, Failure>, Trace) {
    let mut trace = Trace::default();
    let answered = forward(pool, request, &mut trace).await;
    let body = match answered {
        Ok(response) => {
            let (body, _) = whole(response.into_body()).await.unwrap();
            Ok(body)
        }
        Err(failure) => Err(failure),
    };
    (body, trace)
}

fn is_pooled(pool: &Pool) -> bool {
    pool.only().check_out_lean().is_some()
}

#[test]
fn bodies_arrive_framed_as_announced() {
    for (length, pieces, want, why) in [
        (Some(5), &["hello"][..], "hello", "a length, one piece"),
        (
            Some(5),
            &["he", "", "llo"],
            "hello",
            "a length, pieces, one empty",
        ),
        (
            None,
            &["he", "llo"],
            "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "chunks",
        ),
        (
            None,
            &["0123456789abcdef", ""],
            "10\r\n0123456789abcdef\r\n0\r\n\r\n",
            "no empty chunk before the end",
        ),
        (None, &[], "0\r\n\r\n", "no piece"),
    ] {
        on_a_worker(async {
            let (pool, listener) = behind_a_socket().await;
            let origin = tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let head = read_head(&mut stream).await;
                let mut body = vec![0; want.len()];
                stream.read_exact(&mut body).await.unwrap();
                stream.write_all(OK).await.unwrap();
                (head, body, stream)
            });
            let (feed, request) = post(length);
            for piece in pieces {
                feed.send(Ok(Bytes::from_static(piece.as_bytes()))).unwrap();
            }
            drop(feed);
            let (answer, _) = fetch(&pool, request).await;
            assert_eq!(answer.unwrap(), "ok", "{why}");
            let (head, body, _stream) = origin.await.unwrap();
            assert!(head.starts_with(b"POST /up HTTP/1.1\r\nhost: app.example\r\n"));
            assert_eq!(
                body.escape_ascii().to_string(),
                want.as_bytes().escape_ascii().to_string(),
                "{why}"
            );
            assert!(is_pooled(&pool), "{why}");
        });
    }
}

#[test]
fn the_head_leaves_before_the_first_piece() {
    on_a_worker(async {
        let (pool, listener) = behind_a_socket().await;
        let (feed, request) = post(None);
        let origin = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            // Only now does the client begin.
            feed.send(Ok(Bytes::from_static(b"x"))).unwrap();
            drop(feed);
            let mut body = [0; 11];
            stream.read_exact(&mut body).await.unwrap();
            stream.write_all(OK).await.unwrap();
            body
        });
        let (answer, _) = fetch(&pool, request).await;
        assert_eq!(answer.unwrap(), "ok");
        assert_eq!(&origin.await.unwrap(), b"1\r\nx\r\n0\r\n\r\n");
    });
}

#[test]
fn an_early_answer_is_delivered_and_ends_the_upload() {
    for (text, why) in [
        (
            "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno",
            "the connection would live on",
        ),
        (
            "HTTP/1.1 413 Too Large\r\nconnection: close\r\n\r\nno",
            "the connection ends",
        ),
    ] {
        on_a_worker(async {
            let (pool, listener) = behind_a_socket().await;
            let (feed, request) = post(Some(1_000_000));
            feed.send(Ok(Bytes::from_static(b"the first piece")))
                .unwrap();
            let origin = tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_head(&mut stream).await;
                stream.write_all(text.as_bytes()).await.unwrap();
                if text.contains("close") {
                    stream.shutdown().await.unwrap();
                }
                // Until we hang up.
                let mut rest = Vec::new();
                drop(stream.read_to_end(&mut rest).await);
                rest
            });
            let (answer, _) = fetch(&pool, request).await;
            assert_eq!(answer.unwrap(), "no", "{why}");
            assert!(!is_pooled(&pool), "{why}");
            assert_eq!(origin.await.unwrap(), b"the first piece", "{why}");
            assert!(feed.is_closed(), "the client's body is let go: {why}");
        });
    }
}

#[test]
fn an_answer_is_read_though_the_upstream_takes_no_more() {
    on_a_worker(async {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        theirs
            .write_all(b"HTTP/1.1 413 L\r\ncontent-length: 2\r\n\r\nno")
            .await
            .unwrap();
        // Writes fail from here on; what was said before can still be read.
        drop(theirs);
        let mut wire = Wire::new(UpstreamIo::Demo(ours), Instant::now());
        let (_feed, request) = post(Some(10));
        let (head, body) = request.into_parts();
        let framing = request::Framing::of(&head.method, &body);
        request::write(wire.begin(), up(&head), framing);
        let mut upload = Upload::new(body, framing);
        let answered = exchange(&mut wire, &mut upload, &head.method)
            .await
            .unwrap();
        assert_eq!(answered.status, 413);
    });
}

#[test]
fn an_upload_goes_on_while_the_answer_streams() {
    on_a_worker(async {
        let (pool, listener) = behind_a_socket().await;
        let (feed, request) = post(Some(4));
        let origin = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
                .await
                .unwrap();
            // An echo.
            let mut bytes = [0; 1];
            for _ in 0..4 {
                stream.read_exact(&mut bytes).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
            stream
        });
        let response = forward(&pool, request, &mut Trace::default())
            .await
            .unwrap();
        let mut body = response.into_body();
        for piece in [&b"a"[..], b"b", b"c", b"d"] {
            feed.send(Ok(Bytes::from_static(piece))).unwrap();
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
        }
        assert!(body.is_end_stream());
        let _stream = origin.await.unwrap();
        assert!(is_pooled(&pool), "complete in both directions");
    });
}

#[test]
fn a_request_body_that_breaks_off_is_never_completed() {
    for (length, step, want, why) in [
        (
            Some(9),
            Some(Err(Failure::BodyBroken)),
            Failure::BodyBroken,
            "the client left",
        ),
        (
            None,
            Some(Err(Failure::BodyTooLarge)),
            Failure::BodyTooLarge,
            "over the limit",
        ),
        (Some(9), None, Failure::BodyBroken, "shorter than announced"),
        (
            Some(6),
            Some(Ok(Bytes::from_static(b" surplus"))),
            Failure::BodyBroken,
            "longer than announced",
        ),
    ] {
        on_a_worker(async {
            let (pool, listener) = behind_a_socket().await;
            let origin = tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut all = Vec::new();
                drop(stream.read_to_end(&mut all).await);
                String::from_utf8(all).unwrap()
            });
            let (feed, request) = post(length);
            feed.send(Ok(Bytes::from_static(b"hello"))).unwrap();
            if let Some(step) = step {
                feed.send(step).unwrap();
            }
            drop(feed);
            let (answer, _) = fetch(&pool, request).await;
            assert_eq!(answer.unwrap_err(), want, "{why}");
            let seen = origin.await.unwrap();
            assert!(
                !seen.ends_with("0\r\n\r\n") && !seen.contains("surplus"),
                "{why}: {seen}"
            );
            assert!(!is_pooled(&pool), "{why}");
        });
    }
}

#[test]
fn a_request_body_that_breaks_off_late_breaks_the_answer() {
    on_a_worker(async {
        let (pool, listener) = behind_a_socket().await;
        let (feed, request) = post(None);
        let origin = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
                .await
                .unwrap();
            stream
        });
        let response = forward(&pool, request, &mut Trace::default())
            .await
            .unwrap();
        feed.send(Err(Failure::BodyTooLarge)).unwrap();
        let broken = whole(response.into_body()).await.unwrap_err();
        assert!(
            matches!(broken, Broken::Request(Failure::BodyTooLarge)),
            "{broken:?}"
        );
        drop(origin.await);
    });
}

/// What an upstream does with a kept connection when the second request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    /// Closes without a word.
    Hangs,
    /// Closes in the middle of a head.
    Stammers,
}

#[test]
fn only_safe_requests_are_sent_again() {
    let put = || Request::put("/up").body(RequestBody::Empty).unwrap();
    let empty_post = || Request::post("/up").body(RequestBody::Empty).unwrap();
    let full_put = || {
        let (feed, mut request) = post(Some(1));
        *request.method_mut() = Method::PUT;
        feed.send(Ok(Bytes::from_static(b"x"))).unwrap();
        request
    };
    for (request, second, want, why) in [
        (
            &get as &dyn Fn() -> _,
            Second::Hangs,
            Ok("ok"),
            "idempotent and without a body",
        ),
        (
            &put,
            Second::Hangs,
            Ok("ok"),
            "idempotent and without a body",
        ),
        (
            &empty_post,
            Second::Hangs,
            Err(Failure::UpstreamClosed),
            "may have been acted upon",
        ),
        (
            &full_put,
            Second::Hangs,
            Err(Failure::UpstreamClosed),
            "the body has left",
        ),
        (
            &get,
            Second::Stammers,
            Err(Failure::UpstreamClosed),
            "it had begun to answer",
        ),
    ] {
        on_a_worker(async {
            let (pool, listener) = behind_a_socket().await;
            let origin = tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_head(&mut stream).await;
                stream.write_all(OK).await.unwrap();
                read_head(&mut stream).await;
                if second == Second::Stammers {
                    stream.write_all(b"HTTP/1.1 ").await.unwrap();
                }
                drop(stream);
                answer_on(listener).await
            });
            let (answer, _) = fetch(&pool, get()).await;
            assert_eq!(answer.unwrap(), "ok");
            let (answer, trace) = fetch(&pool, request()).await;
            assert_eq!(answer, want.map(Bytes::from), "{why}");
            assert_eq!(trace.retries, u32::from(want.is_ok()), "{why}");
            origin.abort();
        });
    }
}

#[test]
fn a_request_of_which_nothing_left_goes_to_another_connection() {
    on_a_worker(async {
        let (pool, listener) = behind_a_socket().await;
        // A pooled connection whose end nobody has noticed: writing fails at once.
        let (ours, theirs) = tokio::io::duplex(64);
        let (read_half, _write_half) = tokio::io::split(theirs);
        pool.only()
            .check_in_lean(Box::new(Wire::new(UpstreamIo::Demo(ours), Instant::now())));
        let mut wire = pool.only().check_out_lean().unwrap();
        drop((read_half, _write_half));
        let (feed, request) = post(None);
        feed.send(Ok(Bytes::from_static(b"x"))).unwrap();
        drop(feed);
        let (head, body) = request.into_parts();
        let framing = request::Framing::of(&head.method, &body);
        request::write(wire.begin(), up(&head), framing);
        let mut upload = Upload::new(body, framing);
        let lost = exchange(&mut wire, &mut upload, &head.method)
            .await
            .unwrap_err();
        assert!(lost == Lost::Silent && upload.is_unsent());
        // As the caller does then.
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let mut fresh = Wire::new(UpstreamIo::Tcp(stream), Instant::now());
        fresh.inherit(*wire);
        upload.restart();
        let origin = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            let mut body = [0; 11];
            stream.read_exact(&mut body).await.unwrap();
            stream.write_all(OK).await.unwrap();
            (head, body)
        });
        assert_eq!(
            exchange(&mut fresh, &mut upload, &head.method)
                .await
                .unwrap()
                .status,
            200
        );
        let (head, body) = origin.await.unwrap();
        assert!(head.starts_with(b"POST /up HTTP/1.1\r\n"));
        assert_eq!(&body, b"1\r\nx\r\n0\r\n\r\n");
    });
}

#[test]
fn a_body_dropped_midway_closes_the_connection() {
    on_a_worker(async {
        let (pool, listener) = behind_a_socket().await;
        let (gone, hung_up) = oneshot::channel();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello")
                .await
                .unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
            gone.send(()).unwrap();
        });
        let response = forward(&pool, get(), &mut Trace::default()).await.unwrap();
        let mut body = response.into_body();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "hello"
        );
        drop(body);
        hung_up.await.unwrap();
        assert!(!is_pooled(&pool));
    });
}

#[test]
fn lateness_is_told_by_whose_turn_it_was() {
    for (phase, want) in [
        (Phase::Await, Failure::ResponseTimeout),
        (Phase::Upload, Failure::BodyTimeout),
    ] {
        on_a_worker(async {
            let (pool, listener) = behind_a_socket().await;
            let clock = Rc::new(Clock::new(Duration::from_secs(20)));
            let late = Rc::clone(&clock);
            let origin = tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_head(&mut stream).await;
                // As the connection's task does when the deadline passes: the next poll finds it.
                late.enter(phase, Duration::ZERO);
                late.expire();
                stream.write_all(b"HTTP/1.1 ").await.unwrap();
                stream
            });
            let mut trace = Trace::default();
            let (head, body) = get().into_parts();
            let outcome = lean(up(&head), body, None, &pool, &terms(), &clock, &mut trace).await;
            assert_eq!(outcome.unwrap_err(), want);
            assert!(!is_pooled(&pool), "an unanswered connection is closed");
            drop(origin.await);
        });
    }
}

#[test]
fn buffers_grow_with_a_body_and_are_given_up() {
    on_a_worker(async {
        let (pool, listener) = behind_a_socket().await;
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n")
                .await
                .unwrap();
            stream.write_all(&vec![b'x'; 8 << 20]).await.unwrap();
            std::future::pending::<()>().await;
        });
        let response = forward(&pool, get(), &mut Trace::default()).await.unwrap();
        let mut body = response.into_body();
        let (mut total, mut largest) = (0, 0);
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            total += piece.len();
            largest = largest.max(piece.len());
        }
        assert_eq!(total, 8 << 20);
        assert!(largest > 64 * 1024 && largest <= 256 * 1024, "{largest}");
        let wire = pool.only().check_out_lean().unwrap();
        assert_eq!(wire.read.capacity(), 0, "a large buffer is not kept");
    });
}

async fn answer_on(listener: TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    read_head(&mut stream).await;
    stream.write_all(OK).await.unwrap();
    stream
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
