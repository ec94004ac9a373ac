//! The live window: what of a stream exists right now, derived from nothing but feed records.
//!
//! The same code runs at the origin and in the browser, so that both derive the same playlists.
//! A window only grows at its end and shrinks at its start; numbers never go back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::feed::{End, Part, Record, Rendition, Session};
use crate::id::{Msn, RenditionId, SessionNumber, StreamName};
use crate::limit::PARTS_PER_SEGMENT_MAX;
use crate::rendition::Kind;

/// How much of the past a live playlist names, in microseconds (hls.md: 30 s).
pub const WINDOW_US_DEFAULT: u64 = 30_000_000;

/// Longest window, in segments: a bound on memory should durations be tiny. Half an hour of 2 s.
const SEGMENTS_MAX: usize = 900;

/// Segments that tell how much an encoder makes now: 10 s of 2 s.
const NEWEST_SEGMENTS: usize = 5;

/// Session records kept: every session with a segment in the window, and no more than this.
const SESSIONS_MAX: usize = 64;

/// One stream as its records tell it.
#[derive(Clone, Debug)]
pub struct StreamWindow {
    name: StreamName,
    window_us: u64,
    /// Oldest first; the last is the current one.
    sessions: VecDeque<Session>,
    renditions: BTreeMap<RenditionId, RenditionWindow>,
    /// Renditions of the current session that ended before it.
    withdrawn: BTreeSet<RenditionId>,
    ended: bool,
}

/// One rendition's segments in the window.
#[derive(Clone, Debug)]
pub struct RenditionWindow {
    id: RenditionId,
    kind: Kind,
    segments: VecDeque<Segment>,
    /// Number after the newest segment ever seen, so that an emptied window never goes back.
    next_msn: Msn,
    peak_bps: u64,
    mean: MeanBitrate,
    ended: bool,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub msn: Msn,
    /// The session that made it.
    pub session: SessionNumber,
    /// Which init segment it needs.
    pub init_number: u16,
    /// Its discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// Whether it is the first after a discontinuity.
    pub discontinuity: bool,
    /// Wall clock of its first frame, in microseconds since the Unix epoch.
    pub wall_clock_us: i64,
    /// Its parts so far.
    pub parts: Vec<SegmentPart>,
    /// Whether no more parts follow.
    pub complete: bool,
    /// Whether it is missing in this rendition.
    pub gap: bool,
    /// Sum of its parts' durations in microseconds.
    pub duration_us: u64,
    /// Sum of its parts' lengths in bytes.
    pub bytes: u64,
}

/// One part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPart {
    /// Presentation time of its first frame, in microseconds since the session's start.
    pub pts_us: u64,
    /// Its duration in microseconds.
    pub duration_us: u32,
    /// Its length in bytes.
    pub length: u32,
    /// Whether decoding can start with it.
    pub independent: bool,
}

/// What applying a record changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Renditions whose playlist is different now.
    pub renditions: Vec<RenditionId>,
    /// Segments that left the window.
    pub evicted: Vec<Evicted>,
}

/// A segment that left the window: its rendition, session and number.
pub type Evicted = (RenditionId, SessionNumber, Msn);

/// Why a record does not fit the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It belongs to another stream.
    #[error("the record is of another stream")]
    Stream,
    /// Its session, rendition or number is not in the session table.
    #[error("the record's session, rendition or number is not in the session table")]
    Unknown,
    /// It repeats or precedes what the window already has.
    #[error("the record is older than what the window has")]
    Old,
    /// It leaves out parts that should come before it.
    #[error("parts before this one are missing")]
    Skipped,
}

/// Mean bitrate over the life of a session.
#[derive(Clone, Copy, Debug, Default)]
struct MeanBitrate {
    bytes: u64,
    duration_us: u64,
}

impl StreamWindow {
    /// An empty window that keeps `window_us` microseconds of whole segments.
    pub fn new(name: StreamName, window_us: u64) -> Self {
        Self {
            name,
            window_us,
            sessions: VecDeque::new(),
            renditions: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
            ended: false,
        }
    }

    /// The stream's name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// The current session, or the last one when nothing is live.
    pub fn session(&self) -> Option<&Session> {
        self.sessions.back()
    }

    /// What the newest session makes, without what was withdrawn from it.
    pub fn offered(&self) -> impl Iterator<Item = &Rendition> {
        let all = self.session().into_iter().flat_map(|s| &s.renditions);
        all.filter(|r| !self.withdrawn.contains(&r.id))
    }

