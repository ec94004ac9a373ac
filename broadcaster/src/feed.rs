//! The feed of one stream: numbers, hashes and signs what the worker makes, keeps the bytes, and
//! only then says that they exist (architecture.md invariants 1, 3, 4).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use common::feed::{End, Flags, Part, Record, Rendition, Session, Signer, hash_piece, piece_len};
use common::id::{Msn, RenditionId, StreamName};
use common::limit::PARTS_PER_SEGMENT_MAX;
use common::playlist::{init_path, segment_path};
use common::rendition::Kind;
use common::window::{Changes, Evicted, RenditionWindow, StreamWindow, WINDOW_US_DEFAULT};
use sha2::{Digest as _, Sha256};

use crate::disk;
use crate::store::live::LiveStream;
use crate::store::spool::{self, Numbers, PartOp, Spool};
use crate::worker::ipc;

/// Parts may be this much longer than configured, in per cent (hls.md: PART-TARGET is the
/// configured duration + 10 %).
const PART_TARGET_PERCENT: u32 = 110;

/// A rendition this many segments behind the foremost has its missing segments listed as gaps,
/// so that its playlist goes on (6 s of the 30 s window).
const BEHIND_MAX: u64 = 3;

/// Most gaps listed at once; a rendition that was away longer starts anew at the current segment.
const GAPS_MAX: u64 = 8;

/// Segments that left their playlists and are taken up after a restart: the retention of 40 s for
/// eight renditions.
const LEFT_MAX: usize = 160;

/// Bitrate from which parts are split into 8 stripes instead of 4, in bit/s (swarm.md 'Units').
const EIGHT_STRIPES_BPS: u32 = 1_000_000;

/// One stream's feed.
#[derive(Debug)]
pub struct Feed {
    name: StreamName,
    signer: Arc<Signer>,
    spool: Spool,
    live: Arc<LiveStream>,
    window: StreamWindow,
    numbers: Numbers,
    current: Option<Current>,
    started: Instant,
    late_parts: u64,
    /// Whether the disk has refused the newest numbers.
    unkept: bool,
}

/// The session that is being fed.
#[derive(Debug)]
struct Current {
    /// The session's newest record: an encoder that is replaced makes another one.
    record: Session,
    /// Number of the worker's segment 0, with which the session began.
    base_msn: Msn,
    /// Wall clock at the worker's time 0, in microseconds since the Unix epoch.
    wall_clock_us: i64,
    /// The highest number that any rendition has reached.
    foremost: Msn,
    /// How many renditions were playable when the multivariant playlist was last looked at.
    playable: usize,
}

/// What a session is made of, as the configuration has it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Length of a part, in microseconds.
    pub part_us: u32,
    /// Length of a segment, in microseconds.
    pub segment_us: u32,
}

/// Why a stream's feed cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FeedFault {
    /// Numbers could not be written; without them a restart could use one twice.
    #[error("cannot keep the numbering of stream {stream}: {error}; make its data folder writable")]
    Numbers {
        /// The stream.
        stream: StreamName,
        /// What the disk said.
        error: io::Error,
    },
    /// The worker described something impossible.
    #[error("the worker's description of its renditions is not usable: {0}")]
    Ready(String),
}

impl Feed {
    /// Opens the feed of a stream and restores what the spool has of its last window.
    ///
    /// # Errors
    /// When the stream's numbers cannot be read.
    pub fn open(
        name: StreamName,
        signer: Arc<Signer>,
        spool: Spool,
        live: Arc<LiveStream>,
    ) -> Result<Self, FeedFault> {
        let dir = spool.stream_dir(&name);
        let numbers = spool::read_numbers(&dir)
            .map_err(|error| FeedFault::Numbers { stream: name.clone(), error })?;
        let window = StreamWindow::new(name.clone(), WINDOW_US_DEFAULT);
        let mut feed = Self {
            name,
            signer,
            spool,
            live,
            window,
            numbers,
            current: None,
            started: Instant::now(),
            late_parts: 0,
            unkept: false,
        };
        feed.restore(&dir);
        Ok(feed)
    }

    /// The newest numbers.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// What of the stream exists right now.
    pub fn window(&self) -> &StreamWindow {
        &self.window
    }

