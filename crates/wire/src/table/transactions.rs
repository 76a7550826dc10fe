//! Transactions.

use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    DescribeProducersRequest, DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse,
    InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
};

use super::shapes;
use crate::shape::{array, fixed, numbers, text, texts};

shapes! {
    InitProducerIdRequest: 2 => [text("transactional_id"), fixed(4), fixed(10).since(3)],
    AddPartitionsToTxnRequest: 3 => [
        array("transactions", &[
            text("transactional_id"), fixed(11), array("topics", &[text("name"), numbers("partitions", 4)]),
        ]).since(4),
        text("v3_and_below_transactional_id").until(3), fixed(10).until(3),
        array("v3_and_below_topics", &[text("name"), numbers("partitions", 4)]).until(3),
    ],
    AddOffsetsToTxnRequest: 3 => [text("transactional_id"), fixed(10), text("group_id")],
    TxnOffsetCommitRequest: 3 => [
        text("transactional_id"), text("group_id"), fixed(10), fixed(4).since(3), text("member_id").since(3),
        text("group_instance_id").since(3),
        array("topics", &[
            text("name"), array("partitions", &[fixed(12), fixed(4).since(2), text("committed_metadata")]),
        ]),
    ],
    EndTxnRequest: 3 => [text("transactional_id"), fixed(11)],
    ListTransactionsRequest: 0 => [
        texts("state_filters"), numbers("producer_id_filters", 8), fixed(8).since(1),
        text("transactional_id_pattern").since(2),
    ],
    DescribeTransactionsRequest: 0 => [texts("transactional_ids")],
    DescribeProducersRequest: 0 => [array("topics", &[text("name"), numbers("partition_indexes", 4)])],
    InitProducerIdResponse: 2 => [fixed(16), fixed(10).since(6)],
    AddPartitionsToTxnResponse: 3 => [
        fixed(4), fixed(2).since(4),
        array("results_by_transaction", &[
            text("transactional_id"),
            array("topic_results", &[text("name"), array("results_by_partition", &[fixed(6)])]),
        ]).since(4),
        array("results_by_topic_v3_and_below", &[text("name"), array("results_by_partition", &[fixed(6)])]).until(3),
    ],
    AddOffsetsToTxnResponse: 3 => [fixed(6)],
    TxnOffsetCommitResponse: 3 => [fixed(4), array("topics", &[text("name"), array("partitions", &[fixed(6)])])],
    EndTxnResponse: 3 => [fixed(6), fixed(10).since(5)],
    DescribeTransactionsResponse: 0 => [
        fixed(4),
        array("transaction_states", &[
            fixed(2), text("transactional_id"), text("transaction_state"), fixed(22),
            array("topics", &[text("topic"), numbers("partitions", 4)]),
        ]),
    ],
}
