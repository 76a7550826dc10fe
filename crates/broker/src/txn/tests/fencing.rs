use super::*;

fn plain(bench: &Bench) -> Producer {
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    producer(&over_the_wire(&bench.txn.init_producer_id(&request, 4), 4)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn idempotent_producers_each_get_an_id_of_their_own() {
    let bench = Bench::new();
    let ids: BTreeSet<_> = (0..2500).map(|_| plain(&bench)).map(|p| (p.id, p.epoch)).collect();
    assert_eq!(ids.len(), 2500);
    assert!(ids.iter().all(|(_, epoch)| *epoch == 0));
    assert!(!ids.contains(&(bench.producer().id, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_keeps_the_id_and_raises_the_epoch() {
    let bench = Bench::new();
    let first = bench.producer();
    assert_eq!(first.epoch, 0);
    assert_eq!(bench.producer(), next(first));
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_aborts_what_the_old_one_left_open() {
    let bench = Bench::new();
    let old = bench.producer();
    assert_eq!(bench.add(old, &[0, 1]), OK);
    assert_eq!(bench.add_group(old), OK);
    assert_eq!(bench.commit_offset(old, 5, 3), OK);
    let new = bench.producer();
    assert_eq!((new.id, new.epoch), (old.id, old.epoch + 2), "one epoch fences, the other is the new instance's");
    assert_eq!(bench.markers(), BTreeSet::from([(0, old.epoch + 1, false), (1, old.epoch + 1, false)]));
    assert_eq!(bench.offset(), (-1, OK));
    assert_eq!(bench.end(old, true), FENCED);
    assert_eq!(bench.add(new, &[0]), OK);
    assert_eq!(bench.end(new, true), OK);
}

#[tokio::test(start_paused = true)]
async fn a_producer_raises_its_own_epoch_and_may_repeat_that() {
    let bench = Bench::new();
    let producer = bench.producer();
    let raised = bench.init(Some(producer)).unwrap();
    assert_eq!(raised, next(producer));
    assert_eq!(bench.init(Some(producer)).unwrap(), raised, "the answer was lost, not the request");
    let again = bench.init(Some(raised)).unwrap();
    assert_eq!(bench.init(Some(producer)), Err(FENCED));
    bench.producer();
    assert_eq!(bench.init(Some(again)), Err(FENCED), "another instance came since");
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_starts_over_aborts_its_own_transaction() {
    let bench = Bench::new();
    let producer = bench.producer();
    assert_eq!(bench.add(producer, &[0]), OK);
    let raised = bench.init(Some(producer)).unwrap();
    assert_eq!(bench.markers(), BTreeSet::from([(0, producer.epoch + 1, false)]));
    assert_eq!(bench.add(raised, &[0]), OK);
}

#[tokio::test(start_paused = true)]
async fn used_up_epochs_give_a_new_id_to_a_new_instance_and_to_one_that_starts_over() {
    let bench = Bench::new();
    let mut last = bench.producer();
    loop {
        let producer = bench.producer();
        if producer.id != last.id {
            assert_eq!((last.epoch, producer.epoch), (i16::MAX - 1, 0));
            last = producer;
            break;
        }
        assert_eq!(producer, next(last));
        last = producer;
    }
    while last.epoch < i16::MAX - 1 {
        last = bench.init(Some(last)).unwrap();
    }
    let rotated = bench.init(Some(last)).unwrap();
    assert!(rotated.id != last.id && rotated.epoch == 0);
    assert_eq!(bench.init(Some(last)).unwrap(), rotated, "and may be repeated too");
}

#[tokio::test(start_paused = true)]
async fn unfit_requests_are_refused() {
    let bench = Bench::new();
    let ask = |request: InitProducerIdRequest| producer(&over_the_wire(&bench.txn.init_producer_id(&request, 4), 4));
    let request = |timeout| {
        InitProducerIdRequest::default().with_transactional_id(Some(id())).with_transaction_timeout_ms(timeout)
    };
    assert_eq!((ask(request(0)), ask(request(900_001))), (Err(50), Err(50)));
    assert!(ask(request(900_000)).is_ok());
    assert_eq!(ask(request(1).with_producer_id(1.into())), Err(42));
    assert_eq!(ask(request(1).with_transactional_id(Some(TransactionalId::default()))), Err(42));
}

#[tokio::test(start_paused = true)]
async fn an_old_client_hears_of_its_fencing_by_the_epoch() {
    let bench = Bench::new();
    let old = bench.producer();
    bench.producer();
    bench.producer();
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(1)
        .with_producer_id(old.id.into())
        .with_producer_epoch(old.epoch);
    assert_eq!(bench.txn.init_producer_id(&request, 3).error_code, INVALID_EPOCH);
    assert_eq!(bench.txn.init_producer_id(&request, 4).error_code, FENCED);
}