    /// Parts that came after their place had been given up.
    pub fn late_parts(&self) -> u64 {
        self.late_parts
    }

    /// Starts a new broadcast with the next session.
    ///
    /// # Errors
    /// When the numbers cannot be kept.
    pub fn begin_broadcast(&mut self) -> Result<(), FeedFault> {
        self.numbers.broadcast = self.numbers.broadcast.saturating_add(1);
        self.numbers.ended = false;
        self.keep_numbers()
    }

    /// Starts a session: every rendition's open segment is closed, numbering goes on.
    ///
    /// # Errors
    /// When the numbers cannot be kept or the description is not usable.
    pub fn begin_session(&mut self, ready: &ipc::Ready, timing: Timing) -> Result<(), FeedFault> {
        let first_msn = self.next_msn();
        let renditions = describe(&ready.renditions)?;
        let before = self.numbers;
        self.numbers.session = before.session.next();
        self.numbers.next_msn = first_msn;
        self.numbers.discontinuity_sequence = before.discontinuity_sequence + 1;
        // A session that did not begin has used no number.
        self.keep_numbers().inspect_err(|_| self.numbers = before)?;
        let record = Session {
            stream: self.name.clone(),
            broadcast: self.numbers.broadcast,
            session: self.numbers.session,
            first_msn,
            discontinuity_sequence: self.numbers.discontinuity_sequence,
            part_target_us: timing.part_us / 100 * PART_TARGET_PERCENT,
            target_duration_s: timing.segment_us.div_ceil(1_000_000) as u16,
            renditions,
        };
        if self.continues(&record) {
            self.fill_gaps_until(first_msn, |_| true);
        } else {
            self.start_anew();
        }
        for made in &ready.renditions {
            let (session, init) = (record.session, made.init.clone());
            self.live.ring.put_init(&made.id, session, 1, init.clone());
            self.spool.init(&self.name, session, &made.id, 1, init);
        }
        let signed = self.signer.sign(&Record::Session(record.clone()));
        self.spool.record(&self.name, record.session, first_msn, signed.into());
        self.apply(&Record::Session(record.clone()));
        self.current = Some(Current {
            record,
            base_msn: first_msn,
            wall_clock_us: ready.wall_clock_us,
            foremost: first_msn,
            playable: 0,
        });
        Ok(())
    }

    /// Whether a session can follow what is listed: segments and parts as long as before, and one
    /// discontinuity, for which there will be one tag.
    fn continues(&self, next: &Session) -> bool {
        let Some(last) = self.window.session() else { return true };
        let same_lengths = (last.part_target_us, last.target_duration_s)
            == (next.part_target_us, next.target_duration_s);
        let newest = self.window.renditions().filter_map(|r| r.segments().back());
        let listed = newest.map(|s| s.discontinuity_sequence).max();
        same_lengths && listed.is_none_or(|d| d + 1 == next.discontinuity_sequence)
    }

    /// Takes everything out of the playlists; numbering goes on.
    fn start_anew(&mut self) {
        let ids: Vec<_> = self.window.renditions().map(|r| r.id().clone()).collect();
        for id in ids {
            let changes = self.window.withdraw(&id);
            self.let_go(&changes);
            self.live.publish(&self.window, &changes.renditions);
        }
    }