    /// Whether the broadcast is over.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Renditions with at least one segment or part, in order of their ids.
    pub fn renditions(&self) -> impl Iterator<Item = &RenditionWindow> {
        self.renditions.values()
    }

    /// One rendition.
    pub fn rendition(&self, id: &RenditionId) -> Option<&RenditionWindow> {
        self.renditions.get(id)
    }

    /// The current session's description of that rendition.
    pub fn description(&self, id: &RenditionId) -> Option<&Rendition> {
        self.session()?.renditions.iter().find(|r| r.id == *id)
    }

    /// The rendition that part records of that session call by that number.
    pub fn id_of(&self, session: SessionNumber, number: u8) -> Option<&RenditionId> {
        let session = self.sessions.iter().find(|s| s.session == session)?;
        session.rendition(number).map(|r| &r.id)
    }

    /// Takes in a verified record.
    ///
    /// # Errors
    /// When the record does not fit; the window is then unchanged.
    pub fn apply(&mut self, record: &Record) -> Result<Changes, WindowError> {
        if *record.stream() != self.name {
            return Err(WindowError::Stream);
        }
        match record {
            Record::Session(session) => self.apply_session(session),
            Record::Part(part) => self.apply_part(part),
            Record::End(end) => self.apply_end(end),
        }
    }

    /// Drops a rendition that ends while the others go on; its id stays unknown until a new
    /// session or part brings it back.
    pub fn withdraw(&mut self, id: &RenditionId) -> Changes {
        self.withdrawn.insert(id.clone());
        let Some(rendition) = self.renditions.remove(id) else { return Changes::default() };
        let evicted = rendition.segments.iter().map(|s| (id.clone(), s.session, s.msn)).collect();
        Changes { renditions: vec![id.clone()], evicted }
    }

    /// The record of a session that describes its segment `msn`: encoders may have changed since.
    pub fn session_at(&self, session: SessionNumber, msn: Msn) -> Option<&Session> {
        record_at(&self.sessions, session, msn)
    }

    /// The first number of a session, as far back as its records are kept.
    pub fn session_began(&self, session: SessionNumber) -> Option<Msn> {
        self.sessions.iter().find(|s| s.session == session).map(|s| s.first_msn)
    }

    fn apply_session(&mut self, session: &Session) -> Result<Changes, WindowError> {
        if let Some(last) = self.sessions.back() {
            let newer = (session.session, session.first_msn) > (last.session, last.first_msn);
            let counts_on = session.first_msn >= last.first_msn
                && session.discontinuity_sequence > last.discontinuity_sequence;
            if !newer || !counts_on {
                return Err(WindowError::Old);
            }
        }
        if self.renditions.values().any(|r| r.next_msn > session.first_msn) {
            return Err(WindowError::Old);
        }
        // Another record of the same session changes encoders, not what is made.
        let same = self.sessions.back().is_some_and(|last| last.session == session.session);
        let mut changes = Changes::default();
        for (id, rendition) in &mut self.renditions {
            // A rendition that has not come up to the change yet goes on with what is open.
            if (!same && rendition.close_last()) || self.ended {
                changes.renditions.push(id.clone());
            }
            rendition.ended = false;
            rendition.peak_bps = 0;
            rendition.mean = MeanBitrate::default();
        }
        self.ended = false;
        // A quality that this session does not make leaves with its past: what a playlist names
        // must go on, and its number would otherwise stand still for ever.
        self.renditions.retain(|id, rendition| {
            let stays = session.renditions.iter().any(|r| r.id == *id);
            if !stays {
                changes.renditions.push(id.clone());
                let gone = rendition.segments.drain(..).map(|s| (id.clone(), s.session, s.msn));
                changes.evicted.extend(gone);
            }
            stays
        });
        if !same {
            self.withdrawn.clear();
        }
        self.sessions.push_back(session.clone());
        self.forget_sessions();
        changes.renditions.sort();
        changes.renditions.dedup();
        Ok(changes)
    }

