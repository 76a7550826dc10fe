use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use super::{
    super::alarm::{Alarm, Timed, now},
    pass, secs, settle,
};

#[derive(Default)]
struct Bell {
    rung: Mutex<Vec<Instant>>,
    alarm: Alarm,
}

impl Timed for Bell {
    fn fire(&self, now: Instant) -> Option<Instant> {
        let mut rung = self.rung.lock().unwrap();
        rung.push(now);
        (rung.len() == 1).then(|| now + secs(5))
    }
}

#[tokio::test(start_paused = true)]
async fn fires_at_its_deadlines_and_at_no_other_time() {
    let bell = Arc::new(Bell::default());
    bell.alarm.start(&bell).unwrap();
    let begin = now();
    bell.alarm.arm(Some(begin + secs(10)));
    settle().await;
    bell.alarm.arm(Some(begin + secs(3)));
    bell.alarm.arm(Some(begin + secs(20)));
    pass(secs(100)).await;
    let seconds: Vec<_> = bell.rung.lock().unwrap().iter().map(|at| (*at - begin).as_secs()).collect();
    assert_eq!(seconds, [3, 8]);
}

#[tokio::test(start_paused = true)]
async fn ends_with_its_owner() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let bell = Arc::new(Bell::default());
    bell.alarm.start(&bell).unwrap();
    settle().await;
    drop(bell);
    settle().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before);
}

#[test]
fn refuses_to_start_without_a_runtime() {
    let bell = Arc::new(Bell::default());
    assert!(bell.alarm.start(&bell).is_err());
}
