//! Media in memory: the parts of every segment that a playlist names, and of those it named until
//! lately. Bytes are shared with whoever sends them; nothing is copied.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use common::id::{Msn, RenditionId, SessionNumber};

use super::segment_file::SegmentFile;

/// Init segments kept of one rendition in one session: an encoder is replaced a few times a minute
/// at most, and what is listed or may still be asked for is about a minute old.
const INITS_MAX: u16 = 16;

/// Where a segment is kept.
type Key = (SessionNumber, Msn);

/// A segment as far as it is there.
#[derive(Clone, Debug, Default)]
pub struct StoredSegment {
    /// Its parts, in order.
    pub parts: Vec<Bytes>,
    /// The same bytes, one part behind the other, once the spool has written them all.
    pub file: Option<Arc<SegmentFile>>,
}

/// The media of one stream.
#[derive(Debug, Default)]
pub struct Ring {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    segments: BTreeMap<RenditionId, BTreeMap<Key, StoredSegment>>,
    inits: BTreeMap<(RenditionId, SessionNumber, u16), Bytes>,
    /// What has left its playlist, with the time from which nobody may ask for it any more.
    leaving: VecDeque<(u64, RenditionId, Key)>,
    bytes: u64,
}

impl Ring {
    /// Adds the next part of a segment. Parts come in order.
    pub fn push(&self, id: &RenditionId, session: SessionNumber, msn: Msn, part: Bytes) {
        let mut inner = self.write();
        inner.bytes += part.len() as u64;
        if !inner.segments.contains_key(id) {
            inner.segments.insert(id.clone(), BTreeMap::new());
        }
        if let Some(segments) = inner.segments.get_mut(id) {
            segments.entry((session, msn)).or_default().parts.push(part);
        }
    }

    /// Keeps an init segment.
    pub fn put_init(&self, id: &RenditionId, session: SessionNumber, number: u16, init: Bytes) {
        let mut inner = self.write();
        inner.inits.insert((id.clone(), session, number), init);
        if let Some(oldest) = number.checked_sub(INITS_MAX) {
            inner.inits.retain(|(i, s, n), _| (i, *s) != (id, session) || *n > oldest);
        }
    }

    /// Says that the parts of a segment also stand in a file. A segment that is gone meanwhile
    /// stays gone; a file that lacks a part, since the disk was too slow for it, is not used.
    pub fn put_file(
        &self,
        id: &RenditionId,
        session: SessionNumber,
        msn: Msn,
        file: Arc<SegmentFile>,
    ) {
        let mut inner = self.write();
        let segment = inner.segments.get_mut(id).and_then(|s| s.get_mut(&(session, msn)));
        if let Some(segment) = segment.filter(|s| s.bytes() == file.bytes()) {
            segment.file = Some(file);
        }
    }

    /// A segment so far; without parts when it is not here.
    pub fn segment(&self, id: &RenditionId, session: SessionNumber, msn: Msn) -> StoredSegment {
        let inner = self.read();
        let segment = inner.segments.get(id).and_then(|s| s.get(&(session, msn)));
        segment.cloned().unwrap_or_default()
    }

    /// One part.
    pub fn part(
        &self,
        id: &RenditionId,
        session: SessionNumber,
        msn: Msn,
        part: u16,
    ) -> Option<Bytes> {
        let inner = self.read();
        inner.segments.get(id)?.get(&(session, msn))?.parts.get(usize::from(part)).cloned()
    }

    /// An init segment.
    pub fn init(&self, id: &RenditionId, session: SessionNumber, number: u16) -> Option<Bytes> {
        self.read().inits.get(&(id.clone(), session, number)).cloned()
    }

    /// Marks a segment as gone from its playlist; it is dropped by [`Ring::sweep`] at `at_ms`.
    pub fn leave(&self, id: RenditionId, session: SessionNumber, msn: Msn, at_ms: u64) {
        self.write().leaving.push_back((at_ms, id, (session, msn)));
    }

    /// Drops what nobody may ask for any more, and init segments that nothing here needs, but
    /// for the current session's.
    pub fn sweep(&self, now_ms: u64, current: SessionNumber) {
        let mut inner = self.write();
        let mut dropped = false;
        while inner.leaving.front().is_some_and(|(at_ms, ..)| *at_ms <= now_ms) {
            let Some((_, id, key)) = inner.leaving.pop_front() else { break };
            let gone = inner.segments.get_mut(&id).and_then(|s| s.remove(&key));
            inner.bytes -= gone.map_or(0, |segment| segment.bytes());
            dropped = true;
        }
        if dropped {
            inner.forget_inits(current);
        }
    }

    /// Drops everything.
    pub fn clear(&self) {
        *self.write() = Inner::default();
    }

    /// Bytes of media held.
    pub fn bytes(&self) -> u64 {
        self.read().bytes
    }

    /// Bytes of media held of one rendition.
    pub fn rendition_bytes(&self, id: &RenditionId) -> u64 {
        let inner = self.read();
        let segments = inner.segments.get(id).into_iter().flat_map(BTreeMap::values);
        segments.map(StoredSegment::bytes).sum()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        // Every change is complete before its guard goes, so a poisoned lock still holds sense.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Bytes> for StoredSegment {
    fn from(bytes: Bytes) -> Self {
        Self { parts: vec![bytes], file: None }
    }
}

impl StoredSegment {
    fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }
}

impl Inner {
    fn forget_inits(&mut self, current: SessionNumber) {
        let Self { segments, inits, .. } = self;
        segments.retain(|_, s| !s.is_empty());
        inits.retain(|(id, session, _), _| {
            *session >= current
                || segments.get(id).is_some_and(|s| {
                    s.range((*session, Msn(0))..=(*session, Msn(u64::MAX))).next().is_some()
                })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> RenditionId {
        "480p".parse().expect("an id")
    }

    #[test]
    fn a_segment_can_be_had_until_its_time_after_leaving_and_not_longer() {
        let (ring, one) = (Ring::default(), SessionNumber(1));
        ring.push(&id(), one, Msn(7), Bytes::from_static(b"ab"));
        ring.push(&id(), one, Msn(7), Bytes::from_static(b"cd"));
        ring.put_init(&id(), one, 1, Bytes::from_static(b"init"));
        ring.leave(id(), one, Msn(7), 100);
        ring.sweep(99, SessionNumber(2));
        assert_eq!(ring.part(&id(), one, Msn(7), 1).as_deref(), Some(&b"cd"[..]));
        assert_eq!((ring.segment(&id(), one, Msn(7)).parts.len(), ring.bytes()), (2, 4));
        ring.sweep(100, SessionNumber(2));
        assert!(ring.segment(&id(), one, Msn(7)).parts.is_empty());
        assert_eq!((ring.init(&id(), one, 1), ring.bytes()), (None, 0));
    }

    #[test]
    fn the_current_sessions_init_stays_when_its_segments_have_gone() {
        let (ring, one) = (Ring::default(), SessionNumber(1));
        ring.put_init(&id(), one, 1, Bytes::from_static(b"init"));
        ring.push(&id(), one, Msn(1), Bytes::from_static(b"a"));
        ring.leave(id(), one, Msn(1), 0);
        ring.sweep(1, one);
        assert!(ring.init(&id(), one, 1).is_some());
    }
}
