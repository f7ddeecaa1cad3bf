#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A version 2 header: signature, command, family, the length as said, the rest.
fn v2(command: u8, family: u8, said: u16, rest: &[u8]) -> Vec<u8> {
    let [high, low] = said.to_be_bytes();
    [SIGNATURE, &[command, family, high, low], rest].concat()
}

/// 192.0.2.1:1234 to 192.0.2.9:80.
const V4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 9, 0x04, 0xd2, 0, 80];

/// [2001:db8::1]:1234 to [::]:80.
fn v6() -> Vec<u8> {
    let mut bytes = vec![0; 36];
    bytes[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    bytes[15] = 1;
    bytes[32..34].copy_from_slice(&[0x04, 0xd2]);
    bytes
}

#[test]
fn what_is_no_header_is_refused() {
    let long = |tail: &str| format!("PROXY UNKNOWN {}{tail}", "x".repeat(107 - 14 - tail.len()));
    for (bytes, why) in [
        ("GET / HTTP/1.1\r\n", "a request without a header"),
        ("G", "its first byte tells"),
        ("\u{16}\u{3}\u{1}", "a TLS handshake without a header"),
        ("proxy TCP4 192.0.2.1 192.0.2.9 1 2\r\n", "case"),
        (
            "PROXY\tTCP4 192.0.2.1 192.0.2.9 1 2\r\n",
            "a tab for a space",
        ),
        ("PROXY  TCP4 192.0.2.1 192.0.2.9 1 2\r\n", "two spaces"),
        ("PROXY TCP4 192.0.2.1  192.0.2.9 1 2\r\n", "two spaces"),
        (" PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n", "a space before"),
        ("PROXY TCP4 192.0.2.1 192.0.2.9 1 2 \r\n", "a space behind"),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.9 1 2 3\r\n",
            "a word too many",
        ),
        ("PROXY TCP4 192.0.2.1 192.0.2.9 1\r\n", "a word too few"),
        ("PROXY TCP4\r\n", "no address"),
        ("PROXY \r\n", "no family"),
        ("PROXY TCP5 192.0.2.1 192.0.2.9 1 2\r\n", "no such family"),
        (
            "PROXY UDP4 192.0.2.1 192.0.2.9 1 2\r\n",
            "no such family in version 1",
        ),
        ("PROXY UNKNOWNS\r\n", "another word"),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", "IPv6 under TCP4"),
        ("PROXY TCP6 192.0.2.1 192.0.2.9 1 2\r\n", "IPv4 under TCP6"),
        ("PROXY TCP4 192.0.2.1 ::1 1 2\r\n", "families mixed"),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "a zone"),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", "brackets"),
        (
            "PROXY TCP4 192.0.2.01 192.0.2.9 1 2\r\n",
            "octal or decimal?",
        ),
        ("PROXY TCP4 192.0.2 192.0.2.9 1 2\r\n", "a short address"),
        ("PROXY TCP4 0x7f.0.0.1 192.0.2.9 1 2\r\n", "hexadecimal"),
        ("PROXY TCP4 192.0.2.256 192.0.2.9 1 2\r\n", "too large"),
        ("PROXY TCP4 192.0.2.1/32 192.0.2.9 1 2\r\n", "a network"),
        ("PROXY TCP4 localhost 192.0.2.9 1 2\r\n", "a name"),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.9 65536 2\r\n",
            "a port too large",
        ),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.9 1 65536\r\n",
            "a port too large",
        ),
        ("PROXY TCP4 192.0.2.1 192.0.2.9 +1 2\r\n", "a sign"),
        ("PROXY TCP4 192.0.2.1 192.0.2.9 -1 2\r\n", "a sign"),
        ("PROXY TCP4 192.0.2.1 192.0.2.9 01 2\r\n", "a leading zero"),
        ("PROXY TCP4 192.0.2.1 192.0.2.9 1 2\n", "no CR"),
        ("PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\r\n", "two CR"),
        ("PROXY TCP4 192.0.2.1 192.0.2.9 1 \0\r\n", "a NUL"),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.\u{663} 1 2\r\n",
            "another script's digit",
        ),
        ("\r\n\r\nGET / HTTP/1.1\r\n", "empty lines before a request"),
        (&long("zzz"), "107 bytes without an end"),
        (&long("xx\r"), "the end would be byte 108"),
    ] {
        assert_eq!(
            examine(bytes.as_bytes()),
            Err(Malformed),
            "{why}: {bytes:?}"
        );
    }
    for (bytes, why) in [
        (v2(0x11, 0x11, 12, V4), "version 1 in binary"),
        (v2(0x31, 0x11, 12, V4), "version 3"),
        (v2(0x01, 0x11, 12, V4), "version 0"),
        (v2(0x22, 0x11, 12, V4), "no such command"),
        (v2(0x2f, 0x11, 12, V4), "no such command"),
        (v2(PROXY, 0x41, 12, V4), "no such family"),
        (v2(PROXY, 0x10, 12, V4), "an address without a transport"),
        (v2(PROXY, 0x01, 12, V4), "a transport without an address"),
        (v2(PROXY, 0x13, 12, V4), "no such transport"),
        (v2(PROXY, 0x11, 11, V4), "too short for its addresses"),
        (v2(PROXY, 0x11, 0, V4), "no addresses"),
        (v2(PROXY, 0x21, 35, &v6()), "too short for its addresses"),
        (
            v2(PROXY, 0x31, 215, &[0; 215]),
            "too short for its addresses",
        ),
        (v2(PROXY, 0x11, 4097, V4), "too long"),
        (v2(LOCAL, 0x00, 0xffff, &[]), "too long"),
    ] {
        assert_eq!(examine(&bytes), Err(Malformed), "{why}: {bytes:?}");
    }
}

