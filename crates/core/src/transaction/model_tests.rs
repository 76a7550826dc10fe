//! The machine against a model of a coordinator and a partition, over a network that loses requests and answers and delivers
//! some requests late, in any order, long after they were given up.

use proptest::prelude::*;

use super::{Asked, Failure, Last, Machine, Over, Producer, Request, Sight, Verdict, Version};
use crate::group::TopicPartition;

/// More than enough tries for anything, once the network is well.
const PATIENCE: usize = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Ongoing,
    Complete { commit: bool },
}

#[derive(Debug, Clone, Copy)]
enum Message {
    Init(Option<Producer>),
    Add(Producer),
    Produce { producer: Producer, sequence: i32, tag: u32 },
    End { producer: Producer, commit: bool },
}

/// The brokers. As Apache Kafka does it, with one partition.
struct Brokers {
    version: Version,
    phase: Phase,
    epoch: i16,
    last_epoch: i16,
    added: bool,
    /// What the partition knows of the producer.
    log_epoch: i16,
    next_sequence: i32,
    /// Tags of records: in the open transaction, committed, aborted.
    open: Vec<u32>,
    committed: Vec<u32>,
    aborted: Vec<u32>,
}

impl Brokers {
    fn new(version: Version) -> Self {
        Self {
            version,
            phase: Phase::Empty,
            epoch: -1,
            last_epoch: -1,
            added: false,
            log_epoch: -1,
            next_sequence: 0,
            open: vec![],
            committed: vec![],
            aborted: vec![],
        }
    }

    fn producer(&self) -> Producer {
        Producer { id: 1, epoch: self.epoch }
    }

    /// Writes the markers, which carry the epoch.
    fn complete(&mut self, commit: bool) {
        let to = if commit { &mut self.committed } else { &mut self.aborted };
        to.append(&mut self.open);
        self.phase = Phase::Complete { commit };
        if self.added && self.log_epoch < self.epoch {
            (self.log_epoch, self.next_sequence) = (self.epoch, 0);
        }
        self.added = false;
    }

    fn fence(&mut self) {
        (self.epoch, self.last_epoch) = (self.epoch + 1, -1);
        self.complete(false);
    }

    fn apply(&mut self, message: Message) -> Result<Producer, i16> {
        match message {
            Message::Init(caller) => self.init(caller),
            Message::Add(producer) if producer.epoch != self.epoch => Err(47),
            Message::Add(_) => {
                self.join();
                Ok(self.producer())
            }
            Message::Produce { producer, sequence, tag } => self.produce(producer, sequence, tag),
            Message::End { producer, commit } => self.end(producer.epoch, commit),
        }
    }

    fn join(&mut self) {
        self.phase = Phase::Ongoing;
        self.added = true;
    }

    fn init(&mut self, caller: Option<Producer>) -> Result<Producer, i16> {
        if let Some(caller) = caller
            && self.epoch != -1
            && caller.epoch != self.epoch
        {
            return if caller.epoch == self.last_epoch { Ok(self.producer()) } else { Err(90) };
        }
        if self.phase == Phase::Ongoing {
            self.fence();
            return Err(51);
        }
        self.last_epoch = if caller.is_some() { self.epoch } else { -1 };
        self.epoch += 1;
        self.phase = Phase::Empty;
        Ok(self.producer())
    }

    fn produce(&mut self, producer: Producer, sequence: i32, tag: u32) -> Result<Producer, i16> {
        if producer.epoch != self.epoch || producer.epoch < self.log_epoch {
            return Err(47);
        }
        if producer.epoch > self.log_epoch {
            (self.log_epoch, self.next_sequence) = (producer.epoch, 0);
        }
        if sequence < self.next_sequence {
            return Ok(self.producer());
        }
        match (self.version, self.added) {
            (Version::One, false) => return Err(48),
            (Version::Two, _) => self.join(),
            (Version::One, true) => {}
        }
        if sequence > self.next_sequence {
            return Err(45);
        }
        self.next_sequence = sequence + 1;
        self.open.push(tag);
        Ok(self.producer())
    }

    fn end(&mut self, epoch: i16, commit: bool) -> Result<Producer, i16> {
        let raises = self.version == Version::Two;
        let repeated = raises && epoch == self.last_epoch && matches!(self.phase, Phase::Complete { .. });
        if epoch != self.epoch && !repeated {
            return Err(90);
        }
        match self.phase {
            Phase::Complete { commit: was } if was == commit && (repeated || !raises) => {}
            Phase::Ongoing => self.finish(commit, raises),
            Phase::Empty | Phase::Complete { .. } if raises && !commit && !repeated => self.finish(false, true),
            _ => return Err(48),
        }
        Ok(self.producer())
    }

    fn finish(&mut self, commit: bool, raises: bool) {
        if raises {
            (self.last_epoch, self.epoch) = (self.epoch, self.epoch + 1);
        }
        self.complete(commit);
    }
}

/// What was done by the caller, and what it heard.
struct Play {
    brokers: Brokers,
    machine: Machine,
    dice: std::vec::IntoIter<u8>,
    late: Vec<Message>,
    /// By tag.
    heard: Vec<Last>,
    acknowledged: Vec<u32>,
}

const LOST: Failure = Failure { code: None, may_have_happened: true };

impl Play {
    fn roll(&mut self) -> u8 {
        self.dice.next().unwrap_or(0)
    }

