//! Whole sessions, run in this process: what comes out is parsed back and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::rendition::{Kind, Ladder, NamedLadder, Rung, RungChoice, default_audio};
use gst::prelude::*;
use mp4_atom::{Any, Decode, DecodeMaybe, Header, Moof, Moov};

use super::cut::ticks_to_us;
use super::ipc::{Command, FailCode, Failed, Part, Ready, Report, Source, Start};
use super::session::{self, EVENTS_MAX, Event};
use crate::ingest::media::{Config, Frame, Track};
use crate::testing;

mod hanging;
mod switch;

/// A session under way.
struct Session {
    events: SyncSender<Event>,
    reports: Receiver<Report>,
    seen: Vec<Report>,
}

/// Nothing in a test takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

impl Session {
    fn start(source: Source, ladder: Ladder) -> Self {
        Self::begin(source, ladder, |_| {})
    }

    fn begin(source: Source, ladder: Ladder, change: impl FnOnce(&mut Start)) -> Self {
        let mut start = Start { audio: default_audio(), ..testing::start(source, ladder) };
        change(&mut start);
        let (events, receiver) = sync_channel(EVENTS_MAX);
        let (emit, reports) = channel();
        let sender = events.clone();
        std::thread::spawn(move || {
            session::run(start, receiver, &sender, &mut |report| emit.send(report).is_ok());
        });
        Self { events, reports, seen: Vec::new() }
    }

    fn command(&self, command: Command) {
        self.events.send(Event::Command(command)).expect("the session listens");
    }

    /// Collects reports up to one that fits.
    fn until(&mut self, fits: impl Fn(&Report) -> bool) -> &mut Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let report = self.reports.recv_timeout(left).expect("the session goes on");
            assert!(
                fits(&report) || !matches!(report, Report::Failed(_) | Report::Drained),
                "ended early: {report:?}"
            );
            let done = fits(&report);
            self.seen.push(report);
            if done {
                return self;
            }
        }
    }

    fn until_segment(&mut self, segment: u32) -> &mut Self {
        self.until(|r| matches!(r, Report::Part(p) if p.segment >= segment))
    }

    fn drain(&mut self) -> Outcome {
        self.command(Command::Drain);
        self.until(|r| matches!(r, Report::Drained));
        Outcome::of(std::mem::take(&mut self.seen))
    }

    fn failure(&mut self) -> Failed {
        self.until(|r| matches!(r, Report::Failed(_)));
        match self.seen.pop() {
            Some(Report::Failed(failed)) => failed,
            other => panic!("{other:?}"),
        }
    }
}

/// Everything a session said, in order.
struct Outcome {
    ready: Ready,
    parts: BTreeMap<u8, Vec<Part>>,
    thumbs: Vec<Bytes>,
}

impl Outcome {
    fn of(reports: Vec<Report>) -> Self {
        let (mut ready, mut parts) = (None, BTreeMap::<u8, Vec<Part>>::new());
        let mut thumbs = Vec::new();
        for report in reports {
            match report {
                Report::Ready(r) => {
                    assert!(ready.is_none() && parts.is_empty(), "Ready comes once, and first");
                    ready = Some(r);
                }
                Report::Part(part) => parts.entry(part.rendition).or_default().push(part),
                Report::Thumb(jpeg) => thumbs.push(jpeg),
                _ => {}
            }
        }
        Self { ready: ready.expect("a session becomes ready"), parts, thumbs }
    }

    fn of_kind(&self, kind: Kind) -> Vec<&Vec<Part>> {
        (self.ready.renditions.iter().zip(0u8..))
            .filter(|(made, _)| made.kind == kind)
            .map(|(_, i)| &self.parts[&i])
            .collect()
    }

    fn ids(&self) -> Vec<&str> {
        self.ready.renditions.iter().map(|r| r.id.as_str()).collect()
    }

    /// Checks every rule that holds for any session.
    fn check(&self) {
        for (made, i) in self.ready.renditions.iter().zip(0u8..) {
            let init = Init::parse(&made.init);
            assert_eq!((init.width, init.height), (made.width, made.height), "{}", made.id);
            let prefix = if made.kind == Kind::Video { "avc1." } else { "mp4a.40." };
            assert!(made.codec.starts_with(prefix), "{}", made.codec);
            assert!(made.bitrate > 0, "{}", made.id);
            check_parts(&init, made.kind, &self.parts[&i]);
        }
        self.check_boundaries();
    }

