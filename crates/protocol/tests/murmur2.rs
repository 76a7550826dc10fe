//! Keys go where Java clients put them: `vectors/murmur2.csv` was made by Apache Kafka's own client
//! (`tests/java/generate.sh`, which with `--check` compares the file with what the client makes).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use anabranch_protocol::partition::{murmur2, partition_for_key};

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect()
}

#[test]
fn keys_go_where_java_clients_put_them() {
    let mut lines = include_str!("vectors/murmur2.csv").lines().filter(|line| !line.starts_with('#'));
    let columns: Vec<&str> = lines.next().expect("the names of the columns").split(',').collect();
    let (mut keys, mut empty, mut not_text) = (0, 0, 0);
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let key = bytes(fields[0]);
        assert_eq!(murmur2(&key).cast_signed(), fields[1].parse::<i32>().expect("a hash"), "{line}");
        for (column, partition) in columns.iter().zip(&fields).skip(2) {
            let partitions = column.strip_prefix("of_").expect("of_<partitions>").parse().expect("a number");
            let wanted: i32 = partition.parse().expect("a partition");
            assert_eq!(partition_for_key(&key, partitions), wanted, "{column} of {line}");
        }
        keys += 1;
        empty += usize::from(key.is_empty());
        not_text += usize::from(std::str::from_utf8(&key).is_err());
    }
    assert!(keys >= 200 && empty == 1 && not_text >= 50, "{keys} keys, {empty} empty, {not_text} not text");
}