    /// Takes in one part of the current session.
    pub fn part(&mut self, part: &ipc::Part) {
        let Some(current) = &mut self.current else { return };
        let Some(described) = current.record.renditions.get(usize::from(part.rendition)) else {
            tracing::warn!(rendition = part.rendition, "the worker sent a part of no rendition");
            return;
        };
        let (id, number) = (described.id.clone(), described.number);
        let (session, base_msn) = (current.record.session, current.base_msn);
        let msn = Msn(base_msn.0 + u64::from(part.segment));
        // One that lags behind a change of encoders is still before it.
        let record = self.window.session_at(session, msn).unwrap_or(&current.record);
        let first_msn = record.first_msn;
        let stripes = record.rendition(number).unwrap_or(described).stripes;
        let wall_clock_us = current.wall_clock_us + part.pts_us as i64;
        let ahead = msn > current.foremost;
        current.foremost = current.foremost.max(msn);
        if ahead {
            self.fill_gaps_until(Msn(msn.0.saturating_sub(BEHIND_MAX)), |other| other != &id);
        }
        let next = self.next_of(&id, base_msn);
        if msn < next.0 {
            self.late_parts += 1;
            return;
        }
        if msn > next.0 {
            self.fill_gaps_until(msn, |other| other == &id);
        }
        let index = self.next_of(&id, base_msn).1.min(PARTS_PER_SEGMENT_MAX);
        let index = if msn == self.next_of(&id, base_msn).0 { index } else { 0 };
        // A copy of just these bytes: what the worker's socket gave shares a large read buffer,
        // which would stay in memory as long as the smallest part in it.
        let data = Bytes::copy_from_slice(&part.data);
        let length = data.len() as u32;
        let piece_len = piece_len(length, stripes);
        let record = Record::Part(Part {
            stream: self.name.clone(),
            session,
            rendition: number,
            msn,
            part: index,
            flags: Flags {
                independent: part.independent,
                last_of_segment: part.last_of_segment,
                discontinuity: msn == first_msn,
                gap: false,
            },
            pts_us: part.pts_us,
            duration_us: part.duration_us,
            wall_clock_us,
            length,
            piece_len,
            pieces: data.chunks(piece_len.max(1).into()).map(hash_piece).collect(),
        });
        let signed: Bytes = self.signer.sign(&record).into();
        self.live.ring.push(&id, session, msn, data.clone());
        self.apply(&record);
        self.spool.part(PartOp {
            stream: self.name.clone(),
            live: self.live.clone(),
            session,
            rendition: id,
            msn,
            first: index == 0,
            last: part.last_of_segment,
            bytes: data,
            record: signed,
        });
        self.refresh_master(part.last_of_segment);
        if self.unkept && part.last_of_segment {
            self.unkept = self.keep_numbers().is_err();
        }
    }

    /// From the start of a segment on, some renditions have other init segments: a discontinuity
    /// on every rendition (hls.md 'Sessions, reconnects, restarts').
    ///
    /// # Errors
    /// When the description is not usable.
    pub fn change(&mut self, changed: &ipc::Changed) -> Result<(), FeedFault> {
        let next_msn = self.next_msn();
        let Some(current) = &self.current else { return Ok(()) };
        let mut record = current.record.clone();
        let msn = Msn(current.base_msn.0 + u64::from(changed.segment));
        record.first_msn = msn.max(next_msn).max(record.first_msn.next());
        record.discontinuity_sequence += 1;
        self.numbers.next_msn = record.first_msn;
        self.numbers.discontinuity_sequence = record.discontinuity_sequence;
        // A disk that is full does not stop what is on the air: until it takes them, a restart could
        // use these numbers again, but what is listed now would else need the wrong init segment.
        self.unkept = self.keep_numbers().is_err();
        for (number, made) in &changed.renditions {
            let Some(described) = record.renditions.get_mut(usize::from(*number)) else {
                return Err(FeedFault::Ready(format!("it has no rendition {number}")));
            };
            let init_number = described.init_number.saturating_add(1);
            *described = describe_one(*number, made, init_number);
            let (id, init) = (&made.id, made.init.clone());
            self.live.ring.put_init(id, record.session, init_number, init.clone());
            self.spool.init(&self.name, record.session, id, init_number, init);
        }
        let signed = self.signer.sign(&Record::Session(record.clone()));
        self.spool.record(&self.name, record.session, record.first_msn, signed.into());
        self.apply(&Record::Session(record.clone()));
        if let Some(current) = &mut self.current {
            current.record = record;
        }
        // Its codecs may be others now, and media made so follows at once.
        self.list();
        Ok(())
    }

    /// One rendition of the current session ends while the others go on.
    pub fn withdraw(&mut self, rendition: u8) {
        let Some(current) = &self.current else { return };
        let Some(described) = current.record.renditions.get(usize::from(rendition)) else { return };
        let id = described.id.clone();
        // It may have been the foremost.
        self.numbers.next_msn = self.next_msn();
        let changes = self.window.withdraw(&id);
        self.let_go(&changes);
        self.live.publish(&self.window, &changes.renditions);
        self.list();
    }

