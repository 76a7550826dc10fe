//! Reading and writing batches, against bytes of Kafka's own encoder (`vectors/`) and against rubbish.

use std::{io::Write, sync::Arc};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{
    Aborted, Budget, HEADER_BYTES, Partition, Producing, encode_batch,
    header::{NextBatch, next_batch},
    read_partition, record_size,
};
use crate::{
    config::Isolation,
    error::{Error, ErrorKind},
    types::{Header, OutRecord, Record},
};

const LIMIT: usize = 1024 * 1024;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const COUNT_AT: usize = 57;
const GZIP: i16 = 1;
const SNAPPY: i16 = 2;
const LZ4: i16 = 3;
const ZSTD: i16 = 4;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const LOG_APPEND_TIME: i16 = 0x08;

macro_rules! vector {
    ($name:literal) => {
        unhex(include_str!(concat!("vectors/", $name, ".hex")))
    };
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
}

fn asked(fetch_offset: i64, isolation: Isolation) -> Partition {
    Partition { topic: Arc::from("t"), partition: 3, fetch_offset, isolation, max_batch_bytes: LIMIT }
}

fn read_as(fetch_offset: i64, isolation: Isolation, bytes: Bytes, aborted: Vec<Aborted>) -> (Vec<Record>, i64) {
    read_partition(&asked(fetch_offset, isolation), bytes, aborted, &mut 0).unwrap()
}

fn read(bytes: Bytes) -> (Vec<Record>, i64) {
    read_as(0, Isolation::ReadUncommitted, bytes, vec![])
}

