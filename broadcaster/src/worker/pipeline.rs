//! The GStreamer graph of one source: decodes once, scales in a cascade and hands the pictures to
//! the [`Outlet`] of each rung, behind which its encoder has a graph of its own ([`super::rung`]).
//! Audio is encoded here.
//!
//! ```text
//! appsrc [! avdec_h264 ! videoconvert] ! (admission) tee ─► outlet 1080p
//!                                                     ├─► videoscale ! tee ─► outlet 720p
//!                                                     │                  └─► videoscale ! tee ─► outlet 360p
//!                                                     └─► videoscale ! tee ─► outlet 480p
//! appsrc [! avdec_aac] ! audioconvert ! audioresample ! avenc_aac ! appsink
//! ```
//!
//! The graph has no clock of its own: whoever feeds it paces, and frames carry session time from
//! end to end. A frame is admitted when every open outlet has room for it, else it is left out
//! before it is scaled, so that all rungs miss the same frames. Sizes that no open outlet needs are
//! not scaled.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::rendition::AudioTier;
use gst::prelude::*;

use super::aac::AudioInfo;
use super::backlog::Backlog;
use super::cut::{Thinner, Timeline};
use super::encoder;
use super::ipc::{FailCode, Failed};
use super::ladder::{Picture, PlannedRung};
use super::rung::{Generation, Outlet};
use super::session::Event;

/// What is fed as video.
#[derive(Clone, Debug)]
pub enum VideoFeed {
    /// Raw pictures with these caps.
    Raw(gst::Caps),
    /// H.264 access units with this `AVCDecoderConfigurationRecord`.
    H264 {
        /// The record.
        avcc: Bytes,
        /// What it shows.
        picture: Picture,
    },
}

/// What is fed as audio.
#[derive(Clone, Debug)]
pub enum AudioFeed {
    /// Raw samples with these caps.
    Raw(gst::Caps),
    /// Raw AAC frames with this `AudioSpecificConfig`.
    Aac {
        /// The configuration.
        asc: Bytes,
        /// What it says.
        info: AudioInfo,
    },
}

