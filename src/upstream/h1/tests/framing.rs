//! Answers in bytes: what is refused, what is read, and what becomes of the connection.

use http::Method;

use super::Malformed::*;
use super::*;

/// Delivers an answer whole, then byte by byte: the same must come out.
fn both_ways(
    request: fn() -> Request<RequestBody>,
    text: &[u8],
    ending: Ending,
) -> (Result<Answer, Error>, After) {
    let whole = on_a_worker(ask(request(), vec![text.to_vec()], ending));
    let bytes = text.iter().map(|byte| vec![*byte]).collect();
    let dripped = on_a_worker(ask(request(), bytes, ending));
    assert_eq!(
        format!("{:?}", whole.0),
        format!("{:?}", dripped.0),
        "whole and dripped differ: {}",
        text.escape_ascii()
    );
    whole
}

#[test]
fn ambiguous_and_malformed_answers_are_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(HEAD_LIMIT));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(257));
    let interim = format!(
        "{}HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 103 E\r\n\r\n".repeat(17)
    );
    let extended = format!("{CHUNKED}1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(17 * 1024));
    let trailers = format!("{CHUNKED}0\r\nx: {}\r\n\r\n", "x".repeat(17 * 1024));
    use httparse::Error as H;
    for (text, want, why) in [
        // Both framings, and framings that readers count differently.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            BothFramings,
            "length, then chunked",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            BothFramings,
            "chunked, then length",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            ContentLength,
            "two lengths",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\nhello",
            ContentLength,
            "equal lengths are refused too",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
            ContentLength,
            "a list",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
            ContentLength,
            "a sign",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
            ContentLength,
            "a sign",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5 5\r\n\r\nhello",
            ContentLength,
            "a space inside",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 0x5\r\n\r\nhello",
            ContentLength,
            "hexadecimal",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5.0\r\n\r\nhello",
            ContentLength,
            "a fraction",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\nhello",
            ContentLength,
            "empty",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n",
            ContentLength,
            "a mark of some readers",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551621\r\n\r\nhello",
            ContentLength,
            "5 beyond 64 bits",
        ),
        (
            "HTTP/1.1 204 N\r\ncontent-length: x\r\n\r\n",
            ContentLength,
            "wrong even where it means nothing",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            TransferEncoding,
            "a coding that we would not pass on",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            TransferEncoding,
            "chunked twice",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            TransferEncoding,
            "chunked twice",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
            TransferEncoding,
            "chunked is not last",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nhello",
            TransferEncoding,
            "identity is no coding",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\nhello",
            TransferEncoding,
            "a name that ends so",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked;q=1\r\n\r\nhello",
            TransferEncoding,
            "a parameter",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n\r\nhello",
            TransferEncoding,
            "empty",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            Head(H::HeaderValue),
            "a space that is none",
        ),
        (
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            TransferEncoding,
            "HTTP/1.0 has no codings",
        ),
        // Lines.
        (
            "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
            BareLineBreak,
            "bare LF throughout",
        ),
        (
            "HTTP/1.1 200 OK\r\nx: y\ncontent-length: 0\r\n\r\n",
            BareLineBreak,
            "a bare LF behind a field",
        ),
        (
            "HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n",
            BareLineBreak,
            "a bare LF behind the status",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\n",
            BareLineBreak,
            "a bare LF at the end",
        ),
        (
            "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            BareLineBreak,
            "an empty line before",
        ),
        (
            "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
            Head(H::HeaderValue),
            "a bare CR in a value",
        ),
        (
            "HTTP/1.1 200 O\rK\r\n\r\n",
            Head(H::Status),
            "a bare CR in the reason",
        ),
        (
            "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n",
            Head(H::HeaderName),
            "obs-fold",
        ),
        (
            "HTTP/1.1 200 OK\r\n x: a\r\n\r\n",
            Head(H::HeaderName),
            "a space before the first field",
        ),
        (
            "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
            Head(H::HeaderValue),
            "NUL in a value",
        ),
        (
            "HTTP/1.1 200 OK\r\nx\0: a\r\n\r\n",
            Head(H::HeaderName),
            "NUL in a name",
        ),
        (
            "HTTP/1.1 200 O\0K\r\n\r\n",
            Head(H::Status),
            "NUL in the reason",
        ),
        (
            "HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
            Head(H::HeaderName),
            "a space before the colon",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
            Head(H::HeaderName),
            "the same, hiding a framing",
        ),
        (
            "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
            Head(H::HeaderName),
            "no name",
        ),
        (
            "HTTP/1.1 200 OK\r\nxyz\r\n\r\n",
            Head(H::HeaderName),
            "no colon",
        ),
        // Status lines.
        (
            "HTTP/2.0 200 OK\r\n\r\n",
            Head(H::Version),
            "a version that we did not ask for",
        ),
        (
            "HTTP/1.2 200 OK\r\n\r\n",
            Head(H::Version),
            "a version that we do not know",
        ),
        ("http/1.1 200 OK\r\n\r\n", Head(H::Version), "lower case"),
        (
            "SSH-2.0-OpenSSH_9\r\n",
            Head(H::Version),
            "another protocol",
        ),
        ("HTTP/1.1  200 OK\r\n\r\n", Head(H::Status), "two spaces"),
        ("HTTP/1.1 20 OK\r\n\r\n", Head(H::Status), "two digits"),
        ("HTTP/1.1 2000 OK\r\n\r\n", Head(H::Status), "four digits"),
        ("HTTP/1.1 099 OK\r\n\r\n", Status, "below 100"),
        (
            "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            Switched,
            "unasked",
        ),
        (&interim, Interim, "interim answers without end"),
        // Sizes.
        (&long, HeadTooLarge, "64 KiB and more"),
        (&many, Head(H::TooManyHeaders), "257 fields"),
        // Chunks.
        (
            &chunked("5\r\nhello\r\n0\r\n\r\n", "x"),
            ChunkSize,
            "no digit",
        ),
        (
            &chunked(" 5\r\nhello\r\n0\r\n\r\n", ""),
            ChunkSize,
            "a space before",
        ),
        (
            &chunked("5 \r\nhello\r\n0\r\n\r\n", ""),
            ChunkSize,
            "a space behind",
        ),
        (
            &chunked("+5\r\nhello\r\n0\r\n\r\n", ""),
            ChunkSize,
            "a sign",
        ),
        (
            &chunked("0x5\r\nhello\r\n0\r\n\r\n", ""),
            ChunkSize,
            "a prefix",
        ),
        (&chunked("\r\nhello\r\n0\r\n\r\n", ""), ChunkSize, "empty"),
        (
            &chunked(";a\r\nhello\r\n0\r\n\r\n", ""),
            ChunkSize,
            "extensions only",
        ),
        (
            &chunked("5\nhello\r\n0\r\n\r\n", ""),
            ChunkSize,
            "a bare LF",
        ),
        (
            &chunked("5\rhello\r\n0\r\n\r\n", ""),
            ChunkSize,
            "a bare CR",
        ),
        (
            &chunked("10000000000000005\r\nhello\r\n0\r\n\r\n", ""),
            ChunkSize,
            "5 beyond 64 bits",
        ),
        (
            &chunked("5;a\nhello\r\n0\r\n\r\n", ""),
            ChunkExtension,
            "a bare LF in extensions",
        ),
        (
            &chunked("5;a\rb\r\nhello\r\n0\r\n\r\n", ""),
            ChunkSize,
            "a bare CR in extensions",
        ),
        (
            &chunked("5;a\0\r\nhello\r\n0\r\n\r\n", ""),
            ChunkExtension,
            "NUL in extensions",
        ),
        (&extended, ChunkExtension, "extensions without end"),
        (
            &chunked("5\r\nhello!\r\n0\r\n\r\n", ""),
            ChunkEnd,
            "longer than it says",
        ),
        (
            &chunked("5\r\nhell\r\n0\r\n\r\n", ""),
            ChunkEnd,
            "shorter than it says",
        ),
        (
            &chunked("5\r\nhello\n0\r\n\r\n", ""),
            ChunkEnd,
            "a bare LF behind data",
        ),
        (
            &chunked("5\r\nhello\rx0\r\n\r\n", ""),
            ChunkEnd,
            "a bare CR behind data",
        ),
        (
            &chunked("5\r\nhello0\r\n\r\n", ""),
            ChunkEnd,
            "nothing behind data",
        ),
        (
            &chunked("0\r\nx: y\nz: a\r\n\r\n", ""),
            Trailers,
            "a bare LF in trailers",
        ),
        (
            &chunked("0\r\nx: y\r\n z\r\n\r\n", ""),
            Trailers,
            "obs-fold in trailers",
        ),
        (
            &chunked("0\r\nxyz\r\n\r\n", ""),
            Trailers,
            "a trailer without a colon",
        ),
        (
            &chunked(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(65)), ""),
            Trailers,
            "65 trailers",
        ),
        (&trailers, Trailers, "trailers of 17 KiB"),
    ] {
        let (outcome, after) = both_ways(get, text.as_bytes(), Ending::Closes);
        let error = outcome.expect_err(why);
        assert_eq!(error.malformed(), Some(want), "{why}: {error:?}");
        assert_eq!(after, After::Closed, "{why}");
    }
}

