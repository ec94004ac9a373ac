//! The feed over a real spool: what a restart, damage and the end of a broadcast leave.

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::path::PathBuf;

use common::id::SessionNumber;
use tempfile::TempDir;

use super::*;
use crate::store::spool::{STREAM_BYTES_MAX_DEFAULT, SpoolThread};
use crate::testing::{TIMING, part, ready};

/// A stream as the broadcaster runs it.
struct Rig {
    dir: TempDir,
    spool: Spool,
    thread: SpoolThread,
    live: Arc<LiveStream>,
    feed: Feed,
}

impl Rig {
    /// A stream that was never on.
    fn new() -> Self {
        Self::open(tempfile::tempdir().expect("a folder"))
    }

    /// On the air with these renditions.
    fn on_air(ids: &[&str]) -> Self {
        let mut rig = Self::new();
        rig.feed.begin_broadcast().expect("a broadcast");
        rig.session(ids);
        rig
    }

    fn open(dir: TempDir) -> Self {
        let root = dir.path().to_owned();
        let (spool, thread) = Spool::open(root, STREAM_BYTES_MAX_DEFAULT).expect("a spool");
        let live = Arc::new(LiveStream::new(name()));
        let feed = open_feed(&spool, &live).expect("a feed");
        Self { dir, spool, thread, live, feed }
    }

    /// Ends with everything on disk that was made.
    fn stop(self) -> TempDir {
        self.thread.stop(&self.spool);
        self.dir
    }

    fn restart(self) -> Self {
        Self::open(self.stop())
    }

    fn session(&mut self, ids: &[&str]) {
        self.feed.begin_session(&ready(ids), TIMING).expect("a session");
    }

    /// Whole segments of one rendition, as the worker counts both.
    fn makes(&mut self, rendition: u8, segments: Range<u32>) {
        for segment in segments {
            self.feed.part(&part(rendition, segment, 0));
            self.feed.part(&part(rendition, segment, 1));
        }
    }

    /// An encoder is replaced: from that segment on its rendition has another init segment.
    fn changes(&mut self, rendition: u8, segment: u32) {
        let session = self.feed.window().session().expect("a session");
        let id = session.rendition(rendition).expect("made").id.to_string();
        let [made] = ready(&[&id]).renditions.try_into().expect("one");
        let made = ipc::MadeRendition { init: Bytes::from_static(b"another init"), ..made };
        let changed = ipc::Changed { segment, renditions: vec![(rendition, made)] };
        self.feed.change(&changed).expect("usable");
    }

    fn numbers(&self) -> Numbers {
        self.feed.numbers()
    }

    /// Where the current session began: its number, first segment and discontinuity number.
    fn session_began(&self) -> (u32, u64, u64) {
        let session = self.feed.window().session().expect("a session");
        (session.session.0, session.first_msn.0, session.discontinuity_sequence)
    }

    fn playlist(&self, id: &str) -> String {
        let rendition = self.live.rendition(&rendition(id)).expect("the rendition is published");
        let text = String::from_utf8(rendition.newest().full.plain().to_vec()).expect("text");
        // How far the others were when this one was written is of no concern here.
        let own = |line: &&str| !line.starts_with("#EXT-X-RENDITION-REPORT");
        text.lines().filter(own).map(|line| format!("{line}\n")).collect()
    }

    /// The numbers that a rendition lists, and those of them that are gaps.
    fn listed(&self, id: &str) -> (Vec<u64>, Vec<u64>) {
        let segments = self.feed.window().rendition(&rendition(id)).expect("listed").segments();
        let gaps = segments.iter().filter(|s| s.gap).map(|s| s.msn.0).collect();
        (segments.iter().map(|s| s.msn.0).collect(), gaps)
    }

    fn segment(&self, session: u32, id: &str, msn: u64) -> Vec<Bytes> {
        self.live.ring.segment(&rendition(id), SessionNumber(session), Msn(msn)).parts
    }

    /// Whether each part that is listed can be had, with the length that is listed.
    fn serves_all_it_lists(&self) -> bool {
        let mut segments =
            self.feed.window().renditions().flat_map(|r| r.segments().iter().map(move |s| (r, s)));
        segments.all(|(rendition, segment)| {
            let stored = self.live.ring.segment(rendition.id(), segment.session, segment.msn);
            let stored = stored.parts.iter().map(|p| p.len() as u32);
            stored.eq(segment.parts.iter().map(|p| p.length))
        })
    }
}

