use anabranch_protocol::{TaskId, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn late() -> Timestamp {
    Timestamp::from_millis(4_000_000_000_000)
}

fn task(id: &str) -> TaskId {
    TaskId::new(id)
}

fn step(run: &str, seq: u64, id: &str, name: &str, result: Option<Value>) -> Line {
    Line::Step(Step { run: run.into(), seq, task: task(id), name: name.into(), index: 0, expires: late(), result })
}

fn opened(run: &str) -> Line {
    Line::Opened { run: run.into() }
}

fn read(from: Position, log: &[Line]) -> Journal {
    let start = usize::try_from(from.offset).unwrap();
    let mut journal = Journal::at(from);
    for (offset, line) in log.iter().enumerate().skip(start) {
        journal.apply(i64::try_from(offset).unwrap(), line, 10);
    }
    journal
}

fn from_start() -> Position {
    Position { offset: 0, run: None }
}

fn close(journal: &mut Journal, offset: i64, tasks: &[&str]) -> Vec<TaskId> {
    let closing = journal.close(&tasks.iter().map(|id| task(id)).collect::<Vec<_>>());
    journal.apply(offset, &Line::Closed { run: "a".into(), tasks: closing.clone() }, 10);
    closing
}

fn done(journal: &Journal, id: &str, name: &str) -> Option<Value> {
    match journal.entries(&task(id))?.get(name, 0)? {
        Known::Done(value) => Some((**value).clone()),
        Known::Begun => None,
    }
}

#[test]
fn a_line_is_read_as_it_was_written_and_null_is_a_result() {
    for result in [None, Some(Value::Null), Some(json!({"a": [1, 2.5, "x"]}))] {
        let line = step("r", 7, "t", "ask", result);
        assert_eq!(Line::read(&line.write().unwrap()).unwrap(), line);
    }
    let closed = Line::Closed { run: "r".into(), tasks: vec![task("t")] };
    assert_eq!(Line::read(&closed.write().unwrap()).unwrap(), closed);
    assert!(Line::read(b"{\"kind\":\"step\"}").is_err());
}

#[test]
fn what_a_run_writes_after_it_was_taken_over_does_not_count() {
    let log = [
        opened("a"),
        step("a", 1, "t", "ask", Some(json!(1))),
        opened("b"),
        step("a", 2, "t", "pay", Some(json!("late"))),
        Line::Closed { run: "a".into(), tasks: vec![task("t")] },
        step("b", 1, "t", "pay", Some(json!("in time"))),
        step("b", 2, "t", "ask", Some(json!("never: it was known"))),
        opened("a"),
        step("b", 3, "t", "tell", Some(json!(3))),
    ];
    let journal = read(from_start(), &log);
    assert_eq!(done(&journal, "t", "ask"), Some(json!(1)), "what was recorded before stays");
    assert_eq!(done(&journal, "t", "pay"), Some(json!("in time")));
    assert_eq!(done(&journal, "t", "tell"), Some(json!(3)), "a late copy of an earlier line takes nothing over");
}

#[test]
fn of_two_results_of_one_run_the_later_counts_wherever_it_lies() {
    let first = step("a", 1, "t", "ask", Some(json!("given up")));
    let second = step("a", 2, "t", "ask", Some(json!("used")));
    for log in [[opened("a"), first.clone(), second.clone()], [opened("a"), second, first]] {
        assert_eq!(done(&read(from_start(), &log), "t", "ask"), Some(json!("used")));
    }
}

#[test]
fn a_step_that_was_begun_is_known_until_it_is_done() {
    let mut journal = read(from_start(), &[opened("a"), step("a", 1, "t", "pay", None)]);
    assert_eq!(journal.entries(&task("t")).unwrap().get("pay", 0), Some(&Known::Begun));
    assert_eq!(journal.entries(&task("t")).unwrap().get("pay", 1), None);
    assert!(journal.entries(&task("t")).unwrap().is_of("pay", 0, "a"));
    assert!(!journal.entries(&task("t")).unwrap().is_of("pay", 0, "b"));
    assert_eq!(journal.apply(2, &step("a", 2, "t", "pay", Some(json!(1))), 10), Applied::Counts);
    assert_eq!(journal.apply(3, &step("a", 3, "t", "pay", None), 10), Applied::Repeats);
    assert_eq!(done(&journal, "t", "pay"), Some(json!(1)));
}

#[test]
fn the_position_is_held_by_open_tasks_and_by_writes_under_way() {
    let mut journal = read(from_start(), &[opened("a")]);
    assert_eq!(journal.position().offset, 1, "nothing is open");
    let write = journal.write();
    journal.apply(2, &step("a", 9, "u", "ask", Some(json!(1))), 10);
    close(&mut journal, 3, &["u"]);
    assert_eq!(journal.position().offset, 1, "what is under way may lie at 1");
    journal.apply(1, &step("a", write, "t", "ask", Some(json!(1))), 10);
    journal.ended(write);
    assert_eq!(journal.position(), Position { offset: 1, run: Some("a".into()) });
    assert_eq!(close(&mut journal, 4, &["t", "unknown"]), [task("t")]);
    assert_eq!(journal.position().offset, 5);
}

#[test]
fn a_task_that_is_being_closed_is_not_begun_and_one_at_work_is_not_closed() {
    let mut journal = read(from_start(), &[opened("a"), step("a", 1, "t", "ask", Some(json!(1)))]);
    assert_eq!(journal.work(&task("t")), Begin::Ready);
    assert_eq!(journal.close(&[task("t")]), []);
    journal.rest(&task("t"));
    assert_eq!(journal.close(&[task("t")]), [task("t")]);
    assert_eq!(journal.work(&task("t")), Begin::Closing);
    journal.not_closed(&[task("t")]);
    assert_eq!(journal.work(&task("t")), Begin::Ready);
}

#[test]
fn a_task_whose_time_is_over_is_forgotten_unless_it_is_worked_on() {
    let mut journal = read(from_start(), &[opened("a"), step("a", 1, "t", "ask", Some(json!(1)))]);
    let after = late().plus(std::time::Duration::from_secs(1));
    assert_eq!(journal.work(&task("t")), Begin::Ready);
    assert_eq!(journal.expire(after), 0);
    journal.rest(&task("t"));
    assert_eq!(journal.expire(late()), 0);
    assert_eq!((journal.expire(after), journal.open_tasks(), journal.held_bytes()), (1, 0, 0));
}

#[test]
fn what_is_set_aside_is_read_back() {
    let log = [opened("a"), step("a", 1, "t", "ask", Some(json!(1))), step("a", 2, "u", "ask", Some(json!(2)))];
    let mut journal = read(from_start(), &log);
    assert_eq!(journal.work(&task("u")), Begin::Ready);
    journal.set_aside(5);
    assert_eq!(journal.held_bytes(), 10, "what is worked on stays");
    assert_eq!(journal.entries(&task("t")), None);
    let Begin::ReadBack { from: position, last } = journal.work(&task("t")) else { panic!("it is set aside") };
    assert_eq!((position.offset, last), (1, 1));
    let mut again = read(position, &log);
    journal.restore(&task("t"), &mut again);
    assert_eq!(done(&journal, "t", "ask"), Some(json!(1)));
    assert_eq!(journal.held_bytes(), 20);
}

#[test]
fn a_task_has_bounds() {
    let mut journal = read(from_start(), &[opened("a")]);
    let bounds = Bounds { entries: 2, bytes: 25 };
    assert_eq!(journal.room(&task("t"), 26, bounds), Err("25 bytes, journal.max_task".to_owned()));
    for seq in 1..=2 {
        assert_eq!(journal.room(&task("t"), 10, bounds), Ok(()));
        let name = format!("step-{seq}");
        journal.apply(i64::try_from(seq).unwrap(), &step("a", seq, "t", &name, Some(json!(1))), 10);
    }
    assert_eq!(journal.room(&task("t"), 1, bounds), Err("2 entries, journal.max_entries".to_owned()));
}

/// What may happen to a journal.
#[derive(Debug, Clone)]
enum Happens {
    /// The present owner does a step, and hears of the acknowledgement or not.
    Step { task: u8, name: u8, heard: bool },
    /// It notes that a step begins.
    Begin { task: u8, name: u8 },
    /// An owner that was taken over writes.
    Zombie { task: u8, name: u8 },
    /// A task is done.
    Close { task: u8 },
    /// The position is committed.
    Commit,
    /// The partition goes to another owner.
    TakeOver,
    /// Memory is short.
    SetAside,
}

fn happens() -> impl Strategy<Value = Happens> {
    let of = || (0_u8..4, 0_u8..3);
    prop_oneof![
        6 => (of(), any::<bool>()).prop_map(|((task, name), heard)| Happens::Step { task, name, heard }),
        2 => of().prop_map(|(task, name)| Happens::Begin { task, name }),
        2 => of().prop_map(|(task, name)| Happens::Zombie { task, name }),
        2 => (0_u8..4).prop_map(|task| Happens::Close { task }),
        2 => Just(Happens::Commit),
        1 => Just(Happens::TakeOver),
        1 => Just(Happens::SetAside),
    ]
}

/// A log, its owner, and what owners have used.
struct World {
    log: Vec<Line>,
    committed: Position,
    owner: Journal,
    runs: u64,
    zombie_seq: u64,
    /// By task and step: what was used, and must be known to whoever comes next.
    used: BTreeMap<(u8, u8), Value>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            log: Vec::new(),
            committed: from_start(),
            owner: Journal::default(),
            runs: 0,
            zombie_seq: 1_000_000,
            used: BTreeMap::new(),
        };
        world.take_over();
        world
    }

    fn append(&mut self, line: Line) -> i64 {
        self.log.push(line);
        i64::try_from(self.log.len()).unwrap() - 1
    }

    fn take_over(&mut self) {
        self.runs += 1;
        self.append(opened(&format!("run-{}", self.runs)));
        self.owner = read(self.committed.clone(), &self.log);
    }

    /// What the owner knows of a step, read back if it was set aside.
    fn known(&mut self, id: u8, name: u8) -> Option<Known> {
        let id = task(&id.to_string());
        while let Begin::ReadBack { from, .. } = self.owner.work(&id) {
            let mut again = read(from, &self.log);
            self.owner.restore(&id, &mut again);
        }
        self.owner.rest(&id);
        self.owner.entries(&id)?.get(&name.to_string(), 0).cloned()
    }

    fn write(&mut self, id: u8, name: u8, result: Option<Value>, heard: bool) {
        let seq = self.owner.write();
        let line = step(&format!("run-{}", self.runs), seq, &id.to_string(), &name.to_string(), result);
        let offset = self.append(line.clone());
        if heard {
            self.owner.apply(offset, &line, 10);
        }
        self.owner.ended(seq);
    }

    fn turn(&mut self, event: &Happens) {
        match *event {
            Happens::Step { task, name, heard } => {
                if let Some(Known::Done(value)) = self.known(task, name) {
                    // Replayed, and so used: also what nobody had heard the acknowledgement of.
                    self.used.insert((task, name), (*value).clone());
                    return;
                }
                let value = json!(self.log.len());
                self.write(task, name, Some(value.clone()), heard);
                if heard {
                    self.used.insert((task, name), value);
                }
            }
            Happens::Begin { task, name } => {
                if self.known(task, name).is_none() {
                    self.write(task, name, None, true);
                }
            }
            Happens::Zombie { task, name } if self.runs > 1 => {
                self.zombie_seq += 1;
                let run = format!("run-{}", self.runs - 1);
                let line = step(&run, self.zombie_seq, &task.to_string(), &name.to_string(), Some(json!("zombie")));
                self.append(line);
            }
            Happens::Zombie { .. } => {}
            Happens::Close { task: id } => {
                self.used.retain(|(of, _), _| *of != id);
                let closing = self.owner.close(&[task(&id.to_string())]);
                let line = Line::Closed { run: format!("run-{}", self.runs), tasks: closing };
                let offset = self.append(line.clone());
                self.owner.apply(offset, &line, 10);
            }
            Happens::Commit => self.committed = self.owner.position(),
            Happens::TakeOver => self.take_over(),
            Happens::SetAside => self.owner.set_aside(0),
        }
    }
}

