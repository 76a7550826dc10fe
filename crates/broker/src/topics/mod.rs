//! The topics: what there is, where it is kept, and how it changes.

pub(crate) mod config;
pub(crate) mod names;
mod store;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use kafka_protocol::ResponseError;
use uuid::Uuid;

use self::{
    config::{Defaults, Entries},
    store::Card,
};
use crate::{
    log::{Partition, Refusal, partition::SharedSettings},
    ports::{Log, Marker},
};

/// More partitions than this in one topic are taken for a mistake.
const PARTITIONS_MAX: i32 = 10_000;

/// A topic and its partitions.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    directory: Option<PathBuf>,
    settings: SharedSettings,
    entries: Mutex<Entries>,
    partitions: RwLock<Vec<Arc<Partition>>>,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions().get(usize::try_from(index).ok()?).cloned()
    }

    pub(crate) fn partitions(&self) -> RwLockReadGuard<'_, Vec<Arc<Partition>>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many partitions there are.
    pub(crate) fn count(&self) -> i32 {
        self.partitions().len().try_into().unwrap_or(i32::MAX)
    }

    /// The topic's own configuration entries.
    pub(crate) fn entries(&self) -> Entries {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn card(&self, partitions: i32, entries: Entries) -> Card {
        Card { name: self.name.clone(), id: self.id, partitions, configs: entries }
    }

    fn add(&self, upto: i32) -> io::Result<()> {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        for index in partitions.len()..usize::try_from(upto).unwrap_or_default() {
            let directory = self.directory.as_ref().map(|directory| directory.join(index.to_string()));
            let partition =
                Partition::open(directory.as_deref(), Arc::clone(&self.settings)).map_err(io::Error::other)?;
            partitions.push(Arc::new(partition));
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

impl Known {
    fn insert(&mut self, topic: &Arc<Topic>) {
        self.by_name.insert(topic.name.clone(), Arc::clone(topic));
        self.by_id.insert(topic.id, Arc::clone(topic));
    }
}

/// All topics.
#[derive(Debug)]
pub(crate) struct Topics {
    directory: Option<PathBuf>,
    pub(crate) defaults: Defaults,
    known: RwLock<Known>,
    /// Held while topics change, so that changes come one after the other.
    changing: Mutex<()>,
}

fn refuse(error: ResponseError, message: impl Into<String>) -> Refusal {
    Refusal::new(error, message)
}

fn storage(error: &io::Error) -> Refusal {
    refuse(ResponseError::KafkaStorageError, error.to_string())
}

impl Topics {
    /// Opens the topics in a directory, or none, in memory.
    pub(crate) fn open(directory: Option<PathBuf>, defaults: Defaults) -> io::Result<Self> {
        let cards = directory.as_deref().map(store::load).transpose()?.unwrap_or_default();
        let topics = Self { directory, defaults, known: RwLock::default(), changing: Mutex::default() };
        for card in cards {
            let topic = topics.build(&card);
            topic.add(card.partitions)?;
            topics.write().insert(&topic);
        }
        Ok(topics)
    }

    fn build(&self, card: &Card) -> Arc<Topic> {
        Arc::new(Topic {
            name: card.name.clone(),
            id: card.id,
            directory: self.directory.as_ref().map(|directory| store::place(directory, card.id)),
            settings: Arc::new(Mutex::new(Arc::new(self.defaults.settings(&card.configs)))),
            entries: Mutex::new(card.configs.clone()),
            partitions: RwLock::default(),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.read().by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.read().by_id.get(&id).cloned()
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.get(topic)?.partition(index)
    }

    /// All topics, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.read().by_name.values().cloned().collect()
    }

    fn known(&self, name: &str) -> Result<Arc<Topic>, Refusal> {
        let missing =
            || refuse(ResponseError::UnknownTopicOrPartition, "This server does not host this topic-partition.");
        self.get(name).ok_or_else(missing)
    }

    fn check_new(&self, name: &str, partitions: i32, entries: &Entries) -> Result<(), Refusal> {
        names::check(name).map_err(|message| refuse(ResponseError::InvalidTopicException, message))?;
        if self.get(name).is_some() {
            return Err(refuse(ResponseError::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        if let Some(other) = self.read().by_name.keys().find(|other| names::collide(other, name)) {
            let message = format!("Topic '{name}' collides with existing topic: {other}");
            return Err(refuse(ResponseError::InvalidTopicException, message));
        }
        check_partitions(partitions)?;
        config::check(entries).map_err(|message| refuse(ResponseError::InvalidConfig, message))
    }

    /// Makes a topic, or only checks whether it could be made: then there is no topic to return.
    pub(crate) fn create(
        &self,
        name: &str,
        partitions: i32,
        entries: Entries,
        validate_only: bool,
    ) -> Result<Option<Arc<Topic>>, Refusal> {
        let _changing = self.changing();
        self.check_new(name, partitions, &entries)?;
        if validate_only {
            return Ok(None);
        }
        let card = Card { name: name.to_owned(), id: Uuid::new_v4(), partitions, configs: entries };
        let topic = self.build(&card);
        topic.add(partitions).and_then(|()| store::save(topic.directory.as_deref(), &card)).map_err(|e| storage(&e))?;
        self.write().insert(&topic);
        Ok(Some(topic))
    }

    /// Deletes a topic. Those who wait for its partitions are woken.
    pub(crate) fn delete(&self, topic: &Topic) -> Result<(), Refusal> {
        let _changing = self.changing();
        self.known(&topic.name)?;
        store::remove(topic.directory.as_deref()).map_err(|error| storage(&error))?;
        let mut known = self.write();
        known.by_name.remove(&topic.name);
        known.by_id.remove(&topic.id);
        drop(known);
        topic.partitions().iter().for_each(|partition| partition.leave());
        Ok(())
    }

    /// Adds partitions up to a count.
    pub(crate) fn grow(&self, name: &str, count: i32, validate_only: bool) -> Result<(), Refusal> {
        let _changing = self.changing();
        let topic = self.known(name)?;
        if count <= topic.count() {
            let message = format!(
                "Topic currently has {} partitions, which is not fewer than the requested {count}.",
                topic.count()
            );
            return Err(refuse(ResponseError::InvalidPartitions, message));
        }
        check_partitions(count)?;
        if validate_only {
            return Ok(());
        }
        let saved = store::save(topic.directory.as_deref(), &topic.card(count, topic.entries()));
        saved.and_then(|()| topic.add(count)).map_err(|error| storage(&error))
    }

    /// Changes a topic's configuration. `change` turns the present entries into the new ones.
    pub(crate) fn configure(
        &self,
        name: &str,
        validate_only: bool,
        change: impl FnOnce(&mut Entries) -> Result<(), String>,
    ) -> Result<(), Refusal> {
        let _changing = self.changing();
        let topic = self.known(name)?;
        let mut entries = topic.entries();
        change(&mut entries)
            .and_then(|()| config::check(&entries))
            .map_err(|message| refuse(ResponseError::InvalidConfig, message))?;
        if validate_only {
            return Ok(());
        }
        let card = topic.card(topic.count(), entries.clone());
        store::save(topic.directory.as_deref(), &card).map_err(|error| storage(&error))?;
        *topic.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.defaults.settings(&entries));
        *topic.entries.lock().unwrap_or_else(PoisonError::into_inner) = entries;
        Ok(())
    }
}

fn check_partitions(partitions: i32) -> Result<(), Refusal> {
    if (1..=PARTITIONS_MAX).contains(&partitions) {
        return Ok(());
    }
    let message = format!("Number of partitions must be between 1 and {PARTITIONS_MAX}.");
    Err(refuse(ResponseError::InvalidPartitions, message))
}

impl Log for Topics {
    fn exists(&self, topic: &str, partition: i32) -> bool {
        self.partition(topic, partition).is_some()
    }

    fn append_marker(&self, topic: &str, partition: i32, marker: Marker) -> io::Result<()> {
        let Some(log) = self.partition(topic, partition) else { return Ok(()) };
        if !log.append_marker(marker)? {
            tracing::warn!(topic, partition, producer = marker.producer.id, "a marker came after a newer epoch");
        }
        Ok(())
    }
}