    /// Lists anew what can be played and what wakes for whoever asks.
    pub fn list(&self) {
        self.live.publish_master(&self.window);
    }

    /// The current session's record, signed.
    pub fn session_record(&self) -> Option<Vec<u8>> {
        self.window.session().map(|s| self.signer.sign(&Record::Session(s.clone())))
    }

    /// The session's source is gone; the broadcast may go on with another.
    pub fn end_session(&mut self) {
        self.current = None;
    }

    /// The broadcast is over: its playlists end.
    ///
    /// # Errors
    /// When the numbers cannot be kept.
    pub fn end_broadcast(&mut self) -> Result<(), FeedFault> {
        self.current = None;
        let next_msn = self.next_msn();
        let end = Record::End(End {
            stream: self.name.clone(),
            broadcast: self.numbers.broadcast,
            session: self.numbers.session,
            next_msn,
        });
        let signed = self.signer.sign(&end);
        self.spool.record(&self.name, self.numbers.session, next_msn, signed.into());
        self.apply(&end);
        self.refresh_master(true);
        self.numbers.next_msn = next_msn;
        self.numbers.ended = true;
        self.keep_numbers()
    }

    /// Forgets the media of an ended broadcast; numbering goes on from where it was.
    pub fn free(&mut self) {
        self.numbers.next_msn = self.next_msn();
        if let Err(fault) = self.keep_numbers() {
            tracing::error!(stream = %self.name, "{fault}");
        }
        self.window = StreamWindow::new(self.name.clone(), WINDOW_US_DEFAULT);
        self.live.clear();
        self.live.ring.clear();
        self.spool.forget(&self.name);
    }

    /// The first number that no rendition has used.
    fn next_msn(&self) -> Msn {
        let seen = self.window.renditions().map(unused_msn);
        seen.max().unwrap_or_default().max(self.numbers.next_msn)
    }

    /// Where that rendition goes on in the current session.
    fn next_of(&self, id: &RenditionId, base_msn: Msn) -> (Msn, u16) {
        match self.window.rendition(id).map(|r| r.next_part()) {
            Some((msn, part)) if msn >= base_msn => (msn, part),
            _ => (base_msn, 0),
        }
    }

    /// Lists what a rendition lacks before `until` as gaps, for every rendition that `which`
    /// names. A rendition that lacks too much is left to start anew.
    fn fill_gaps_until(&mut self, until: Msn, which: impl Fn(&RenditionId) -> bool) {
        let Some(session) = self.window.session().cloned() else { return };
        for described in session.renditions.iter().filter(|r| which(&r.id)) {
            let Some(rendition) = self.window.rendition(&described.id) else { continue };
            let began = self.window.session_began(session.session).unwrap_or(session.first_msn);
            let from = unused_msn(rendition).max(began);
            if until.0.saturating_sub(from.0) > GAPS_MAX {
                continue;
            }
            for missing in from.0..until.0 {
                let record = self.window.session_at(session.session, Msn(missing));
                let gap = self.gap(record.unwrap_or(&session), described, Msn(missing));
                let signed = self.signer.sign(&gap);
                self.spool.record(&self.name, session.session, Msn(missing), signed.into());
                self.apply(&gap);
            }
        }
    }

    /// A gap as long as the same segment of another rendition, or as the target.
    fn gap(&self, session: &Session, described: &Rendition, msn: Msn) -> Record {
        let twin = self.window.renditions().find_map(|r| r.segment(msn).filter(|s| !s.gap));
        let target_us = u32::from(session.target_duration_s) * 1_000_000;
        let (pts_us, duration_us, wall_clock_us) = match twin {
            Some(twin) => (
                twin.parts.first().map_or(0, |p| p.pts_us),
                (twin.duration_us as u32).clamp(1, target_us),
                twin.wall_clock_us,
            ),
            None => (0, target_us, self.listed_until_us(&described.id)),
        };
        Record::Part(Part {
            stream: self.name.clone(),
            session: session.session,
            rendition: described.number,
            msn,
            part: 0,
            flags: Flags {
                independent: false,
                last_of_segment: true,
                discontinuity: msn == session.first_msn,
                gap: true,
            },
            pts_us,
            duration_us,
            wall_clock_us,
            length: 0,
            piece_len: 0,
            pieces: Vec::new(),
        })
    }

