//! Which processors processes run on.

use std::collections::BTreeMap;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use crate::error::BenchError;
use crate::processes::Group;

/// Which processors the processes of a group run on. Who is not named may run anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pins(BTreeMap<Group, Vec<usize>>);

impl Pins {
    /// From `agents=0-3`, `broker=4,5` and the like.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let mut pins = BTreeMap::new();
        for text in texts {
            let wrong = |why: &str| format!("--pin {text}: {why}; write for example agents=0-3 or broker=4,5");
            let (group, list) = text.split_once('=').ok_or_else(|| wrong("there is no ="))?;
            let group: Group = group.parse().map_err(|why: String| wrong(&why))?;
            let list = processors(list).ok_or_else(|| wrong("these are no numbers of processors"))?;
            if pins.insert(group, list).is_some() {
                return Err(wrong("the group is pinned twice"));
            }
        }
        Ok(Self(pins))
    }

    /// The processors of each group that is pinned.
    pub(crate) fn all(&self) -> &BTreeMap<Group, Vec<usize>> {
        &self.0
    }

    pub(crate) fn set(&self, group: Group) -> Result<Option<CpuSet>, BenchError> {
        let Some(list) = self.0.get(&group) else { return Ok(None) };
        let mut set = CpuSet::new();
        for processor in list {
            set.set(*processor).map_err(|_| BenchError::Usage(format!("--pin: there is no processor {processor}")))?;
        }
        Ok(Some(set))
    }

    /// Pins this very process, all its threads.
    ///
    /// # Errors
    /// If it may not run there.
    pub(crate) fn pin_self(&self) -> Result<(), BenchError> {
        let Some(set) = self.set(Group::Bench)? else { return Ok(()) };
        let threads = std::fs::read_dir("/proc/self/task").map_err(BenchError::io("/proc/self/task"))?;
        for thread in threads.flatten() {
            let id = thread.file_name().to_string_lossy().parse().ok();
            // A thread that has ended meanwhile needs no processor.
            if let Some(Err(error @ nix::errno::Errno::EINVAL)) =
                id.map(|id| sched_setaffinity(Pid::from_raw(id), &set))
            {
                return Err(BenchError::Usage(format!("--pin bench: {error}: are there these processors?")));
            }
        }
        Ok(())
    }
}

/// `0-3,6`; `None` if it is none.
fn processors(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CpuSet::count() {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(texts: &[&str]) -> Result<Pins, String> {
        Pins::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn processors_are_named_by_number_and_range() {
        let wanted = BTreeMap::from([(Group::Agents, vec![0, 1, 2, 5]), (Group::Broker, vec![3])]);
        assert_eq!(pins(&["agents=0-2,5", "broker=3"]), Ok(Pins(wanted)));
        assert_eq!(pins(&[]), Ok(Pins::default()));
        for (bad, words) in [
            ("agents", "no ="),
            ("agent=1", "agents, broker, mock and bench"),
            ("agents=", "no numbers"),
            ("agents=3-1", "no numbers"),
            ("agents=1,x", "no numbers"),
            ("agents=999999", "no numbers"),
        ] {
            let said = pins(&[bad]).unwrap_err();
            assert!(said.contains(words) && said.contains("agents=0-3"), "{bad}: {said}");
        }
        assert!(pins(&["mock=1", "mock=2"]).unwrap_err().contains("twice"));
    }
}
