//! The rules of HTTP/2 frame by frame (RFC 9113) and of its header compression (RFC 7541), as h2spec asks them: what a client may
//! not do ends its stream or its connection, and what it may do is taken. The word for the end of a connection may be
//! PROTOCOL_ERROR where the rule has a more exact one: the library below says so of most broken frames.

use std::time::Duration;

use tempfile::TempDir;

use crate::support::certs::certs;
use crate::support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame, usual,
};
use crate::support::{Client, End, Gate, H2, Lost, Origin, PATIENCE, hpack, open};

/// What must come of it.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// The connection ends, with one of these codes, or PROTOCOL_ERROR, if it says so.
    Connection(&'static [u32]),
    /// The stream ends with one of these codes, or the connection does.
    Stream(&'static [u32]),
    /// Nothing: a PING is answered after it, and a request too.
    Fine,
}

use Want::{Connection, Fine, Stream};

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;

const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;

fn gate(origin: &Origin) -> Gate {
    let folder = TempDir::new().unwrap();
    certs().write(folder.path());
    let config = open(origin).replacen(
        "address = \"127.0.0.1:0\"\n",
        "address = \"127.0.0.1:0\"\ntls = { certificates = [{ cert = \"server.crt\", key = \"server.key\" }] }\n",
        1,
    );
    Gate::start_in(folder, &config)
}

fn get() -> Vec<u8> {
    hpack::encode(&usual("GET /x", &[]))
}

fn post() -> Vec<u8> {
    hpack::encode(&usual("POST /x", &[]))
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// Frames in a row.
fn all<const N: usize>(frames: [Vec<u8>; N]) -> Vec<u8> {
    frames.concat()
}

/// A request whose fields are exactly these.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &hpack::encode(fields))
}

/// A request whose header block ends with these bytes.
fn block(tail: &[u8]) -> Vec<u8> {
    let block = [get(), tail.to_vec()].concat();
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one row per rule")]
fn every_rule_has_its_word() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let begun = frame(HEADERS, END_HEADERS, 1, &post());
    let asked = frame(HEADERS, END_HEADERS | END_STREAM, 1, &get());
    let plain: &[(&str, &str)] = &usual("GET /x", &[]);
    let but = |name: &str| -> Vec<(&str, &str)> {
        let fields = plain.iter().filter(|(known, _)| *known != name);
        fields.copied().collect()
    };
    let rows: Vec<(&str, Vec<u8>, Want)> = vec![
        // Frames (§4).
        (
            "4.1 a frame of an unknown type",
            frame(0xee, 0, 0, b"12345678"),
            Fine,
        ),
        (
            "4.1 flags that nobody defined",
            frame(PING, 0x16, 0, &[0; 8]),
            Fine,
        ),
        (
            "4.1 the reserved bit",
            frame(PING, 0, 1 << 31, &[0; 8]),
            Fine,
        ),
        (
            "4.2 DATA of 2^14 bytes",
            all([begun.clone(), frame(DATA, END_STREAM, 1, &[0; 16_384])]),
            Fine,
        ),
        (
            "4.2 DATA too large",
            all([begun.clone(), frame(DATA, END_STREAM, 1, &[0; 16_385])]),
            Stream(&[FRAME_SIZE]),
        ),
        (
            "4.2 HEADERS too large",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0; 16_385]),
            Connection(&[FRAME_SIZE]),
        ),
        (
            "4.3 a broken header block",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                b"\x40\x7f\xff\xff\xff\xff\xff",
            ),
            Connection(&[COMPRESSION]),
        ),
        (
            "4.3 PRIORITY inside a header block",
            all([
                frame(HEADERS, END_STREAM, 1, &get()),
                frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255]),
            ]),
            Connection(&[PROTOCOL]),
        ),
        (
            "4.3 another stream inside a header block",
            all([
                frame(HEADERS, END_STREAM, 1, &get()),
                frame(HEADERS, END_HEADERS | END_STREAM, 3, &get()),
            ]),
            Connection(&[PROTOCOL]),
        ),
        // States of a stream (§5.1).
        (
            "5.1 DATA on an idle stream",
            frame(DATA, END_STREAM, 1, b"x"),
            Connection(&[PROTOCOL]),
        ),
        (
            "5.1 RST_STREAM on an idle stream",
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            Connection(&[PROTOCOL]),
        ),
        (
            "5.1 WINDOW_UPDATE on an idle stream",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            Connection(&[PROTOCOL]),
        ),
        (
            "5.1 CONTINUATION on an idle stream",
            frame(CONTINUATION, END_HEADERS, 1, &get()),
            Connection(&[PROTOCOL]),
        ),
        (
            "5.1 DATA behind END_STREAM",
            all([asked.clone(), frame(DATA, END_STREAM, 1, b"x")]),
            Stream(&[STREAM_CLOSED, PROTOCOL]),
        ),
        (
            "5.1 HEADERS behind END_STREAM",
            all([asked.clone(), asked.clone()]),
            Stream(&[STREAM_CLOSED, PROTOCOL]),
        ),
        (
            "5.1 CONTINUATION behind END_STREAM",
            all([asked.clone(), frame(CONTINUATION, END_HEADERS, 1, &get())]),
            Connection(&[PROTOCOL, STREAM_CLOSED]),
        ),
        (
            "5.1 CONTINUATION behind RST_STREAM",
            all([
                begun.clone(),
                frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
                frame(CONTINUATION, END_HEADERS, 1, &get()),
            ]),
            Connection(&[PROTOCOL, STREAM_CLOSED]),
        ),
        (
            "5.1.1 a stream of an even number",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &get()),
            Connection(&[PROTOCOL]),
        ),
        (
            "5.1.1 a stream of a lower number",
            all([
                frame(HEADERS, END_HEADERS | END_STREAM, 5, &get()),
                frame(HEADERS, END_HEADERS | END_STREAM, 3, &get()),
            ]),
            Connection(&[PROTOCOL, STREAM_CLOSED]),
        ),
        (
            "5.3.1 a stream that depends on itself",
            all([frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 16][..], &get()].concat(),
            )]),
            Stream(&[PROTOCOL]),
        ),
        (
            "5.3 PRIORITY of an idle stream",
            frame(PRIORITY, 0, 9, &[0, 0, 0, 0, 16]),
            Fine,
        ),
        // DATA and HEADERS (§6.1, §6.2).
        (
            "6.1 DATA on the connection",
            frame(DATA, END_STREAM, 0, b"x"),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.1 padding",
            all([
                begun.clone(),
                frame(DATA, END_STREAM | PADDED, 1, b"\x03hello\0\0\0"),
            ]),
            Fine,
        ),
        (
            "6.1 more padding than payload",
            all([
                begun.clone(),
                frame(DATA, END_STREAM | PADDED, 1, b"\x06Test"),
            ]),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.2 HEADERS on the connection",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &get()),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.2 more padding than payload",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PADDED,
                1,
                &[&[255][..], &get()].concat(),
            ),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.2 a priority",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 0, 16][..], &get()].concat(),
            ),
            Fine,
        ),
        // PRIORITY and RST_STREAM (§6.3, §6.4).
        (
            "6.3 PRIORITY on the connection",
            frame(PRIORITY, 0, 0, &[0, 0, 0, 0, 16]),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.3 PRIORITY of another size",
            all([begun.clone(), frame(PRIORITY, 0, 1, &[0, 0, 0, 1])]),
            Stream(&[FRAME_SIZE, PROTOCOL]),
        ),
        (
            "6.4 RST_STREAM on the connection",
            frame(RST_STREAM, 0, 0, &[0, 0, 0, 8]),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.4 RST_STREAM of another size",
            all([begun.clone(), frame(RST_STREAM, 0, 1, &[0, 0, 0])]),
            Connection(&[FRAME_SIZE]),
        ),
        // SETTINGS (§6.5).
        (
            "6.5 an acknowledgement with a payload",
            frame(SETTINGS, 1, 0, &setting(3, 100)),
            Connection(&[FRAME_SIZE]),
        ),
        (
            "6.5 SETTINGS on a stream",
            frame(SETTINGS, 0, 1, &setting(3, 100)),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.5 SETTINGS of another size",
            frame(SETTINGS, 0, 0, &setting(3, 100)[..3]),
            Connection(&[FRAME_SIZE]),
        ),
        (
            "6.5.2 ENABLE_PUSH of 2",
            frame(SETTINGS, 0, 0, &setting(2, 2)),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.5.2 a window beyond 2^31-1",
            frame(SETTINGS, 0, 0, &setting(4, 1 << 31)),
            Connection(&[FLOW_CONTROL]),
        ),
        (
            "6.5.2 frames of less than 2^14 bytes",
            frame(SETTINGS, 0, 0, &setting(5, 16_383)),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.5.2 frames of 2^24 bytes",
            frame(SETTINGS, 0, 0, &setting(5, 1 << 24)),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.5.2 an unknown setting",
            frame(SETTINGS, 0, 0, &setting(0xff, 1)),
            Fine,
        ),
        (
            "6.5.2 extended CONNECT of 2 (RFC 8441)",
            frame(SETTINGS, 0, 0, &setting(8, 2)),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.5.3 many settings at once",
            frame(
                SETTINGS,
                0,
                0,
                &[setting(4, 100), setting(4, 1), setting(4, 65_535)].concat(),
            ),
            Fine,
        ),
        // PUSH_PROMISE, PING, GOAWAY (§6.6 to §6.8).
        (
            "6.6 PUSH_PROMISE from a client",
            all([
                begun.clone(),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    &[&[0, 0, 0, 2][..], &get()].concat(),
                ),
            ]),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.7 a PING that nobody waits for",
            frame(PING, 1, 0, b"invalid!"),
            Fine,
        ),
        (
            "6.7 PING on a stream",
            frame(PING, 0, 1, &[0; 8]),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.7 PING of another size",
            frame(PING, 0, 0, &[0; 6]),
            Connection(&[FRAME_SIZE]),
        ),
        (
            "6.8 GOAWAY on a stream",
            frame(GOAWAY, 0, 1, &[0; 8]),
            Connection(&[PROTOCOL]),
        ),
        // WINDOW_UPDATE (§6.9).
        (
            "6.9 no more window for the connection",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.9 no more window for a stream",
            all([begun.clone(), frame(WINDOW_UPDATE, 0, 1, &[0; 4])]),
            Stream(&[PROTOCOL]),
        ),
        (
            "6.9 WINDOW_UPDATE of another size",
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
            Connection(&[FRAME_SIZE]),
        ),
        (
            "6.9.1 a window of the connection beyond 2^31-1",
            all([
                frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
                frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            ]),
            Connection(&[FLOW_CONTROL]),
        ),
        (
            "6.9.1 a window of a stream beyond 2^31-1",
            all([
                begun.clone(),
                frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes()),
                frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes()),
            ]),
            Stream(&[FLOW_CONTROL]),
        ),
        // CONTINUATION (§6.10).
        (
            "6.10 a head in three pieces",
            all([
                frame(HEADERS, END_STREAM, 1, &get()[..3]),
                frame(CONTINUATION, 0, 1, &get()[3..9]),
                frame(CONTINUATION, END_HEADERS, 1, &get()[9..]),
            ]),
            Fine,
        ),
        (
            "6.10 DATA instead of CONTINUATION",
            all([
                frame(HEADERS, 0, 1, &post()),
                frame(DATA, END_STREAM, 1, b"x"),
            ]),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.10 CONTINUATION on the connection",
            all([
                frame(HEADERS, END_STREAM, 1, &get()),
                frame(CONTINUATION, END_HEADERS, 0, b""),
            ]),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.10 CONTINUATION behind the end",
            all([begun.clone(), frame(CONTINUATION, END_HEADERS, 1, b"")]),
            Connection(&[PROTOCOL]),
        ),
        (
            "6.10 CONTINUATION behind DATA",
            all([
                begun.clone(),
                frame(DATA, 0, 1, b"x"),
                frame(CONTINUATION, END_HEADERS, 1, b""),
            ]),
            Connection(&[PROTOCOL]),
        ),
        // Requests (§8).
        (
            "8.1 trailers that do not end the stream",
            all([
                begun.clone(),
                frame(HEADERS, END_HEADERS, 1, &hpack::encode(&[("x-a", "b")])),
            ]),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.2.1 a name with a capital",
            with(&usual("GET /x", &[("X-Test", "ok")])),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.2.2 `connection`",
            with(&usual("GET /x", &[("connection", "keep-alive")])),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.2.2 `transfer-encoding`",
            with(&usual("GET /x", &[("transfer-encoding", "chunked")])),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.2.2 `te` of other things than trailers",
            with(&usual("GET /x", &[("te", "trailers, deflate;q=0.5")])),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.2.2 `te: trailers`",
            with(&usual("GET /x", &[("te", "trailers")])),
            Fine,
        ),
        (
            "8.3 an unknown pseudo-field",
            with(&usual("GET /x", &[(":test", "ok")])),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.3 a response's pseudo-field",
            with(&usual("GET /x", &[(":status", "200")])),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.3 a pseudo-field behind others",
            with(&[plain, &[("x-a", "b"), (":path", "/y")]].concat()),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.3.1 no method",
            with(&but(":method")),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.3.1 no scheme",
            with(&but(":scheme")),
            Stream(&[PROTOCOL]),
        ),
        ("8.3.1 no path", with(&but(":path")), Stream(&[PROTOCOL])),
        (
            "8.3.1 an empty path",
            with(&[&but(":path")[..], &[(":path", "")]].concat()),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.3.1 two methods",
            with(&[&[(":method", "GET")], plain].concat()),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.3.1 two paths",
            with(&[&[(":path", "/y")], plain].concat()),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.3.1 two schemes",
            with(&[&[(":scheme", "https")], plain].concat()),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.1.1 a length that DATA belies",
            all([
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &hpack::encode(&usual("POST /x", &[("content-length", "1")])),
                ),
                frame(DATA, END_STREAM, 1, b"test"),
            ]),
            Stream(&[PROTOCOL]),
        ),
        (
            "8.1.1 a length and no DATA",
            with(&usual("POST /x", &[("content-length", "1")])),
            Stream(&[PROTOCOL]),
        ),
        // Header compression (RFC 7541).
        (
            "2.3.3 an entry that is not there",
            block(&[0xff, 0x32]),
            Connection(&[COMPRESSION]),
        ),
        (
            "4.2 a table size behind fields",
            block(&[0x20]),
            Connection(&[COMPRESSION]),
        ),
        (
            "5.2 a Huffman string padded too far",
            block(&[
                0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x84, 0x49, 0x50, 0x9f, 0xff,
            ]),
            Connection(&[COMPRESSION]),
        ),
        (
            "5.2 a Huffman string padded with zeroes",
            block(&[
                0x00, 0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff, 0x83, 0x49, 0x50, 0x90,
            ]),
            Connection(&[COMPRESSION]),
        ),
        ("6.1 entry 0", block(&[0x80]), Connection(&[COMPRESSION])),
        (
            "6.3 a table larger than allowed",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[&[0x3f, 0xe1, 0xff, 0x03][..], &get()].concat(),
            ),
            Connection(&[COMPRESSION]),
        ),
        (
            "6.3 a table of nothing",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[&[0x20][..], &get()].concat(),
            ),
            Fine,
        ),
    ];
    let mut wrong = Vec::new();
    for (rule, bytes, want) in rows {
        let mut client = H2::connect(gate.address());
        // Numbers 1 to 9 are the row's.
        for _ in 0..5 {
            client.next_id();
        }
        client.raw(bytes);
        let outcome = match want {
            Fine => {
                let before = client.pongs;
                client.frame(PING, 0, 0, b"portcull");
                let answer = client.ask("GET /after", &[]);
                match client.try_answer(answer, PATIENCE) {
                    Ok(answer) if answer.status == 200 && client.pongs > before => continue,
                    other => format!("{other:?}, {} pongs", client.pongs - before),
                }
            }
            Connection(codes) => match client.end(Duration::from_secs(5)) {
                End::Late => "it goes on".to_owned(),
                _ => match client
                    .goaways
                    .iter()
                    .map(|(_, code)| *code)
                    .find(|code| *code != 0)
                {
                    None => continue,
                    Some(code) if code == PROTOCOL || codes.contains(&code) => continue,
                    Some(code) => format!("GOAWAY {code}"),
                },
            },
            Stream(codes) => match client.try_answer(1, Duration::from_secs(5)) {
                Err(Lost::Reset(code) | Lost::GoAway(code)) if codes.contains(&code) => continue,
                Err(Lost::Ended(end)) if end != End::Late => continue,
                other => format!("{other:?}"),
            },
        };
        wrong.push(format!("{rule}: {outcome}, not {want:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    H2::connect(gate.address()).get("/still").is(200);
}

#[test]
fn another_preface_is_no_http_2() {
    let origin = Origin::start();
    let gate = gate(&origin);
    for preface in [
        &b"INVALID CONNECTION PREFACE\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        &PREFACE[..20],
    ] {
        let config = certs().client_config(rustls::ALL_VERSIONS, &["h2"], None);
        let (mut client, _) = Client::tls(gate.address(), "app.test", config).unwrap();
        client.send(preface);
        client.half_close();
        assert_ne!(client.end(Duration::from_secs(5)), End::Late, "{preface:?}");
    }
    assert_eq!(origin.count(), 0);
}

/// A little that says much: a large entry is put into the table once and named thousands of times.
#[test]
fn a_header_bomb_is_refused_and_held_nowhere() {
    let _alone = crate::support::heavy();
    let origin = Origin::start();
    let gate = gate(&origin);
    let before = crate::support::resident_bytes();
    let mut bombs = Vec::new();
    for _ in 0..20 {
        let mut client = H2::connect(gate.address());
        let id = client.next_id();
        let mut block = get();
        // `x: aaa…` of 4000 bytes, with indexing; its place is then the first of the dynamic table.
        block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
        block.extend([b'a'; 4000]);
        block.extend([0x80 | 62].repeat(12_000));
        let mut rest = &block[..];
        let (first, behind) = rest.split_at(16_000);
        rest = behind;
        client.frame(HEADERS, END_STREAM, id, first);
        client.frame(CONTINUATION, END_HEADERS, id, rest);
        bombs.push((client, id));
    }
    for (client, id) in &mut bombs {
        match client.try_answer(*id, PATIENCE) {
            Ok(answer) => assert_eq!(answer.status, 431),
            Err(Lost::Reset(_) | Lost::GoAway(_)) => {}
            Err(Lost::Ended(end)) => assert_ne!(end, End::Late),
        }
    }
    let held = crate::support::resident_bytes().saturating_sub(before);
    assert!(
        held < 64 << 20,
        "{held} bytes are held for 20 bombs of 48 MB"
    );
    assert_eq!(origin.count(), 0);
    H2::connect(gate.address()).get("/x").is(200);
}

/// Streams that depend on each other in a ring: priorities are not followed, so nothing goes round.
#[test]
fn priorities_in_a_ring_lead_nowhere() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let mut client = H2::connect(gate.address());
    let ids: Vec<u32> = (0..100).map(|_| client.begin("POST /x", &[])).collect();
    for (at, id) in ids.iter().enumerate() {
        let on = ids[(at + 1) % ids.len()] | 1 << 31;
        let payload = [&on.to_be_bytes()[..], &[255]].concat();
        client.frame(PRIORITY, 0, *id, &payload);
    }
    for id in ids {
        client.data(id, b"x", true);
        client.answer(id).is(200);
    }
}
