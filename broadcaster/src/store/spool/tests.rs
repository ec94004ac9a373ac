//! The writer against a real folder: its bound, what it forgets, a disk that refuses. The tests
//! take its thread's place, so that each looks at a moment of its own choice.

use tempfile::TempDir;

use super::*;
use crate::store::segment_file::SegmentFile;
use crate::testing::bytes_of;

/// Big enough that a segment of it is worth a file of its own.
const BIG: usize = 64 * 1024;

/// No bound that a test would reach.
const ROOMY: u64 = u64::MAX;

/// A spool and the one stream in it.
struct Rig {
    _dir: TempDir,
    spool: Spool,
    queue: Receiver<Op>,
    writer: Writer,
    live: Arc<LiveStream>,
}

impl Rig {
    fn new(stream_bytes_max: u64) -> Self {
        Self::over(tempfile::tempdir().expect("a folder"), stream_bytes_max, QUEUE_MAX)
    }

    fn over(dir: TempDir, stream_bytes_max: u64, queue_max: usize) -> Self {
        let (root, state) = (dir.path().to_owned(), Arc::new(State::default()));
        let (sender, queue) = sync_channel(queue_max);
        let writer = Writer::new(root.clone(), stream_bytes_max, state.clone());
        let live = Arc::new(LiveStream::new(name()));
        Self { _dir: dir, spool: Spool { root, queue: sender, state }, queue, writer, live }
    }

    /// The same folder after a restart.
    fn restart(self, stream_bytes_max: u64) -> Self {
        Self::over(self._dir, stream_bytes_max, QUEUE_MAX)
    }

    /// A session's init segment and record, as the feed begins one.
    fn session(&mut self, session: u32, first_msn: u64) {
        let (session, init) = (SessionNumber(session), Bytes::from_static(b"init"));
        self.spool.init(&name(), session, &rendition("480p"), 1, init);
        let record = Bytes::from(format!("session {session}"));
        self.spool.record(&name(), session, Msn(first_msn), record);
        self.write();
    }

    /// A part as the feed gives it, to the ring first. Its record says where it belongs.
    fn queue(&self, (session, id, msn): Place, bytes: Bytes, first: bool, last: bool) {
        let (session, rendition, msn) = (SessionNumber(session), rendition(id), Msn(msn));
        self.live.ring.push(&rendition, session, msn, bytes.clone());
        let record = Bytes::from(format!("{session}/{rendition}/{msn}"));
        let (stream, live) = (name(), self.live.clone());
        self.spool.part(PartOp {
            stream,
            live,
            session,
            rendition,
            msn,
            first,
            last,
            bytes,
            record,
        });
    }

    /// A segment of one part.
    fn segment(&mut self, place: Place, len: usize) -> Bytes {
        let bytes = bytes_of(len, place.2);
        self.queue(place, bytes.clone(), true, true);
        self.write();
        bytes
    }

    /// Does what the thread would do with everything queued so far.
    fn write(&mut self) {
        while let Ok(op) = self.queue.try_recv() {
            self.writer.take(op);
        }
    }

    fn stream_dir(&self) -> PathBuf {
        self.spool.stream_dir(&name())
    }

    /// What there is in the stream's folder, in order.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.stream_dir(), &self.stream_dir(), &mut found);
        found.sort();
        found
    }

    fn records(&self) -> Vec<String> {
        let records = read_records(&self.stream_dir()).expect("journals");
        records.into_iter().map(|r| String::from_utf8(r).expect("words")).collect()
    }

    /// The file that the ring was given for a segment.
    fn filed(&self, (session, id, msn): Place) -> Option<Arc<SegmentFile>> {
        self.live.ring.segment(&rendition(id), SessionNumber(session), Msn(msn)).file
    }
}

/// Session, rendition and number of a segment.
type Place = (u32, &'static str, u64);

fn name() -> StreamName {
    "show".parse().expect("a name")
}

fn rendition(id: &str) -> RenditionId {
    id.parse().expect("an id")
}

fn list(root: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).expect("below").display().to_string());
        }
    }
}

fn content(file: &SegmentFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.bytes()).expect("a length")];
    std::os::unix::fs::FileExt::read_exact_at(file.file(), &mut bytes, 0).expect("so many bytes");
    bytes
}