/// What to build.
#[derive(Debug)]
pub struct Graph<'a> {
    /// The rungs to scale for, largest first, each with the number of its output.
    pub rungs: Vec<(usize, &'a PlannedRung)>,
    /// Whether each rendition's number is drawn into its pictures.
    pub marks: bool,
    /// Their source. Without rungs, only stills are taken from it.
    pub video: Option<VideoFeed>,
    /// The audio tiers to encode, each with the number its frames are sent under.
    pub tiers: Vec<(usize, &'a AudioTier)>,
    /// Their source, when there are any.
    pub audio: Option<AudioFeed>,
}

/// One coded frame.
#[derive(Debug)]
pub struct Coded {
    /// The number its output was given.
    pub output: usize,
    /// Which encoder of that output it comes from; 0 for audio.
    pub generation: Generation,
    /// Session time in nanoseconds.
    pub pts_ns: u64,
    /// Whether decoding can start here.
    pub key: bool,
    /// The decoder configuration, with the first frame of an output.
    pub config: Option<Bytes>,
    /// The access unit.
    pub data: Bytes,
}

/// A running graph. Dropping it stops it; the receiver of its events must be dropped or drained
/// first, since its threads may be waiting to send.
#[derive(Debug)]
pub struct Running {
    pipeline: gst::Pipeline,
    /// Where video goes in.
    pub video: Option<Feed>,
    /// Where audio goes in.
    pub audio: Option<Feed>,
    /// Where each rung's pictures come out, by its output number.
    pub outlets: Vec<(usize, Arc<Outlet>)>,
    /// Per output number of audio, the name of its encoder. Each reports its end after
    /// [`Running::finish`].
    pub encoders: Vec<(usize, &'static str)>,
    /// What became of the frames.
    pub admission: Arc<Admission>,
}

/// Frames that reached the place where they are admitted or left out.
#[derive(Debug, Default)]
pub struct Admission {
    /// Handed to the encoders.
    pub admitted: AtomicU64,
    /// Left out since an encoder was behind.
    pub left_out: AtomicU64,
}

/// Where frames go into the graph.
#[derive(Clone, Debug)]
pub struct Feed {
    source: gst_app::AppSrc,
    frames_max: u64,
}

/// How long decoding and scaling may be behind before raw frames are left out, in milliseconds:
/// rides out the pauses of a busy machine. What encoders may add is in [`super::rung`].
const BEHIND_MS_MAX: u64 = 300;

/// The same for coded frames, where leaving one out costs all up to the next key frame; longer
/// than what is held while a second track is waited for.
const CODED_BEHIND_MS_MAX: u64 = 3000;

/// Coded frames that may wait for long, in milliseconds ...
const BACKLOG_MS_TARGET: u64 = 300;

/// ... and for how long more may, in milliseconds: a network that stalled for
/// [`CODED_BEHIND_MS_MAX`] delivers all of it at once, which an encoder at twice real time has
/// caught up with by then.
const BURST_MS_MAX: u64 = 4000;

/// How often a frame that waits for room looks again: a tenth of a frame's time.
const ROOM_WAIT: Duration = Duration::from_millis(3);

/// Longest wait for room: an encoder that hangs is cut off before.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);

/// Audio buffers waiting for the encoder: a second of AAC frames. Audio is cheap and is never
/// what is behind.
const AUDIO_FRAMES_MAX: u64 = 64;

/// What a probe returns for a buffer that goes no further. `Drop` makes the bindings and GStreamer
/// 1.22 release the buffer twice.
const LEFT_OUT: gst::PadProbeReturn = gst::PadProbeReturn::Handled;

/// Session time between two stills, in nanoseconds (interfaces.md `thumb.jpg`).
const THUMB_EVERY_NS: u64 = 10_000_000_000;

/// JPEG quality of a still: a 360p picture is about 20 kB.
const THUMB_QUALITY: i32 = 75;

/// Width of a still that is scaled for its own sake.
const STILL_WIDTH_MAX: i32 = 640;

/// Whether this machine can make stills. A stream does not need them.
pub fn can_make_stills() -> bool {
    gst::ElementFactory::find("jpegenc").is_some()
}

impl Feed {
    /// Hands a frame to the graph; `false` when the graph is too far behind to take it.
    pub fn push(&self, buffer: gst::Buffer) -> bool {
        self.source.current_level_buffers() < self.frames_max
            && self.source.push_buffer(buffer).is_ok()
    }

    /// Frames that wait to be decoded or scaled.
    pub fn waiting(&self) -> u64 {
        self.source.current_level_buffers()
    }

    /// Whether the next [`Feed::push`] would be refused.
    pub fn is_full(&self) -> bool {
        self.source.current_level_buffers() >= self.frames_max
    }
}

impl Running {
    /// Builds and starts the graph.
    ///
    /// # Errors
    /// [`FailCode::Machine`] naming a missing element's package, or [`FailCode::Other`].
    pub fn start(
        graph: &Graph<'_>,
        timeline: &Arc<Mutex<Timeline>>,
        events: &SyncSender<Event>,
    ) -> Result<Self, Failed> {
        let mut building = Building {
            pipeline: gst::Pipeline::new(),
            timeline: Arc::clone(timeline),
            events: events.clone(),
            outlets: Vec::new(),
            encoders: Vec::new(),
            admission: Arc::default(),
        };
        let video = match &graph.video {
            Some(feed) => Some(building.video(graph, feed)?),
            None => None,
        };
        let audio = match &graph.audio {
            Some(feed) if !graph.tiers.is_empty() => Some(building.audio(graph, feed)?),
            _ => None,
        };
        let Building { pipeline, outlets, encoders, admission, .. } = building;
        let running = Self { pipeline, video, audio, outlets, encoders, admission };
        running.pipeline.set_state(gst::State::Playing).map_err(|_| {
            running.failure().unwrap_or_else(|| other("the encoders do not start".to_owned()))
        })?;
        Ok(running)
    }

    /// Says that nothing more is fed; the outputs report their end when they are done.
    pub fn finish(&self) {
        for feed in self.video.iter().chain(&self.audio) {
            // Refused only when the graph has already failed, which its bus says.
            let _ = feed.source.end_of_stream();
        }
    }

    /// What went wrong in the graph, if anything has.
    pub fn failure(&self) -> Option<Failed> {
        failure_of(&self.pipeline)
    }
}

/// What went wrong in a pipeline, if anything has.
pub(super) fn failure_of(pipeline: &gst::Pipeline) -> Option<Failed> {
    let bus = pipeline.bus()?;
    while let Some(message) =
        bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning])
    {
        let from = message.src().map_or_else(String::new, |s| s.name().to_string());
        match message.view() {
            gst::MessageView::Error(error) => {
                tracing::error!(element = from, error = %error.error(), debug = ?error.debug());
                return Some(other(format!("{from}: {}", error.error())));
            }
            gst::MessageView::Warning(warning) => {
                tracing::warn!(element = from, warning = %warning.error());
            }
            _ => {}
        }
    }
    None
}