    fn apply_part(&mut self, part: &Part) -> Result<Changes, WindowError> {
        let session =
            record_at(&self.sessions, part.session, part.msn).ok_or(WindowError::Unknown)?;
        let described = session.rendition(part.rendition).ok_or(WindowError::Unknown)?;
        if self.sessions.back().is_some_and(|last| last.session != part.session) {
            return Err(WindowError::Old);
        }
        let known = self.renditions.contains_key(&described.id);
        let rendition = self
            .renditions
            .entry(described.id.clone())
            .or_insert_with(|| RenditionWindow::new(described.id.clone(), described.kind));
        let mut changes = Changes { renditions: vec![described.id.clone()], evicted: Vec::new() };
        if let Err(error) = rendition.push(part, session, described, &mut changes.evicted) {
            if !known {
                // A rendition is there from its first part on, and this was none.
                self.renditions.remove(&described.id);
            }
            return Err(error);
        }
        self.withdrawn.remove(&described.id);
        rendition.evict(self.window_us, &mut changes.evicted);
        if !changes.evicted.is_empty() {
            self.forget_sessions();
        }
        Ok(changes)
    }

    fn apply_end(&mut self, end: &End) -> Result<Changes, WindowError> {
        if self.sessions.back().is_none_or(|s| s.broadcast != end.broadcast || self.ended) {
            return Err(WindowError::Old);
        }
        self.ended = true;
        let mut changes = Changes::default();
        for (id, rendition) in &mut self.renditions {
            rendition.close_last();
            rendition.ended = true;
            changes.renditions.push(id.clone());
        }
        Ok(changes)
    }

    fn forget_sessions(&mut self) {
        let oldest =
            self.renditions.values().filter_map(|r| r.segments.front()).map(|s| s.msn).min();
        // A session stays while the next one starts after the oldest segment.
        while self.sessions.len() > 1
            && (self.sessions.len() > SESSIONS_MAX
                || self
                    .sessions
                    .get(1)
                    .is_some_and(|next| oldest.is_none_or(|oldest| next.first_msn <= oldest)))
        {
            self.sessions.pop_front();
        }
    }
}

impl RenditionWindow {
    fn new(id: RenditionId, kind: Kind) -> Self {
        Self {
            id,
            kind,
            segments: VecDeque::new(),
            next_msn: Msn(0),
            peak_bps: 0,
            mean: MeanBitrate::default(),
            ended: false,
        }
    }

    /// Its id.
    pub fn id(&self) -> &RenditionId {
        &self.id
    }

    /// Video or audio.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its segments, oldest first; only the last can be incomplete.
    pub fn segments(&self) -> &VecDeque<Segment> {
        &self.segments
    }

    /// The segment with that number.
    pub fn segment(&self, msn: Msn) -> Option<&Segment> {
        let first = self.segments.front()?.msn;
        self.segments.get(usize::try_from(msn.0.checked_sub(first.0)?).ok()?)
    }

    /// Whether a player can start: at least one whole segment is there.
    pub fn playable(&self) -> bool {
        self.segments.iter().any(|s| s.complete && !s.gap)
    }

    /// Whether the broadcast is over.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The newest part: its segment and its place there. A whole segment counts as its last part.
    pub fn last_part(&self) -> Option<(Msn, u16)> {
        let last = self.segments.back()?;
        Some((last.msn, last.parts.len().saturating_sub(1) as u16))
    }

    /// The part that comes next.
    pub fn next_part(&self) -> (Msn, u16) {
        match self.segments.back() {
            Some(last) if !last.complete => (last.msn, last.parts.len() as u16),
            _ => (self.next_msn, 0),
        }
    }

    /// Highest bitrate of a whole segment in this session or still listed, in bit/s.
    pub fn peak_bps(&self) -> u64 {
        let listed = (0..self.segments.len()).map(|last| self.peak_until(last)).max();
        self.peak_bps.max(listed.unwrap_or(0))
    }

    /// Mean bitrate of this session, or of what is listed or newest where that is more, in bit/s:
    /// the first segments of a session are no measure yet, nor are those of an encoder that was too
    /// slow for a while.
    pub fn mean_bps(&self) -> u64 {
        let mean = |segments: &mut dyn Iterator<Item = &Segment>| {
            let sum = segments.fold((0, 0), |(bytes, us), s| (bytes + s.bytes, us + s.duration_us));
            bitrate(sum.0, sum.1)
        };
        let newest = self.listed().count().saturating_sub(NEWEST_SEGMENTS);
        bitrate(self.mean.bytes, self.mean.duration_us)
            .max(mean(&mut self.listed()))
            .max(mean(&mut self.listed().skip(newest)))
    }