fn name() -> StreamName {
    "show".parse().expect("a name")
}

fn rendition(id: &str) -> RenditionId {
    id.parse().expect("an id")
}

fn open_feed(spool: &Spool, live: &Arc<LiveStream>) -> Result<Feed, FeedFault> {
    Feed::open(name(), Arc::new(Signer::from_seed([7; 32])), spool.clone(), live.clone())
}

fn on_disk(dir: &TempDir, file: &str) -> PathBuf {
    dir.path().join("show").join(file)
}

fn cut_to(file: PathBuf, len: u64) {
    OpenOptions::new().write(true).open(file).and_then(|f| f.set_len(len)).expect("it is cut");
}

fn data(rendition: u8, segment: u32) -> Vec<Bytes> {
    [0, 1].map(|index| part(rendition, segment, index).data).to_vec()
}

#[test]
fn after_a_restart_the_same_playlists_are_there_and_numbering_goes_on() {
    let mut rig = Rig::on_air(&["720p", "480p"]);
    rig.makes(0, 0..3);
    rig.makes(1, 0..3);
    let media = ["720p", "480p"].map(|id| rig.playlist(id));
    let master = rig.live.master().expect("playable").plain();
    let rig = rig.restart();
    assert_eq!(["720p", "480p"].map(|id| rig.playlist(id)), media);
    assert_eq!(rig.live.master().map(|text| text.plain()), Some(master));
    let expected = Numbers {
        broadcast: 1,
        session: SessionNumber(1),
        next_msn: Msn(3),
        discontinuity_sequence: 1,
        ended: false,
    };
    assert_eq!(rig.numbers(), expected);
}