impl Drop for Running {
    fn drop(&mut self) {
        // Stopping cannot fail in a way that leaves anything to do.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

struct Building {
    pipeline: gst::Pipeline,
    timeline: Arc<Mutex<Timeline>>,
    events: SyncSender<Event>,
    outlets: Vec<(usize, Arc<Outlet>)>,
    encoders: Vec<(usize, &'static str)>,
    admission: Arc<Admission>,
}

/// Pictures of one size and rate, and the tee that hands them out.
#[derive(Clone)]
struct Level {
    width: u32,
    height: u32,
    thin_to: Option<(u32, u32)>,
    tee: gst::Element,
    /// For this size and those it is scaled from, how many open outlets need it.
    users: Vec<Arc<AtomicUsize>>,
}

impl Building {
    fn video(&mut self, graph: &Graph<'_>, feed: &VideoFeed) -> Result<Feed, Failed> {
        let (caps, compressed) = match feed {
            VideoFeed::Raw(caps) => (caps.clone(), false),
            VideoFeed::H264 { avcc, picture } => (h264_caps(avcc, *picture), true),
        };
        let source = self.source("video-in", &caps)?;
        let fps = (caps.structure(0)).and_then(|s| s.get::<gst::Fraction>("framerate").ok());
        let fps = fps.map_or(30, |f| f.numer() / f.denom().max(1)).max(1) as u64;
        let behind_ms_max = if compressed { CODED_BEHIND_MS_MAX } else { BEHIND_MS_MAX };
        let frames_max = (fps * behind_ms_max / 1000).max(2);
        let mut head: gst::Element = source.clone().upcast();
        if compressed {
            let decoder = self.add("avdec_h264", "gstreamer1.0-libav")?;
            // Frame threads would each hold a frame back; slices cost no latency.
            decoder.set_property_from_str("thread-type", "slice");
            let convert = self.add("videoconvert", "gstreamer1.0-plugins-base")?;
            let i420 = gst::Caps::builder("video/x-raw").field("format", "I420").build();
            let filter = self.filter(&i420)?;
            link(&[&head, &decoder, &convert, &filter])?;
            head = filter;
        }
        let tee = self.add("tee", "libgstreamer1.0-0")?;
        link(&[&head, &tee])?;
        let still_due_ns = Arc::new(AtomicU64::new(0));
        let whole =
            Level { width: u32::MAX, height: u32::MAX, thin_to: None, tee, users: Vec::new() };
        let mut levels = vec![whole];
        for (output, rung) in &graph.rungs {
            let level = self.level(&mut levels, rung, &still_due_ns)?;
            self.outlet(*output, &level, graph.marks.then_some(*output as u8))?;
        }
        self.admit(&head, &source, compressed.then_some(fps))?;
        let smallest = levels.last().map(|l| l.tee.clone());
        if let (Some(tee), true) = (smallest, can_make_stills()) {
            self.thumb(&tee, graph.rungs.is_empty(), still_due_ns)?;
        }
        Ok(Feed { source, frames_max })
    }

    /// Takes a still from the smallest pictures every now and then.
    fn thumb(
        &self,
        tee: &gst::Element,
        scale: bool,
        still_due_ns: Arc<AtomicU64>,
    ) -> Result<(), Failed> {
        let queue = self.queue(1)?;
        // A still is never worth waiting for.
        queue.set_property_from_str("leaky", "downstream");
        let jpeg = self.add("jpegenc", "gstreamer1.0-plugins-good")?;
        jpeg.set_property("quality", THUMB_QUALITY);
        let (events, again) = (self.events.clone(), Arc::clone(&still_due_ns));
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let map = sample.buffer().and_then(|b| b.map_readable().ok());
                if let Some(map) = map {
                    // Nor is it worth waiting for a busy session: the next picture will do.
                    let thumb = Event::Thumb(Bytes::copy_from_slice(&map));
                    if events.try_send(thumb).is_err() {
                        again.store(0, Ordering::Relaxed);
                    }
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .async_(false)
            .enable_last_sample(false)
            .callbacks(callbacks)
            .build();
        self.pipeline.add(&sink).map_err(bug)?;
        let pad = queue.static_pad("sink").ok_or_else(|| other("no sink pad".to_owned()))?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(pts) = info.buffer().and_then(|b| b.pts()) else {
                return LEFT_OUT;
            };
            if pts.nseconds() < still_due_ns.load(Ordering::Relaxed) {
                return LEFT_OUT;
            }
            still_due_ns.store(pts.nseconds() + THUMB_EVERY_NS, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        if !scale {
            return link(&[tee, &queue, &jpeg, sink.upcast_ref()]);
        }
        let scale = self.add("videoscale", "gstreamer1.0-plugins-base")?;
        let caps = gst::Caps::builder("video/x-raw")
            .field("width", gst::IntRange::new(16, STILL_WIDTH_MAX))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build();
        let filter = self.filter(&caps)?;
        link(&[tee, &queue, &scale, &filter, &jpeg, sink.upcast_ref()])
    }

    /// The tee with pictures for this rung, scaled from the smallest level that has them all.
    fn level(
        &mut self,
        levels: &mut Vec<Level>,
        rung: &PlannedRung,
        still_due_ns: &Arc<AtomicU64>,
    ) -> Result<Level, Failed> {
        let covers = |l: &&Level| {
            l.width >= rung.width
                && l.height >= rung.height
                && (l.thin_to.is_none() || l.thin_to == rung.thin_to)
        };
        // Halving is ten times as cheap as any other ratio.
        let half =
            |l: &&Level| covers(l) && (l.width, l.height) == (2 * rung.width, 2 * rung.height);
        let parent = levels.iter().rev().find(half).or_else(|| levels.iter().rev().find(covers));
        let Some(parent) = parent else {
            return Err(other(format!("no pictures for {}", rung.rung.id)));
        };
        let same =
            |l: &Level| (l.width, l.height, l.thin_to) == (rung.width, rung.height, rung.thin_to);
        if same(parent) {
            return Ok(parent.clone());
        }
        let (parent_tee, thin) = (parent.tee.clone(), parent.thin_to != rung.thin_to);
        let mut users = parent.users.clone();
        let needed = Arc::new(AtomicUsize::new(0));
        users.push(Arc::clone(&needed));
        let scale = self.add("videoscale", "gstreamer1.0-plugins-base")?;
        scale.set_property_from_str("method", "bilinear");
        scale.set_property("add-borders", false);
        let caps = gst::Caps::builder("video/x-raw")
            .field("width", rung.width as i32)
            .field("height", rung.height as i32)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build();
        let filter = self.filter(&caps)?;
        let tee = self.add("tee", "libgstreamer1.0-0")?;
        link(&[&parent_tee, &scale, &filter, &tee])?;
        keep_colours(&scale, &filter, caps)?;
        only_when_needed(&scale, needed, Arc::clone(still_due_ns))?;
        if let (true, Some(fps)) = (thin, rung.thin_to) {
            self.thin(&scale, fps)?;
        }
        let (width, height, thin_to) = (rung.width, rung.height, rung.thin_to);
        let level = Level { width, height, thin_to, tee, users };
        levels.push(level.clone());
        Ok(level)
    }

    /// Where pictures of this level go out to one rung's encoder.
    fn outlet(&mut self, output: usize, level: &Level, mark: Option<u8>) -> Result<(), Failed> {
        let outlet = Outlet::new(Arc::clone(&self.timeline), level.users.clone(), mark);
        let outlet = Arc::new(outlet);
        let (out, ended) = (Arc::clone(&outlet), Arc::clone(&outlet));
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                out.handle(&sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| ended.finish())
            .build();
        let sink = gst_app::AppSink::builder()
            .name(format!("outlet-{output}"))
            .sync(false)
            .async_(false)
            .enable_last_sample(false)
            .callbacks(callbacks)
            .build();
        self.pipeline.add(&sink).map_err(bug)?;
        link(&[&level.tee, sink.upcast_ref()])?;
        self.outlets.push((output, outlet));
        Ok(())
    }

    fn audio(&mut self, graph: &Graph<'_>, feed: &AudioFeed) -> Result<Feed, Failed> {
        let (caps, compressed) = match feed {
            AudioFeed::Raw(caps) => (caps.clone(), false),
            AudioFeed::Aac { asc, info } => (aac_caps(asc, info), true),
        };
        let source = self.source("audio-in", &caps)?;
        let mut chain: Vec<gst::Element> = vec![source.clone().upcast()];
        if compressed {
            chain.push(self.add("avdec_aac", "gstreamer1.0-libav")?);
        }
        chain.push(self.add("tee", "libgstreamer1.0-0")?);
        link(&chain.iter().collect::<Vec<_>>())?;
        let Some(tee) = chain.pop() else { return Err(other("no tee".to_owned())) };
        for (output, tier) in &graph.tiers {
            let (encoder, name) = encoder::make_audio(tier.kbps)?;
            self.pipeline.add(&encoder).map_err(bug)?;
            let rate = gst::Caps::builder("audio/x-raw")
                .field("rate", tier.sample_rate as i32)
                .field("channels", tier.channels as i32)
                .build();
            let aac = gst::Caps::builder("audio/mpeg")
                .field("mpegversion", 4i32)
                .field("stream-format", "raw")
                .build();
            let queue = self.queue(AUDIO_FRAMES_MAX as u32)?;
            let convert = self.add("audioconvert", "gstreamer1.0-plugins-base")?;
            let resample = self.add("audioresample", "gstreamer1.0-plugins-base")?;
            let (filter, sink) = (self.filter(&rate)?, self.sink(*output, &aac)?);
            link(&[&tee, &queue, &convert, &resample, &filter, &encoder, &sink])?;
            self.encoders.push((*output, name));
        }
        Ok(Feed { source, frames_max: AUDIO_FRAMES_MAX })
    }

    fn source(&self, name: &str, caps: &gst::Caps) -> Result<gst_app::AppSrc, Failed> {
        let source = gst_app::AppSrc::builder()
            .name(name)
            .caps(caps)
            .format(gst::Format::Time)
            // Bounded by frames in `Feed::push`.
            .max_bytes(0)
            .build();
        self.pipeline.add(&source).map_err(bug)?;
        Ok(source)
    }

    fn sink(&self, output: usize, caps: &gst::Caps) -> Result<gst::Element, Failed> {
        let sink = coded_sink(output, 0, caps, &self.events, || {});
        self.pipeline.add(&sink).map_err(bug)?;
        Ok(sink.upcast())
    }

    fn queue(&self, frames: u32) -> Result<gst::Element, Failed> {
        let queue = self.add("queue", "libgstreamer1.0-0")?;
        queue.set_property("max-size-buffers", frames);
        queue.set_property("max-size-bytes", 0u32);
        queue.set_property("max-size-time", 0u64);
        Ok(queue)
    }

    fn filter(&self, caps: &gst::Caps) -> Result<gst::Element, Failed> {
        let filter = self.add("capsfilter", "libgstreamer1.0-0")?;
        filter.set_property("caps", caps);
        Ok(filter)
    }

    fn add(&self, element: &'static str, package: &'static str) -> Result<gst::Element, Failed> {
        let made = gst::ElementFactory::make(element).build();
        let made = made.map_err(|_| encoder::missing(element, package))?;
        self.pipeline.add(&made).map_err(bug)?;
        Ok(made)
    }

    /// Lets a frame through when every open outlet has room for it, and waits for that as long as
    /// what piles up before it may be a burst: of raw frames whoever feeds them then leaves some
    /// out; of coded ones none can be left out before they are decoded, so a backlog that stands is
    /// brought down here. The first frame of a segment always goes through, since the rungs'
    /// segments would else begin at different frames.
    fn admit(
        &self,
        head: &gst::Element,
        source: &gst_app::AppSrc,
        coded_fps: Option<u64>,
    ) -> Result<(), Failed> {
        let timeline = Arc::clone(&self.timeline);
        let outlets: Vec<_> = self.outlets.iter().map(|(_, o)| Arc::clone(o)).collect();
        let admission = Arc::clone(&self.admission);
        let source = source.downgrade();
        let target = coded_fps.map_or(u64::MAX, |fps| fps * BACKLOG_MS_TARGET / 1000);
        let backlog = Mutex::new(Backlog::new(target, BURST_MS_MAX));
        let segment = AtomicU32::new(0);
        let began = Instant::now();
        src_pad(head)?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(pts) = info.buffer().and_then(|b| b.pts()) else {
                return gst::PadProbeReturn::Ok;
            };
            let now_ms = began.elapsed().as_millis() as u64;
            let level = source.upgrade().map_or(0, |s| s.current_level_buffers());
            let sheds = backlog.lock().unwrap_or_else(PoisonError::into_inner).see(now_ms, level);
            let mut has_room = outlets.iter().all(|outlet| outlet.has_room());
            let mut waited = Duration::ZERO;
            while !has_room && !sheds && waited < ROOM_WAIT_MAX {
                std::thread::sleep(ROOM_WAIT);
                waited += ROOM_WAIT;
                has_room = outlets.iter().all(|outlet| outlet.has_room());
            }
            let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
            if has_room || timeline.is_due(pts.useconds()) {
                timeline.see(pts.useconds());
            }
            let of_frame = timeline.segment_of(pts.useconds());
            drop(timeline);
            if segment.fetch_max(of_frame, Ordering::Relaxed) < of_frame || has_room {
                admission.admitted.fetch_add(1, Ordering::Relaxed);
                return gst::PadProbeReturn::Ok;
            }
            admission.left_out.fetch_add(1, Ordering::Relaxed);
            LEFT_OUT
        });
        Ok(())
    }

    /// Leaves frames out before `element` and corrects the rate that its caps announce.
    fn thin(&self, element: &gst::Element, fps: (u32, u32)) -> Result<(), Failed> {
        let timeline = Arc::clone(&self.timeline);
        let thinner = Mutex::new(Thinner::new(fps));
        let segment = AtomicU32::new(0);
        let rate = gst::Fraction::new(fps.0 as i32, fps.1.max(1) as i32);
        let pad = element.static_pad("sink").ok_or_else(|| other("no sink pad".to_owned()))?;
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        pad.add_probe(kinds, move |_, info| match &mut info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let Some(pts) = buffer.pts() else { return LEFT_OUT };
                let of_frame = {
                    let timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
                    timeline.segment_of(pts.useconds())
                };
                let first = segment.fetch_max(of_frame, Ordering::Relaxed) < of_frame;
                let mut thinner = thinner.lock().unwrap_or_else(PoisonError::into_inner);
                if thinner.keep(pts.nseconds(), first) { gst::PadProbeReturn::Ok } else { LEFT_OUT }
            }
            Some(gst::PadProbeData::Event(event)) => {
                let caps = match event.view() {
                    gst::EventView::Caps(caps) => Some(caps.caps_owned()),
                    _ => None,
                };
                if let Some(mut caps) = caps {
                    caps.make_mut().set("framerate", rate);
                    *event = gst::event::Caps::new(&caps);
                }
                gst::PadProbeReturn::Ok
            }
            _ => gst::PadProbeReturn::Ok,
        });
        Ok(())
    }
}

/// Makes a scaler pass only pictures that an open outlet or the next still needs.
fn only_when_needed(
    scale: &gst::Element,
    needed: Arc<AtomicUsize>,
    still_due_ns: Arc<AtomicU64>,
) -> Result<(), Failed> {
    let pad = scale.static_pad("sink").ok_or_else(|| other("no sink pad".to_owned()))?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let pts_ns = info.buffer().and_then(|b| b.pts()).map_or(0, |pts| pts.nseconds());
        let still_due = pts_ns >= still_due_ns.load(Ordering::Relaxed);
        if needed.load(Ordering::Relaxed) > 0 || still_due {
            gst::PadProbeReturn::Ok
        } else {
            LEFT_OUT
        }
    });
    Ok(())
}