#[test]
fn a_header_names_the_source() {
    let at = |text: &str| Header::Source(text.parse().unwrap());
    let tail = [V4, b"\x03\0\x04abcd"].concat();
    let unknown = format!("PROXY UNKNOWN {}\r\n", "\u{7f}".repeat(107 - 16));
    let mut most = V4.to_vec();
    most.resize(4096, 7);
    for (bytes, want, why) in [
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.9 1234 80\r\n".to_vec(),
            at("192.0.2.1:1234"),
            "plain",
        ),
        (
            b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".to_vec(),
            at("0.0.0.0:0"),
            "edges",
        ),
        (
            b"PROXY TCP6 2001:DB8::1 :: 1234 80\r\n".to_vec(),
            at("[2001:db8::1]:1234"),
            "version 6",
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.9 1 2\r\n".to_vec(),
            at("[::ffff:192.0.2.1]:1"),
            "mapped: the connection makes it IPv4",
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), Header::Peer, "nobody"),
        (
            b"PROXY UNKNOWN ::1 ::1 1 2\r\n".to_vec(),
            Header::Peer,
            "what follows is not looked at",
        ),
        (unknown.into_bytes(), Header::Peer, "107 bytes"),
        (v2(PROXY, 0x11, 12, V4), at("192.0.2.1:1234"), "version 4"),
        (
            v2(PROXY, 0x12, 12, V4),
            at("192.0.2.1:1234"),
            "a client of HTTP/3",
        ),
        (
            v2(PROXY, 0x21, 36, &v6()),
            at("[2001:db8::1]:1234"),
            "version 6",
        ),
        (
            v2(PROXY, 0x11, 19, &tail),
            at("192.0.2.1:1234"),
            "with type-length-values",
        ),
        (
            v2(PROXY, 0x11, 4096, &most),
            at("192.0.2.1:1234"),
            "the longest",
        ),
        (v2(PROXY, 0x00, 0, &[]), Header::Peer, "unspecified"),
        (
            v2(PROXY, 0x00, 12, V4),
            Header::Peer,
            "unspecified: addresses are not looked at",
        ),
        (
            v2(PROXY, 0x31, 216, &[b'/'; 216]),
            Header::Peer,
            "a Unix socket",
        ),
        (v2(LOCAL, 0x00, 0, &[]), Header::Peer, "a health check"),
        (
            v2(LOCAL, 0x11, 12, V4),
            Header::Peer,
            "LOCAL: addresses are not looked at",
        ),
        (
            v2(LOCAL, 0xff, 3, b"abc"),
            Header::Peer,
            "LOCAL: the family is not looked at",
        ),
    ] {
        assert_eq!(
            examine(&bytes),
            Ok(Progress::Whole(want, bytes.len())),
            "{why}"
        );
        let more = [&bytes[..], b"\r\nPROXY TCP4 "].concat();
        assert_eq!(
            examine(&more),
            Ok(Progress::Whole(want, bytes.len())),
            "{why}, and more"
        );
        for end in 0..bytes.len() {
            let part = examine(&bytes[..end]);
            let waits = matches!(part, Ok(Progress::Partial(most)) if most > end);
            assert!(waits, "{why}: {end} bytes of it are {part:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes: an answer, which does not depend on what follows the header, and never claims bytes that are not there.
    #[test]
    fn any_bytes_have_an_answer(
        start in prop::sample::select(vec![
            b"".to_vec(),
            b"PROXY ".to_vec(),
            b"PROXY TCP4 1.2.3.4 ".to_vec(),
            SIGNATURE.to_vec(),
            v2(PROXY, 0x11, 12, &[]),
            v2(PROXY, 0x21, 40, &[]),
        ]),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [start, noise].concat();
        match examine(&bytes) {
            Ok(Progress::Whole(header, length)) => {
                prop_assert!(length <= bytes.len());
                prop_assert_eq!(examine(&bytes[..length]), Ok(Progress::Whole(header, length)));
                let shorter = examine(&bytes[..length - 1]);
                prop_assert!(matches!(shorter, Ok(Progress::Partial(most)) if most >= length));
            }
            Ok(Progress::Partial(most)) => {
                prop_assert!(most > bytes.len() && most <= V2_HEAD_BYTES + V2_REST_BYTES_MAX);
            }
            Err(Malformed) => {
                let longer = [&bytes[..], b"\r\n"].concat();
                prop_assert_eq!(examine(&longer), Err(Malformed), "no way back");
            }
        }
    }

    /// A line that is written is read.
    #[test]
    fn a_written_line_is_read(source: SocketAddr, port: u16) {
        let (family, any) = match source {
            SocketAddr::V4(_) => ("TCP4", "0.0.0.0"),
            SocketAddr::V6(_) => ("TCP6", "::"),
        };
        let line = format!("PROXY {family} {} {any} {} {port}\r\n", source.ip(), source.port());
        let want = SocketAddr::new(source.ip(), source.port());
        prop_assert_eq!(examine(line.as_bytes()), Ok(Progress::Whole(Header::Source(want), line.len())));
    }
}

/// Writes pieces to a socket, each once the one before it was taken, then reads a header and what is left.
async fn over_a_socket(pieces: &[&[u8]]) -> (Result<Header, ReadError>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    client.set_nodelay(true).unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let writing = async {
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
    };
    let mut seen = 0;
    let (outcome, ()) = tokio::join!(read(&mut server, &mut seen), writing);
    let mut left = Vec::new();
    server.read_to_end(&mut left).await.unwrap();
    (outcome, left)
}

#[tokio::test]
async fn a_socket_keeps_what_follows_the_header() {
    let v2 = v2(PROXY, 0x21, 36, &v6());
    let line = b"PROXY TCP6 2001:db8::1 :: 1234 80\r\n";
    let want = Header::Source("[2001:db8::1]:1234".parse().unwrap());
    for header in [&v2[..], line] {
        let together = [header, b"GET /"].concat();
        let bytes: Vec<&[u8]> = together.chunks(1).collect();
        for pieces in [&[header, b"GET /"][..], &[&together], &bytes] {
            let (outcome, left) = over_a_socket(pieces).await;
            assert_eq!(outcome.unwrap(), want, "{header:?}");
            assert_eq!(left, b"GET /", "not a byte more is taken");
        }
    }
    let (outcome, left) = over_a_socket(&[b"PROXY UNKNOWN\r\nG"]).await;
    assert_eq!(outcome.unwrap(), Header::Peer);
    assert_eq!(left, b"G", "the shortest line");
}

#[tokio::test]
async fn a_socket_that_ends_early_names_nobody() {
    let (outcome, _) = over_a_socket(&[]).await;
    assert!(
        matches!(outcome, Err(ReadError::Ended(None))),
        "nothing was said"
    );
    for (sent, seen) in [(&b"PROXY TCP4 192.0.2.1"[..], 20), (SIGNATURE, 12)] {
        let (outcome, _) = over_a_socket(&[sent]).await;
        assert!(matches!(outcome, Err(ReadError::Malformed(count)) if count == seen));
    }
}