#[test]
fn a_session_after_a_restart_counts_on_past_everything_that_was_used() {
    let mut rig = Rig::on_air(&["720p", "480p"]);
    rig.makes(0, 0..3);
    rig.makes(1, 0..2);
    // The foremost is in the middle of segment 3.
    rig.feed.part(&part(0, 3, 0));
    let before = rig.session_began();
    let mut rig = rig.restart();
    rig.session(&["720p", "480p"]);
    assert_eq!(before, (1, 0, 1));
    assert_eq!(rig.session_began(), (2, 4, 2));
    rig.makes(0, 0..1);
    rig.makes(1, 0..1);
    assert_eq!(rig.listed("720p"), (vec![0, 1, 2, 3, 4], vec![]));
    assert_eq!(rig.listed("480p"), (vec![0, 1, 2, 3, 4], vec![2, 3]));
    for id in ["720p", "480p"] {
        assert!(rig.playlist(id).contains("#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"../2/"), "{id}");
    }
}

#[test]
fn media_is_the_same_after_a_restart_and_so_is_what_just_left_its_playlist() {
    let mut rig = Rig::on_air(&["720p"]);
    rig.makes(0, 0..20);
    rig.feed.part(&part(0, 20, 0));
    let first = rig.listed("720p").0[0];
    assert!(first > 0, "nothing has left the playlist");
    let rig = rig.restart();
    assert_eq!(rig.listed("720p").0, (first..=20).collect::<Vec<_>>());
    for msn in 0..20 {
        assert!(rig.segment(1, "720p", msn.into()) == data(0, msn), "segment {msn} differs");
    }
    assert!(rig.segment(1, "720p", 20) == data(0, 20)[..1], "the open segment differs");
    let init = rig.live.ring.init(&rendition("720p"), SessionNumber(1), 1);
    assert_eq!(init.as_deref(), Some(&b"init of 720p"[..]));
}

#[test]
fn a_rendition_that_falls_behind_has_gaps_and_what_comes_too_late_is_not_taken() {
    let mut rig = Rig::on_air(&["720p", "480p"]);
    rig.makes(1, 0..1);
    let behind = BEHIND_MAX as u32;
    rig.makes(0, 0..behind + 1);
    assert_eq!(rig.listed("480p"), (vec![0], vec![]), "it may yet come");
    // The foremost goes on to where segment 1 is too far behind.
    rig.feed.part(&part(0, behind + 2, 0));
    assert_eq!(rig.listed("480p"), (vec![0, 1], vec![1]));
    let playlist = rig.playlist("480p");
    assert!(playlist.contains("#EXT-X-GAP\n#EXTINF:2.000000,\n../1/480p/1.m4s\n"), "{playlist}");

    let bytes = rig.live.ring.bytes();
    rig.makes(1, 1..2);
    assert_eq!((rig.feed.late_parts(), rig.live.ring.bytes()), (2, bytes));
    assert_eq!(rig.playlist("480p"), playlist);
    // What is not too late yet is taken.
    rig.makes(1, 2..3);
    assert_eq!(rig.feed.late_parts(), 2);
    assert!(rig.segment(1, "480p", 2) == data(1, 2));
}

#[test]
fn a_segment_torn_on_disk_leaves_nothing_to_serve_and_no_number_to_use_twice() {
    for left in [0, 1, 1000, 1999] {
        let mut rig = Rig::on_air(&["720p"]);
        rig.makes(0, 0..5);
        let dir = rig.stop();
        cut_to(on_disk(&dir, "1/720p/4.m4s"), left);
        let mut rig = Rig::open(dir);
        assert_eq!(rig.feed.window().renditions().count(), 0, "cut to {left}");
        assert!(rig.live.rendition(&rendition("720p")).is_none());
        assert!(rig.live.master().is_none());
        assert_eq!(rig.live.ring.bytes(), 0, "media stays that nothing ever drops");
        rig.session(&["720p"]);
        assert_eq!(rig.session_began(), (2, 5, 2), "cut to {left}");
    }
}

#[test]
fn a_torn_journal_lists_only_what_can_be_served_and_no_number_is_used_twice() {
    let mut rig = Rig::on_air(&["720p", "480p"]);
    rig.makes(0, 0..3);
    rig.makes(1, 0..3);
    rig.feed.part(&part(0, 3, 0));
    let mut dir = rig.stop();
    let journal = on_disk(&dir, "1/records-0.log");
    let whole = fs::read(&journal).expect("a journal");
    for len in (0..whole.len()).step_by(37) {
        fs::write(&journal, &whole[..len]).expect("a torn journal");
        let rig = Rig::open(dir);
        assert!(rig.serves_all_it_lists(), "cut to {len} bytes");
        assert_eq!(rig.numbers().next_msn, Msn(4), "cut to {len} bytes");
        dir = rig.stop();
    }
}

#[test]
fn a_rendition_withdrawn_long_before_a_restart_does_not_come_back_nor_empty_the_rest() {
    let mut rig = Rig::on_air(&["source", "480p"]);
    rig.makes(0, 0..2);
    rig.makes(1, 0..2);
    rig.feed.withdraw(0);
    rig.makes(1, 2..10);
    let before = rig.playlist("480p");
    let dir = rig.stop();
    // As the bound on the spool does in time; the session's first journal stays.
    fs::remove_file(on_disk(&dir, "1/source/0.m4s")).expect("a segment");
    fs::remove_file(on_disk(&dir, "1/source/1.m4s")).expect("a segment");
    let rig = Rig::open(dir);
    assert_eq!(rig.playlist("480p"), before);
    assert!(rig.live.rendition(&rendition("source")).is_none());
}

#[test]
fn the_numbers_of_a_withdrawn_rendition_are_not_used_again() {
    let mut rig = Rig::on_air(&["source", "480p"]);
    rig.makes(0, 0..3);
    rig.makes(1, 0..2);
    rig.feed.withdraw(0);
    rig.session(&["source", "480p"]);
    assert_eq!(rig.session_began(), (2, 3, 2));
}

#[test]
fn damaged_numbers_are_an_error_that_names_the_stream() {
    for damage in ["", "{", "null", "{\"broadcast\":1}", "\u{0}\u{0}\u{0}"] {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(on_disk(&dir, "")).expect("a folder");
        fs::write(on_disk(&dir, "numbers.json"), damage).expect("damaged numbers");
        let (spool, _thread) = Spool::open(dir.path().to_owned(), 1).expect("a spool");
        let live = Arc::new(LiveStream::new(name()));
        let fault = open_feed(&spool, &live).map(|_| ()).expect_err(damage);
        assert!(matches!(&fault, FeedFault::Numbers { stream, .. } if *stream == name()));
        assert!(fault.to_string().contains("stream show"), "{fault}");
    }
}

#[test]
fn a_broadcast_that_cannot_keep_its_numbers_does_not_begin() {
    let mut rig = Rig::new();
    fs::write(rig.dir.path().join("show"), "in the way")
        .expect("a file where the folder should be");
    let fault = rig.feed.begin_broadcast().expect_err("there is no folder");
    assert!(fault.to_string().contains("stream show"), "{fault}");
}

#[test]
fn the_end_of_a_broadcast_ends_its_playlists_and_still_does_after_a_restart() {
    let mut rig = Rig::on_air(&["720p"]);
    rig.makes(0, 0..2);
    rig.feed.part(&part(0, 2, 0));
    assert!(!rig.playlist("720p").contains("ENDLIST"));
    rig.feed.end_session();
    assert!(!rig.playlist("720p").contains("ENDLIST"), "a session is not the broadcast");
    rig.feed.end_broadcast().expect("an end");
    let playlist = rig.playlist("720p");
    assert!(playlist.ends_with("../1/720p/2.m4s\n#EXT-X-ENDLIST\n"), "{playlist}");
    assert!(rig.numbers().ended);
    assert_eq!(rig.numbers().next_msn, Msn(3));
    let mut rig = rig.restart();
    assert_eq!(rig.playlist("720p"), playlist);
    assert!(rig.numbers().ended);

    rig.feed.begin_broadcast().expect("another broadcast");
    rig.session(&["720p"]);
    assert_eq!((rig.numbers().broadcast, rig.numbers().ended), (2, false));
    assert_eq!(rig.session_began(), (2, 3, 2));
    rig.makes(0, 0..1);
    assert!(!rig.playlist("720p").contains("ENDLIST"));
}

#[test]
fn a_stream_that_is_freed_has_no_media_left_and_keeps_its_numbers() {
    let mut rig = Rig::on_air(&["720p"]);
    rig.makes(0, 0..20);
    rig.feed.end_broadcast().expect("an end");
    rig.feed.free();
    assert_eq!(rig.live.ring.bytes(), 0);
    assert!(rig.segment(1, "720p", 19).is_empty());
    assert!(rig.live.rendition(&rendition("720p")).is_none() && rig.live.master().is_none());
    assert_eq!(rig.numbers().next_msn, Msn(20));
    let numbers = rig.numbers();

    let mut rig = rig.restart();
    assert!(!on_disk(&rig.dir, "1").exists(), "media stays on disk");
    assert_eq!(rig.numbers(), numbers);
    rig.feed.begin_broadcast().expect("another broadcast");
    rig.session(&["720p"]);
    assert_eq!(rig.session_began(), (2, 20, 2));
}

#[test]
fn a_worker_that_names_no_rendition_is_refused() {
    let mut rig = Rig::new();
    rig.feed.begin_broadcast().expect("a broadcast");
    let fault = rig.feed.begin_session(&ready(&[]), TIMING).expect_err("nothing to make");
    assert!(matches!(fault, FeedFault::Ready(_)), "{fault}");
    rig.makes(0, 0..1);
    assert_eq!(rig.live.ring.bytes(), 0, "a part of no session is taken");
}

#[test]
fn other_lengths_of_segments_or_parts_begin_empty_playlists_and_numbers_go_on() {
    let mut rig = Rig::on_air(&["480p"]);
    rig.makes(0, 0..3);
    let twice = Timing { part_us: TIMING.part_us, segment_us: 2 * TIMING.segment_us };
    rig.feed.begin_session(&ready(&["480p"]), twice).expect("a session");
    assert!(rig.live.rendition(&rendition("480p")).is_none(), "nothing is listed yet");
    assert_eq!(rig.session_began(), (2, 3, 2));
    rig.makes(0, 0..1);
    let segments = rig.feed.window().rendition(&rendition("480p")).map(|r| r.segments().len());
    assert_eq!(segments, Some(1));
}

#[test]
fn a_session_whose_numbers_cannot_be_kept_has_used_none() {
    let mut rig = Rig::on_air(&["480p"]);
    rig.makes(0, 0..1);
    let (dir, before) = (rig.spool.stream_dir(&name()), rig.numbers());
    // A folder in its place cannot be written over.
    let obstacle = dir.join("numbers.json.new");
    fs::create_dir(&obstacle).expect("a folder");
    for _ in 0..3 {
        rig.feed.begin_session(&ready(&["480p"]), TIMING).expect_err("the disk refuses");
        assert_eq!(rig.numbers(), before);
    }
    fs::remove_dir(&obstacle).expect("removed");
    rig.session(&["480p"]);
    assert_eq!(rig.session_began(), (2, 1, 2));
    assert_eq!(rig.feed.window().renditions().count(), 1, "what was listed stays");
}

#[test]
fn a_session_that_left_nothing_listed_is_no_second_discontinuity() {
    let mut rig = Rig::on_air(&["480p"]);
    rig.makes(0, 0..2);
    rig.session(&["480p"]);
    rig.session(&["480p"]);
    rig.makes(0, 0..1);
    let listed = rig.feed.window().rendition(&rendition("480p")).expect("it is listed").segments();
    let tags = listed.iter().filter(|s| s.discontinuity).count() as u64;
    let (first, last) = (&listed[0], &listed[listed.len() - 1]);
    let before_first = first.discontinuity_sequence - u64::from(first.discontinuity);
    assert_eq!(last.discontinuity_sequence, before_first + tags);
}

#[test]
fn a_gap_without_a_twin_follows_what_is_listed_in_time() {
    let mut rig = Rig::on_air(&["480p"]);
    rig.makes(0, 0..2);
    rig.makes(0, 5..6);
    let listed = rig.feed.window().rendition(&rendition("480p")).expect("it is listed").segments();
    assert!(listed.iter().any(|s| s.gap));
    let dates: Vec<_> = listed.iter().map(|s| s.wall_clock_us).collect();
    assert!(dates.is_sorted() && dates[0] > 0, "{dates:?}");
}

#[test]
fn a_withdrawn_rendition_is_not_offered_until_a_session_makes_it_again() {
    let mut rig = Rig::on_air(&["source", "480p"]);
    let offered =
        |rig: &Rig| rig.feed.window().offered().map(|r| r.id.to_string()).collect::<Vec<_>>();
    rig.feed.withdraw(0);
    assert_eq!(offered(&rig), ["480p"]);
    rig.session(&["source", "480p"]);
    assert_eq!(offered(&rig), ["source", "480p"]);
}

#[test]
fn a_rendition_that_lags_behind_a_change_of_encoders_keeps_its_whole_last_segment() {
    let mut rig = Rig::on_air(&["720p", "480p"]);
    rig.makes(0, 0..3);
    rig.makes(1, 0..2);
    rig.feed.part(&part(1, 2, 0));
    rig.changes(0, 3);
    rig.makes(0, 3..4);
    rig.feed.part(&part(1, 2, 1));
    rig.makes(1, 3..4);
    assert_eq!(rig.feed.late_parts(), 0);
    assert_eq!(rig.segment(1, "480p", 2), data(1, 2));
    for id in ["720p", "480p"] {
        assert_eq!(rig.listed(id), (vec![0, 1, 2, 3], vec![]), "{id}");
        let segments = rig.feed.window().rendition(&rendition(id)).expect("listed").segments();
        let durations: Vec<_> = segments.iter().map(|s| s.duration_us).collect();
        assert_eq!(durations, [2_000_000; 4], "{id}");
        let tags: Vec<_> = segments.iter().map(|s| s.discontinuity).collect();
        assert_eq!(tags, [true, false, false, true], "{id}: the boundary is everyone's");
    }
    assert!(rig.serves_all_it_lists());
    let before = ["720p", "480p"].map(|id| rig.playlist(id));
    let rig = rig.restart();
    assert_eq!(["720p", "480p"].map(|id| rig.playlist(id)), before);
}

#[test]
fn what_a_rendition_lacks_before_a_change_of_encoders_is_listed_as_gaps() {
    let mut rig = Rig::on_air(&["720p", "480p"]);
    rig.makes(0, 0..3);
    rig.makes(1, 0..1);
    rig.changes(0, 3);
    rig.makes(0, 3..4);
    rig.makes(1, 3..4);
    assert_eq!(rig.listed("480p"), (vec![0, 1, 2, 3], vec![1, 2]), "its past stays");
    let sequence = |id: &str| -> Vec<_> {
        let segments = rig.feed.window().rendition(&rendition(id)).expect("listed").segments();
        segments.iter().map(|s| s.discontinuity_sequence).collect()
    };
    assert_eq!(sequence("480p"), sequence("720p"));
}
