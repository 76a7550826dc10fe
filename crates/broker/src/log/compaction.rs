//! Compaction: of each key the last record stays. Works on closed segments below the last stable offset, outside the
//! partition's lock; what it made is swapped in under it.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
};

use bytes::Bytes;

use super::{
    batch::{self, Batches, HEADER, Header},
    codec,
    core::Log,
    partition::Partition,
    producers::Aborted,
    records::{RecordView, Records},
    recovery,
    segment::{self, Segment},
    settings::Settings,
};

/// What is to be compacted, as it was when it was looked at.
pub(super) struct Plan {
    generation: u64,
    directory: Option<PathBuf>,
    /// Base and next offset of each segment, oldest first.
    segments: Vec<(i64, i64)>,
    dirty_from: i64,
    aborted: Vec<Aborted>,
    last_offsets: HashMap<i64, i64>,
}

impl Log {
    /// What there is to compact, if it is enough by the settings.
    pub(super) fn plan_compaction(&self, settings: &Settings, now: i64) -> Option<Plan> {
        let stable = self.stable();
        let ripe = |segment: &&Segment| {
            segment.next_offset() <= stable && segment.latest() <= now.saturating_sub(settings.min_compaction_lag_ms)
        };
        let segments: Vec<&Segment> = self.closed.iter().take_while(ripe).collect();
        let dirty: Vec<_> = segments.iter().filter(|segment| segment.next_offset() > self.cleaned_to).collect();
        let bytes = |len: u64| len as f64;
        let total: u64 = segments.iter().map(|segment| segment.len()).sum();
        let ratio = bytes(dirty.iter().map(|segment| segment.len()).sum()) / bytes(total.max(1));
        let oldest = dirty.iter().filter_map(|segment| segment.first_append()).min();
        let overdue = oldest.is_some_and(|first| now.saturating_sub(first) >= settings.max_compaction_lag_ms);
        let horizon = self.horizon.is_some_and(|horizon| horizon <= now);
        let due = ratio > 0.0 && ratio >= settings.min_cleanable_dirty_ratio;
        (!segments.is_empty() && (due || overdue || horizon)).then(|| Plan {
            generation: self.generation,
            directory: self.directory.clone(),
            segments: segments.iter().map(|segment| (segment.base_offset(), segment.next_offset())).collect(),
            dirty_from: self.cleaned_to,
            aborted: self.producers.aborted_in(0, i64::MAX),
            last_offsets: self.producers.last_offsets(),
        })
    }

