//! Where an answer is cut into reads must not matter, and no bytes may panic: the parsers alone, without a connection.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::upstream::h1::decode::{Decoder, Next};
use crate::upstream::h1::response;

/// Reads an answer that comes in pieces: head, body, trailers, and what is left over.
fn read(pieces: &[&[u8]]) -> Result<(String, Vec<u8>, bool, Vec<u8>), Malformed> {
    let mut buffer = BytesMut::new();
    let mut decoder: Option<Decoder> = None;
    let (mut shown, mut body, mut ended) = (String::new(), Vec::new(), false);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if decoder.is_none()
            && let Some(head) = response::take(&mut buffer, &Method::GET)?
        {
            shown = format!("{head:?}");
            decoder = Some(Decoder::new(head.framing));
        }
        while let Some(decoder) = decoder.as_mut().filter(|_| !ended) {
            match decoder.next(&mut buffer)? {
                Next::Piece(piece) => body.extend_from_slice(&piece),
                Next::Trailers(trailers) => {
                    shown.push_str(&format!("{trailers:?}"));
                    ended = true;
                }
                Next::End => ended = true,
                Next::Starved => break,
            }
        }
    }
    Ok((shown, body, ended, buffer.to_vec()))
}

/// Bytes that look like an answer for a while.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\n", "transfer-encoding: chunked\r\n", "content-length: 7\r\n", "\r\n", "\r\n\r\n", "5\r\nhello\r\n", "a;x=y\r\n",
            "0\r\n", "0\r\n\r\n", "x: y\r\n", "\r", "\n", "fffffffffffffff", ":", " ",
        ]).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    (any::<bool>(), vec(word, 0..12)).prop_map(|(begun, words)| {
        let begun: &[u8] = if begun {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        } else {
            b""
        };
        [begun, &words.concat()].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn where_an_answer_is_cut_does_not_matter(text in text(), cuts in vec(any::<prop::sample::Index>(), 0..5)) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        let whole = read(&[&text]);
        prop_assert_eq!(&whole, &read(&pieces), "{}", text.escape_ascii());
        prop_assert_eq!(&whole, &read(&bytes), "{}", text.escape_ascii());
    }
}