#[test]
fn beyond_its_bound_the_oldest_segments_go_first_whatever_their_rendition() {
    let mut rig = Rig::new(250);
    rig.session(1, 0);
    for msn in 0..2 {
        rig.segment((1, "480p", msn), 80);
        rig.segment((1, "audio", msn), 20);
    }
    assert_eq!(rig.spool.bytes(), 200);
    rig.segment((1, "480p", 2), 80);
    assert_eq!(rig.spool.bytes(), 200, "one of 80 bytes had to go");
    let kept = ["1/480p/1.m4s", "1/480p/2.m4s", "1/480p/init-1.mp4", "1/audio/0.m4s"];
    assert_eq!(rig.files()[..4], kept);
    assert_eq!(rig.files()[4..], ["1/audio/1.m4s", "1/records-0.log"]);
}

#[test]
fn journals_go_with_their_segments_but_the_first_has_the_session_and_stays() {
    let mut rig = Rig::new(250);
    rig.session(1, 0);
    for msn in [0, JOURNAL_SEGMENTS, 2 * JOURNAL_SEGMENTS, 3 * JOURNAL_SEGMENTS] {
        rig.segment((1, "480p", msn), 100);
    }
    let journals: Vec<_> = rig.files().into_iter().filter(|f| f.contains("records")).collect();
    assert_eq!(journals, ["1/records-0.log", "1/records-256.log", "1/records-384.log"]);
    assert_eq!(rig.records(), ["session 1", "1/480p/0", "1/480p/256", "1/480p/384"]);
}

#[test]
fn a_session_goes_when_its_last_segment_does() {
    let mut rig = Rig::new(150);
    rig.session(1, 0);
    rig.segment((1, "480p", 0), 100);
    rig.session(2, 1);
    assert!(rig.files().contains(&"1/480p/init-1.mp4".to_owned()));
    rig.segment((2, "480p", 1), 100);
    assert_eq!(rig.files(), ["2/480p/1.m4s", "2/480p/init-1.mp4", "2/records-0.log"]);
}

#[test]
fn the_bound_counts_what_an_earlier_run_left() {
    let mut rig = Rig::new(1000);
    rig.session(1, 0);
    for msn in 0..5 {
        rig.segment((1, "480p", msn), 100);
    }
    let mut rig = rig.restart(250);
    rig.segment((1, "480p", 5), 100);
    let kept = ["1/480p/4.m4s", "1/480p/5.m4s", "1/480p/init-1.mp4", "1/records-0.log"];
    assert_eq!((rig.files(), rig.spool.bytes()), (kept.map(String::from).to_vec(), 200));
}

#[test]
fn forgetting_a_stream_leaves_its_numbers_alone() {
    let mut rig = Rig::new(ROOMY);
    let numbers = Numbers { broadcast: 3, next_msn: Msn(9), ..Numbers::default() };
    write_numbers(&rig.stream_dir(), &numbers).expect("numbers");
    rig.session(1, 0);
    rig.segment((1, "480p", 0), 100);
    // One that is still being written.
    rig.queue((1, "480p", 1), bytes_of(100, 1), true, false);
    rig.write();
    rig.spool.forget(&name());
    rig.write();
    assert_eq!((rig.files(), rig.spool.bytes()), (vec!["numbers.json".to_owned()], 0));
    assert_eq!(read_numbers(&rig.stream_dir()).expect("numbers"), numbers);

    // The rest of that segment is of no use; the next one is.
    rig.queue((1, "480p", 1), bytes_of(100, 2), false, true);
    rig.write();
    assert_eq!(rig.files(), ["numbers.json"]);
    rig.segment((2, "480p", 2), 100);
    assert_eq!(rig.files(), ["2/480p/2.m4s", "2/records-0.log", "numbers.json"]);
    assert_eq!(rig.spool.bytes(), 100);
}

#[test]
fn a_disk_that_refuses_is_reported_until_it_takes_something_again() {
    let mut rig = Rig::new(ROOMY);
    fs::write(rig.stream_dir(), "in the way").expect("a file where the folder should be");
    rig.queue((1, "480p", 0), bytes_of(BIG, 0), true, false);
    rig.write();
    assert_eq!((rig.spool.degraded(), rig.spool.left_out()), (true, 1));

    fs::remove_file(rig.stream_dir()).expect("out of the way");
    rig.queue((1, "480p", 0), bytes_of(BIG, 1), false, true);
    rig.write();
    assert!(rig.filed((1, "480p", 0)).is_none(), "its first part is not in it");
    rig.segment((1, "480p", 1), BIG);
    assert!(!rig.spool.degraded());
    assert!(rig.filed((1, "480p", 1)).is_some());
    assert_eq!(rig.files(), ["1/480p/1.m4s", "1/records-0.log"]);
}

