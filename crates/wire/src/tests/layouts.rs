//! Every layout in every version against the codec.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, FetchResponse, MetadataResponse};
use rand::{SeedableRng, rngs::StdRng};

use super::generate::message;
use crate::{WireError, check, table};

#[test]
fn the_codec_reads_what_a_layout_says_to_the_last_byte() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut messages = 0;
    for entry in table::entries() {
        for version in entry.versions.0..=entry.versions.1 {
            for _ in 0..20 {
                let bytes = message(&mut rng, &entry.shape, version);
                let what = format!("{} version {version}: {bytes:?}", entry.name);
                assert_eq!((entry.check)(&bytes, version), Ok(bytes.len()), "{what}");
                let (left, again) = (entry.by_codec)(Bytes::from(bytes.clone()), version).expect(&what);
                assert_eq!((left, &again[..]), (0, &bytes[..]), "{what}");
                // One more byte is nobody's.
                let longer = [&bytes[..], &[0]].concat();
                assert_eq!((entry.check)(&longer, version), Ok(bytes.len()), "{what}");
                messages += 1;
            }
        }
    }
    assert!(messages > 5_000, "{messages}");
}

#[test]
fn a_message_that_is_cut_off_anywhere_is_refused_by_both() {
    let mut rng = StdRng::seed_from_u64(8);
    for entry in table::entries() {
        for version in entry.versions.0..=entry.versions.1 {
            let bytes = message(&mut rng, &entry.shape, version);
            for end in 0..bytes.len() {
                let cut = Bytes::copy_from_slice(&bytes[..end]);
                assert!((entry.check)(&cut, version).is_err(), "{} version {version} to {end}", entry.name);
                assert!((entry.read)(cut, version).is_err(), "{} version {version} to {end}", entry.name);
            }
        }
    }
}

#[test]
fn every_request_that_the_codec_knows_by_key_and_that_is_ours_is_here_once() {
    let mut names: Vec<_> = table::entries().map(|entry| entry.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    for key in [ApiKey::Produce, ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::EndTxn, ApiKey::CreateTopics] {
        for kind in ["Request", "Response"] {
            assert!(names.contains(&format!("{key:?}{kind}").as_str()), "{key:?}{kind}");
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_the_fields_name() {
    // Throttle time, error, session; then an array of two billion topics.
    let forged = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0];
    let error = check::<FetchResponse>(&forged, 11).unwrap_err();
    assert_eq!(error.to_string(), "`responses` claims a length of 2147483647 where 2 bytes are left");
    let negative = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe];
    let error = check::<MetadataResponse>(&negative, 3).unwrap_err();
    assert_eq!(error, WireError::Negative { field: "brokers", length: -2 });
    assert_eq!(check::<MetadataResponse>(&[0; 3], 3), Err(WireError::CutOff { wanted: 4, left: 3 }));
}

#[test]
fn a_million_items_are_enough() {
    // A group's offsets, version 6: topics of no name and no partitions, three bytes each.
    let items = (1_usize << 20) + 1;
    let mut bytes = vec![0, 0, 0, 0];
    let mut count = items + 1;
    while count >= 0x80 {
        bytes.push((count & 0x7f) as u8 | 0x80);
        count >>= 7;
    }
    bytes.push(count as u8);
    bytes.extend(std::iter::repeat_n([1, 1, 0], items).flatten());
    bytes.extend([0, 0, 0]);
    let check = check::<kafka_protocol::messages::OffsetFetchResponse>;
    assert_eq!(check(&bytes, 6), Err(WireError::TooManyItems));
}