    /// Highest bitrate of a run of segments that ends with this one and is 0.5 to 1.5 times as
    /// long as the longest (RFC 8216 §4.3.4.2). A segment alone would not do: an encoder that stops
    /// right after a key frame leaves a moment of many times the usual rate.
    fn peak_until(&self, last: usize) -> u64 {
        let longest_us = self.listed().map(|s| s.duration_us).max().unwrap_or(0);
        let (mut bytes, mut duration_us, mut peak) = (0, 0, 0);
        let run = self.segments.range(..=last).rev().take_while(|s| s.complete && !s.gap);
        for segment in run {
            bytes += segment.bytes;
            duration_us += segment.duration_us;
            if 2 * duration_us > 3 * longest_us {
                break;
            }
            if 2 * duration_us >= longest_us {
                peak = peak.max(bitrate(bytes, duration_us));
            }
        }
        peak
    }

    /// Whole segments with media that a playlist lists.
    fn listed(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.complete && !s.gap)
    }

    /// Total duration of the segments listed, in microseconds.
    pub fn duration_us(&self) -> u64 {
        self.segments.iter().map(|s| s.duration_us).sum()
    }

    fn push(
        &mut self,
        part: &Part,
        session: &Session,
        described: &Rendition,
        evicted: &mut Vec<Evicted>,
    ) -> Result<(), WindowError> {
        let open = self.segments.back().filter(|s| !s.complete);
        match open {
            Some(last) if last.msn == part.msn => {
                let next = last.parts.len();
                if usize::from(part.part) < next || part.flags.gap {
                    return Err(WindowError::Old);
                }
                if usize::from(part.part) > next || next >= usize::from(PARTS_PER_SEGMENT_MAX) {
                    return Err(WindowError::Skipped);
                }
            }
            _ => {
                if part.msn < self.next_msn {
                    return Err(WindowError::Old);
                }
                if part.part != 0 {
                    return Err(WindowError::Skipped);
                }
                self.close_last();
                // A rendition that was away takes up the current number; what it missed is not
                // listed, and a playlist cannot have holes, so its past goes.
                if part.msn != self.next_msn {
                    let gone = self.segments.drain(..);
                    evicted.extend(gone.map(|s| (self.id.clone(), s.session, s.msn)));
                }
                self.segments.push_back(Segment {
                    msn: part.msn,
                    session: part.session,
                    init_number: described.init_number,
                    discontinuity_sequence: session.discontinuity_sequence,
                    discontinuity: part.flags.discontinuity,
                    wall_clock_us: part.wall_clock_us,
                    parts: Vec::with_capacity(8),
                    complete: false,
                    gap: part.flags.gap,
                    duration_us: 0,
                    bytes: 0,
                });
                self.next_msn = part.msn.next();
            }
        }
        let Some(segment) = self.segments.back_mut() else { return Err(WindowError::Unknown) };
        if !part.flags.gap {
            segment.parts.push(SegmentPart {
                pts_us: part.pts_us,
                duration_us: part.duration_us,
                length: part.length,
                independent: part.flags.independent,
            });
        }
        segment.duration_us += u64::from(part.duration_us);
        segment.bytes += u64::from(part.length);
        if part.flags.last_of_segment {
            self.close_last();
        }
        Ok(())
    }

    /// Completes an open last segment. Returns whether there was one.
    fn close_last(&mut self) -> bool {
        let Some(last) = self.segments.back_mut().filter(|s| !s.complete) else { return false };
        last.complete = true;
        if last.gap {
            return true;
        }
        self.mean.bytes += last.bytes;
        self.mean.duration_us += last.duration_us;
        let newest = self.segments.len() - 1;
        self.peak_bps = self.peak_bps.max(self.peak_until(newest));
        true
    }

    fn evict(&mut self, window_us: u64, evicted: &mut Vec<Evicted>) {
        let mut whole: u64 =
            self.segments.iter().filter(|s| s.complete).map(|s| s.duration_us).sum();
        while let Some(first) = self.segments.front() {
            let rest = whole.saturating_sub(first.duration_us);
            let enough = rest >= window_us || self.segments.len() > SEGMENTS_MAX;
            if !first.complete || !enough {
                break;
            }
            evicted.push((self.id.clone(), first.session, first.msn));
            whole = rest;
            self.segments.pop_front();
        }
    }
}

fn record_at(sessions: &VecDeque<Session>, number: SessionNumber, msn: Msn) -> Option<&Session> {
    sessions.iter().rev().find(|s| s.session == number && s.first_msn <= msn)
}

fn bitrate(bytes: u64, duration_us: u64) -> u64 {
    bytes.saturating_mul(8_000_000).checked_div(duration_us).unwrap_or(0)
}

#[cfg(test)]
mod tests;
