//! The spool: every stream's newest media and records on disk, within a bound.
//!
//! One thread writes, fed by a bounded queue, so that a slow disk never slows the live edge: what
//! does not fit the queue is left out and the spool says it is degraded. What is read back is
//! checked against its signed records, so a torn write can never be served.
//!
//! ```text
//! spool/{stream}/numbers.json                    where numbering goes on
//! spool/{stream}/{session}/records-{n}.log       signed records, each behind its u32 length
//! spool/{stream}/{session}/{rendition}/init-1.mp4, {msn}.m4s
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use common::id::{Msn, RenditionId, SessionNumber, StreamName};
use serde::{Deserialize, Serialize};

use super::live::LiveStream;
use super::segment_file::Room;
use crate::cleanup;

/// Operations that wait for the disk: about 30 s of four renditions in two-part seconds for 8
/// streams. Their bytes are shared with the ring, so the queue itself is small.
const QUEUE_MAX: usize = 4096;

/// Segments named in one journal file, so that old records can be deleted with their segments.
const JOURNAL_SEGMENTS: u64 = 128;

/// What the spool of one stream may take on disk unless configured, in bytes.
pub const STREAM_BYTES_MAX_DEFAULT: u64 = 1 << 30;

/// Where numbering of a stream goes on. Written before anything of a session is announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// The newest broadcast.
    pub broadcast: u32,
    /// The newest session.
    pub session: SessionNumber,
    /// The next media sequence number is at least this.
    pub next_msn: Msn,
    /// Discontinuity sequence number of the newest session's first segment.
    pub discontinuity_sequence: u64,
    /// Whether the newest broadcast is over.
    pub ended: bool,
}

/// Hands work to the spool's thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    root: PathBuf,
    queue: SyncSender<Op>,
    state: Arc<State>,
}

/// The thread that writes; joined when the broadcaster stops.
#[derive(Debug)]
pub struct SpoolThread(JoinHandle<()>);

#[derive(Debug, Default)]
struct State {
    degraded: AtomicBool,
    bytes: AtomicU64,
    left_out: AtomicU64,
    forgotten: AtomicU64,
    forget_failures: AtomicU64,
}

#[derive(Debug)]
enum Op {
    Init { stream: StreamName, session: SessionNumber, file: String, bytes: Bytes },
    Part(PartOp),
    Record { stream: StreamName, session: SessionNumber, msn: Msn, sync: bool, bytes: Bytes },
    Forget(StreamName),
    Stop,
}

/// One part for the spool.
#[derive(Clone, Debug)]
pub struct PartOp {
    /// Its stream.
    pub stream: StreamName,
    /// Where readers find the stream: told of each segment that is whole on disk.
    pub live: Arc<LiveStream>,
    /// Its session.
    pub session: SessionNumber,
    /// Its rendition.
    pub rendition: RenditionId,
    /// Its segment.
    pub msn: Msn,
    /// Whether it is the segment's first.
    pub first: bool,
    /// Whether it is the segment's last.
    pub last: bool,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its signed record, journalled after the bytes.
    pub record: Bytes,
}

impl Spool {
    /// Opens the spool under `root` and starts its thread.
    ///
    /// # Errors
    /// When `root` cannot be created or the thread cannot be started.
    pub fn open(root: PathBuf, stream_bytes_max: u64) -> io::Result<(Self, SpoolThread)> {
        fs::create_dir_all(&root)?;
        let (queue, ops) = sync_channel(QUEUE_MAX);
        let state = Arc::new(State::default());
        let writer = Writer::new(root.clone(), stream_bytes_max, state.clone());
        let thread =
            std::thread::Builder::new().name("spool".into()).spawn(move || writer.run(ops))?;
        Ok((Self { root, queue, state }, SpoolThread(thread)))
    }

    /// The folder of one stream.
    pub fn stream_dir(&self, stream: &StreamName) -> PathBuf {
        self.root.join(stream.as_str())
    }

    /// Queues an init segment.
    pub fn init(
        &self,
        stream: &StreamName,
        session: SessionNumber,
        rendition: &RenditionId,
        number: u16,
        bytes: Bytes,
    ) {
        let file = format!("{rendition}/init-{number}.mp4");
        self.push(Op::Init { stream: stream.clone(), session, file, bytes });
    }

    /// Queues a part and its record.
    pub fn part(&self, part: PartOp) {
        self.push(Op::Part(part));
    }

    /// Queues a record that has no bytes.
    pub fn record(&self, stream: &StreamName, session: SessionNumber, msn: Msn, bytes: Bytes) {
        self.push(Op::Record { stream: stream.clone(), session, msn, sync: true, bytes });
    }