#[test]
fn a_body_that_breaks_off_is_an_error() {
    for (text, why) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello",
            "one byte short",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n", "no byte"),
        (&chunked("5\r\nhel", ""), "inside a chunk"),
        (&chunked("5\r\nhello", ""), "behind a chunk"),
        (&chunked("5\r\nhello\r\n", ""), "before the last chunk"),
        (&chunked("5\r\nhello\r\n0", ""), "inside the last chunk"),
        (
            &chunked("5\r\nhello\r\n0\r\n", ""),
            "before the last empty line",
        ),
        (
            &chunked("5\r\nhello\r\n0\r\nx: y\r\n", ""),
            "inside the trailers",
        ),
        (&chunked("", ""), "no chunk"),
    ] {
        let (outcome, after) = both_ways(get, text.as_bytes(), Ending::Closes);
        let error = outcome.expect_err(why);
        assert!(
            matches!(error, Error::Body(Broken::Truncated)),
            "{why}: {error:?}"
        );
        assert_eq!(after, After::Closed, "{why}");
    }
}

#[test]
fn a_head_that_breaks_off_is_an_error() {
    for (text, want, why) in [
        ("", Lost::Silent, "nothing at all"),
        ("H", Lost::Closed, "one byte"),
        ("HTTP/1.1 200 OK\r\nx: y\r\n", Lost::Closed, "no empty line"),
        (
            "HTTP/1.1 103 Early\r\n\r\n",
            Lost::Closed,
            "an interim answer only",
        ),
    ] {
        let (outcome, _) = both_ways(get, text.as_bytes(), Ending::Closes);
        let error = outcome.expect_err(why);
        assert!(
            matches!(error, Error::Head(lost) if lost == want),
            "{why}: {error:?}"
        );
    }
}

