//! The process is killed at any moment; its journals are all that is left.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_open_transaction_goes_on_after_a_restart() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::default());
    let bench = Bench::in_dir(dir.path(), &log);
    let producer = bench.producer();
    assert_eq!(bench.add(producer, &[0]), OK);
    assert_eq!(bench.add_group(producer), OK);
    assert_eq!(bench.commit_offset(producer, 5, 3), OK);
    let bench = Bench::in_dir(dir.path(), &log);
    assert_eq!(bench.offset(), (-1, UNSTABLE));
    assert_eq!(bench.write(producer, 11), OK);
    assert_eq!(bench.end(producer, true), OK);
    assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch, true)]));
    assert_eq!(bench.offset(), (5, OK));
    let bench = Bench::in_dir(dir.path(), &log);
    assert_eq!(bench.offset(), (5, OK));
    assert_eq!(bench.end(producer, true), OK, "the answer may have been lost with the process");
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_transaction_runs_out_of_time_after_a_restart() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::default());
    let bench = Bench::in_dir(dir.path(), &log);
    let producer = bench.producer();
    assert_eq!(bench.add(producer, &[0]), OK);
    let bench = Bench::in_dir(dir.path(), &log);
    pass(61).await;
    assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch + 1, false)]));
    assert_eq!(bench.end(producer, true), FENCED);
}

#[tokio::test(start_paused = true)]
async fn a_decided_end_is_carried_out_after_a_restart() {
    for commit in [true, false] {
        let (dir, log) = (tempfile::tempdir().unwrap(), Arc::default());
        let bench = Bench::in_dir(dir.path(), &log);
        let producer = bench.producer();
        assert_eq!(bench.add(producer, &[0, 2]), OK);
        assert_eq!(bench.add_group(producer), OK);
        assert_eq!(bench.commit_offset(producer, 5, 3), OK);
        log.broken.store(true, Ordering::SeqCst);
        assert_eq!(bench.end(producer, commit), CONCURRENT);
        log.broken.store(false, Ordering::SeqCst);
        let bench = Bench::in_dir(dir.path(), &log);
        assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch, commit), (2, producer.epoch, commit)]));
        assert_eq!(bench.offset(), if commit { (5, OK) } else { (-1, OK) });
        assert_eq!(bench.end(producer, commit), OK);
    }
}

#[tokio::test(start_paused = true)]
async fn producer_ids_are_never_given_out_twice() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::default());
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let bench = Bench::in_dir(dir.path(), &log);
        for _ in 0..3 {
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            assert!(seen.insert(bench.txn.init_producer_id(&request, 4).producer_id.0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn epochs_go_on_and_fencing_holds() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::default());
    let first = Bench::in_dir(dir.path(), &log).producer();
    let second = Bench::in_dir(dir.path(), &log).producer();
    assert_eq!(second, next(first));
    let bench = Bench::in_dir(dir.path(), &log);
    assert_eq!(bench.add(first, &[0]), FENCED);
    assert_eq!(bench.add(second, &[0]), OK);
}

#[tokio::test(start_paused = true)]
async fn the_journal_shrinks_and_keeps_everything() {
    let (dir, log) = (tempfile::tempdir().unwrap(), Arc::default());
    let bench = Bench::in_dir(dir.path(), &log);
    let producer = bench.producer();
    for _ in 0..4000 {
        assert_eq!(bench.add(producer, &[0]), OK);
        assert_eq!(bench.end(producer, true), OK);
    }
    assert_eq!(bench.add(producer, &[1]), OK);
    assert!(std::fs::metadata(dir.path().join("txn")).unwrap().len() < 1_200_000);
    bench.markers();
    let bench = Bench::in_dir(dir.path(), &log);
    assert_eq!(bench.end(producer, true), OK);
    assert_eq!(bench.markers(), BTreeSet::from([(1, producer.epoch, true)]));
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    assert!(bench.txn.init_producer_id(&request, 4).producer_id.0 > producer.id);
}
