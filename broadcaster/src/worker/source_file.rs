//! A media file as a live source: read by GStreamer, paced by the clock, looped on request.
//!
//! Reading runs ahead of the clock by a bounded number of frames, so that the start of the next
//! round is decoded while the end of the last one is still being played. A round begins exactly
//! where the video of the one before it ended; audio is trimmed or filled with silence to fit.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use gst::prelude::*;

use super::encoder;
use super::ipc::{FailCode, Failed};
use super::ladder::Picture;
use super::pipeline::{AudioFeed, Feed, VideoFeed, other};
use super::session::{Event, Pulse, input, spawn};
use crate::ingest::media::{Config, Frame, Media, Track};

/// What a file turned out to hold.
#[derive(Debug)]
pub struct Opened {
    /// Whether coded frames follow as [`Event::Media`]; otherwise decoded ones go into `feeds`.
    pub pushes: bool,
    /// What to tell the operator.
    pub notes: Vec<String>,
    /// Decoded video.
    pub video: Option<(Picture, VideoFeed)>,
    /// Decoded audio.
    pub audio: Option<AudioFeed>,
    /// Takes where video and audio go, after which the file starts to play.
    pub feeds: SyncSender<Feeds>,
}

/// Where decoded video and audio go.
pub type Feeds = (Option<Feed>, Option<Feed>);

/// Frames read ahead of the clock, per track: enough to open the next round unnoticed.
const AHEAD_FRAMES: usize = 12;

/// How long a file may take to show its tracks; network file systems wake up in less.
const OPEN_MAX: Duration = Duration::from_secs(15);

/// A file that cannot be read in real time is played later instead of in ever larger gaps.
const LATE_MAX: Duration = Duration::from_secs(1);

/// The shortest file that can be looped, in nanoseconds.
const ROUND_NS_MIN: u64 = 100_000_000;

/// Difference of the tracks' lengths that is trimmed or filled at the end of a round, in
/// nanoseconds; beyond it the longer track decides.
const TRIM_NS_MAX: u64 = 500_000_000;

/// Differences of time that come from rounding, in nanoseconds.
const ROUNDING_NS: u64 = 1_000_000;

/// How often threads look whether the session is over.
const LOOK: Duration = Duration::from_millis(100);

/// Opens a file in a thread of its own, which reports [`Event::Opened`] and plays it.
///
/// # Errors
/// When there is no such file.
pub fn open(
    path: PathBuf,
    repeat: bool,
    passthrough: bool,
    pulse: &Arc<Pulse>,
    events: &SyncSender<Event>,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failed> {
    let shown = path.display();
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(input(format!("'{shown}' is not a file"))),
        Err(error) => return Err(input(format!("cannot open '{shown}': {error}"))),
    }
    let (pulse, events, stop) = (Arc::clone(pulse), events.clone(), Arc::clone(stop));
    spawn("file-source", move || {
        let player = Player { path, repeat, pulse, events, stop };
        let ended = match player.play(passthrough) {
            Ok(()) => Event::SourceEnded,
            Err(failed) => Event::Failed(failed),
        };
        // Nobody is listening when the session is already over.
        let _ = player.events.send(ended);
    })
}

struct Player {
    path: PathBuf,
    repeat: bool,
    pulse: Arc<Pulse>,
    events: SyncSender<Event>,
    stop: Arc<AtomicBool>,
}

/// A track being read: where its frames arrive, and its sink.
struct Reading {
    track: Track,
    sink: gst_app::AppSink,
    frames: Receiver<Option<gst::Sample>>,
    /// Ends [`Reading::frames`].
    end: SyncSender<Option<gst::Sample>>,
}

/// Times shared by the threads of one file, in nanoseconds.
#[derive(Default)]
struct Times {
    /// Running time of the first picture, which is session time 0.
    origin: i64,
    /// Session time at which the current round began.
    round: AtomicU64,
    /// Where each track of the current round ended so far, from the round's beginning.
    ends: [AtomicU64; 2],
    /// Where each track's newest frame began, to tell a frame's length where the file does not.
    newest: [AtomicU64; 2],
}

