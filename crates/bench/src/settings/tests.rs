use super::*;

fn only(workload: Workload, wishes: &Wishes) -> Settings {
    let mut legs = legs(workload, wishes).unwrap();
    assert_eq!(legs.len(), 1);
    legs.remove(0)
}

#[test]
fn names_are_read_as_they_are_written() {
    for workload in Workload::ALL {
        assert_eq!(workload.name().parse(), Ok(workload));
        assert_eq!(workload.name().to_uppercase().parse(), Ok(workload));
    }
    let error = "w10".parse::<Workload>().unwrap_err();
    assert!(error.contains("w10") && error.contains("w1, w2") && error.contains("idle"), "{error}");
}

#[test]
fn the_workloads_are_those_of_the_issue() {
    let none = Wishes::default();
    let w1 = only(Workload::W1, &none);
    assert_eq!((w1.cases, w1.refused, w1.runs), (10_000, 0.01, 5));
    assert_eq!(w1.think, Think { median_ms: 2_000, p99_ms: 15_000 });
    assert_eq!(only(Workload::W2, &none).think, Think::NONE);
    assert_eq!(only(Workload::W3, &none).kill_every, Some(Duration::from_secs(10)));
    assert!((only(Workload::W4, &none).poison - 0.01).abs() < 1e-12);
    let w6 = only(Workload::W6, &none);
    assert_eq!((w6.cases, w6.partitions, w6.nap_ms, w6.rate), (1_000, 1, 2_000, None));
    let sizes: Vec<usize> = legs(Workload::W7, &none).unwrap().iter().map(|leg| leg.payload_bytes).collect();
    assert_eq!(sizes, [1_000, 100_000, 900_000]);
}

#[test]
fn growth_changes_one_thing_at_a_time() {
    let legs = legs(Workload::W9, &Wishes { cases: Some(7), ..Wishes::default() }).unwrap();
    let of = |leg: &Settings| (leg.partitions, leg.replicas, leg.cases);
    assert_eq!(legs.iter().map(of).collect::<Vec<_>>(), [(6, 1, 7), (60, 1, 7), (6, 10, 7), (6, 1, 70)]);
}

#[test]
fn wishes_count_before_the_workloads_own() {
    let wishes = Wishes {
        rate: Some(0.0),
        think_median_ms: Some(5),
        kill_every: Some(Duration::ZERO),
        no_floor: true,
        ..Wishes::default()
    };
    let w3 = only(Workload::W3, &wishes);
    assert_eq!((w3.rate, w3.kill_every, w3.floor_batch), (None, None, None));
    assert_eq!(w3.think, Think { median_ms: 5, p99_ms: 0 }, "a median alone is a fixed time");
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_write() {
    let refused = |workload, wishes: Wishes, words: &str| {
        let error = legs(workload, &wishes).unwrap_err().to_string();
        assert!(error.contains(words), "{error} does not say {words}");
    };
    refused(Workload::W2, Wishes { cases: Some(0), ..Wishes::default() }, "--cases 0");
    refused(Workload::W2, Wishes { rate: Some(-1.0), ..Wishes::default() }, "--rate -1");
    refused(Workload::W2, Wishes { rate: Some(f64::NAN), ..Wishes::default() }, "--rate");
    refused(Workload::W1, Wishes { refused: Some(1.5), ..Wishes::default() }, "--refused 1.5");
    refused(Workload::W7, Wishes { payloads: vec![2_000_000], ..Wishes::default() }, "1 MB");
    refused(Workload::W3, Wishes { rate: Some(0.0), ..Wishes::default() }, "--rate");
    refused(Workload::W6, Wishes { poison: Some(0.1), ..Wishes::default() }, "w6");
    refused(Workload::W8, Wishes { rate: Some(9.0), ..Wishes::default() }, "w8");
    refused(Workload::W2, Wishes { floor_batch: Some(0), ..Wishes::default() }, "--no-floor");
}