    /// Sends a message over the network.
    fn send(&mut self, message: Message) -> Result<Producer, Failure> {
        let roll = self.roll();
        if roll & 0x80 != 0 && !self.late.is_empty() {
            let message = self.late.remove(usize::from(roll) % self.late.len());
            // Nobody waits for this answer any more.
            let _late = self.brokers.apply(message);
        }
        match self.roll() % 32 {
            1..=4 => {
                let _lost = self.brokers.apply(message);
                Err(LOST)
            }
            5 | 6 => {
                self.late.push(message);
                Err(LOST)
            }
            7 => Err(Failure { code: None, may_have_happened: false }),
            8 => Err(Failure { code: Some([14, 15, 16, 51][usize::from(roll) % 4]), may_have_happened: false }),
            9 if roll < 40 && self.brokers.phase == Phase::Ongoing => {
                self.brokers.fence();
                Err(LOST)
            }
            10 if roll < 20 => {
                // Another instance.
                while self.brokers.init(None).is_err() {}
                Err(LOST)
            }
            _ => self.brokers.apply(message).map_err(|code| Failure { code: Some(code), may_have_happened: false }),
        }
    }

    /// Does what the machine asks for until it asks for nothing.
    fn settle(&mut self) {
        for _ in 0..PATIENCE + self.dice.len() {
            match self.machine.next_request() {
                None => return,
                Some(Request::Init(caller)) => {
                    let answer = self.send(Message::Init(caller));
                    self.machine.initialised(answer);
                }
                Some(Request::End { producer, commit }) => {
                    let answer = self.send(Message::End { producer, commit });
                    self.machine.ended(answer.map(|p| (self.machine.version() == Version::Two).then_some(p)));
                }
                Some(Request::Look) => {
                    let tag = self.heard.len() as u32;
                    let sight = if self.brokers.committed.contains(&tag) {
                        Sight::Committed
                    } else if self.brokers.aborted.contains(&tag) {
                        Sight::Aborted
                    } else {
                        Sight::NotYet
                    };
                    self.machine.looked(sight);
                }
            }
        }
        panic!("it does not come to an end: {:?}", self.machine);
    }

    /// A request that is part of the transaction, tried a few times.
    fn write(&mut self, asked: Asked, message: Message) -> bool {
        for _ in 0..4 {
            let Err(failure) = self.send(message) else { return true };
            if failure.may_have_happened {
                self.machine.straggle();
            }
            match failure.code.map(|code| Verdict::of(asked, code)) {
                None | Some(Verdict::Again | Verdict::FindCoordinator) => {}
                Some(Verdict::Fenced) => {
                    self.machine.finish(Over::Fenced);
                    return false;
                }
                Some(_) => return false,
            }
        }
        false
    }

    fn batch(&mut self, tag: u32) -> bool {
        let tp = TopicPartition::new("t", 0);
        let Some(producer) = self.machine.producer() else { return false };
        self.machine.launch();
        let to_add = self.machine.to_add([tp.clone()]);
        if !to_add.is_empty() {
            if !self.write(Asked::Add, Message::Add(producer)) {
                return false;
            }
            self.machine.added(to_add);
        }
        let sequence = self.machine.sequence(&tp, 1);
        if !self.write(Asked::Produce, Message::Produce { producer, sequence, tag }) {
            return false;
        }
        self.acknowledged.push(tag);
        self.machine.delivered(&tp, 0);
        self.machine.landed();
        true
    }

    fn transaction(&mut self) {
        let tag = self.heard.len() as u32;
        self.settle();
        if !self.machine.begin(self.brokers.version) {
            assert!(self.machine.over().is_some());
            self.heard.push(Last::Aborted);
            return;
        }
        let batches = self.roll() % 4;
        for _ in 0..batches {
            if !self.batch(tag) {
                self.machine.doom();
                break;
            }
        }
        let commit = self.roll() % 4 != 3;
        self.machine.end(commit);
        self.settle();
        let last = self.machine.hear();
        assert!(last != Last::Pending);
        self.heard.push(if commit { last } else { Last::Aborted });
    }

    fn judge(&self) {
        let count = |tags: &[u32], tag: u32| tags.iter().filter(|t| **t == tag).count();
        for (tag, heard) in (0..).zip(&self.heard) {
            let (committed, acknowledged) = (count(&self.brokers.committed, tag), count(&self.acknowledged, tag));
            match heard {
                Last::Committed => assert_eq!(committed, acknowledged, "all, and once: transaction {tag}"),
                Last::Aborted => assert_eq!(committed, 0, "none of transaction {tag}"),
                Last::Nothing | Last::Pending | Last::Unknown => panic!("transaction {tag} ended as {heard:?}"),
            }
        }
    }
}

fn play(version: Version, dice: Vec<u8>) {
    let mut play = Play {
        brokers: Brokers::new(version),
        machine: Machine::new(),
        dice: dice.into_iter(),
        late: vec![],
        heard: vec![],
        acknowledged: vec![],
    };
    while play.dice.len() > 0 && play.machine.over().is_none() {
        play.transaction();
        play.judge();
    }
    // What is still on its way arrives last.
    for message in std::mem::take(&mut play.late) {
        let _late = play.brokers.apply(message);
    }
    play.judge();
    // Whether it may go on or not: the log holds what was said, and it does not hang.
    (0..3).for_each(|_| play.transaction());
    play.judge();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_heard_is_what_the_log_holds_under_version_one(dice in prop::collection::vec(any::<u8>(), 0..400)) {
        play(Version::One, dice);
    }

    #[test]
    fn what_is_heard_is_what_the_log_holds_under_version_two(dice in prop::collection::vec(any::<u8>(), 0..400)) {
        play(Version::Two, dice);
    }
}
