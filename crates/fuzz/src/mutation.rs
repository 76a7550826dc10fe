//! Damage of the kinds that parsers of lengths and tags fear.

use rand::{Rng, RngExt};

/// Values at the edge of something, big-endian.
const EDGES: [i64; 12] = [-2, -1, 0, 1, 0x7f, 0x80, 0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX];
/// Varints at the edge of something: zero, 2^28, the most and its like that go on for ever.
const VARINTS: [&[u8]; 5] = [
    &[0],
    &[0x80, 0x80, 0x80, 0x80, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff; 10],
];

/// A damaged copy of an input, perhaps with parts of another of the corpus.
pub fn mutate(rng: &mut impl Rng, input: &[u8], corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        once(rng, &mut bytes, corpus);
    }
    bytes
}

fn once(rng: &mut impl Rng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = rng.random_range(0..=bytes.len());
    match rng.random_range(0..10) {
        0 => overwrite(bytes, at, &[rng.random()]),
        1 => flip(rng, bytes, at),
        2 | 3 => {
            let edge = EDGES[rng.random_range(0..EDGES.len())].to_be_bytes();
            let width = [1, 2, 4, 4, 8][rng.random_range(0..5)];
            overwrite(bytes, at, &edge[8 - width..]);
        }
        4 => overwrite(bytes, at, VARINTS[rng.random_range(0..VARINTS.len())]),
        5 => {
            bytes.splice(at..at, VARINTS[rng.random_range(0..VARINTS.len())].iter().copied());
        }
        6 => bytes.truncate(at),
        7 => {
            let end = (at + rng.random_range(0..16)).min(bytes.len());
            bytes.drain(at..end);
        }
        8 => {
            let end = (at + rng.random_range(1..32)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let times = rng.random_range(1..20);
            bytes.splice(at..at, piece.repeat(times));
        }
        _ => {
            let other = corpus.get(rng.random_range(0..corpus.len().max(1))).map_or(&[][..], |other| other);
            let from = rng.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn flip(rng: &mut impl Rng, bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << rng.random_range(0..8);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes[at..].iter_mut().zip(with) {
        *byte = *new;
    }
}