    /// Wall clock at the end of what a rendition lists.
    fn listed_until_us(&self, id: &RenditionId) -> i64 {
        let last = self.window.rendition(id).and_then(|r| r.segments().back());
        last.map_or(0, |last| last.wall_clock_us + last.duration_us as i64)
    }

    /// Applies a record of our own to the window and publishes what changed.
    fn apply(&mut self, record: &Record) {
        match self.window.apply(record) {
            Ok(changes) => {
                self.let_go(&changes);
                self.live.publish(&self.window, &changes.renditions);
            }
            Err(error) => tracing::error!(stream = %self.name, %error, "own record does not fit"),
        }
    }

    fn let_go(&mut self, changes: &Changes) {
        if changes.evicted.is_empty() {
            return;
        }
        let at_ms = self.gone_at_ms();
        for (id, session, msn) in &changes.evicted {
            self.live.ring.leave(id.clone(), *session, *msn, at_ms);
        }
        self.live.ring.sweep(self.now_ms(), self.numbers.session);
    }

    /// Until when what leaves its playlist now can be had: for its own duration plus that of the
    /// longest playlist which listed it (RFC 8216 §6.2.2), and one segment's for good measure.
    fn gone_at_ms(&self) -> u64 {
        let target_ms = 1000 * self.target_duration_s();
        self.now_ms() + WINDOW_US_DEFAULT / 1000 + 4 * target_ms
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn target_duration_s(&self) -> u64 {
        self.window.session().map_or(2, |s| s.target_duration_s.into())
    }

    /// The multivariant playlist changes when a rendition becomes playable, and its measured
    /// bandwidths with every segment.
    fn refresh_master(&mut self, segment_ended: bool) {
        let playable = self.window.renditions().filter(|r| r.playable()).count();
        let before = self.current.as_mut().map(|c| std::mem::replace(&mut c.playable, playable));
        if segment_ended || before != Some(playable) {
            self.list();
        }
    }

    fn keep_numbers(&self) -> Result<(), FeedFault> {
        let dir = self.spool.stream_dir(&self.name);
        disk::waiting(|| spool::write_numbers(&dir, &self.numbers))
            .map_err(|error| FeedFault::Numbers { stream: self.name.clone(), error })
    }

    /// Takes up what an earlier run left: the records of the last window whose bytes are whole.
    fn restore(&mut self, dir: &Path) {
        // Bytes are written before their records, which may be torn.
        let on_disk = spool::next_msn(dir).unwrap_or_default();
        self.numbers.next_msn = self.numbers.next_msn.max(on_disk);
        let records = match spool::read_records(dir) {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(stream = %self.name, %error, "the spool cannot be read; starting empty");
                return;
            }
        };
        let verifier = self.signer.verifier();
        let records: Vec<_> =
            records.iter().filter_map(|bytes| verifier.open(bytes).ok()).collect();
        let mut parts = SegmentParts::new();
        let mut left = VecDeque::new();
        for record in &records {
            let Ok(changes) = self.window.apply(record) else { continue };
            if let Record::Part(part) = record
                && let Some(id) = self.window.id_of(part.session, part.rendition)
            {
                let key = (id.clone(), part.session, part.msn);
                parts.entry(key).or_default().push(part);
            }
            left.extend(changes.evicted);
            while left.len() > LEFT_MAX {
                left.pop_front();
            }
        }
        self.numbers.next_msn = self.next_msn();
        for id in self.left_behind() {
            left.extend(self.window.withdraw(&id).evicted);
        }
        let usable = self.load_media(dir, &parts);
        if !usable {
            tracing::warn!(stream = %self.name, "media in the spool is damaged; starting empty");
            self.window = StreamWindow::new(self.name.clone(), WINDOW_US_DEFAULT);
            self.live.ring.clear();
        }
        self.load_left(dir, left, &parts);
        let ids: Vec<_> = self.window.renditions().map(|r| r.id().clone()).collect();
        self.live.publish(&self.window, &ids);
        self.list();
    }