    /// The first presentation time of each segment is equal over all video renditions, and audio
    /// begins with its first frame at or after it.
    fn check_boundaries(&self) {
        let starts = |parts: &[Part]| -> BTreeMap<u32, u64> {
            parts.iter().rev().map(|p| (p.segment, p.pts_us)).collect()
        };
        let video: Vec<_> = self.of_kind(Kind::Video).into_iter().map(|p| starts(p)).collect();
        let Some((first, others)) = video.split_first() else { return };
        for other in others {
            for (segment, start) in other {
                assert_eq!(first.get(segment).unwrap_or(start), start, "segment {segment}");
            }
        }
        for audio in self.of_kind(Kind::Audio) {
            for (segment, start) in starts(audio) {
                let Some(video) = first.get(&segment) else { continue };
                assert!((*video..*video + 23_300).contains(&start), "{segment}: {video} {start}");
            }
        }
    }
}

struct Init {
    timescale: u32,
    width: u32,
    height: u32,
}

impl Init {
    fn parse(mut bytes: &[u8]) -> Self {
        let Some(Any::Ftyp(_)) = Any::decode_maybe(&mut bytes).expect("boxes") else {
            panic!("an init segment begins with ftyp")
        };
        let moov = Moov::decode(&mut bytes).expect("moov");
        assert!(bytes.is_empty() && moov.trak.len() == 1 && moov.mvex.is_some());
        let trak = &moov.trak[0];
        Self {
            timescale: trak.mdia.mdhd.timescale,
            width: trak.tkhd.width.integer().into(),
            height: trak.tkhd.height.integer().into(),
        }
    }
}

/// One part as a player reads it.
struct Parsed {
    tfdt: u64,
    durations: Vec<u32>,
    offsets: Vec<i64>,
    samples: Vec<Bytes>,
}

fn parse(data: &Bytes) -> Parsed {
    let mut rest = &data[..];
    let moof = Moof::decode(&mut rest).expect("a part begins with moof");
    let payload = data.len() - rest.len() + 8;
    let header = Header::decode(&mut rest).expect("mdat follows");
    assert_eq!((header.kind, header.size), (b"mdat".into(), Some(data.len() - payload)));
    let traf = &moof.traf[0];
    let trun = &traf.trun[0];
    let mut at = trun.data_offset.expect("an offset") as usize;
    assert_eq!(at, payload);
    let mut parsed = Parsed {
        tfdt: traf.tfdt.as_ref().expect("tfdt").base_media_decode_time,
        durations: Vec::new(),
        offsets: Vec::new(),
        samples: Vec::new(),
    };
    for entry in &trun.samples {
        let size = entry.size.expect("a size") as usize;
        parsed.samples.push(data.slice(at..at + size));
        parsed.durations.push(entry.duration.or(traf.tfhd.default_sample_duration).expect("one"));
        parsed.offsets.push(entry.cts.unwrap_or(0));
        at += size;
    }
    assert_eq!(at, data.len());
    parsed
}

fn check_parts(init: &Init, kind: Kind, parts: &[Part]) {
    let mut next = None;
    for (i, part) in parts.iter().enumerate() {
        let parsed = parse(&part.data);
        let end = parsed.tfdt + parsed.durations.iter().map(|d| u64::from(*d)).sum::<u64>();
        assert_eq!(part.pts_us, ticks_to_us(parsed.tfdt, init.timescale));
        assert_eq!(part.pts_us + u64::from(part.duration_us), ticks_to_us(end, init.timescale));
        assert_eq!(parsed.tfdt, next.unwrap_or(parsed.tfdt), "parts follow each other");
        next = Some(end);
        assert!(part.duration_us <= 550_000, "a part of {} µs", part.duration_us);
        assert!(part.last_of_segment || part.duration_us >= 467_500, "{} µs", part.duration_us);
        let begins = i == 0 || parts[i - 1].segment != part.segment;
        assert_eq!(i > 0 && parts[i - 1].last_of_segment, begins && i > 0);
        if kind == Kind::Video {
            for (n, sample) in parsed.samples.iter().enumerate() {
                let idr = super::h264::is_idr(sample, 4);
                assert!(idr || !(begins && n == 0), "a segment begins with an IDR frame");
                assert_eq!(part.independent && n == 0, idr && n == 0);
            }
            if begins {
                assert_eq!(parsed.offsets[0], 0, "a key frame is shown when it is decoded");
            }
        } else {
            assert!(part.independent);
        }
    }
}

