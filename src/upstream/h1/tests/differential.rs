//! Our client against hyper's: the same bytes, split alike. Both read the same, or ours is stricter, in a way named here.

use http_body_util::Empty;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What hyper makes of it.
async fn hypers(method: Method, pieces: Vec<Vec<u8>>) -> Result<Answer, hyper::Error> {
    let (ours, theirs) = tokio::io::duplex(256);
    let upstream = tokio::task::spawn_local(script(theirs, pieces, Ending::Closes));
    let (mut sender, connection) = Builder::new()
        .max_headers(256)
        .handshake(TokioIo::new(ours))
        .await?;
    let driving = tokio::task::spawn_local(connection);
    let request = Request::builder()
        .method(method)
        .uri("/a?b=c")
        .header("host", "app.example");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = async {
        let (mut head, body) = sender.send_request(request).await?.into_parts();
        crate::value::hop::strip_response(&mut head.headers);
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        })
    }
    .await;
    driving.abort();
    upstream.abort();
    answer
}

/// One change to a well-formed answer.
#[derive(Debug, Clone)]
enum Change {
    Put(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
    /// A line is said twice.
    Repeat(usize),
}

fn apply(mut text: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if text.is_empty() {
            return text;
        }
        let length = text.len();
        match *change {
            Change::Put(at, byte) => text[place(at, length)] = byte,
            Change::Insert(at, byte) => text.insert(place(at, length), byte),
            Change::Remove(at) => drop(text.remove(place(at, length))),
            Change::Cut(at) => text.truncate(place(at, length)),
            Change::Repeat(at) => {
                let from = text[..place(at, length)]
                    .iter()
                    .rposition(|byte| *byte == b'\n');
                let from = from.map_or(0, |at| at + 1);
                let to = text[from..].iter().position(|byte| *byte == b'\n');
                let line = text[from..to.map_or(length, |to| from + to + 1)].to_vec();
                text.splice(from..from, line);
            }
        }
    }
    text
}

/// Most places are counted from the end, where bodies are: a head is longer, and broken heads teach less.
const fn place(at: usize, length: usize) -> usize {
    if at < FROM_END {
        at % length
    } else {
        length - 1 - (at - FROM_END) % length
    }
}

const FROM_END: usize = 1000;