#[test]
fn answers_are_read_and_connections_kept_or_closed() {
    use After::{Closed, Pooled};
    let at_limit = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: \r\n\r\n".len();
    let long = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {}\r\n\r\n",
        "x".repeat(HEAD_LIMIT - at_limit)
    );
    let many = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n",
        "x: y\r\n".repeat(255)
    );
    let interim = format!(
        "{}HTTP/1.1 204 N\r\n\r\n",
        "HTTP/1.1 103 E\r\nlink: x\r\n\r\n".repeat(16)
    );
    let large = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n{}",
        "x".repeat(20_000)
    );
    let huge = "x".repeat(20_000);
    for (request, text, body, want, why) in [
        (
            get as fn() -> _,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "hello",
            Pooled,
            "a length",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\nContent-Length:5  \r\n\r\nhello",
            "hello",
            Pooled,
            "spaces around a value",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\ncontent-length: 005\r\n\r\nhello",
            "hello",
            Pooled,
            "leading zeros are digits",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "",
            Pooled,
            "an empty body",
        ),
        (get, &large, &huge, Pooled, "larger than the first buffer"),
        (get, &long, "", Pooled, "a head of 64 KiB"),
        (get, &many, "", Pooled, "256 fields"),
        (
            get,
            "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
            "",
            Pooled,
            "no reason",
        ),
        (
            get,
            "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n",
            "",
            Pooled,
            "an empty reason",
        ),
        (
            get,
            "HTTP/1.1 200 Gr\u{fc}n\r\ncontent-length: 0\r\n\r\n",
            "",
            Pooled,
            "obs-text in the reason",
        ),
        (
            get,
            "HTTP/1.1 799 ?\r\ncontent-length: 0\r\n\r\n",
            "",
            Pooled,
            "a status of nobody's",
        ),
        (
            get,
            &chunked("5\r\nhello\r\n0\r\n\r\n", ""),
            "hello",
            Pooled,
            "one chunk",
        ),
        (
            get,
            &chunked("3\r\nhel\r\n02\r\nlo\r\n000\r\n\r\n", ""),
            "hello",
            Pooled,
            "chunks, leading zeros",
        ),
        (
            get,
            &chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", ""),
            "01234567890123456789",
            Pooled,
            "both cases",
        ),
        (
            get,
            &chunked("5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n", ""),
            "hello",
            Pooled,
            "extensions are skipped",
        ),
        (get, &chunked("0\r\n\r\n", ""), "", Pooled, "no chunk"),
        (
            get,
            &chunked("5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", ""),
            "hello",
            Pooled,
            "trailers",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
            "",
            Pooled,
            "codings know no case",
        ),
        (
            get,
            "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "ok",
            Pooled,
            "interim answers",
        ),
        (get, &interim, "", Pooled, "16 interim answers"),
        (get, "HTTP/1.1 204 N\r\n\r\n", "", Pooled, "204 has no body"),
        (
            get,
            "HTTP/1.1 304 N\r\ncontent-length: 5\r\n\r\n",
            "",
            Pooled,
            "304 has no body, whatever its length",
        ),
        (
            get,
            "HTTP/1.1 304 N\r\ntransfer-encoding: chunked\r\n\r\n",
            "",
            Pooled,
            "304 has no body, whatever its coding",
        ),
        (
            head_request,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            "",
            Pooled,
            "HEAD has no body, whatever the length",
        ),
        (
            head_request,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "",
            Pooled,
            "HEAD has no body, whatever the coding",
        ),
        (
            head_request,
            "HTTP/1.1 200 OK\r\n\r\n",
            "",
            Pooled,
            "HEAD without a framing",
        ),
        (
            get,
            "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 2\r\n\r\nok",
            "ok",
            Pooled,
            "HTTP/1.0 that stays",
        ),
        // Closed.
        (
            get,
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "hello",
            Closed,
            "up to the end",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\n\r\n",
            "",
            Closed,
            "up to an end that comes at once",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\nhello",
            "hello",
            Closed,
            "up to the end, whatever it says",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            "ok",
            Closed,
            "it says so",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\nconnection: x, CLOSE\r\ncontent-length: 2\r\n\r\nok",
            "ok",
            Closed,
            "it says so in a list",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\nconnection: keep-alive, close\r\ncontent-length: 2\r\n\r\nok",
            "ok",
            Closed,
            "close wins",
        ),
        (
            get,
            "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "ok",
            Closed,
            "HTTP/1.0",
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
            "ok",
            Closed,
            "another answer behind it",
        ),
        (
            get,
            &chunked("2\r\nok\r\n0\r\n\r\n\r\n", ""),
            "ok",
            Closed,
            "an empty line behind it",
        ),
        (
            get,
            "HTTP/1.1 204 N\r\ncontent-length: 5\r\n\r\nhello",
            "",
            Closed,
            "a body where there is none",
        ),
        (
            head_request,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "",
            Closed,
            "a body behind HEAD",
        ),
    ] {
        let ending = if want == Closed {
            Ending::Closes
        } else {
            Ending::Stays
        };
        let (outcome, after) = both_ways(request, text.as_bytes(), ending);
        let answer = outcome.unwrap_or_else(|error| panic!("{why}: {error:?}"));
        assert_eq!(answer.body, body, "{why}");
        assert_eq!(after, want, "{why}");
    }
}