    fn closed_bytes(&self, generation: u64, base: i64) -> io::Result<Bytes> {
        if self.generation != generation {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.closed.iter().find(|segment| segment.base_offset() == base) {
            Some(segment) => segment.read(0, usize::MAX),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Puts the new segments in the place of the old. `false` if the log has changed meanwhile; nothing is lost then.
    fn swap(&mut self, plan: &Plan, done: Cleaned) -> io::Result<bool> {
        if self.gone || self.generation != plan.generation {
            return Ok(false);
        }
        // Without it the end of the log would be lost with the last record's batch.
        self.active.touch()?;
        self.generation += 1;
        for Group { mut segment, end } in done.groups {
            let base = segment.base_offset();
            if let Some(directory) = &plan.directory {
                let swap = recovery::swap_name(directory, base, end);
                segment.rename(swap.clone())?;
                recovery::swap_in(directory, &swap, base, end)?;
                segment.moved_to(segment::file_name(directory, base));
            }
            let at = self.closed.iter().position(|old| old.base_offset() == base).unwrap_or(0);
            self.closed.retain(|old| !(base..end).contains(&old.base_offset()));
            self.closed.insert(at, segment);
        }
        self.producers.forget_markers(&done.removed_markers);
        self.cleaned_to = plan.segments.last().map_or(self.cleaned_to, |(_, next)| *next);
        self.horizon = done.horizon;
        Ok(true)
    }
}

impl Partition {
    /// Compacts what is ripe. Returns whether anything was done.
    pub(crate) fn compact(&self, settings: &Settings, now: i64) -> io::Result<bool> {
        let Some(plan) = self.log().plan_compaction(settings, now) else { return Ok(false) };
        match self.clean(&plan, settings, now).and_then(|done| self.log().swap(&plan, done)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            other => other,
        }
    }

    fn clean(&self, plan: &Plan, settings: &Settings, now: i64) -> io::Result<Cleaned> {
        let mut cleaner = Cleaner {
            plan,
            now,
            delete_retention_ms: settings.delete_retention_ms,
            newest: HashMap::new(),
            kept_of: HashSet::new(),
            removed_markers: Vec::new(),
            horizon: None,
        };
        for (base, _) in plan.segments.iter().filter(|(_, next)| *next > plan.dirty_from) {
            self.each_batch(plan, *base, |header, bytes| cleaner.map(header, bytes))?;
        }
        let mut groups = Vec::new();
        let mut group = Pending::default();
        for (base, next) in &plan.segments {
            let mut kept = Vec::new();
            self.each_batch(plan, *base, |header, bytes| {
                kept.extend(cleaner.filter(header, bytes)?);
                Ok(())
            })?;
            let size: u64 = kept.iter().map(|(header, _): &(Header, Vec<u8>)| header.size as u64).sum();
            if group.size + size > settings.segment_bytes {
                groups.extend(std::mem::take(&mut group).write(plan, now)?);
            }
            group.add(*base, *next, size, kept);
        }
        groups.extend(group.write(plan, now)?);
        Ok(Cleaned { groups, removed_markers: cleaner.removed_markers, horizon: cleaner.horizon })
    }

    fn each_batch(
        &self,
        plan: &Plan,
        base: i64,
        mut then: impl FnMut(&Header, &Bytes) -> io::Result<()>,
    ) -> io::Result<()> {
        let bytes = self.log().closed_bytes(plan.generation, base)?;
        Batches::new(bytes).try_for_each(|(header, bytes)| then(&header, &bytes))
    }
}

/// Segments that become one.
#[derive(Default)]
struct Pending {
    base: Option<i64>,
    end: i64,
    size: u64,
    batches: Vec<(Header, Vec<u8>)>,
}

impl Pending {
    fn add(&mut self, base: i64, next: i64, size: u64, batches: Vec<(Header, Vec<u8>)>) {
        self.base.get_or_insert(base);
        self.end = next;
        self.size += size;
        self.batches.extend(batches);
    }

    fn write(self, plan: &Plan, now: i64) -> io::Result<Option<Group>> {
        let Some(base) = self.base else { return Ok(None) };
        let path = plan.directory.as_deref().map(|directory| recovery::cleaned_name(directory, base));
        let mut segment = Segment::write(path, base, &self.batches, now)?;
        segment.extend_to(self.end);
        Ok(Some(Group { segment, end: self.end }))
    }
}

struct Group {
    segment: Segment,
    end: i64,
}

struct Cleaned {
    groups: Vec<Group>,
    removed_markers: Vec<i64>,
    horizon: Option<i64>,
}

struct Cleaner<'a> {
    plan: &'a Plan,
    now: i64,
    delete_retention_ms: i64,
    newest: HashMap<Vec<u8>, i64>,
    /// Producers of which the present transaction has a record left.
    kept_of: HashSet<i64>,
    removed_markers: Vec<i64>,
    horizon: Option<i64>,
}

fn unfold<'a>(header: &Header, bytes: &'a Bytes) -> io::Result<std::borrow::Cow<'a, [u8]>> {
    codec::unfold(header.codec(), bytes.get(HEADER..).unwrap_or_default()).map_err(io::Error::other)
}