fn split(text: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    for size in sizes {
        let (piece, more) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = more;
    }
    pieces.push(rest.to_vec());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn heads() -> impl Strategy<Value = String> {
    let interim = prop::sample::select(vec![
        "",
        "",
        "",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 E\r\nlink: x\r\n\r\n",
    ]);
    let status = prop::sample::select(vec![
        "1.1 200 OK",
        "1.1 200 OK",
        "1.1 200 OK",
        "1.1 200 OK",
        "1.1 200 OK",
        "1.1 200 OK",
        "1.1 404 Not Found",
        "1.1 204 N",
        "1.1 304 N",
        "1.0 200 OK",
        "1.1 500",
        "1.1 101 S",
    ]);
    let field = prop::sample::select(vec![
        "server: x\r\n",
        "Set-Cookie: a=b; path=/\r\n",
        "connection: close\r\n",
        "connection: keep-alive\r\n",
        "x-empty:\r\n",
        "x-bytes: \u{e9}\r\n",
        "vary: a, b\r\n",
        "content-type: text/plain\r\n",
        "trailer: x-t\r\n",
        "upgrade: h2c\r\n",
    ]);
    (interim, status, vec(field, 0..4)).prop_map(|(interim, status, fields)| {
        format!("{interim}HTTP/{status}\r\n{}", fields.concat())
    })
}

fn bodies() -> impl Strategy<Value = String> {
    let text = || prop::string::string_regex("[a-z0-9\r\n]{0,40}").unwrap();
    let chunks = vec(
        (
            prop::string::string_regex("[a-z\r\n]{1,20}").unwrap(),
            prop::sample::select(vec!["", "", ";a=b", ";x"]),
        ),
        0..4,
    );
    let trailers = prop::sample::select(vec![
        "",
        "",
        "x-t: 1\r\n",
        "X-T: 1\r\ncontent-length: 3\r\n",
    ]);
    prop_oneof![
        2 => text().prop_map(|text| format!("content-length: {}\r\n\r\n{text}", text.len())),
        5 => (chunks, trailers).prop_map(|(chunks, trailers)| {
            let chunks: String = chunks
                .iter()
                .map(|(text, extension)| format!("{:x}{extension}\r\n{text}\r\n", text.len()))
                .collect();
            format!("transfer-encoding: chunked\r\n\r\n{chunks}0\r\n{trailers}\r\n")
        }),
        1 => text().prop_map(|text| format!("\r\n{text}")),
        1 => Just(
            "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                .to_owned()
        ),
    ]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = prop_oneof![1 => 0_usize..400, 2 => FROM_END..FROM_END + 60];
    let byte = prop_oneof![
        prop::sample::select(b"\r\n\0 \t:;,-+0129afxX\x7f\x80".to_vec()),
        any::<u8>()
    ];
    vec(
        prop_oneof![
            (at.clone(), byte.clone()).prop_map(|(at, byte)| Change::Put(at, byte)),
            (at.clone(), byte).prop_map(|(at, byte)| Change::Insert(at, byte)),
            at.clone().prop_map(Change::Remove),
            at.clone().prop_map(Change::Cut),
            at.prop_map(Change::Repeat),
        ],
        0..3,
    )
}

/// The ways in which ours refuses what hyper reads. Everything else must be read alike.
fn known(error: &Error) -> bool {
    match error.malformed() {
        // hyper takes a bare LF for a line's end, and skips empty lines before a head.
        Some(Malformed::BareLineBreak) => true,
        // hyper takes equal lengths for one, and a length beside a coding for none.
        Some(Malformed::ContentLength | Malformed::BothFramings) => true,
        // hyper passes other codings on, as bodies up to the connection's end.
        Some(Malformed::TransferEncoding) => true,
        // hyper hands the connection over to whoever asked for it; nobody did.
        Some(Malformed::Switched) => true,
        // hyper skips spaces behind a chunk's size.
        Some(Malformed::ChunkSize) => true,
        // hyper takes control characters in extensions.
        Some(Malformed::ChunkExtension) => true,
        // hyper takes a bare LF for a trailer's end.
        Some(Malformed::Trailers) => true,
        Some(
            Malformed::Head(_)
            | Malformed::HeadTooLarge
            | Malformed::Status
            | Malformed::Field
            | Malformed::Interim
            | Malformed::ChunkEnd,
        )
        | None => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ours_reads_as_hypers_or_is_stricter(
        head in heads(),
        body in bodies(),
        changes in changes(),
        sizes in vec(1_usize..60, 0..6),
        method in prop::sample::select(vec![Method::GET, Method::GET, Method::HEAD]),
    ) {
        let text = apply(format!("{head}{body}").into_bytes(), &changes);
        let pieces = split(&text, &sizes);
        let mut request = get();
        *request.method_mut() = method.clone();
        let (ours, theirs) = on_a_worker(async {
            let (ours, _) = ask(request, pieces.clone(), Ending::Closes).await;
            (ours, hypers(method, pieces).await)
        });
        let shown = text.escape_ascii();
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.status, theirs.status, "{}", shown);
                prop_assert_eq!(&ours.headers, &theirs.headers, "{}", shown);
                prop_assert_eq!(&ours.body, &theirs.body, "{}", shown);
                // Ours leaves out those that may not stand there.
                for name in ours.trailers.iter().flat_map(HeaderMap::keys) {
                    let said = |fields: &Option<HeaderMap>| -> Vec<http::HeaderValue> {
                        let fields = fields.as_ref().map(|fields| fields.get_all(name));
                        fields.into_iter().flatten().cloned().collect()
                    };
                    let (ours, theirs) = (said(&ours.trailers), said(&theirs.trailers));
                    prop_assert_eq!(ours, theirs, "{}", shown);
                }
            }
            (Err(ours), Ok(theirs)) => {
                prop_assert!(known(&ours), "{:?} against {:?}: {}", ours, theirs, shown);
            }
            (Ok(ours), Err(theirs)) => {
                prop_assert!(false, "{:?} against {:?}: {}", ours, theirs, shown);
            }
            (Err(_), Err(_)) => {}
        }
    }
}