/// Coded media as a publisher would push it.
struct Clip {
    configs: Vec<Config>,
    /// In the order of their decoding times.
    frames: Vec<Frame>,
}

impl Clip {
    /// A moving picture of 320x180 at 30 fps, and a tone, this many seconds long.
    fn new(seconds: u32, gop: u32, b_frames: u32) -> Self {
        session::init_gstreamer().expect("GStreamer");
        let video = coded(&format!(
            "videotestsrc num-buffers={} pattern=ball ! video/x-raw,format=I420,width=320,height=180,framerate=30/1 \
             ! x264enc speed-preset=ultrafast key-int-max={gop} bframes={b_frames} option-string=scenecut=0 bitrate=300 \
             ! video/x-h264,stream-format=avc,alignment=au,profile={}",
            seconds * 30,
            if b_frames > 0 { "main" } else { "constrained-baseline" },
        ));
        let audio = coded(&format!(
            "audiotestsrc num-buffers={} samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 \
             ! avenc_aac ! audio/mpeg,stream-format=raw",
            seconds * 48_000 / 1024,
        ));
        let mut frames: Vec<Frame> = [(Track::Video, &video.1), (Track::Audio, &audio.1)]
            .into_iter()
            .flat_map(|(track, list)| list.iter().map(move |f| Frame { track, ..f.clone() }))
            .collect();
        frames.sort_by_key(|f| f.dts_us);
        let configs = vec![Config::H264 { avcc: video.0 }, Config::Aac { asc: audio.0 }];
        Self { configs, frames }
    }

    /// Pushes the frames that fit, never more than 2 s ahead of what has come out of `encoded`: a
    /// publisher sends in real time, and encoders may leave out what comes faster.
    fn push(&self, session: &mut Session, encoded: Option<u8>, fits: impl Fn(&Frame) -> bool) {
        for config in &self.configs {
            session.command(Command::Config(config.clone()));
        }
        let mut done_us = 0;
        for frame in self.frames.iter().filter(|f| fits(f)) {
            while encoded.is_some()
                && frame.track == Track::Video
                && frame.dts_us > done_us + 2_000_000
            {
                session.until(|r| matches!(r, Report::Part(p) if Some(p.rendition) == encoded));
                let Some(Report::Part(part)) = session.seen.last() else { unreachable!() };
                done_us = part.pts_us as i64 + i64::from(part.duration_us);
            }
            session.command(Command::Frame(frame.clone()));
        }
    }
}

/// Runs a chain of elements; its decoder configuration and its frames, with milliseconds as RTMP
/// has them.
fn coded(chain: &str) -> (Bytes, Vec<Frame>) {
    let pipeline = gst::parse::launch(&format!("{chain} ! appsink name=out sync=false"))
        .expect("elements")
        .downcast::<gst::Pipeline>()
        .expect("a pipeline");
    let sink =
        pipeline.by_name("out").expect("out").downcast::<gst_app::AppSink>().expect("a sink");
    pipeline.set_state(gst::State::Playing).expect("it plays");
    let (mut config, mut frames, mut first_dts) = (None, Vec::new(), None);
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().expect("a buffer");
        let caps = sample.caps().and_then(|c| c.structure(0)).expect("caps");
        let data = caps.get::<gst::Buffer>("codec_data").expect("configured");
        config.get_or_insert_with(|| Bytes::copy_from_slice(&data.map_readable().expect("bytes")));
        let us = |t: gst::ClockTime| (t.mseconds() * 1000) as i64;
        let pts_us = us(buffer.pts().expect("a time"));
        let dts_us = buffer.dts().map_or(pts_us, us);
        let origin = *first_dts.get_or_insert(dts_us);
        frames.push(Frame {
            track: Track::Video,
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            pts_us: pts_us - origin,
            dts_us: dts_us - origin,
            data: Bytes::copy_from_slice(&buffer.map_readable().expect("bytes")),
        });
    }
    pipeline.set_state(gst::State::Null).expect("it stops");
    (config.expect("a configuration"), frames)
}