    /// Queues the deletion of everything of a stream but its numbers.
    pub fn forget(&self, stream: &StreamName) {
        self.push(Op::Forget(stream.clone()));
    }

    /// Whether the disk does not keep up or refuses to write.
    pub fn degraded(&self) -> bool {
        self.state.degraded.load(Ordering::Relaxed)
    }

    /// Bytes of media on disk.
    pub fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::Relaxed)
    }

    /// Operations that were left out because the queue was full or the disk refused.
    pub fn left_out(&self) -> u64 {
        self.state.left_out.load(Ordering::Relaxed)
    }

    /// Streams whose media was deleted, and streams of which some could not be.
    pub fn forgotten(&self) -> (u64, u64) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(&self.state.forgotten), get(&self.state.forget_failures))
    }

    fn push(&self, op: Op) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(op) {
            self.state.left_out.fetch_add(1, Ordering::Relaxed);
            if !self.state.degraded.swap(true, Ordering::Relaxed) {
                tracing::error!("the disk under the spool is too slow; live goes on from memory");
            }
        }
    }
}

impl SpoolThread {
    /// Writes what is queued, then ends the thread. Blocks.
    pub fn stop(self, spool: &Spool) {
        if spool.queue.send(Op::Stop).is_ok() {
            // A panic of the writer was already reported by its hook.
            let _ = self.0.join();
        }
    }
}

/// Reads where numbering goes on; nothing has been written yet when the file is missing.
///
/// # Errors
/// When the file is there but cannot be read as numbers.
pub fn read_numbers(stream_dir: &Path) -> io::Result<Numbers> {
    match fs::read(stream_dir.join("numbers.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Numbers::default()),
        Err(error) => Err(error),
    }
}

/// Writes the numbers so that they survive a crash of the machine.
///
/// # Errors
/// When the disk refuses.
pub fn write_numbers(stream_dir: &Path, numbers: &Numbers) -> io::Result<()> {
    fs::create_dir_all(stream_dir)?;
    let temporary = stream_dir.join("numbers.json.new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(numbers)?)?;
    file.sync_data()?;
    fs::rename(temporary, stream_dir.join("numbers.json"))?;
    File::open(stream_dir)?.sync_data()
}

/// Every signed record on disk, oldest first. A torn one at the end of a journal is left out.
///
/// # Errors
/// When a folder cannot be read.
pub fn read_records(stream_dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    for (_, session_dir) in numbered_dirs(stream_dir)? {
        for (_, journal) in journals(&session_dir)? {
            let bytes = fs::read(journal)?;
            let mut rest = &bytes[..];
            while let Some((len, after)) = rest.split_first_chunk::<4>() {
                let Some((record, after)) =
                    after.split_at_checked(u32::from_le_bytes(*len) as usize)
                else {
                    break;
                };
                records.push(record.to_vec());
                rest = after;
            }
        }
    }
    Ok(records)
}

/// The first number that no segment on disk has.
///
/// # Errors
/// When a folder cannot be read.
pub fn next_msn(stream_dir: &Path) -> io::Result<Msn> {
    let newest = StreamFiles::find(stream_dir)?.segments.iter().map(|s| s.2).max();
    Ok(newest.map_or(Msn(0), Msn::next))
}

/// Reads a file of a session, such as `480p/7.m4s`.
///
/// # Errors
/// When it is not there or cannot be read.
pub fn read_file(stream_dir: &Path, session: SessionNumber, file: &str) -> io::Result<Bytes> {
    fs::read(stream_dir.join(session.to_string()).join(file)).map(Bytes::from)
}

/// Removes every session of a stream; where numbering goes on stays. One that cannot be removed
/// does not keep the others. Gives how many there were.
///
/// # Errors
/// The first one, when the disk refuses.
pub fn remove_sessions(stream_dir: &Path) -> io::Result<u64> {
    let (mut removed, mut first) = (0, Ok(()));
    for (_, dir) in numbered_dirs(stream_dir)? {
        match fs::remove_dir_all(dir) {
            Ok(()) => removed += 1,
            Err(error) => first = first.and(Err(error)),
        }
    }
    first.map(|()| removed)
}

/// Sub-folders whose names are numbers, in order.
fn numbered_dirs(dir: &Path) -> io::Result<BTreeMap<u32, PathBuf>> {
    let mut found = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(|n| n.parse().ok()) {
            found.insert(number, entry.path());
        }
    }
    Ok(found)
}

/// A session's journals by the number of their first segment.
fn journals(session_dir: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(session_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix("records-")?.strip_suffix(".log"));
        if let Some(number) = number.and_then(|n| n.parse().ok()) {
            found.insert(number, entry.path());
        }
    }
    Ok(found)
}

