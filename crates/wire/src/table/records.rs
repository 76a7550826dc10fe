//! Records in and out, and where they lie.

use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, ProduceRequest, ProduceResponse,
};

use super::shapes;
use crate::shape::{array, blob, fixed, numbers, text, within};

shapes! {
    ProduceRequest: 9 => [
        text("transactional_id"), fixed(6),
        array("topic_data", &[
            text("name").until(12), fixed(16).since(13), array("partition_data", &[fixed(4), blob("records")]),
        ]),
    ],
    FetchRequest: 12 => [
        fixed(4).until(14), fixed(13), fixed(8).since(7),
        array("topics", &[
            text("topic").until(12), fixed(16).since(13),
            array("partitions", &[
                fixed(4), fixed(4).since(9), fixed(8), fixed(4).since(12), fixed(8).since(5), fixed(4),
                fixed(16).tag(0).since(17), fixed(8).tag(1).since(18),
            ]),
        ]),
        array("forgotten_topics_data", &[
            text("topic").until(12), fixed(16).since(13), numbers("partitions", 4),
        ]).since(7),
        text("rack_id").since(11), text("cluster_id").tag(0).since(12), within(&[fixed(12)]).tag(1).since(15),
    ],
    ListOffsetsRequest: 6 => [
        fixed(4), fixed(1).since(2),
        array("topics", &[text("name"), array("partitions", &[fixed(4), fixed(4).since(4), fixed(8)])]),
        fixed(4).since(10),
    ],
    OffsetForLeaderEpochRequest: 4 => [
        fixed(4).since(3), array("topics", &[text("topic"), array("partitions", &[fixed(12)])]),
    ],
    DeleteRecordsRequest: 2 => [array("topics", &[text("name"), array("partitions", &[fixed(12)])]), fixed(4)],
    DeleteRecordsResponse: 2 => [fixed(4), array("topics", &[text("name"), array("partitions", &[fixed(14)])])],
    ProduceResponse: 9 => [
        array("responses", &[
            text("name").until(12), fixed(16).since(13),
            array("partition_responses", &[
                fixed(22), fixed(8).since(5),
                array("record_errors", &[fixed(4), text("batch_index_error_message")]).since(8),
                text("error_message").since(8), within(&[fixed(8)]).tag(0).since(10),
            ]),
        ]),
        fixed(4), array("node_endpoints", &[fixed(4), text("host"), fixed(4), text("rack")]).tag(0).since(10),
    ],
    FetchResponse: 12 => [
        fixed(4), fixed(6).since(7),
        array("responses", &[
            text("topic").until(12), fixed(16).since(13),
            array("partitions", &[
                fixed(22), fixed(8).since(5), array("aborted_transactions", &[fixed(16)]), fixed(4).since(11),
                blob("records"), within(&[fixed(12)]).tag(0).since(12), within(&[fixed(8)]).tag(1).since(12),
                within(&[fixed(12)]).tag(2).since(12),
            ]),
        ]),
        array("node_endpoints", &[fixed(4), text("host"), fixed(4), text("rack")]).tag(0).since(16),
    ],
    ListOffsetsResponse: 6 => [
        fixed(4).since(2), array("topics", &[text("name"), array("partitions", &[fixed(22), fixed(4).since(4)])]),
    ],
}