impl Cleaner<'_> {
    fn is_aborted(&self, header: &Header) -> bool {
        let inside = |aborted: &Aborted| {
            aborted.producer_id == header.producer_id
                && (aborted.first_offset..aborted.marker_offset).contains(&header.base_offset)
        };
        header.is_transactional() && self.plan.aborted.iter().any(inside)
    }

    /// Learns which record of each key is the newest.
    fn map(&mut self, header: &Header, bytes: &Bytes) -> io::Result<()> {
        if header.is_control() || self.is_aborted(header) {
            return Ok(());
        }
        for record in Records::new(&unfold(header, bytes)?) {
            let record = record.map_err(io::Error::other)?;
            if let Some(key) = record.key {
                self.newest.insert(key.to_vec(), header.base_offset + i64::from(record.offset_delta));
            }
        }
        Ok(())
    }

    /// What stays of a batch.
    fn filter(&mut self, header: &Header, bytes: &Bytes) -> io::Result<Option<(Header, Vec<u8>)>> {
        if header.is_control() { self.filter_marker(header, bytes) } else { self.filter_data(header, bytes) }
    }

    fn filter_marker(&mut self, header: &Header, bytes: &Bytes) -> io::Result<Option<(Header, Vec<u8>)>> {
        if self.kept_of.remove(&header.producer_id) {
            return Ok(Some((*header, bytes.to_vec())));
        }
        match header.delete_horizon() {
            Some(horizon) if horizon <= self.now => {
                self.removed_markers.push(header.base_offset);
                Ok(None)
            }
            Some(horizon) => {
                self.see_horizon(horizon);
                Ok(Some((*header, bytes.to_vec())))
            }
            None => self.rewrite(header, &unfold(header, bytes)?, |_| true, true).map(Some),
        }
    }

    fn filter_data(&mut self, header: &Header, bytes: &Bytes) -> io::Result<Option<(Header, Vec<u8>)>> {
        let body = unfold(header, bytes)?;
        let aborted = self.is_aborted(header);
        let mut keep = Vec::new();
        let mut tombstones = false;
        for record in Records::new(&body) {
            let record = record.map_err(io::Error::other)?;
            if !aborted && self.stays(header, &record) {
                keep.push(record.offset_delta);
                tombstones |= record.value.is_none();
            }
        }
        if keep.is_empty() {
            return Ok(self.emptied(header));
        }
        if header.is_transactional() {
            self.kept_of.insert(header.producer_id);
        }
        let new_horizon = tombstones && header.delete_horizon().is_none();
        if let Some(horizon) = header.delete_horizon().filter(|_| tombstones) {
            self.see_horizon(horizon);
        }
        if i32::try_from(keep.len()) == Ok(header.count) && !new_horizon {
            return Ok(Some((*header, bytes.to_vec())));
        }
        self.rewrite(header, &body, |delta| keep.binary_search(&delta).is_ok(), new_horizon).map(Some)
    }

    /// Whether a record is its key's newest, and no tombstone past its time.
    fn stays(&self, header: &Header, record: &RecordView<'_>) -> bool {
        let offset = header.base_offset + i64::from(record.offset_delta);
        let expired = header.delete_horizon().is_some_and(|horizon| horizon <= self.now);
        let newest = record.key.is_some_and(|key| self.newest.get(key).is_none_or(|newest| *newest <= offset));
        newest && !(expired && record.value.is_none())
    }

    /// A producer's last batch stays without its records, so that its sequence number is not forgotten. Its
    /// transaction has ended, or it would not be compacted; the marker may go, so it must not open one again.
    fn emptied(&self, header: &Header) -> Option<(Header, Vec<u8>)> {
        let last = self.plan.last_offsets.get(&header.producer_id) == Some(&header.last_offset());
        (last && header.producer_id >= 0).then(|| {
            let header = Header { attributes: header.attributes & (1 << 3), count: 0, ..*header };
            reassemble(&header, &[])
        })
    }

    fn rewrite(
        &mut self,
        header: &Header,
        body: &[u8],
        keep: impl Fn(i32) -> bool,
        new_horizon: bool,
    ) -> io::Result<(Header, Vec<u8>)> {
        let horizon = self.now.saturating_add(self.delete_retention_ms);
        let to = if new_horizon { batch::with_delete_horizon(header, horizon) } else { *header };
        if new_horizon {
            self.see_horizon(horizon);
        }
        let shift = to.base_timestamp.saturating_sub(header.base_timestamp);
        let (mut records, mut count) = (Vec::new(), 0);
        for record in Records::new(body) {
            let record = record.map_err(io::Error::other)?;
            if keep(record.offset_delta) {
                record.write_again(&mut records, shift);
                count += 1;
            }
        }
        Ok(reassemble(&Header { count, ..to }, &codec::fold(to.codec(), &records)?))
    }

    fn see_horizon(&mut self, horizon: i64) {
        self.horizon = Some(self.horizon.map_or(horizon, |known| known.min(horizon)));
    }
}

fn reassemble(header: &Header, records: &[u8]) -> (Header, Vec<u8>) {
    let bytes = batch::assemble(header, records);
    (Header { size: bytes.len(), ..*header }, bytes)
}