proptest! {
    /// Whatever happens, whoever takes over from the committed position finds every result that was used.
    #[test]
    fn what_was_used_is_known_to_whoever_comes_next(events in prop::collection::vec(happens(), 0..60)) {
        let mut world = World::new();
        for event in events {
            world.turn(&event);
            let next = read(world.committed.clone(), &world.log);
            for ((id, name), value) in &world.used {
                let known = done(&next, &id.to_string(), &name.to_string());
                prop_assert_eq!(known.as_ref(), Some(value), "step {} of task {}", name, id);
            }
        }
    }

    /// Reading from a committed position gives what reading everything gives, for every task the owner has open.
    #[test]
    fn nothing_below_the_position_is_needed(events in prop::collection::vec(happens(), 0..60)) {
        let mut world = World::new();
        for event in events {
            world.turn(&event);
            let position = world.owner.position();
            let (short, long) = (read(position, &world.log), read(from_start(), &world.log));
            for id in world.owner.tasks.keys() {
                let of = |journal: &Journal| journal.entries(id).map(Entries::all);
                let (short, long) = (of(&short), of(&long));
                // What lay below was of a delivery that was closed, or was never used.
                prop_assert!(short.iter().flatten().all(|e| long.iter().flatten().any(|l| l.0 == e.0)), "{short:?} {long:?}");
            }
        }
    }

    /// Whatever bytes a record holds: no panic.
    #[test]
    fn bytes_from_outside_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(Line::read(&bytes));
    }
}
