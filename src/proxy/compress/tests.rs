#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]
use std::io::{Read as _, Write as _};

use super::coder::Coder;
use super::*;

const ALL: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

fn text(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| b"compressible words, again "[(at * at / 7) % 26])
        .collect()
}

/// Decodes as much as is there.
fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Gzip => {
            let mut decoder = flate2::write::GzDecoder::new(&mut out);
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            drop(decoder);
        }
        Coding::Brotli => {
            let mut decoder = brotli::DecompressorWriter::new(&mut out, 4096);
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            drop(decoder);
        }
        Coding::Zstd => {
            let mut decoder = zstd::stream::write::Decoder::new(&mut out).unwrap();
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            drop(decoder);
        }
    }
    out
}

#[test]
fn what_goes_in_comes_out() {
    for coding in ALL {
        for (length, announced) in [
            (0, Some(0)),
            (1, Some(1)),
            (5000, None),
            (300_000, Some(300_000)),
            (300_000, Some(10)),
        ] {
            let plain = text(length);
            let mut coder = Coder::begin(coding, announced).unwrap();
            let mut coded: Vec<u8> = Vec::new();
            for piece in plain.chunks(7000) {
                coder.write(piece).unwrap();
                coded.extend(coder.take());
            }
            coder.finish().unwrap();
            coded.extend(coder.take());
            assert_eq!(decoded(coding, &coded), plain, "{coding:?} {length}");
            assert!(length < 1000 || coded.len() < length, "{coding:?} {length}");
            assert_eq!(coder.ready(), 0);
            assert!(coder.write(b"more").is_err(), "it has ended");
        }
    }
}

#[test]
fn a_flush_brings_out_every_word() {
    for coding in ALL {
        let mut coder = Coder::begin(coding, None).unwrap();
        let mut coded: Vec<u8> = Vec::new();
        let mut plain: Vec<u8> = Vec::new();
        for word in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
            coder.write(word.as_bytes()).unwrap();
            coder.flush().unwrap();
            coded.extend(coder.take());
            plain.extend(word.as_bytes());
            assert_eq!(decoded(coding, &coded), plain, "{coding:?}");
        }
    }
}

#[test]
fn a_coded_body_of_ours_is_whole() {
    for coding in ALL {
        let plain = text(9000);
        let coded = whole(&plain, coding).unwrap();
        let mut read = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(&coded[..])
                .read_to_end(&mut read)
                .unwrap(),
            Coding::Brotli => brotli::Decompressor::new(&coded[..], 4096)
                .read_to_end(&mut read)
                .unwrap(),
            Coding::Zstd => zstd::stream::read::Decoder::new(&coded[..])
                .unwrap()
                .read_to_end(&mut read)
                .unwrap(),
        };
        assert_eq!(read, plain);
    }
}

#[test]
fn only_so_many_are_coded_at_once() {
    let mut taken: Vec<_> = (0..body::PLACES)
        .map(|_| body::Place::take().unwrap())
        .collect();
    assert!(body::Place::take().is_none(), "the rest go as they are");
    taken.pop();
    assert!(body::Place::take().is_some(), "a place is given back");
}
