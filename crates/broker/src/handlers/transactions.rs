//! Transactions: handed to the transaction coordinator.

use kafka_protocol::{
    ResponseError,
    messages::{
        AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
        DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse,
        InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse,
        TransactionalId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
        add_partitions_to_txn_response::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult},
        describe_transactions_response::TransactionState,
        txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic},
    },
};

use super::names;
use crate::{
    node::Node,
    server::dispatch::{Api, Call},
};

impl Api for InitProducerIdRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id((-1).into())
            .with_producer_epoch(-1)
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.transactions.init_producer_id(&self, call.version)
    }
}

impl Api for AddPartitionsToTxnRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.v3_and_below_topics.iter().map(|topic| &topic.name))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        let mut topics = Vec::with_capacity(self.v3_and_below_topics.len());
        for topic in &self.v3_and_below_topics {
            let partitions = topic.partitions.iter().map(|index| {
                let response = AddPartitionsToTxnPartitionResult::default().with_partition_index(*index);
                response.with_partition_error_code(error.code())
            });
            let response = AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone());
            topics.push(response.with_results_by_partition(partitions.collect()));
        }
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics)
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.transactions.add_partitions_to_txn(&self, call.version)
    }
}

impl Api for AddOffsetsToTxnRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        AddOffsetsToTxnResponse::default().with_error_code(error.code())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.transactions.add_offsets_to_txn(&self, call.version)
    }
}

impl Api for TxnOffsetCommitRequest {
    fn topics(&self, _: &Node) -> Vec<String> {
        names(self.topics.iter().map(|topic| &topic.name))
    }

    fn refuse(&self, error: ResponseError) -> Self::Response {
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in &self.topics {
            let partitions = topic.partitions.iter().map(|partition| {
                let response = TxnOffsetCommitResponsePartition::default().with_error_code(error.code());
                response.with_partition_index(partition.partition_index)
            });
            let response = TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone());
            topics.push(response.with_partitions(partitions.collect()));
        }
        TxnOffsetCommitResponse::default().with_topics(topics)
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.transactions.txn_offset_commit(&self, call.version)
    }
}

impl Api for EndTxnRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        EndTxnResponse::default().with_error_code(error.code())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.transactions.end_txn(&self, call.version)
    }
}

impl Api for ListTransactionsRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        ListTransactionsResponse::default().with_error_code(error.code())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.transactions.list_transactions(&self)
    }
}

impl Api for DescribeTransactionsRequest {
    fn refuse(&self, error: ResponseError) -> Self::Response {
        let refused = |id: &TransactionalId| {
            TransactionState::default().with_transactional_id(id.clone()).with_error_code(error.code())
        };
        DescribeTransactionsResponse::default()
            .with_transaction_states(self.transactional_ids.iter().map(refused).collect())
    }

    async fn answer(self, call: &Call<'_>) -> Self::Response {
        call.node.transactions.describe_transactions(&self)
    }
}