fn passthrough() -> Ladder {
    Ladder::Named(NamedLadder::Passthrough)
}

fn own(id: &str, height: u32) -> RungChoice {
    let id = id.parse().expect("an id");
    RungChoice::Own(Rung { id, width: height * 16 / 9, height, fps: 30, video_kbps: 200 })
}

fn source_and(rung: RungChoice) -> Ladder {
    Ladder::Rungs(vec![RungChoice::Preset("source".into()), rung])
}

fn rungs(names: &[&str]) -> Ladder {
    Ladder::Rungs(names.iter().map(|n| RungChoice::Preset((*n).to_owned())).collect())
}

fn test_source(fps: (u32, u32)) -> Source {
    Source::Test { width: 640, height: 360, fps }
}

#[test]
fn the_test_source_becomes_aligned_renditions() {
    let outcome =
        Session::start(test_source((30, 1)), rungs(&["360p", "240p"])).until_segment(2).drain();
    assert!(outcome.thumbs.iter().any(|t| t.starts_with(&[0xff, 0xd8])), "a JPEG for the poster");
    assert_eq!(outcome.ids(), ["360p", "240p", "audio"]);
    let sizes: Vec<_> = outcome.ready.renditions.iter().map(|r| (r.width, r.height)).collect();
    assert_eq!(sizes, [(640, 360), (426, 240), (0, 0)]);
    outcome.check();
    for video in outcome.of_kind(Kind::Video) {
        assert_eq!(video[0].pts_us, 0);
        assert_eq!(video.iter().filter(|p| p.segment == 0).count(), 4);
    }
}

#[test]
fn a_source_that_cannot_pass_is_refused_with_advice() {
    let failed = Session::start(test_source((30, 1)), rungs(&["source"])).failure();
    assert_eq!(failed.code, FailCode::Input);
    assert!(failed.message.contains("H.264"), "{}", failed.message);
}

#[test]
fn passthrough_gives_the_pushed_frames_back_unchanged() {
    for b_frames in [0, 2] {
        let clip = Clip::new(7, 60, b_frames);
        let mut session = Session::start(Source::Push, passthrough());
        clip.push(&mut session, None, |_| true);
        let outcome = session.drain();
        assert_eq!(outcome.ids(), ["source", "audio"]);
        assert!(outcome.ready.renditions.iter().all(|r| r.encoder == "passthrough"));
        outcome.check();
        for (i, track) in [(0, Track::Video), (1, Track::Audio)] {
            let sent: Vec<_> =
                clip.frames.iter().filter(|f| f.track == track).map(|f| &f.data).collect();
            let parts: Vec<_> = outcome.parts[&i].iter().map(|p| parse(&p.data)).collect();
            let got: Vec<_> = parts.iter().flat_map(|p| &p.samples).collect();
            // Audio before the first picture, which B-frames show late, is left out.
            assert!(got.len() + 4 >= sent.len() && sent.ends_with(&got), "{b_frames} {track:?}");
            let reordered = parts.iter().flat_map(|p| &p.offsets).any(|o| *o != 0);
            assert_eq!(reordered, b_frames > 0 && track == Track::Video);
        }
        let starts: Vec<u64> = outcome.parts[&0].iter().map(|p| p.pts_us).collect();
        assert!(starts.contains(&2_000_000) && starts.contains(&6_000_000), "{starts:?}");
    }
}

#[test]
fn a_stream_that_only_passes_through_has_poster_pictures() {
    let clip = Clip::new(13, 30, 0);
    let mut session = Session::start(Source::Push, passthrough());
    clip.push(&mut session, None, |_| true);
    session.until(|r| matches!(r, Report::Thumb(_)));
    let outcome = session.drain();
    assert!(outcome.thumbs[0].starts_with(b"\xff\xd8"), "a JPEG");
    outcome.check();
}

#[test]
fn encoded_rungs_follow_the_key_frames_of_the_source() {
    let clip = Clip::new(7, 45, 0);
    let mut session = Session::start(Source::Push, source_and(own("small", 90)));
    clip.push(&mut session, Some(1), |_| true);
    let outcome = session.drain();
    assert_eq!(outcome.ids(), ["source", "small", "audio"]);
    outcome.check();
    let begins: Vec<u64> = outcome.parts[&1]
        .windows(2)
        .filter(|w| w[0].last_of_segment)
        .map(|w| w[1].pts_us)
        .collect();
    assert_eq!(begins, [1_500_000, 3_000_000, 4_500_000, 6_000_000]);
}