#[test]
fn the_rest_of_a_segment_that_the_disk_refused_does_not_count_as_written() {
    let mut rig = Rig::new(ROOMY);
    rig.session(1, 0);
    assert!(!rig.spool.degraded());
    let in_the_way = rig.stream_dir().join("1/720p");
    fs::write(&in_the_way, "in the way").expect("a file where the folder should be");
    rig.queue((1, "720p", 0), bytes_of(BIG, 0), true, false);
    rig.write();
    assert!(rig.spool.degraded());
    rig.queue((1, "720p", 0), bytes_of(BIG, 1), false, false);
    rig.queue((1, "720p", 0), bytes_of(BIG, 2), false, true);
    rig.write();
    assert!(rig.spool.degraded(), "nothing was written since");
    assert_eq!(rig.spool.left_out(), 3);
    assert_eq!(rig.records(), ["session 1"], "a record of bytes that are not there");
}

#[test]
fn a_segment_wholly_written_is_given_to_the_ring_as_a_file_of_the_same_bytes() {
    let mut rig = Rig::new(ROOMY);
    let place = (1, "480p", 7);
    let parts = [BIG, 1, 5000].map(|len| bytes_of(len, len as u64));
    rig.queue(place, parts[0].clone(), true, false);
    rig.queue(place, parts[1].clone(), false, false);
    rig.write();
    assert!(rig.filed(place).is_none(), "it is not whole yet");
    rig.queue(place, parts[2].clone(), false, true);
    rig.write();
    assert!(content(&rig.filed(place).expect("a file")) == parts.concat());
}

#[test]
fn a_segment_that_lacks_a_part_on_disk_stays_in_memory() {
    for lost in 0..3 {
        let mut rig = Rig::new(ROOMY);
        let place = (1, "480p", 7);
        for at in 0..3 {
            rig.queue(place, bytes_of(BIG, at), at == 0, at == 2);
            match at == lost {
                true => drop(rig.queue.try_recv().expect("the part")),
                false => rig.write(),
            }
        }
        assert!(rig.filed(place).is_none(), "part {lost} is not in it");
        // The next one is not touched by that.
        let next = rig.segment((1, "480p", 8), BIG);
        assert!(content(&rig.filed((1, "480p", 8)).expect("a file")) == next);
    }
}

#[test]
fn a_file_outlives_its_name_for_whoever_still_sends_from_it() {
    let mut rig = Rig::new(BIG as u64);
    let bytes = rig.segment((1, "480p", 0), BIG);
    let file = rig.filed((1, "480p", 0)).expect("a file");
    rig.segment((1, "480p", 1), BIG);
    assert!(!rig.files().contains(&"1/480p/0.m4s".to_owned()), "the bound took it");
    assert!(content(&file) == bytes);
}

#[test]
fn what_finds_no_place_in_the_queue_is_left_out_and_said() {
    let mut rig = Rig::over(tempfile::tempdir().expect("a folder"), ROOMY, 1);
    rig.queue((1, "480p", 0), bytes_of(10, 0), true, true);
    assert!(!rig.spool.degraded());
    rig.queue((1, "480p", 1), bytes_of(10, 1), true, true);
    assert_eq!((rig.spool.degraded(), rig.spool.left_out()), (true, 1));
    rig.write();
    assert!(!rig.spool.degraded(), "the disk keeps up again");
    assert_eq!(rig.files(), ["1/480p/0.m4s", "1/records-0.log"]);
}

#[test]
fn numbers_are_read_as_they_were_written_and_nothing_stays_beside_them() {
    let rig = Rig::new(ROOMY);
    assert_eq!(read_numbers(&rig.stream_dir()).expect("none yet"), Numbers::default());
    let numbers = Numbers {
        broadcast: u32::MAX,
        session: SessionNumber(2),
        next_msn: Msn(u64::MAX),
        discontinuity_sequence: 4,
        ended: true,
    };
    for numbers in [Numbers::default(), numbers] {
        write_numbers(&rig.stream_dir(), &numbers).expect("numbers");
        assert_eq!(read_numbers(&rig.stream_dir()).expect("numbers"), numbers);
    }
    assert_eq!(rig.files(), ["numbers.json"]);
}