impl Player {
    fn play(&self, passthrough: bool) -> Result<(), Failed> {
        let mut notes = Vec::new();
        let coded = passthrough && self.has_h264()?;
        if passthrough && !coded {
            notes.push("the file's video is not H.264 and cannot be passed through".to_owned());
        }
        let pipeline = gst::Pipeline::new();
        let result = self
            .open_tracks(&pipeline, coded)
            .and_then(|(readings, times)| self.run(&pipeline, readings, times, coded, notes));
        // Stopping cannot fail in a way that leaves anything to do.
        let _ = pipeline.set_state(gst::State::Null);
        result
    }

    fn run(
        &self,
        pipeline: &gst::Pipeline,
        readings: Vec<Reading>,
        times: Arc<Times>,
        coded: bool,
        notes: Vec<String>,
    ) -> Result<(), Failed> {
        let caps_of = |track| {
            let reading = readings.iter().find(|r| r.track == track)?;
            reading.sink.static_pad("sink")?.current_caps()
        };
        let video = caps_of(Track::Video).filter(|_| !coded);
        let video = video.map(|caps| (picture(&caps), VideoFeed::Raw(caps)));
        let audio = caps_of(Track::Audio).filter(|_| !coded).map(AudioFeed::Raw);
        let (sender, feeds) = sync_channel(1);
        let opened = Opened { pushes: coded, notes, video, audio, feeds: sender };
        let gone = |_| other("the session is over".to_owned());
        self.events.send(Event::Opened(opened)).map_err(|_| gone(()))?;
        let (video_feed, audio_feed) =
            if coded { (None, None) } else { feeds.recv().map_err(|_| gone(()))? };
        let (ends, tracks): (Vec<_>, Vec<_>) =
            readings.into_iter().map(|r| (r.end, (r.track, r.frames))).unzip();
        pipeline.set_state(gst::State::Playing).map_err(|_| self.not_media("it does not play"))?;
        let clock = Mutex::new(None);
        std::thread::scope(|scope| {
            for (track, frames) in tracks {
                let feed = match track {
                    Track::Video => video_feed.clone(),
                    Track::Audio => audio_feed.clone(),
                };
                let pacer = Pacer { player: self, track, feed, clock: &clock, coded };
                scope.spawn(move || pacer.run(&frames));
            }
            let result = self.rounds(pipeline, &times, ends.len());
            for end in ends {
                // Refused when its track's thread has already stopped.
                while let Err(std::sync::mpsc::TrySendError::Full(_)) = end.try_send(None) {
                    if self.stopped() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            result
        })
    }

    /// Plays until the end, again and again when asked to.
    fn rounds(&self, pipeline: &gst::Pipeline, times: &Times, tracks: usize) -> Result<(), Failed> {
        loop {
            let ended =
                |message: &gst::MessageView<'_>| matches!(message, gst::MessageView::Eos(_));
            self.wait(pipeline, None, ended)?;
            if !self.repeat || self.stopped() {
                return Ok(());
            }
            let [video, audio] =
                [&times.ends[0], &times.ends[1]].map(|e| e.swap(0, Ordering::Relaxed));
            let length = match (video, audio) {
                (0, only) | (only, 0) => only,
                _ if tracks > 1 && video.abs_diff(audio) < TRIM_NS_MAX => video,
                _ => video.max(audio),
            };
            if length < ROUND_NS_MIN {
                return Err(self.not_media("it is too short to be looped"));
            }
            times.round.fetch_add(length, Ordering::Relaxed);
            pipeline
                .seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO)
                .map_err(|_| self.not_media("it cannot be played again from its start"))?;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for a message of the pipeline, or until the session is over.
    fn wait(
        &self,
        pipeline: &gst::Pipeline,
        deadline: Option<Instant>,
        fits: impl Fn(&gst::MessageView<'_>) -> bool,
    ) -> Result<(), Failed> {
        let Some(bus) = pipeline.bus() else { return Err(other("a pipeline has a bus".into())) };
        let mut missing = None;
        while !self.stopped() {
            if deadline.is_some_and(|d| Instant::now() > d) {
                return Err(self.not_media("it shows no tracks within 15 s"));
            }
            let Some(message) = bus.timed_pop(gst::ClockTime::try_from(LOOK).ok()) else {
                continue;
            };
            match message.view() {
                gst::MessageView::Element(element) => {
                    if let Some(s) = element.structure().filter(|s| s.name() == "missing-plugin") {
                        missing = s.get::<String>("name").ok().or(missing);
                    }
                }
                gst::MessageView::Error(error) => {
                    tracing::warn!(error = %error.error(), debug = ?error.debug(), "file source");
                    return Err(self.unreadable(&error.error(), missing));
                }
                view if fits(&view) => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    fn unreadable(&self, error: &gst::glib::Error, missing: Option<String>) -> Failed {
        if let Some(missing) = missing {
            return Failed {
                code: FailCode::Machine,
                message: format!(
                    "'{}' needs {missing}: install gstreamer1.0-libav, gstreamer1.0-plugins-good and gstreamer1.0-plugins-bad",
                    self.path.display()
                ),
            };
        }
        self.not_media(error.message())
    }

    fn not_media(&self, why: &str) -> Failed {
        let path = self.path.display();
        input(format!(
            "'{path}' is not a media file that can be played: {}",
            why.trim_end_matches('.')
        ))
    }

    /// Whether the file has H.264 video, found without decoding.
    fn has_h264(&self) -> Result<bool, Failed> {
        let pipeline = gst::Pipeline::new();
        let parse = source(&pipeline, &self.path, "parsebin")?;
        let found = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&found);
        let weak = pipeline.downgrade();
        parse.connect_pad_added(move |_, pad| {
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            seen.fetch_or(name_of(&caps) == "video/x-h264", Ordering::Relaxed);
            // Subtitles may be silent for minutes: only video and audio are waited for.
            let waits = name_of(&caps).starts_with("video") || name_of(&caps).starts_with("audio");
            let sink = gst::ElementFactory::make("fakesink").property("async", waits).build();
            if let (Some(pipeline), Ok(queue), Ok(sink)) = (weak.upgrade(), queue(), sink) {
                attach(&pipeline, pad, &[queue, sink]);
            }
        });
        let result = self.preroll(&pipeline);
        // Stopping cannot fail in a way that leaves anything to do.
        let _ = pipeline.set_state(gst::State::Null);
        result.map(|()| found.load(Ordering::Relaxed))
    }

    /// Builds the pipeline and waits until its tracks are known.
    fn open_tracks(
        &self,
        pipeline: &gst::Pipeline,
        coded: bool,
    ) -> Result<(Vec<Reading>, Arc<Times>), Failed> {
        let mut times = Times::default();
        let demux = source(pipeline, &self.path, if coded { "parsebin" } else { "decodebin" })?;
        let readings = Arc::new(Mutex::new(Vec::<Reading>::new()));
        let failed = Arc::new(Mutex::new(None));
        let (list, failure, weak) =
            (Arc::clone(&readings), Arc::clone(&failed), pipeline.downgrade());
        demux.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
            let track = match name_of(&caps).split('/').next() {
                Some("video" | "image") => Track::Video,
                Some("audio") => Track::Audio,
                _ => return,
            };
            let mut readings = list.lock().unwrap_or_else(PoisonError::into_inner);
            // The first of each kind plays; others (languages, covers) are left out.
            if readings.iter().any(|r| r.track == track) {
                return;
            }
            match chain(track, coded, &caps) {
                Ok((mut elements, reading)) => {
                    elements.push(reading.sink.clone().upcast());
                    attach(&pipeline, pad, &elements);
                    readings.push(reading);
                }
                Err(error) => {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        });
        self.preroll(pipeline)?;
        if let Some(failed) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(failed);
        }
        let readings =
            std::mem::take(&mut *readings.lock().unwrap_or_else(PoisonError::into_inner));
        if readings.is_empty() {
            return Err(self.not_media("it has neither video nor audio"));
        }
        let leads = if readings.iter().any(|r| r.track == Track::Video) {
            Track::Video
        } else {
            Track::Audio
        };
        times.begin_with(
            readings.iter().find(|r| r.track == leads).and_then(|r| r.sink.try_pull_preroll(None)),
        );
        let times = Arc::new(times);
        for reading in &readings {
            let (track, times, end) = (reading.track, Arc::clone(&times), reading.end.clone());
            reading.sink.set_callbacks(
                gst_app::AppSinkCallbacks::builder()
                    .new_sample(move |sink| {
                        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                        let Some(sample) = times.place(sample, track) else {
                            return Ok(gst::FlowSuccess::Ok);
                        };
                        // Waits for the clock: this is what paces the reading.
                        end.send(Some(sample)).map_err(|_| gst::FlowError::Eos)?;
                        Ok(gst::FlowSuccess::Ok)
                    })
                    .build(),
            );
        }
        Ok((readings, times))
    }

    fn preroll(&self, pipeline: &gst::Pipeline) -> Result<(), Failed> {
        // A failure says more on the bus.
        let _ = pipeline.set_state(gst::State::Paused);
        let ready = |message: &gst::MessageView<'_>| {
            matches!(message, gst::MessageView::AsyncDone(_) | gst::MessageView::Eos(_))
        };
        self.wait(pipeline, Some(Instant::now() + OPEN_MAX), ready)
    }
}

impl Times {
    /// Takes the first sample of the track that leads, whose time becomes session time 0.
    fn begin_with(&mut self, sample: Option<gst::Sample>) {
        let time = sample.and_then(|sample| running(&sample, sample.buffer()?.pts()?));
        self.origin = time.unwrap_or(0);
    }

    /// Moves a sample's time to session time; `None` for audio from before the first picture.
    fn place(&self, sample: gst::Sample, track: Track) -> Option<gst::Sample> {
        let mut buffer = sample.buffer_owned()?;
        let pts = running(&sample, buffer.pts()?)?;
        let dts = buffer.dts().and_then(|dts| running(&sample, dts)).unwrap_or(pts);
        let since = u64::try_from(pts - self.origin).ok()?;
        let i = usize::from(track == Track::Audio);
        let step = since.saturating_sub(self.newest[i].swap(since, Ordering::Relaxed));
        let duration = buffer.duration().map_or(step, |d| d.nseconds());
        self.ends[i].fetch_max(since + duration, Ordering::Relaxed);
        let at = self.round.load(Ordering::Relaxed) + since;
        let early = u64::try_from(pts - dts).unwrap_or(0);
        let writable = buffer.make_mut();
        writable.set_pts(gst::ClockTime::from_nseconds(at));
        // Decoding times before 0 do not exist here; only the distance to the presentation counts.
        writable.set_dts(gst::ClockTime::from_nseconds(at.saturating_sub(early)));
        writable.set_offset(early);
        Some(gst::Sample::builder().buffer(&buffer).caps(&sample.caps_owned()?).build())
    }
}

/// Running time of a sample's timestamp, in nanoseconds; decoding times may lie before 0.
fn running(sample: &gst::Sample, time: gst::ClockTime) -> Option<i64> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    match segment.to_running_time_full(time)? {
        gst::Signed::Positive(time) => i64::try_from(time.nseconds()).ok(),
        gst::Signed::Negative(time) => i64::try_from(time.nseconds()).ok().map(|t| -t),
    }
}

/// Hands out one track's frames when they are due.
struct Pacer<'a> {
    player: &'a Player,
    track: Track,
    feed: Option<Feed>,
    /// When session time 0 was; set by whichever track comes first.
    clock: &'a Mutex<Option<Instant>>,
    coded: bool,
}

impl Pacer<'_> {
    fn run(&self, frames: &Receiver<Option<gst::Sample>>) {
        let mut configured = false;
        let mut audio_end = 0;
        while !self.player.stopped() {
            let sample = match frames.recv_timeout(LOOK) {
                Ok(Some(sample)) => sample,
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => continue,
            };
            let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
                continue;
            };
            let Some(pts) = buffer.pts() else { continue };
            self.wait_until(Duration::from_nanos(pts.nseconds()));
            self.player.pulse.source_us.fetch_max(pts.useconds(), Ordering::Relaxed);
            if self.coded {
                if !configured && let Some(config) = config(self.track, &caps) {
                    configured = true;
                    self.send(Media::Config(config));
                }
                self.send_frame(&buffer);
            } else if let Some(feed) = &self.feed {
                let fitted = match self.track {
                    Track::Video => Some(buffer),
                    Track::Audio => fit_audio(&mut audio_end, buffer, &caps),
                };
                if fitted.is_some_and(|buffer| !feed.push(buffer)) {
                    self.player.pulse.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn wait_until(&self, at: Duration) {
        let due = {
            let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            let began = match *clock {
                Some(began) => began,
                None => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let wall_clock_us = now.as_micros() as i64 - at.as_micros() as i64;
                    let _ = self.player.events.send(Event::Started { wall_clock_us });
                    let began = Instant::now().checked_sub(at).unwrap_or_else(Instant::now);
                    *clock.insert(began)
                }
            };
            let late = began.elapsed().saturating_sub(at);
            if late > LATE_MAX {
                tracing::warn!("the file is read too slowly: played {late:?} later");
                *clock = Some(began + late);
            }
            began + at
        };
        while let Some(early) = due.checked_duration_since(Instant::now()) {
            if self.player.stopped() || early.is_zero() {
                return;
            }
            std::thread::sleep(early.min(LOOK));
        }
    }

    fn send(&self, media: Media) {
        // Refused when the session is over, which the stop flag will say.
        let _ = self.player.events.send(Event::Media(media));
    }

    fn send_frame(&self, buffer: &gst::Buffer) {
        let (Some(pts), Ok(map)) = (buffer.pts(), buffer.map_readable()) else { return };
        let pts_us = pts.useconds() as i64;
        self.send(Media::Frame(Frame {
            track: self.track,
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            pts_us,
            dts_us: pts_us - (buffer.offset() / 1000) as i64,
            data: Bytes::copy_from_slice(&map),
        }));
    }
}

/// The elements between a demuxer's pad and a sink, and where the frames arrive.
fn chain(
    track: Track,
    coded: bool,
    caps: &gst::Caps,
) -> Result<(Vec<gst::Element>, Reading), Failed> {
    const BASE: &str = "gstreamer1.0-plugins-base";
    let make = |name: &'static str, package| {
        gst::ElementFactory::make(name).build().map_err(|_| encoder::missing(name, package))
    };
    let (elements, caps) = match (track, coded) {
        (Track::Video, true) => (
            vec![queue()?, make("h264parse", "gstreamer1.0-plugins-bad")?],
            "video/x-h264,stream-format=avc,alignment=au",
        ),
        (Track::Audio, true) if is_aac(caps) => (
            vec![queue()?, make("aacparse", "gstreamer1.0-plugins-good")?],
            "audio/mpeg,mpegversion=4,stream-format=raw",
        ),
        (Track::Audio, true) => (
            vec![
                queue()?,
                make("decodebin", BASE)?,
                make("audioconvert", BASE)?,
                make("audioresample", BASE)?,
                encoder::make_audio(128)?.0,
            ],
            "audio/mpeg,mpegversion=4,stream-format=raw",
        ),
        (Track::Video, false) => (vec![make("videoconvert", BASE)?], "video/x-raw,format=I420"),
        (Track::Audio, false) => {
            (vec![make("audioconvert", BASE)?], "audio/x-raw,format=S16LE,layout=interleaved")
        }
    };
    let caps = caps.parse::<gst::Caps>().map_err(|e| other(e.to_string()))?;
    let sink = gst_app::AppSink::builder()
        .caps(&caps)
        .sync(false)
        .max_buffers(2)
        .enable_last_sample(false)
        .build();
    let (end, frames) = sync_channel(AHEAD_FRAMES);
    Ok((elements, Reading { track, sink, frames, end }))
}

/// Coded frames of one track that wait for the other's: a file interleaves its tracks by less.
const INTERLEAVE_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// A queue behind `parsebin`, which reads all tracks in one thread (`decodebin` has its own).
fn queue() -> Result<gst::Element, Failed> {
    gst::ElementFactory::make("queue")
        .property("max-size-buffers", 0u32)
        .property("max-size-time", 0u64)
        .property("max-size-bytes", INTERLEAVE_BYTES_MAX)
        .build()
        .map_err(|_| encoder::missing("queue", "libgstreamer1.0-0"))
}

fn is_aac(caps: &gst::Caps) -> bool {
    caps.structure(0).is_some_and(|s| {
        s.name() == "audio/mpeg" && matches!(s.get::<i32>("mpegversion"), Ok(2 | 4))
    })
}

fn name_of(caps: &gst::Caps) -> String {
    caps.structure(0).map_or_else(String::new, |s| s.name().to_string())
}

fn source(pipeline: &gst::Pipeline, path: &Path, demux: &str) -> Result<gst::Element, Failed> {
    let demux = gst::ElementFactory::make(demux)
        .build()
        .map_err(|_| encoder::missing("decodebin", "gstreamer1.0-plugins-base"))?;
    let file = gst::ElementFactory::make("filesrc")
        .property("location", path)
        .build()
        .map_err(|_| encoder::missing("filesrc", "libgstreamer1.0-0"))?;
    pipeline.add_many([&file, &demux]).map_err(|e| other(e.to_string()))?;
    file.link(&demux).map_err(|e| other(e.to_string()))?;
    Ok(demux)
}

/// Links a new pad to a chain of new elements. What does not fit stays unlinked and ends the
/// pipeline with an error of its own.
fn attach(pipeline: &gst::Pipeline, pad: &gst::Pad, elements: &[gst::Element]) {
    let linked = (|| -> Result<(), gst::glib::BoolError> {
        pipeline.add_many(elements)?;
        for pair in elements.windows(2) {
            if pair[0].static_pad("src").is_some() {
                pair[0].link(&pair[1])?;
            } else {
                let next = pair[1].clone();
                pair[0].connect_pad_added(move |_, pad| {
                    if let Some(sink) = next.static_pad("sink").filter(|s| !s.is_linked()) {
                        // An unlinked decoder ends the pipeline with an error of its own.
                        let _ = pad.link(&sink);
                    }
                });
            }
        }
        for element in elements {
            element.sync_state_with_parent()?;
        }
        let sink = elements.first().and_then(|e| e.static_pad("sink"));
        if let Some(sink) = sink {
            pad.link(&sink).map_err(|e| gst::glib::bool_error!("{e}"))?;
        }
        Ok(())
    })();
    if let Err(error) = linked {
        tracing::warn!("cannot read a track: {error}");
    }
}

fn picture(caps: &gst::Caps) -> Picture {
    let structure = caps.structure(0);
    let side = |name| {
        let value = structure.and_then(|s| s.get::<i32>(name).ok());
        value.and_then(|v| u32::try_from(v).ok()).unwrap_or(0)
    };
    let fraction = |name| {
        let value = structure.and_then(|s| s.get::<gst::Fraction>(name).ok())?;
        let (num, den) = (u32::try_from(value.numer()).ok()?, u32::try_from(value.denom()).ok()?);
        (num > 0 && den > 0).then_some((num, den))
    };
    Picture {
        width: side("width"),
        height: side("height"),
        pixel_aspect: fraction("pixel-aspect-ratio").unwrap_or((1, 1)),
        fps: fraction("framerate"),
        passable: false,
    }
}

fn config(track: Track, caps: &gst::Caps) -> Option<Config> {
    let data = caps.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
    let data = Bytes::copy_from_slice(&data.map_readable().ok()?);
    Some(match track {
        Track::Video => Config::H264 { avcc: data },
        Track::Audio => Config::Aac { asc: data },
    })
}

/// Fits raw audio to the end of what came before, which ended at `end` (nanoseconds): trims an
/// overlap, fills a gap with silence. `None` when nothing is left of it.
fn fit_audio(end: &mut u64, buffer: gst::Buffer, caps: &gst::Caps) -> Option<gst::Buffer> {
    let structure = caps.structure(0)?;
    let rate = u64::try_from(structure.get::<i32>("rate").ok()?).ok().filter(|r| *r > 0)?;
    let frame_bytes = 2 * usize::try_from(structure.get::<i32>("channels").ok()?).ok()?;
    let start = buffer.pts()?.nseconds();
    let samples_in = |ns: u64| ((ns * rate + 500_000_000) / 1_000_000_000) as usize;
    let (gap, overlap) = (start.saturating_sub(*end), end.saturating_sub(start));
    // Below a millisecond it is rounding; gaps longer than a loop makes are the file's own.
    let fill =
        if *end > 0 && (ROUNDING_NS..=TRIM_NS_MAX).contains(&gap) { samples_in(gap) } else { 0 };
    let skip = if overlap >= ROUNDING_NS { samples_in(overlap) } else { 0 };
    let map = buffer.map_readable().ok()?;
    let kept = map.get(skip * frame_bytes..).filter(|k| !k.is_empty())?;
    let mut data = vec![0; fill * frame_bytes];
    data.extend_from_slice(kept);
    let at = if fill + skip > 0 { *end } else { start };
    let samples = (data.len() / frame_bytes.max(1)) as u64;
    *end = at + samples * 1_000_000_000 / rate;
    let mut fitted = gst::Buffer::from_mut_slice(data);
    let writable = fitted.get_mut()?;
    writable.set_pts(gst::ClockTime::from_nseconds(at));
    writable.set_duration(gst::ClockTime::from_nseconds(*end - at));
    Some(fitted)
}