#[test]
fn a_source_with_distant_key_frames_is_withdrawn_and_its_rungs_go_on() {
    let clip = Clip::new(7, 250, 0);
    let mut session = Session::start(Source::Push, source_and(own("small", 90)));
    clip.push(&mut session, Some(1), |_| true);
    let withdrawn = session.seen.iter().find_map(|r| match r {
        Report::Withdrawn(withdrawn) => Some(withdrawn.clone()),
        _ => None,
    });
    let withdrawn = withdrawn.expect("the source is withdrawn");
    assert_eq!(withdrawn.rendition, 0);
    assert!(withdrawn.note.contains("Keyframe Interval"), "{}", withdrawn.note);
    let outcome = session.drain();
    outcome.check();
    assert!(outcome.parts[&0].iter().all(|p| p.segment == 0));
    assert!(outcome.parts[&0].last().is_some_and(|p| p.last_of_segment));
    assert!(outcome.parts[&1].iter().any(|p| p.segment == 2), "the rung goes on");
}

#[test]
fn distant_key_frames_end_a_session_that_can_only_pass_through() {
    let clip = Clip::new(3, 250, 0);
    let mut session = Session::start(Source::Push, passthrough());
    let failed = std::thread::scope(|scope| {
        let events = session.events.clone();
        scope.spawn(move || {
            let commands = clip.configs.into_iter().map(Command::Config);
            for command in commands.chain(clip.frames.into_iter().map(Command::Frame)) {
                // The session ends in the middle.
                let _ = events.send(Event::Command(command));
            }
        });
        session.failure()
    });
    assert_eq!(failed.code, FailCode::Input);
    assert!(failed.message.contains("Keyframe Interval"), "{}", failed.message);
}

#[test]
fn a_track_that_never_comes_or_ends_early_does_not_stop_the_other() {
    let clip = Clip::new(7, 60, 0);
    let video_only = |f: &Frame| f.track == Track::Video;
    let audio_ends = |f: &Frame| f.track == Track::Video || f.dts_us < 3_000_000;
    let video_ends = |f: &Frame| f.track == Track::Audio || f.dts_us < 3_000_000;
    let run = |fits: &dyn Fn(&Frame) -> bool| {
        let mut session = Session::start(Source::Push, source_and(own("small", 90)));
        clip.push(&mut session, Some(1), fits);
        session.drain()
    };
    let outcome = run(&video_only);
    assert_eq!(outcome.ids(), ["source", "small"]);
    outcome.check();
    assert!(outcome.parts[&1].iter().any(|p| p.segment == 3));
    let outcome = run(&audio_ends);
    outcome.check();
    assert!(outcome.parts[&1].iter().any(|p| p.segment == 3));
    let outcome = run(&video_ends);
    outcome.check();
    assert!(outcome.parts[&2].iter().any(|p| p.segment == 3), "audio goes on in segments");
}

#[test]
fn garbage_in_the_middle_of_a_stream_is_survived() {
    let mut clip = Clip::new(5, 30, 0);
    for frame in clip.frames.iter_mut().filter(|f| !f.key && f.track == Track::Video).step_by(7) {
        let mut data = frame.data.to_vec();
        data.iter_mut().skip(5).for_each(|b| *b = b.wrapping_mul(31) ^ 0x5a);
        frame.data = data.into();
    }
    let mut session = Session::start(Source::Push, Ladder::Rungs(vec![own("small", 90)]));
    clip.push(&mut session, Some(0), |_| true);
    let outcome = session.drain();
    outcome.check();
    assert!(outcome.parts[&0].iter().any(|p| p.segment == 1));
}

