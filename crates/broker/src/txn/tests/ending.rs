use super::*;

#[tokio::test(start_paused = true)]
async fn an_end_is_marked_on_every_partition_and_leaves_the_epoch() {
    let bench = Bench::new();
    let producer = bench.producer();
    for commit in [true, false, true] {
        assert_eq!(bench.add(producer, &[0, 2]), OK);
        assert_eq!(bench.end(producer, commit), OK);
        assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch, commit), (2, producer.epoch, commit)]));
    }
    assert_eq!(bench.init(Some(producer)).unwrap(), next(producer), "nothing was raised behind its back");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_end_is_the_same_end_and_the_opposite_is_refused() {
    let bench = Bench::new();
    let producer = bench.producer();
    for commit in [true, false] {
        assert_eq!(bench.add(producer, &[0]), OK);
        assert_eq!(bench.end(producer, commit), OK);
        bench.markers();
        assert_eq!(bench.end(producer, commit), OK);
        assert_eq!(bench.end(producer, !commit), INVALID_STATE);
        assert!(bench.markers().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_to_end_is_an_error() {
    let bench = Bench::new();
    assert_eq!(bench.end(Producer { id: 0, epoch: 0 }, true), UNKNOWN_PRODUCER);
    let producer = bench.producer();
    assert_eq!((bench.end(producer, true), bench.end(producer, false)), (INVALID_STATE, INVALID_STATE));
}

#[tokio::test(start_paused = true)]
async fn a_fenced_producer_ends_nothing() {
    let bench = Bench::new();
    let old = bench.producer();
    let new = bench.producer();
    assert_eq!(bench.add(new, &[0]), OK);
    assert_eq!(bench.end_as(old, true, 2).error_code, FENCED);
    assert_eq!(bench.end_as(old, true, 1).error_code, INVALID_EPOCH);
    assert!(bench.markers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn under_version_2_every_end_raises_the_epoch_and_says_so() {
    let bench = Bench::of(Version::Two);
    let mut producer = bench.producer();
    for commit in [true, false] {
        assert_eq!(bench.write(producer, 12), OK);
        let response = bench.end_as(producer, commit, 5);
        assert_eq!((response.error_code, response.producer_epoch), (OK, producer.epoch + 1));
        assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch + 1, commit)]));
        let repeat = bench.end_as(producer, commit, 5);
        assert_eq!((repeat.error_code, repeat.producer_epoch), (OK, producer.epoch + 1));
        assert_eq!(bench.end_as(producer, !commit, 5).error_code, INVALID_STATE);
        assert_eq!(bench.write(producer, 12), INVALID_EPOCH);
        producer = next(producer);
    }
}

#[tokio::test(start_paused = true)]
async fn under_version_2_an_abort_of_nothing_is_in_order_and_a_commit_of_nothing_is_not() {
    let bench = Bench::of(Version::Two);
    let producer = bench.producer();
    assert_eq!(bench.end_as(producer, true, 5).error_code, INVALID_STATE);
    let response = bench.end_as(producer, false, 5);
    assert_eq!((response.error_code, response.producer_epoch), (OK, producer.epoch + 1));
    let response = bench.end_as(next(producer), false, 5);
    assert_eq!((response.error_code, response.producer_epoch), (OK, producer.epoch + 2));
}

#[tokio::test(start_paused = true)]
async fn under_version_2_an_older_client_keeps_its_epoch() {
    let bench = Bench::of(Version::Two);
    let producer = bench.producer();
    assert_eq!(bench.add(producer, &[0]), OK);
    assert_eq!(bench.end_as(producer, true, 4).error_code, OK);
    assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch, true)]));
    assert_eq!(bench.add(producer, &[0]), OK);
}

#[tokio::test(start_paused = true)]
async fn used_up_epochs_give_a_new_producer_id() {
    let bench = Bench::of(Version::Two);
    let mut producer = bench.producer();
    let first = producer.id;
    while producer.id == first {
        assert_eq!(bench.write(producer, 12), OK);
        let response = bench.end_as(producer, true, 5);
        assert_eq!(response.error_code, OK);
        let ended = producer;
        producer = Producer { id: response.producer_id.0, epoch: response.producer_epoch };
        let repeat = bench.end_as(ended, true, 5);
        assert_eq!((repeat.producer_id, repeat.producer_epoch), (response.producer_id, response.producer_epoch));
    }
    assert_eq!(producer.epoch, 0);
    let last = bench.markers().into_iter().map(|(_, epoch, _)| epoch).max();
    assert_eq!(last, Some(i16::MAX), "the old id is fenced by the last epoch there is");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_runs_out_of_time_is_aborted_and_its_producer_fenced() {
    let bench = Bench::new();
    let producer = bench.producer();
    assert_eq!(bench.add(producer, &[0]), OK);
    assert_eq!(bench.add_group(producer), OK);
    assert_eq!(bench.commit_offset(producer, 5, 3), OK);
    pass(59).await;
    assert!(bench.markers().is_empty());
    pass(2).await;
    assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch + 1, false)]));
    assert_eq!(bench.offset(), (-1, OK));
    assert_eq!(bench.end(producer, true), FENCED);
    assert_eq!(bench.add(producer, &[0]), FENCED);
    assert_eq!(bench.write(producer, 11), INVALID_EPOCH);
    assert_eq!(bench.init(Some(producer)), Err(FENCED));
    let new = bench.producer();
    assert_eq!((new.id, new.epoch), (producer.id, producer.epoch + 2));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_transaction_begins_with_its_first_partition() {
    let bench = Bench::new();
    let producer = bench.producer();
    for _ in 0..3 {
        pass(100).await;
        assert_eq!(bench.add(producer, &[0]), OK);
        pass(40).await;
        assert_eq!(bench.add(producer, &[1]), OK);
        assert_eq!(bench.end(producer, true), OK);
        bench.markers();
    }
    pass(1000).await;
    assert!(bench.markers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_decided_end_is_tried_again_until_the_log_takes_it() {
    let bench = Bench::new();
    let producer = bench.producer();
    assert_eq!(bench.add(producer, &[0]), OK);
    bench.log.broken.store(true, Ordering::SeqCst);
    assert_eq!(bench.end(producer, true), CONCURRENT);
    assert_eq!(bench.add(producer, &[1]), CONCURRENT);
    assert_eq!(bench.write(producer, 11), CONCURRENT);
    assert_eq!(bench.init(None), Err(CONCURRENT));
    pass(5).await;
    assert_eq!(bench.end(producer, false), INVALID_STATE, "it stays decided");
    bench.log.broken.store(false, Ordering::SeqCst);
    pass(2).await;
    assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch, true)]));
    assert_eq!(bench.end(producer, true), OK);
    assert_eq!(bench.add(producer, &[1]), OK);
}