/// Makes a scaler keep the colours as they are. Left alone it turns HD colours into SD colours,
/// pixel by pixel, which costs three times the scaling.
fn keep_colours(
    scale: &gst::Element,
    filter: &gst::Element,
    caps: gst::Caps,
) -> Result<(), Failed> {
    let filter = filter.downgrade();
    let pad = scale.static_pad("sink").ok_or_else(|| other("no sink pad".to_owned()))?;
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(event)) = info.event().map(|e| e.view())
            && let (Ok(video), Some(filter)) =
                (gst_video::VideoInfo::from_caps(event.caps()), filter.upgrade())
        {
            let mut caps = caps.clone();
            caps.make_mut().set("colorimetry", video.colorimetry().to_string());
            filter.set_property("caps", &caps);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn h264_caps(avcc: &Bytes, picture: Picture) -> gst::Caps {
    let mut caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("parsed", true)
        .field("codec_data", gst::Buffer::from_slice(avcc.clone()))
        .field("width", picture.width as i32)
        .field("height", picture.height as i32);
    if let Some((fps, per)) = picture.fps {
        caps = caps.field("framerate", gst::Fraction::new(fps as i32, per.max(1) as i32));
    }
    caps.build()
}

fn aac_caps(asc: &Bytes, info: &AudioInfo) -> gst::Caps {
    gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4i32)
        .field("stream-format", "raw")
        .field("framed", true)
        .field("rate", info.sample_rate as i32)
        .field("channels", info.channels as i32)
        .field("codec_data", gst::Buffer::from_slice(asc.clone()))
        .build()
}

