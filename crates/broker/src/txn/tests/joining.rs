use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_partition_is_written_only_after_it_was_added() {
    let bench = Bench::new();
    let producer = bench.producer();
    assert_eq!(bench.write(producer, 11), INVALID_STATE);
    assert_eq!(bench.add(producer, &[1]), OK);
    assert_eq!(bench.write(producer, 11), INVALID_STATE);
    assert_eq!(bench.add(producer, &[0]), OK);
    assert_eq!(bench.write(producer, 11), OK);
    assert_eq!(bench.write(producer, 12), OK);
    assert_eq!(bench.end(producer, true), OK);
    assert_eq!(bench.write(producer, 11), INVALID_STATE, "the next transaction begins with nothing");
}

#[tokio::test(start_paused = true)]
async fn strangers_and_the_fenced_are_told_so_in_words_their_version_knows() {
    let bench = Bench::new();
    assert_eq!(bench.write(Producer { id: 1, epoch: 0 }, 11), UNKNOWN_PRODUCER);
    let producer = bench.producer();
    assert_eq!(bench.add(Producer { id: producer.id + 1, epoch: 0 }, &[0]), UNKNOWN_PRODUCER);
    let stale = producer;
    bench.producer();
    assert_eq!(bench.add_as(stale, &[0], 3), [FENCED]);
    assert_eq!(bench.add_as(stale, &[0], 1), [INVALID_EPOCH]);
    assert_eq!(bench.add_group(stale), FENCED);
    assert_eq!(bench.write(stale, 11), INVALID_EPOCH);
    assert_eq!(bench.commit_offset(stale, 1, 3), INVALID_EPOCH);
}

#[tokio::test(start_paused = true)]
async fn one_unknown_partition_keeps_the_others_out() {
    let bench = Bench::new();
    let producer = bench.producer();
    assert_eq!(bench.add_as(producer, &[0, 7], 3), [55, 3]);
    assert_eq!(bench.write(producer, 11), INVALID_STATE);
}

#[tokio::test(start_paused = true)]
async fn the_batched_form_adds_and_verifies() {
    let bench = Bench::new();
    let producer = bench.producer();
    let ask = |verify, version| {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(id())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_verify_only(verify)
            .with_topics(vec![topic(&[0])]);
        let request = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
        let response = over_the_wire(&bench.txn.add_partitions_to_txn(&request, version), version);
        response.results_by_transaction[0].topic_results[0].results_by_partition[0].partition_error_code
    };
    assert_eq!((ask(true, 4), ask(true, 5)), (INVALID_STATE, 120));
    assert_eq!(ask(false, 4), OK);
    assert_eq!((ask(true, 4), ask(true, 5)), (OK, OK));
}

#[tokio::test(start_paused = true)]
async fn offsets_wait_for_the_commit_and_vanish_with_an_abort() {
    let bench = Bench::new();
    let producer = bench.producer();
    assert_eq!(bench.commit_offset(producer, 5, 3), INVALID_STATE, "the group was not added");
    for (offset, commit, after) in [(5, true, 5), (9, false, 5)] {
        assert_eq!(bench.add_group(producer), OK);
        assert_eq!(bench.commit_offset(producer, offset, 3), OK);
        assert_eq!(bench.offset(), (-1, UNSTABLE));
        assert_eq!(bench.end(producer, commit), OK);
        assert_eq!(bench.offset(), (after, OK));
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_for_a_member_of_the_generation_only() {
    let bench = Bench::new();
    let producer = bench.producer();
    assert_eq!(bench.add_group(producer), OK);
    let commit = |member: &'static str, generation| {
        let request = bench
            .offsets_request(producer, 1)
            .with_member_id(StrBytes::from_static_str(member))
            .with_generation_id(generation);
        bench.txn.txn_offset_commit(&request, 3).topics[0].partitions[0].error_code
    };
    assert_eq!(commit("m", 3), 22);
    assert_eq!(commit("", -1), OK, "now there is such a group");
    assert_eq!(commit("m", 3), 25);
}

#[tokio::test(start_paused = true)]
async fn under_version_2_writing_adds_for_clients_that_speak_it() {
    let bench = Bench::of(Version::Two);
    let producer = bench.producer();
    assert_eq!(bench.write(producer, 11), INVALID_STATE);
    assert_eq!(bench.write(producer, 12), OK);
    assert_eq!(bench.write(producer, 11), OK);
    assert_eq!(bench.commit_offset(producer, 5, 4), INVALID_STATE);
    assert_eq!(bench.commit_offset(producer, 5, 5), OK);
    assert_eq!(bench.end_as(producer, true, 5).error_code, OK);
    assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch + 1, true)]));
    assert_eq!(bench.offset(), (5, OK));
}
