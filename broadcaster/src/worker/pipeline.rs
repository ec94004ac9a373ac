//! The GStreamer graph that turns one source into coded frames: decode once, scale in a cascade,
//! encode each rung in a thread of its own.
//!
//! ```text
//! appsrc [! avdec_h264] ! videoconvert -> tee ─► queue ► x264enc ► appsink   (720p)
//!                          │                └─► videoscale -> tee ─► queue ► x264enc ► appsink   (480p)
//!        force-key-unit ───┘                                    └─► videoscale -> tee ─► ...     (360p)
//! appsrc [! avdec_aac] ! audioconvert ! audioresample ! avenc_aac ! appsink
//! ```
//!
//! The graph has no clock of its own: whoever feeds it paces, and frames carry session time from
//! end to end. Nothing in it waits for anything but a slower element behind it, and the bounds
//! are small, so what it holds is what is being worked on. Whoever feeds it leaves a frame out
//! when [`Feed::push`] says that the graph is full; all rungs then miss the same frame.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use common::rendition::AudioTier;
use gst::prelude::*;

use super::aac::AudioInfo;
use super::cut::{Thinner, Timeline};
use super::encoder::{self, VideoSettings};
use super::ipc::{FailCode, Failed};
use super::ladder::{Picture, PlannedRung};
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
    /// The rungs to encode, largest first, each with the number its frames are sent under.
    pub rungs: Vec<(usize, &'a PlannedRung)>,
    /// The effort of their encoders.
    pub effort: encoder::Effort,
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
    /// Per output number, the name of its encoder.
    pub encoders: Vec<(usize, &'static str)>,
    /// Outputs that will report their end after [`Running::finish`].
    pub outputs: usize,
}

/// Where frames go into the graph.
#[derive(Clone, Debug)]
pub struct Feed {
    source: gst_app::AppSrc,
    frames_max: u64,
}

/// How long the graph may be behind before raw frames are left out, in milliseconds: rides out the
/// pauses of a busy machine, and is the most that encoding ever adds to latency.
const BEHIND_MS_MAX: u64 = 500;

/// The same for coded frames, where leaving one out costs all up to the next key frame; longer
/// than what is held while a second track is waited for.
const CODED_BEHIND_MS_MAX: u64 = 3000;

/// Frames between a tee and its encoder: the encoder works on one while the next wait.
const QUEUE_FRAMES_MAX: u32 = 3;

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
            encoders: Vec::new(),
        };
        let video = match &graph.video {
            Some(feed) => Some(building.video(graph, feed)?),
            None => None,
        };
        let audio = match &graph.audio {
            Some(feed) if !graph.tiers.is_empty() => Some(building.audio(graph, feed)?),
            _ => None,
        };
        let Building { pipeline, encoders, .. } = building;
        let outputs = encoders.len();
        let running = Self { pipeline, video, audio, encoders, outputs };
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
        let bus = self.pipeline.bus()?;
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
    encoders: Vec<(usize, &'static str)>,
}