/// Where an encoder's frames come out: each is told of by `on_frame` and sent to the session.
pub(super) fn coded_sink(
    output: usize,
    generation: Generation,
    caps: &gst::Caps,
    events: &SyncSender<Event>,
    on_frame: impl Fn() + Send + 'static,
) -> gst_app::AppSink {
    let (events, ended) = (events.clone(), events.clone());
    let mut configured = false;
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            on_frame();
            let Some(mut coded) = coded(output, generation, &sample) else {
                return Ok(gst::FlowSuccess::Ok);
            };
            if configured {
                coded.config = None;
            }
            configured |= coded.config.is_some();
            // Waits while the session is busy, which bounds everything before it.
            events.send(Event::Coded(coded)).map_err(|_| gst::FlowError::Eos)?;
            Ok(gst::FlowSuccess::Ok)
        })
        .eos(move |_| {
            // Nobody is listening when the session is already over.
            let _ = ended.send(Event::OutputEnded { output, generation });
        })
        .build();
    gst_app::AppSink::builder()
        .name(format!("out-{output}"))
        .caps(caps)
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .callbacks(callbacks)
        .build()
}

/// Takes a coded frame out of what an encoder gave.
fn coded(output: usize, generation: Generation, sample: &gst::Sample) -> Option<Coded> {
    let buffer = sample.buffer_owned()?;
    // x264enc moves its timestamps by 1000 h and says so in the segment.
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let pts_ns = segment.to_running_time(buffer.pts()?)?.nseconds();
    let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let config = (sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok())
        .and_then(|b| Some(Bytes::copy_from_slice(&b.map_readable().ok()?)));
    let data = Bytes::from_owner(buffer.into_mapped_buffer_readable().ok()?);
    Some(Coded { output, generation, pts_ns, key, config, data })
}

pub(super) fn link(chain: &[&gst::Element]) -> Result<(), Failed> {
    gst::Element::link_many(chain).map_err(bug)
}

fn src_pad(element: &gst::Element) -> Result<gst::Pad, Failed> {
    element.static_pad("src").ok_or_else(|| other("no src pad".to_owned()))
}

pub(super) fn bug(error: gst::glib::BoolError) -> Failed {
    other(format!("GStreamer: {error}"))
}

/// A failure that another try may get over.
pub fn other(message: String) -> Failed {
    Failed { code: FailCode::Other, message }
}