#[test]
fn an_idle_connection_that_ends_or_speaks_is_not_used_again() {
    for (late, ending, want, why) in [
        ("", Ending::Closes, After::Closed, "it ended"),
        ("x", Ending::Stays, After::Closed, "it spoke"),
        ("", Ending::Stays, After::Pooled, "it stays"),
    ] {
        on_a_worker(async {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let pool = pool(Endpoint::Demo);
            pool.only()
                .check_in_lean(Box::new(Wire::new(UpstreamIo::Demo(ours), Instant::now())));
            theirs.write_all(late.as_bytes()).await.unwrap();
            let theirs = (ending == Ending::Stays).then_some(theirs);
            let after = match pool.only().check_out_lean() {
                Some(_) => After::Pooled,
                None => After::Closed,
            };
            assert_eq!(after, want, "{why}");
            drop(theirs);
        });
    }
}

#[test]
fn fields_arrive_as_they_were_sent() {
    let text = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nx-b:\r\nset-cookie: b=2\r\nx-\xc3: \r\n";
    let (outcome, _) = on_a_worker(ask(
        get(),
        vec![[&text[..], b"\r\n"].concat()],
        Ending::Closes,
    ));
    assert!(outcome.is_err(), "a name that is none");
    let text =
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nx-b:\r\nset-cookie: b=2\r\nx-c: \tv \xff\t\r\n\r\n";
    let (outcome, _) = on_a_worker(ask(get(), vec![text.to_vec()], Ending::Closes));
    let headers = outcome.unwrap().headers;
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"], "both, in order");
    assert_eq!(headers["x-b"], "");
    assert_eq!(headers["x-c"].as_bytes(), b"v \xff");
    assert_eq!(headers.len(), 4);
}