/// The thread's side.
struct Writer {
    root: PathBuf,
    stream_bytes_max: u64,
    state: Arc<State>,
    streams: BTreeMap<StreamName, StreamFiles>,
    room: Room,
}

/// What the writer knows of one stream's files.
#[derive(Default)]
struct StreamFiles {
    /// Whole segments on disk, oldest first.
    segments: VecDeque<(SessionNumber, RenditionId, Msn, u64)>,
    bytes: u64,
    /// The segment each rendition is writing.
    open: BTreeMap<RenditionId, OpenSegment>,
    journal: Option<(SessionNumber, u64, File)>,
}

struct OpenSegment {
    session: SessionNumber,
    msn: Msn,
    bytes: u64,
    /// `None` once a part was lost: the rest of the segment is then left out.
    file: Option<File>,
}

impl Writer {
    fn new(root: PathBuf, stream_bytes_max: u64, state: Arc<State>) -> Self {
        Self { root, stream_bytes_max, state, streams: BTreeMap::new(), room: Room::default() }
    }

    fn run(mut self, ops: Receiver<Op>) {
        while let Ok(op) = ops.recv() {
            if matches!(op, Op::Stop) {
                break;
            }
            self.take(op);
        }
    }

    fn take(&mut self, op: Op) {
        let wrote = match op {
            Op::Part(part) => self.part(&part),
            Op::Stop => return,
            Op::Init { stream, session, file, bytes } => {
                let path = self.root.join(stream.as_str()).join(session.to_string());
                write_file(&path.join(file), &bytes).map(|()| true)
            }
            Op::Record { stream, session, msn, sync, bytes } => {
                self.journal(&stream, session, msn, &bytes, sync).map(|()| true)
            }
            Op::Forget(stream) => return self.forget(&stream),
        };
        self.note(wrote);
    }