fn refused(bytes: Bytes) -> String {
    match read_partition(&asked(0, Isolation::ReadUncommitted), bytes, vec![], &mut 0).map_err(|e| e.kind().clone()) {
        Err(ErrorKind::CorruptBatch { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn header(name: &str, value: Option<&'static [u8]>) -> Header {
    Header { name: name.to_owned().into(), value: value.map(Bytes::from_static) }
}

fn out(key: Option<&'static str>, value: Option<&'static str>) -> OutRecord {
    let bytes = |s: &'static str| Bytes::from_static(s.as_bytes());
    OutRecord { key: key.map(bytes), value: value.map(bytes), ..OutRecord::default() }
}

/// Puts a batch somewhere else, with other attributes, and its checksum right again.
fn batch(records: &[OutRecord], base_offset: i64, producer_id: i64, attributes: i16) -> Bytes {
    let producing = Producing { producer_id, producer_epoch: 0, base_sequence: 0, attributes };
    patched(&encode_batch(records, producing, 1_000), |b| b[0..8].copy_from_slice(&base_offset.to_be_bytes()))
}

fn patched(batch: &Bytes, patch: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    patch(&mut bytes);
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// The same batch with its records replaced by `packed`, said to be compressed with `codec`.
fn repacked(batch: &Bytes, codec: i16, packed: &[u8]) -> Bytes {
    patched(batch, |b| {
        b.truncate(HEADER_BYTES);
        b.extend_from_slice(packed);
        b[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&codec.to_be_bytes());
    })
}

fn marker(base_offset: i64, producer_id: i64, commit: bool) -> Bytes {
    let key: &'static [u8] = if commit { &[0, 0, 0, 1] } else { &[0, 0, 0, 0] };
    let record = OutRecord {
        key: Some(Bytes::from_static(key)),
        value: Some(Bytes::from_static(&[0, 0, 0, 0, 0, 1])),
        ..OutRecord::default()
    };
    batch(&[record], base_offset, producer_id, TRANSACTIONAL | CONTROL)
}

fn values(records: &[Record]) -> Vec<&str> {
    records.iter().map(|r| std::str::from_utf8(r.value.as_deref().unwrap_or_default()).unwrap()).collect()
}

fn joined(parts: &[Bytes]) -> Bytes {
    parts.concat().into()
}

#[test]
fn javas_batches_are_read_in_every_codec() {
    for (codec, bytes) in [
        ("none", vector!("none")),
        ("gzip", vector!("gzip")),
        ("snappy", vector!("snappy")),
        ("lz4", vector!("lz4")),
        ("zstd", vector!("zstd")),
    ] {
        let (records, next) = read_as(40, Isolation::ReadCommitted, bytes, vec![]);
        assert_eq!(next, 43, "{codec}");
        let [first, second, third] = &records[..] else { panic!("{codec}: {} records", records.len()) };
        assert_eq!((first.offset, first.timestamp_ms), (40, 1_700_000_000_000), "{codec}");
        assert_eq!(first.key.as_deref(), Some(&b"k1"[..]));
        assert_eq!(first.value.as_deref(), Some(&b"v1"[..]));
        let headers = [header("b", Some(b"1")), header("a", None), header("b", Some(b"2")), header("empty", Some(b""))];
        assert_eq!(first.headers, headers, "{codec}: repeats, nulls and order are kept");
        assert_eq!((second.offset, second.timestamp_ms), (41, 1_699_999_999_990), "{codec}: a delta below zero");
        assert_eq!((&second.key, &second.value), (&None, &None));
        assert_eq!(third.key.as_deref(), Some(&[0xff, 0xfe][..]), "{codec}: a key that is no text");
        assert_eq!(third.value.as_deref(), Some(&[b'x'; 3000][..]), "{codec}");
    }
}

#[test]
fn what_we_write_is_byte_for_byte_what_java_writes() {
    let java = vector!("none");
    let bytes = |b: &'static [u8]| Some(Bytes::from_static(b));
    let records = [
        OutRecord {
            key: bytes(b"k1"),
            value: bytes(b"v1"),
            headers: vec![
                header("b", Some(b"1")),
                header("a", None),
                header("b", Some(b"2")),
                header("empty", Some(b"")),
            ],
            timestamp_ms: Some(1_700_000_000_000),
            ..OutRecord::default()
        },
        OutRecord { timestamp_ms: Some(1_699_999_999_990), ..OutRecord::default() },
        OutRecord {
            key: bytes(&[0xff, 0xfe]),
            value: bytes(&[b'x'; 3000]),
            timestamp_ms: Some(1_700_000_000_500),
            ..OutRecord::default()
        },
    ];
    let ours = encode_batch(&records, Producing::PLAIN, 0);
    assert_eq!(ours[17..], java[17..], "all behind offset, length, epoch and format");
    assert_eq!(ours[8..12], java[8..12]);
    assert!(records.iter().map(record_size).sum::<usize>() + HEADER_BYTES >= ours.len(), "sizes are never too small");
}

#[test]
fn javas_transactions_are_filtered() {
    let aborted = vec![Aborted { producer_id: 1, first_offset: 0 }];
    let (records, next) = read_as(0, Isolation::ReadCommitted, vector!("transactions"), aborted.clone());
    assert_eq!((values(&records), next), (vec!["committed", "plain", "committed later"], 7));
    let (records, next) = read_as(0, Isolation::ReadUncommitted, vector!("transactions"), aborted);
    assert_eq!((values(&records), next), (vec!["aborted", "committed", "plain", "committed later"], 7));
}

#[test]
fn markers_alone_move_the_position() {
    let (records, next) =
        read_as(9, Isolation::ReadCommitted, joined(&[marker(9, 5, true), marker(10, 6, false)]), vec![]);
    assert_eq!((records.len(), next), (0, 11));
}

#[test]
fn the_aborted_list_may_come_in_any_order() {
    let bytes = joined(&[
        batch(&[out(None, Some("bad 1"))], 0, 1, TRANSACTIONAL),
        batch(&[out(None, Some("bad 2"))], 1, 2, TRANSACTIONAL),
        marker(2, 1, false),
        batch(&[out(None, Some("good 1"))], 3, 1, TRANSACTIONAL),
        marker(4, 2, false),
        marker(5, 1, true),
        batch(&[out(None, Some("bad 3"))], 6, 1, TRANSACTIONAL),
        batch(&[out(None, Some("no transaction"))], 7, 1, 0),
        marker(8, 1, false),
    ]);
    let list = [(1, 6), (2, 1), (1, 0)].map(|(producer_id, first_offset)| Aborted { producer_id, first_offset });
    for rotation in 0..3 {
        let mut aborted = list.to_vec();
        aborted.rotate_left(rotation);
        let (records, next) = read_as(0, Isolation::ReadCommitted, bytes.clone(), aborted);
        assert_eq!((values(&records), next), (vec!["good 1", "no transaction"], 9));
    }
}

#[test]
fn a_fetch_from_the_middle_of_a_batch_brings_only_what_was_asked() {
    let records: Vec<_> = ["a", "b", "c", "d"].map(|v| out(None, Some(v))).into();
    let bytes = batch(&records, 100, -1, 0);
    let (read, next) = read_as(102, Isolation::ReadUncommitted, bytes, vec![]);
    assert_eq!((values(&read), next), (vec!["c", "d"], 104));
}

#[test]
fn a_compaction_gap_at_a_batchs_end_is_stepped_over() {
    let bytes = patched(&batch(&[out(None, Some("kept"))], 10, -1, 0), |b| {
        b[LAST_OFFSET_DELTA_AT..LAST_OFFSET_DELTA_AT + 4].copy_from_slice(&9_i32.to_be_bytes());
    });
    let (records, next) = read_as(10, Isolation::ReadUncommitted, bytes, vec![]);
    assert_eq!((values(&records), next), (vec!["kept"], 20));
    // And one that compaction has emptied.
    let empty = patched(&batch(&[out(None, None)], 20, -1, 0), |b| {
        b.truncate(HEADER_BYTES);
        b[COUNT_AT..COUNT_AT + 4].copy_from_slice(&0_i32.to_be_bytes());
        b[LAST_OFFSET_DELTA_AT..LAST_OFFSET_DELTA_AT + 4].copy_from_slice(&4_i32.to_be_bytes());
    });
    let (records, next) = read_as(20, Isolation::ReadUncommitted, empty, vec![]);
    assert_eq!((records.len(), next), (0, 25));
}

#[test]
fn append_time_is_the_batchs() {
    let record = OutRecord { timestamp_ms: Some(5), ..out(None, Some("v")) };
    let stamped = patched(&batch(&[record], 0, -1, LOG_APPEND_TIME), |b| {
        b[35..43].copy_from_slice(&777_i64.to_be_bytes());
    });
    assert_eq!(read(stamped).0[0].timestamp_ms, 777);
}

#[test]
fn a_batch_cut_off_at_the_end_waits_for_the_next_fetch() {
    let whole = batch(&[out(Some("k"), Some("v"))], 0, -1, 0);
    let second = batch(&[out(Some("k"), Some("w"))], 1, -1, 0);
    for cut in 0..second.len() {
        let (records, next) = read(joined(&[whole.clone(), second.slice(0..cut)]));
        assert_eq!((values(&records), next), (vec!["v"], 1), "cut at {cut}");
    }
    assert_eq!(read(Bytes::new()), (vec![], 0));
    assert!(
        refused(second.slice(0..30)).contains("cut off"),
        "with nothing whole before it, it would be asked for ever"
    );
}

#[test]
fn corruption_is_told_after_what_is_good() {
    let good = batch(&[out(None, Some("good"))], 0, -1, 0);
    for at in ATTRIBUTES_AT..good.len() {
        let mut bad = BytesMut::from(&batch(&[out(None, Some("next"))], 1, -1, 0)[..]);
        bad[at % good.len()] ^= 0x40;
        let bad = bad.freeze();
        let (records, next) = read(joined(&[good.clone(), bad.clone()]));
        assert_eq!((values(&records), next), (vec!["good"], 1));
        let error = read_partition(&asked(1, Isolation::ReadUncommitted), bad, vec![], &mut 0).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::CorruptBatch { offset: 1, .. }), "{error}");
        assert!(error.to_string().contains("t-3"), "{error}");
    }
}

#[test]
fn old_formats_and_impossible_lengths_are_refused() {
    let good = batch(&[out(None, Some("v"))], 0, -1, 0);
    let with = |at: usize, bytes: &[u8]| {
        let mut b = BytesMut::from(&good[..]);
        b[at..at + bytes.len()].copy_from_slice(bytes);
        b.freeze()
    };
    assert!(refused(with(16, &[1])).contains("format 1"));
    assert!(refused(with(8, &(-1_i32).to_be_bytes())).contains("impossible"));
    assert!(refused(with(8, &10_i32.to_be_bytes())).contains("impossible"));
    let negative = patched(&good, |b| b[COUNT_AT..COUNT_AT + 4].copy_from_slice(&(-5_i32).to_be_bytes()));
    assert!(refused(negative).contains("negative"));
    let many = patched(&good, |b| b[COUNT_AT..COUNT_AT + 4].copy_from_slice(&i32::MAX.to_be_bytes()));
    assert!(refused(many).contains("cut off"));
    assert!(refused(repacked(&good, 7, b"x")).contains("compression 7"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4::EncoderBuilder::new().build(Vec::new()).unwrap();
    encoder.write_all(bytes).unwrap();
    let (packed, result) = encoder.finish();
    result.unwrap();
    packed
}

fn snappy_java(chunks: &[&[u8]]) -> Vec<u8> {
    let mut framed = vec![0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    for chunk in chunks {
        let block = snap::raw::Encoder::new().compress_vec(chunk).unwrap();
        framed.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
        framed.extend(block);
    }
    framed
}

#[test]
fn bombs_do_not_go_off() {
    let good = batch(&[out(None, Some("v"))], 0, -1, 0);
    let zeros = vec![0; 8 * LIMIT];
    let chunk = vec![0; LIMIT / 2];
    for (codec, packed) in [
        (GZIP, gzip(&zeros)),
        (SNAPPY, snap::raw::Encoder::new().compress_vec(&zeros).unwrap()),
        (SNAPPY, snappy_java(&[&chunk[..]; 16])),
        (LZ4, lz4(&zeros)),
        (ZSTD, zstd::encode_all(&zeros[..], 3).unwrap()),
        // Claims four gigabytes and holds nothing.
        (SNAPPY, vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
    ] {
        let reason = refused(repacked(&good, codec, &packed));
        assert!(reason.contains("more than the limit") || reason.contains("more than"), "{codec}: {reason}");
    }
}

#[test]
fn many_tiny_records_and_headers_count_what_they_cost_in_memory() {
    // Seven bytes each in the log, and well packed.
    let records = vec![out(None, None); 2 * LIMIT / 64];
    let plain = encode_batch(&records, Producing::PLAIN, 0);
    assert!(plain.len() < LIMIT, "small enough on the wire");
    assert!(refused(repacked(&plain, GZIP, &gzip(&plain[HEADER_BYTES..]))).contains("need more than"));
    let headers = OutRecord { headers: vec![header("", None); 2 * LIMIT / 64], ..OutRecord::default() };
    assert!(refused(encode_batch(&[headers], Producing::PLAIN, 0)).contains("need more than"));
}

#[test]
fn an_answer_is_unpacked_only_as_far_as_memory_goes() {
    let big = OutRecord { value: Some(vec![b'x'; LIMIT * 2 / 3].into()), ..OutRecord::default() };
    let batches: Vec<Bytes> = (0..10_i64)
        .map(|offset| {
            let plain = batch(std::slice::from_ref(&big), offset, -1, 0);
            repacked(&plain, GZIP, &gzip(&plain[HEADER_BYTES..]))
        })
        .collect();
    let mut spent = 0;
    let bytes = joined(&batches);
    let (records, next) =
        read_partition(&asked(0, Isolation::ReadUncommitted), bytes.clone(), vec![], &mut spent).unwrap();
    assert_eq!((records.len(), next), (2, 2), "the rest is for the next fetch");
    let (records, next) = read_partition(&asked(0, Isolation::ReadUncommitted), bytes, vec![], &mut spent).unwrap();
    assert_eq!((records.len(), next), (0, 0), "and other partitions of the answer too");
}

#[test]
fn streams_that_are_broken_or_cut_are_refused() {
    let good = batch(&[out(Some("key"), Some("value"))], 0, -1, 0);
    let body = &good[HEADER_BYTES..];
    for (codec, packed) in [
        (GZIP, gzip(body)),
        (SNAPPY, snap::raw::Encoder::new().compress_vec(body).unwrap()),
        (SNAPPY, snappy_java(&[body])),
        (LZ4, lz4(body)),
        (ZSTD, zstd::encode_all(body, 3).unwrap()),
    ] {
        assert_eq!(values(&read(repacked(&good, codec, &packed)).0), ["value"], "{codec}");
        refused(repacked(&good, codec, &packed[..packed.len() / 2]));
        refused(repacked(&good, codec, b"rubbish that is none of them"));
        refused(repacked(&good, codec, b""));
    }
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from))
}

fn any_record() -> impl Strategy<Value = OutRecord> {
    let headers = prop::collection::vec(("\\PC{0,5}", any_bytes()), 0..4);
    (any_bytes(), any_bytes(), headers, prop::option::of(0..2_000_000_000_000_i64)).prop_map(
        |(key, value, headers, timestamp_ms)| OutRecord {
            key,
            value,
            headers: headers
                .into_iter()
                .map(|(name, value): (String, _)| Header { name: name.into(), value })
                .collect(),
            timestamp_ms,
            ..OutRecord::default()
        },
    )
}

/// What the next-batch walk and the record decoder make of any bytes: something, but never a panic.
fn digest(bytes: &Bytes) {
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        let aborted = vec![Aborted { producer_id: 0, first_offset: 0 }];
        let result: Result<_, Error> = read_partition(&asked(0, isolation), bytes.clone(), aborted, &mut 0);
        if let Ok((_, next)) = result {
            assert!(next >= 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(records in prop::collection::vec(any_record(), 1..20), base in 0..1_i64 << 40, codec in 0..5_i16) {
        let plain = batch(&records, base, -1, 0);
        let body = &plain[HEADER_BYTES..];
        let bytes = match codec {
            GZIP => repacked(&plain, codec, &gzip(body)),
            SNAPPY => repacked(&plain, codec, &snappy_java(&[body])),
            LZ4 => repacked(&plain, codec, &lz4(body)),
            ZSTD => repacked(&plain, codec, &zstd::encode_all(body, 1).unwrap()),
            _ => plain.clone(),
        };
        let (read, next) = read_as(base, Isolation::ReadCommitted, bytes, vec![]);
        prop_assert_eq!(next, base + i64::try_from(records.len()).unwrap());
        prop_assert_eq!(read.len(), records.len());
        for ((got, put), offset) in read.iter().zip(&records).zip(base..) {
            prop_assert_eq!(got.offset, offset);
            prop_assert_eq!(got.timestamp_ms, put.timestamp_ms.unwrap_or(1_000));
            prop_assert_eq!((&got.key, &got.value, &got.headers), (&put.key, &put.value, &put.headers));
        }
        prop_assert!(records.iter().map(record_size).sum::<usize>() >= body.len());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        digest(&bytes.into());
    }

    /// Past the checksum: a good frame around random records.
    #[test]
    fn random_records_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..200),
        attributes in 0..0x40_i16,
        count in prop_oneof![-2..20_i32, any::<i32>()],
        delta in prop_oneof![-2..20_i32, any::<i32>()],
        base: i64,
    ) {
        let good = batch(&[out(None, None)], 0, 0, 0);
        digest(&patched(&good, |b| {
            b.truncate(HEADER_BYTES);
            b.extend_from_slice(&body);
            b[0..8].copy_from_slice(&base.to_be_bytes());
            b[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
            b[LAST_OFFSET_DELTA_AT..LAST_OFFSET_DELTA_AT + 4].copy_from_slice(&delta.to_be_bytes());
            b[COUNT_AT..COUNT_AT + 4].copy_from_slice(&count.to_be_bytes());
        }));
    }

    /// One byte of a good batch is another, and the checksum agrees.
    #[test]
    fn altered_records_never_panic(records in prop::collection::vec(any_record(), 1..5), at: prop::sample::Index, byte: u8) {
        let good = batch(&records, 0, 0, TRANSACTIONAL);
        let at = ATTRIBUTES_AT + at.index(good.len() - ATTRIBUTES_AT);
        digest(&patched(&good, |b| b[at] = byte));
    }
}

#[test]
fn the_budget_is_exact() {
    let bytes = batch(&[out(None, Some("v"))], 0, -1, 0);
    let mut walk = bytes;
    let NextBatch::Whole(header, packed) = next_batch(&mut walk) else { panic!("whole") };
    let mut budget = Budget::new(LIMIT);
    super::decode_records(&header, packed.clone(), &mut budget).unwrap();
    let needed = budget.spent();
    assert!(super::decode_records(&header, packed.clone(), &mut Budget::new(needed)).is_ok());
    assert!(super::decode_records(&header, packed, &mut Budget::new(needed - 1)).is_err());
}
