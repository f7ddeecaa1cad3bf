//! Any bytes as an upstream's answer: nothing panics, and where the answer is cut into reads does not matter. The first byte
//! says where.
#![no_main]

use bytes::BytesMut;
use http::Method;
use libfuzzer_sys::fuzz_target;
use portcullis::upstream::h1::Malformed;
use portcullis::upstream::h1::decode::{Decoder, Next};
use portcullis::upstream::h1::response;

type Read = Result<(String, Vec<u8>, bool, Vec<u8>), Malformed>;

fn read(pieces: &[&[u8]]) -> Read {
    let mut buffer = BytesMut::new();
    let mut decoder: Option<Decoder> = None;
    let (mut shown, mut body, mut ended) = (String::new(), Vec::new(), false);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if decoder.is_none() {
            if let Some(head) = response::take(&mut buffer, &Method::GET)? {
                shown = format!("{head:?}");
                decoder = Some(Decoder::new(head.framing));
            }
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

fuzz_target!(|data: &[u8]| {
    let Some((cut, text)) = data.split_first() else { return };
    let (one, two) = text.split_at(usize::from(*cut).min(text.len()));
    assert_eq!(read(&[text]), read(&[one, two]));
});