    /// Renditions that were withdrawn: no others fall behind that far. No record says so.
    fn left_behind(&self) -> Vec<RenditionId> {
        let foremost = self.window.renditions().map(unused_msn).max().unwrap_or_default();
        let behind = |r: &&RenditionWindow| unused_msn(r).0 + BEHIND_MAX + 1 < foremost.0;
        self.window.renditions().filter(behind).map(|r| r.id().clone()).collect()
    }

    /// Loads segments that left their playlist shortly before the restart: players may still ask
    /// for them. What cannot be read is gone a little early.
    fn load_left(&self, dir: &Path, left: VecDeque<Evicted>, parts: &SegmentParts<'_>) {
        let at_ms = self.gone_at_ms();
        for (id, session, msn) in left {
            if self.load_segment(dir, (id.clone(), session, msn), parts) {
                self.live.ring.leave(id, session, msn, at_ms);
            }
        }
    }

    /// Loads the bytes of every segment in the window. Gives whether all are whole.
    fn load_media(&self, dir: &Path, parts: &SegmentParts<'_>) -> bool {
        self.window.renditions().all(|rendition| {
            let id = rendition.id();
            rendition.segments().iter().filter(|s| !s.gap).all(|segment| {
                let init = relative(init_path(segment.session, id, segment.init_number));
                let Ok(init) = spool::read_file(dir, segment.session, &init) else { return false };
                self.live.ring.put_init(id, segment.session, segment.init_number, init);
                self.load_segment(dir, (id.clone(), segment.session, segment.msn), parts)
            })
        })
    }

    /// Loads a segment when every part of it is what its record says.
    fn load_segment(&self, dir: &Path, key: Evicted, parts: &SegmentParts<'_>) -> bool {
        let (id, session, msn) = &key;
        let file = relative(segment_path(*session, id, *msn));
        let Some(records) = parts.get(&key) else { return false };
        let Ok(bytes) = spool::read_file(dir, *session, &file) else { return false };
        let mut at = 0;
        let mut whole = Vec::with_capacity(records.len());
        for record in records {
            let end = at + record.length as usize;
            if !bytes.get(at..end).is_some_and(|b| record.matches(b)) {
                return false;
            }
            whole.push(bytes.slice(at..end));
            at = end;
        }
        for part in whole {
            self.live.ring.push(id, *session, *msn, part);
        }
        true
    }
}

/// The records of each segment's parts, in order.
type SegmentParts<'a> = BTreeMap<Evicted, Vec<&'a Part>>;

/// The first number that a rendition has no part of.
fn unused_msn(rendition: &RenditionWindow) -> Msn {
    let (msn, part) = rendition.next_part();
    if part > 0 { msn.next() } else { msn }
}

/// Paths in playlists start with the session; in the session's folder they do not.
fn relative(path: String) -> String {
    path.split_once('/').map(|(_, rest)| rest.to_owned()).unwrap_or(path)
}

fn describe(made: &[ipc::MadeRendition]) -> Result<Vec<Rendition>, FeedFault> {
    if made.is_empty() {
        return Err(FeedFault::Ready("there are none".into()));
    }
    Ok(made.iter().enumerate().map(|(i, made)| describe_one(i as u8, made, 1)).collect())
}

fn describe_one(number: u8, made: &ipc::MadeRendition, init_number: u16) -> Rendition {
    Rendition {
        number,
        id: made.id.clone(),
        kind: made.kind,
        codec: made.codec.clone(),
        width: made.width as u16,
        height: made.height as u16,
        fps: (made.fps.0, made.fps.1.max(1)),
        sample_rate: made.sample_rate,
        channels: made.channels as u8,
        bitrate: made.bitrate,
        stripes: stripes(made.kind, made.bitrate),
        init_number,
        init_length: made.init.len() as u32,
        init_sha256: Sha256::digest(&made.init).into(),
    }
}

fn stripes(kind: Kind, bitrate: u32) -> u8 {
    match kind {
        Kind::Audio => 1,
        Kind::Video if bitrate >= EIGHT_STRIPES_BPS => 8,
        Kind::Video => 4,
    }
}

#[cfg(test)]
mod tests;
