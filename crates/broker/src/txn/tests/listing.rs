use kafka_protocol::messages::{DescribeTransactionsRequest, ListTransactionsRequest};

use super::*;

#[tokio::test(start_paused = true)]
async fn transactions_are_listed_by_state_and_producer() {
    let bench = Bench::new();
    let producer = bench.producer();
    let list = |states: &[&'static str], ids: &[i64]| {
        let request = ListTransactionsRequest::default()
            .with_state_filters(states.iter().map(|state| StrBytes::from_static_str(state)).collect())
            .with_producer_id_filters(ids.iter().map(|id| (*id).into()).collect());
        let response = over_the_wire(&bench.txn.list_transactions(&request), 1);
        let states = response.transaction_states.iter().map(|s| s.transaction_state.to_string()).collect::<Vec<_>>();
        (states, response.unknown_state_filters.len())
    };
    assert_eq!(list(&[], &[]), (vec!["Empty".to_owned()], 0));
    assert_eq!(bench.add(producer, &[0]), OK);
    assert_eq!(list(&["Ongoing", "Nonsense"], &[producer.id]), (vec!["Ongoing".to_owned()], 1));
    assert_eq!(list(&["Empty"], &[]), (vec![], 0));
    assert_eq!(list(&[], &[producer.id + 1]), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn a_pattern_picks_transactional_ids() {
    let bench = Bench::new();
    bench.producer();
    let list = |pattern: &'static str| {
        let request =
            ListTransactionsRequest::default().with_transactional_id_pattern(Some(StrBytes::from_static_str(pattern)));
        let response = over_the_wire(&bench.txn.list_transactions(&request), 2);
        (response.error_code, response.transaction_states.len())
    };
    assert_eq!(
        (list(""), list("[w-z]"), list("x|other"), list("xx"), list("")),
        ((OK, 1), (OK, 1), (OK, 1), (OK, 0), (OK, 1))
    );
    assert_eq!(list("(").0, 128);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_described_with_its_partitions() {
    let bench = Bench::new();
    let producer = bench.producer();
    assert_eq!(bench.add(producer, &[2, 0]), OK);
    let other = TransactionalId(StrBytes::from_static_str("other"));
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id(), other]);
    let response = over_the_wire(&bench.txn.describe_transactions(&request), 0);
    let [known, unknown] = &response.transaction_states[..] else { panic!("two were asked for") };
    assert_eq!((known.transaction_state.as_str(), known.transaction_timeout_ms), ("Ongoing", 60_000));
    assert_eq!((known.producer_id.0, known.producer_epoch), (producer.id, producer.epoch));
    assert_eq!((known.topics[0].topic.as_str(), &known.topics[0].partitions), ("t", &vec![0, 2]));
    assert!(known.transaction_start_time_ms > 0);
    assert_eq!(unknown.error_code, 105);
}