/// Pictures of one size and rate, and the tee that hands them out.
struct Level {
    width: u32,
    height: u32,
    thin_to: Option<(u32, u32)>,
    tee: gst::Element,
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
        self.force_keys(&head)?;
        let mut levels = vec![Level { width: u32::MAX, height: u32::MAX, thin_to: None, tee }];
        for (output, rung) in &graph.rungs {
            let tee = self.level(&mut levels, rung)?;
            self.encode(graph, *output, rung, &tee)?;
        }
        let smallest = levels.last().map(|l| l.tee.clone());
        if let (Some(tee), true) = (smallest, can_make_stills()) {
            self.thumb(&tee, graph.rungs.is_empty())?;
        }
        Ok(Feed { source, frames_max })
    }

    /// Takes a still from the smallest pictures every now and then.
    fn thumb(&self, tee: &gst::Element, scale: bool) -> Result<(), Failed> {
        let queue = self.queue(1)?;
        // A still is never worth waiting for.
        queue.set_property_from_str("leaky", "downstream");
        let jpeg = self.add("jpegenc", "gstreamer1.0-plugins-good")?;
        jpeg.set_property("quality", THUMB_QUALITY);
        let events = self.events.clone();
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let map = sample.buffer().and_then(|b| b.map_readable().ok());
                if let Some(map) = map {
                    // Nor is it worth waiting for a busy session.
                    let _ = events.try_send(Event::Thumb(Bytes::copy_from_slice(&map)));
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
        let next_ns = AtomicU64::new(0);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(pts) = info.buffer().and_then(|b| b.pts()) else {
                return LEFT_OUT;
            };
            if pts.nseconds() < next_ns.load(Ordering::Relaxed) {
                return LEFT_OUT;
            }
            next_ns.store(pts.nseconds() + THUMB_EVERY_NS, Ordering::Relaxed);
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
    ) -> Result<gst::Element, Failed> {
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
            return Ok(parent.tee.clone());
        }
        let (parent_tee, thin) = (parent.tee.clone(), parent.thin_to != rung.thin_to);
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
        if let (true, Some(fps)) = (thin, rung.thin_to) {
            self.thin(&scale, fps)?;
        }
        let (width, height, thin_to) = (rung.width, rung.height, rung.thin_to);
        levels.push(Level { width, height, thin_to, tee: tee.clone() });
        Ok(tee)
    }

    fn encode(
        &mut self,
        graph: &Graph<'_>,
        output: usize,
        rung: &PlannedRung,
        tee: &gst::Element,
    ) -> Result<(), Failed> {
        let choice = encoder::best_video()?;
        let (fps, per) = rung.fps.unwrap_or((30, 1));
        let settings = VideoSettings {
            kbps: rung.rung.video_kbps,
            pixel_rate: u64::from(rung.width) * u64::from(rung.height) * u64::from(fps)
                / u64::from(per.max(1)),
            effort: graph.effort,
        };
        let queue = self.queue(QUEUE_FRAMES_MAX)?;
        let encoder = choice.make(settings)?;
        self.pipeline.add(&encoder).map_err(bug)?;
        let mut chain = vec![tee.clone(), queue, encoder];
        if choice.needs_parse {
            chain.push(self.add("h264parse", "gstreamer1.0-plugins-bad")?);
        }
        let caps = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .build();
        chain.push(self.sink(output, &caps)?);
        link(&chain.iter().collect::<Vec<_>>())?;
        self.encoders.push((output, choice.element));
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
        let (events, ended) = (self.events.clone(), self.events.clone());
        let mut configured = false;
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let Some(mut coded) = coded(output, &sample) else {
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
                let _ = ended.send(Event::OutputEnded);
            })
            .build();
        let sink = gst_app::AppSink::builder()
            .name(format!("out-{output}"))
            .caps(caps)
            .sync(false)
            .async_(false)
            .enable_last_sample(false)
            .callbacks(callbacks)
            .build();
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

    /// Asks every encoder behind `head` for a key frame where a segment begins.
    fn force_keys(&self, head: &gst::Element) -> Result<(), Failed> {
        let timeline = Arc::clone(&self.timeline);
        let segment = AtomicU32::new(0);
        src_pad(head)?.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let Some(pts) = info.buffer().and_then(|b| b.pts()) else {
                return gst::PadProbeReturn::Ok;
            };
            let of_frame = {
                let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
                timeline.see(pts.useconds());
                timeline.segment_of(pts.useconds())
            };
            if segment.fetch_max(of_frame, Ordering::Relaxed) < of_frame {
                let event = gst_video::DownstreamForceKeyUnitEvent::builder()
                    .timestamp(pts)
                    .running_time(pts)
                    .all_headers(false)
                    .count(of_frame)
                    .build();
                pad.push_event(event);
            }
            gst::PadProbeReturn::Ok
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

fn coded(output: usize, sample: &gst::Sample) -> Option<Coded> {
    let buffer = sample.buffer_owned()?;
    // x264enc moves its timestamps by 1000 h and says so in the segment.
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let pts_ns = segment.to_running_time(buffer.pts()?)?.nseconds();
    let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let config = (sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok())
        .and_then(|b| Some(Bytes::copy_from_slice(&b.map_readable().ok()?)));
    let data = Bytes::from_owner(buffer.into_mapped_buffer_readable().ok()?);
    Some(Coded { output, pts_ns, key, config, data })
}

fn link(chain: &[&gst::Element]) -> Result<(), Failed> {
    gst::Element::link_many(chain).map_err(bug)
}

fn src_pad(element: &gst::Element) -> Result<gst::Pad, Failed> {
    element.static_pad("src").ok_or_else(|| other("no src pad".to_owned()))
}

fn bug(error: gst::glib::BoolError) -> Failed {
    other(format!("GStreamer: {error}"))
}

/// A failure that another try may get over.
pub fn other(message: String) -> Failed {
    Failed { code: FailCode::Other, message }
}