/// Writes a media file of this many frames of 320x180 at 25 fps; with `audio`, a tone beside it.
fn write_file(path: &std::path::Path, frames: u32, codec: &str, muxer: &str, audio: &str) {
    session::init_gstreamer().expect("GStreamer");
    let tone = format!(
        "audiotestsrc num-buffers={} samplesperbuffer=441 ! audio/x-raw,rate=44100,channels=1 ! {audio} ! mux.",
        frames * 4
    );
    let chain = format!(
        "videotestsrc num-buffers={frames} ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 \
         ! {codec} ! {muxer} name=mux ! filesink location={} {}",
        path.display(),
        if audio.is_empty() { "" } else { &tone },
    );
    let pipeline = gst::parse::launch(&chain).expect("elements");
    pipeline.set_state(gst::State::Playing).expect("it plays");
    let bus = pipeline.bus().expect("a bus");
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
    let message = message.expect("it ends");
    assert!(matches!(message.view(), gst::MessageView::Eos(_)), "{message:?}");
    pipeline.set_state(gst::State::Null).expect("it stops");
}

fn file(path: &std::path::Path, repeat: bool) -> Source {
    Source::File { path: path.to_owned(), repeat }
}

#[test]
fn a_looped_file_has_no_seam() {
    let dir = tempfile::tempdir().expect("a folder");
    // 1.72 s of VP8 and Vorbis: nothing of it passes, and a round fits no segment.
    let path = dir.path().join("short.webm");
    write_file(&path, 43, "vp8enc deadline=1 cpu-used=8", "webmmux", "vorbisenc");
    let mut session = Session::start(file(&path, true), Ladder::Rungs(vec![own("small", 90)]));
    let outcome = session.until_segment(3).drain();
    assert_eq!(outcome.ids(), ["small", "audio"]);
    outcome.check();
    let video: Vec<_> = outcome.parts[&0].iter().map(|p| parse(&p.data)).collect();
    let steps = video.iter().flat_map(|p| &p.durations);
    // 25 fps to the millisecond of a WebM file; at the seam too.
    assert!(steps.clone().all(|d| (3500..=3700).contains(d)), "{:?}", steps.collect::<Vec<_>>());
}

#[test]
fn a_file_ends_by_itself_when_it_is_not_looped() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("once.mp4");
    write_file(&path, 60, "x264enc speed-preset=ultrafast key-int-max=25", "mp4mux", "");
    let mut session = Session::start(file(&path, false), Ladder::Rungs(vec![own("small", 90)]));
    session.until(|r| matches!(r, Report::Drained));
    let outcome = Outcome::of(std::mem::take(&mut session.seen));
    outcome.check();
    let frames: usize = outcome.parts[&0].iter().map(|p| parse(&p.data).samples.len()).sum();
    assert_eq!(frames, 60);
}

#[test]
fn h264_and_aac_of_a_looped_file_pass_through() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("pass.mkv");
    write_file(
        &path,
        50,
        "x264enc speed-preset=ultrafast key-int-max=50",
        "matroskamux",
        "avenc_aac",
    );
    let outcome = Session::start(file(&path, true), passthrough()).until_segment(3).drain();
    assert_eq!(outcome.ids(), ["source", "audio"]);
    assert!(outcome.ready.renditions.iter().all(|r| r.encoder == "passthrough"));
    outcome.check();
    let starts: Vec<u64> = outcome.parts[&0].iter().map(|p| p.pts_us).collect();
    assert!(starts.contains(&2_000_000) && starts.contains(&4_000_000), "{starts:?}");
}

#[test]
fn a_file_that_is_missing_or_no_media_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "not a film\n".repeat(1000)).expect("written");
    for (path, words) in [
        (path.as_path(), "notes.txt' is not a media file"),
        (&dir.path().join("gone.mp4"), "cannot open"),
        (dir.path(), "is not a file"),
    ] {
        for ladder in [rungs(&["360p"]), passthrough()] {
            let failed = Session::start(file(path, true), ladder).failure();
            assert_eq!(failed.code, FailCode::Input);
            assert!(failed.message.contains(words), "{}", failed.message);
        }
    }
}

#[test]
fn auto_measures_this_machine_and_says_what_it_picked() {
    let ladder = Ladder::Named(NamedLadder::Auto);
    let outcome = Session::start(test_source((30, 1)), ladder).until_segment(0).drain();
    assert_eq!(outcome.ids()[0], "360p", "the test source has no more");
    let note = outcome.ready.notes.iter().find(|n| n.contains("'auto' picked"));
    assert!(note.is_some_and(|n| n.contains("360p")), "{:?}", outcome.ready.notes);
}