#[test]
fn trailers_pass_but_for_those_that_may_not_stand_there() {
    let text = chunked(
        "1\r\nx\r\n0\r\nx-sum: 1\r\nContent-Length: 5\r\nset-cookie: a=b\r\nx-more: 2\r\n\r\n",
        "",
    );
    let (outcome, _) = both_ways(get, text.as_bytes(), Ending::Stays);
    let trailers = outcome.unwrap().trailers.unwrap();
    assert_eq!(trailers.len(), 2);
    assert_eq!(
        (&trailers["x-sum"], &trailers["x-more"]),
        (&"1".parse().unwrap(), &"2".parse().unwrap())
    );
}

#[test]
fn request_heads_are_framed_by_what_is_sent() {
    for (method, body, want, why) in [
        (Method::GET, None, "", "no body, none announced"),
        (Method::DELETE, None, "", "no body, none announced"),
        (
            Method::POST,
            None,
            "content-length: 0\r\n",
            "an empty body is announced",
        ),
        (
            Method::PATCH,
            None,
            "content-length: 0\r\n",
            "an empty body is announced",
        ),
        (
            Method::PUT,
            Some(Some(5)),
            "content-length: 5\r\n",
            "a known length",
        ),
        (
            Method::GET,
            Some(Some(5)),
            "content-length: 5\r\n",
            "a body where few have one",
        ),
        (
            Method::POST,
            Some(None),
            "transfer-encoding: chunked\r\n",
            "an unknown length",
        ),
    ] {
        let body = body.map_or(RequestBody::Empty, |length| {
            RequestBody::Fed(tokio::sync::mpsc::unbounded_channel().1, length)
        });
        let request = Request::builder()
            .method(method.clone())
            .uri("/a?b=%20c")
            .header("accept", "*/*")
            .header("content-length", "77")
            .header("transfer-encoding", "gzip")
            .header("connection", "close")
            .header("host", "app.example")
            .header("x-two", "1")
            .header("x-two", "2");
        let (head, body) = request.body(body).unwrap().into_parts();
        let mut out = Vec::new();
        request::write(&mut out, up(&head), request::Framing::of(&method, &body));
        let want = format!(
            "{method} /a?b=%20c HTTP/1.1\r\nhost: app.example\r\naccept: */*\r\nx-two: 1\r\nx-two: 2\r\n{want}\r\n"
        );
        assert_eq!(String::from_utf8(out).unwrap(), want, "{why}");
    }
}

fn chunked(body: &str, before: &str) -> String {
    format!("{CHUNKED}{before}{body}")
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const HEAD_LIMIT: usize = crate::upstream::h1::HEAD_MAX;
