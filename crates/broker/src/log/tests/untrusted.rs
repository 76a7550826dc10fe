//! Any bytes as a producer's batch, with its checksum right. How to run it longer: `crates/fuzz`.

use anabranch_fuzz::Fuzz;

use super::{PLAIN, batch_of, idempotent, transactional};
use crate::log::{
    batch::{HEADER, Header},
    records::Records,
    validate::{Rules, check},
};

const RULES: Rules = Rules {
    max_bytes: 1 << 20,
    keys_required: false,
    log_append_time: false,
    before_max_ms: i64::MAX,
    after_max_ms: i64::MAX,
};
/// Small batches unfold to little, unless they are bombs, which a test of their own sets off.
const FLOOR_BYTES: u64 = 4 << 20;

#[test]
fn any_batch() {
    let pairs = [("key", Some("a value, a value, a value, a value")), ("", None), ("key", Some(""))];
    let mut corpus: Vec<_> = (0..=4).map(|codec| batch_of(PLAIN, 1_000, codec, &pairs).to_vec()).collect();
    corpus.push(batch_of(idempotent(3), i64::MAX, 0, &pairs).to_vec());
    corpus.push(batch_of(transactional(9, 0), i64::MIN, 2, &pairs).to_vec());
    Fuzz::new("any batch").corpus(corpus).allocating(64, FLOOR_BYTES).run(|input| {
        let mut bytes = input.to_vec();
        if bytes.len() > HEADER {
            let length = i32::try_from(bytes.len() - 12).unwrap();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        for batch in [input, &bytes] {
            let refused = check(batch, &RULES, 11, 1_000).is_err();
            let header = Header::parse(batch);
            assert!(refused || header.is_some_and(|header| header.count > 0 && header.size == batch.len()));
            Records::new(batch).for_each(drop);
        }
    });
}