    /// Tells the operator once when the disk starts to refuse, and once when it is well again.
    fn note(&self, wrote: io::Result<bool>) {
        match wrote {
            Err(error) => {
                self.state.left_out.fetch_add(1, Ordering::Relaxed);
                if !self.state.degraded.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the spool cannot write; live goes on from memory");
                }
            }
            Ok(false) => drop(self.state.left_out.fetch_add(1, Ordering::Relaxed)),
            Ok(true) => {
                if self.state.degraded.swap(false, Ordering::Relaxed) {
                    tracing::info!("the spool writes again");
                }
            }
        }
    }

    /// Writes a part. Gives whether it did: what follows a lost part is left out.
    fn part(&mut self, part: &PartOp) -> io::Result<bool> {
        let dir = self.root.join(part.stream.as_str()).join(part.session.to_string());
        let room = self.room.clone();
        let files = self.stream(&part.stream)?;
        if part.first {
            files.close(&part.rendition);
            let path = dir.join(part.rendition.as_str()).join(format!("{}.m4s", part.msn));
            let file = create(&path);
            let (file, result) = match file {
                Ok(file) => (Some(file), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let open = OpenSegment { session: part.session, msn: part.msn, bytes: 0, file };
            files.open.insert(part.rendition.clone(), open);
            result?;
        }
        let Some(open) = files.open.get_mut(&part.rendition).filter(|o| o.msn == part.msn) else {
            return Ok(false);
        };
        let Some(file) = &mut open.file else { return Ok(false) };
        if let Err(error) = file.write_all(&part.bytes) {
            open.file = None;
            return Err(error);
        }
        open.bytes += part.bytes.len() as u64;
        if part.last
            && let Some((file, bytes)) = files.close(&part.rendition)
            && let Some(file) = room.keep(file, bytes)
        {
            part.live.ring.put_file(&part.rendition, part.session, part.msn, Arc::new(file));
        }
        self.journal(&part.stream, part.session, part.msn, &part.record, part.last)?;
        self.make_room(&part.stream)?;
        Ok(true)
    }

    fn journal(
        &mut self,
        stream: &StreamName,
        session: SessionNumber,
        msn: Msn,
        record: &[u8],
        sync: bool,
    ) -> io::Result<()> {
        let dir = self.root.join(stream.as_str()).join(session.to_string());
        let files = self.stream(stream)?;
        let group = msn.0 - msn.0 % JOURNAL_SEGMENTS;
        // The groups of two renditions may overlap by a segment; a record in the newer file is
        // found just as well.
        let fits = |(s, g, _): &&mut (SessionNumber, u64, File)| *s == session && *g >= group;
        let mut framed = Vec::with_capacity(4 + record.len());
        framed.extend_from_slice(&(record.len() as u32).to_le_bytes());
        framed.extend_from_slice(record);
        let file = match files.journal.as_mut().filter(fits) {
            Some((_, _, file)) => file,
            None => {
                fs::create_dir_all(&dir)?;
                let path = dir.join(format!("records-{group}.log"));
                let file = OpenOptions::new().append(true).create(true).open(path)?;
                &mut files.journal.insert((session, group, file)).2
            }
        };
        file.write_all(&framed)?;
        if sync { file.sync_data() } else { Ok(()) }
    }

    fn make_room(&mut self, stream: &StreamName) -> io::Result<()> {
        let max = self.stream_bytes_max;
        let dir = self.root.join(stream.as_str());
        let files = self.stream(stream)?;
        let mut crossed = BTreeSet::new();
        while files.bytes > max {
            let Some((session, rendition, msn, bytes)) = files.segments.pop_front() else { break };
            files.bytes -= bytes;
            remove(&dir.join(session.to_string()).join(format!("{rendition}/{msn}.m4s")))?;
            crossed.insert((session, msn.0 / JOURNAL_SEGMENTS));
        }
        // Journals all of whose segments have gone go too, and sessions left empty.
        if let (Some(oldest), Some(_)) = (files.segments.front(), crossed.first()) {
            let (session, msn) = (oldest.0, oldest.2);
            for (number, session_dir) in numbered_dirs(&dir)? {
                if SessionNumber(number) < session {
                    fs::remove_dir_all(&session_dir)?;
                } else if SessionNumber(number) == session {
                    let first = journals(&session_dir)?.keys().next().copied();
                    for (group, journal) in journals(&session_dir)? {
                        // The first journal also has the session record.
                        if group + JOURNAL_SEGMENTS <= msn.0 && Some(group) != first {
                            remove(&journal)?;
                        }
                    }
                }
            }
        }
        let total = self.streams.values().map(|s| s.bytes).sum();
        self.state.bytes.store(total, Ordering::Relaxed);
        Ok(())
    }

    fn forget(&mut self, stream: &StreamName) {
        self.streams.remove(stream);
        match remove_sessions(&self.root.join(stream.as_str())) {
            Ok(_) => self.state.forgotten.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                // Not a fault of writing, so it does not degrade the spool.
                cleanup::tell_failed(stream, &error);
                self.state.forget_failures.fetch_add(1, Ordering::Relaxed)
            }
        };
        let total = self.streams.values().map(|s| s.bytes).sum();
        self.state.bytes.store(total, Ordering::Relaxed);
    }

    /// The stream's files; what an earlier run left is found the first time.
    fn stream(&mut self, name: &StreamName) -> io::Result<&mut StreamFiles> {
        if !self.streams.contains_key(name) {
            let found = StreamFiles::find(&self.root.join(name.as_str()))?;
            self.streams.insert(name.clone(), found);
        }
        self.streams.get_mut(name).ok_or_else(|| io::Error::other("stream vanished"))
    }
}

impl StreamFiles {
    fn find(dir: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        let mut found = Vec::new();
        for (session, session_dir) in numbered_dirs(dir)? {
            for rendition in fs::read_dir(&session_dir)? {
                let rendition = rendition?;
                let name = rendition.file_name();
                let Some(Ok(id)) = name.to_str().map(str::parse::<RenditionId>) else { continue };
                if !rendition.file_type()?.is_dir() {
                    continue;
                }
                for segment in fs::read_dir(rendition.path())? {
                    let segment = segment?;
                    let name = segment.file_name();
                    let msn = name.to_str().and_then(|n| n.strip_suffix(".m4s")?.parse().ok());
                    if let Some(msn) = msn {
                        let bytes = segment.metadata()?.len();
                        found.push((SessionNumber(session), Msn(msn), id.clone(), bytes));
                    }
                }
            }
        }
        found.sort();
        files.bytes = found.iter().map(|f| f.3).sum();
        files.segments = found.into_iter().map(|(s, m, id, b)| (s, id, m, b)).collect();
        Ok(files)
    }

    /// Ends the segment that a rendition writes. Gives its file, with its length, when all of it
    /// was written.
    fn close(&mut self, rendition: &RenditionId) -> Option<(File, u64)> {
        let open = self.open.remove(rendition)?;
        self.bytes += open.bytes;
        self.segments.push_back((open.session, rendition.clone(), open.msn, open.bytes));
        open.file.map(|file| (file, open.bytes))
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            options.open(path)
        }
        other => other,
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
