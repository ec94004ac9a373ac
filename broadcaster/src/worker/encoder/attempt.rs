//! Tries one encoder, in a process of its own: a driver that hangs or crashes takes nobody with
//! it. Whoever starts the process ends it when it takes too long.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::super::h264::{is_idr, parse_avcc};
use super::super::ipc::Failed;
use super::super::pipeline::{other, prompt_sink};
use super::super::session::init_gstreamer;
use super::super::source_test::video_caps;
use super::super::trial::{at, pictures};
use super::verdict::{self, Ended, FPS, Seen, SizeTried, Tried, Unit};
use super::{Effort, Family, VIDEO, VideoEncoder, VideoSettings, video_named};

/// What is asked of an encoder.
#[derive(Clone, Debug)]
pub struct Demands {
    /// Width, height and kbit/s of each run; the first is the one that must pass.
    pub sizes: Vec<(u32, u32, u32)>,
    /// Frames of each run.
    pub frames: u64,
    /// How many times faster than real time hardware must be.
    pub speed_min: f64,
    /// How long an encoder may give nothing.
    pub silence_max: Duration,
}

/// How many times faster than real time hardware must be: its clock falls when it is warm, and
/// other streams want some of it.
pub const SPEED_MIN: f64 = 1.25;

/// How long software may take for one run. It is used at any speed, since nothing comes after it.
const SOFTWARE_RUN_MAX: Duration = Duration::from_secs(8);

/// Sessions that are opened at once to find a limit: the ladders of two streams. A higher limit
/// is found when it is met.
const SESSIONS_TRIED: u32 = 8;

/// Frames in the encoder at once. One that gives nothing for so many holds back a quarter of a
/// second, which is too much for live video.
const IN_FLIGHT_MAX: u64 = 8;

/// What may wait to be looked at: more than is in flight, for all sessions.
const OUT_MAX: usize = 128;

/// Characters of an element's own words: they go on one line of a table.
const REASON_CHARS_MAX: usize = 200;

impl Default for Demands {
    fn default() -> Self {
        Self {
            sizes: vec![(1280, 720, 2500), (1920, 1080, 4000), (640, 360, 700)],
            frames: 90,
            speed_min: SPEED_MIN,
            silence_max: Duration::from_secs(3),
        }
    }
}

/// An encoder that GStreamer knows here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Listed {
    /// The GStreamer element.
    pub element: String,
    /// The version of its plugin.
    pub plugin_version: String,
}

/// The encoders that GStreamer knows here, best first.
///
/// # Errors
/// When GStreamer cannot start.
pub fn list() -> Result<Vec<Listed>, Failed> {
    init_gstreamer()?;
    let listed = |encoder: &VideoEncoder| {
        let factory = gst::ElementFactory::find(encoder.element)?;
        let version = factory.plugin().map(|p| p.version().to_string());
        Some(Listed {
            element: encoder.element.to_owned(),
            plugin_version: version.unwrap_or_default(),
        })
    };
    Ok(VIDEO.iter().filter_map(listed).collect())
}

/// Tries one encoder. What is open when it hangs is left open: the process must end then.
///
/// # Errors
/// When GStreamer cannot start or no encoder has that name.
pub fn run(element: &str, demands: &Demands) -> Result<Tried, Failed> {
    init_gstreamer()?;
    let encoder = video_named(element)
        .ok_or_else(|| other(format!("'{element}' is none of the encoders we use")))?;
    if !encoder.is_installed() {
        return Ok(verdict::untried(element, "not installed"));
    }
    let hardware = encoder.family != Family::Software;
    let mut sizes: Vec<SizeTried> = Vec::new();
    for (width, height, kbps) in &demands.sizes {
        let seen = run_size(encoder, (*width, *height), *kbps, demands);
        let tried = verdict::judge(&seen, hardware.then_some(demands.speed_min));
        let settled = tried.hangs || sizes.is_empty() && tried.reason.is_some();
        sizes.push(tried);
        if settled {
            return Ok(verdict::conclude(element, sizes, None));
        }
    }
    let smallest = demands.sizes.iter().zip(&sizes).filter(|(_, s)| s.reason.is_none());
    let smallest = smallest.map(|(size, _)| *size).min();
    let sessions = match smallest.filter(|_| hardware) {
        Some((width, height, kbps)) => count_sessions(encoder, (width, height), kbps, demands),
        None => None,
    };
    Ok(verdict::conclude(element, sizes, sessions))
}

/// What comes out of an encoder.
enum Out {
    Unit { unit: Unit, configured: Option<(u32, u32)> },
    End,
    Broken(String),
}

fn run_size(encoder: &VideoEncoder, size: (u32, u32), kbps: u32, demands: &Demands) -> Seen {
    let frames = demands.frames;
    let asked = frames / 2 + 1;
    let mut seen = Seen {
        size,
        fps: FPS,
        kbps,
        frames,
        asked,
        configured: None,
        units: Vec::new(),
        elapsed_us: 0,
        ended: Ended::Whole,
    };
    let (sender, out) = sync_channel(OUT_MAX);
    let session = match Session::open(encoder, size, kbps, asked, sender) {
        Ok(session) => session,
        Err(failed) => {
            // What it says itself tells more.
            let said = out.try_iter().find_map(|out| match out {
                Out::Broken(why) => Some(why),
                Out::Unit { .. } | Out::End => None,
            });
            return Seen { ended: Ended::Broken(said.unwrap_or(failed.message)), ..seen };
        }
    };
    let run_max = match encoder.family {
        Family::Software => SOFTWARE_RUN_MAX,
        _ => Duration::from_secs(frames).div_f64(f64::from(FPS) * demands.speed_min.max(0.1)),
    };
    follow(&session, &out, run_max, demands.silence_max, &mut seen);
    if matches!(seen.ended, Ended::Silent(_)) {
        // Stopping it would wait for what hangs.
        std::mem::forget(session);
    }
    seen
}

/// Feeds a session and notes what comes of it.
fn follow(
    session: &Session,
    out: &Receiver<Out>,
    run_max: Duration,
    silence_max: Duration,
    seen: &mut Seen,
) {
    let (mut pushed, mut first) = (0, None::<Instant>);
    seen.ended = loop {
        while pushed < seen.frames && pushed < seen.units.len() as u64 + IN_FLIGHT_MAX {
            session.push(pushed);
            pushed += 1;
            if pushed == seen.frames {
                session.finish();
            }
        }
        match out.recv_timeout(silence_max) {
            Ok(Out::Unit { unit, configured }) => {
                let first = *first.get_or_insert_with(Instant::now);
                seen.units.push(unit);
                seen.configured = seen.configured.or(configured);
                seen.elapsed_us = first.elapsed().as_micros() as u64;
                if first.elapsed() > run_max && (seen.units.len() as u64) < seen.frames {
                    break Ended::Late;
                }
            }
            Ok(Out::End) => break Ended::Whole,
            Ok(Out::Broken(why)) => break Ended::Broken(why),
            Err(_) => break Ended::Silent(silence_max.as_millis() as u64),
        }
    };
}

/// How many sessions work at once; `None` when all that were tried do.
fn count_sessions(
    encoder: &VideoEncoder,
    size: (u32, u32),
    kbps: u32,
    demands: &Demands,
) -> Option<u32> {
    let mut open = Vec::new();
    for count in 0..SESSIONS_TRIED {
        let (sender, out) = sync_channel(OUT_MAX);
        let works = match Session::open(encoder, size, kbps, u64::MAX, sender) {
            Ok(session) => {
                for frame in 0..IN_FLIGHT_MAX {
                    session.push(frame);
                }
                open.push((session, out));
                let newest = open.last().map(|(_, out)| out.recv_timeout(demands.silence_max));
                matches!(newest, Some(Ok(Out::Unit { .. })))
            }
            Err(_) => false,
        };
        if !works {
            // One of them may hang, and the process ends soon.
            std::mem::forget(open);
            // The runs before have shown that one works.
            return Some(count.max(1));
        }
    }
    None
}

/// An encoder at work.
struct Session {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    pictures: Vec<gst::Buffer>,
}

impl Session {
    fn open(
        encoder: &VideoEncoder,
        size: (u32, u32),
        kbps: u32,
        asked: u64,
        out: SyncSender<Out>,
    ) -> Result<Self, Failed> {
        let pixel_rate = u64::from(size.0) * u64::from(size.1) * u64::from(FPS);
        let settings = VideoSettings { kbps, pixel_rate, effort: Effort::default() };
        let source = gst_app::AppSrc::builder()
            .caps(&video_caps(size.0, size.1, (FPS, 1)))
            .format(gst::Format::Time)
            // Bounded by what is in flight.
            .max_bytes(0)
            .build();
        let sink = sink(out.clone());
        let mut chain: Vec<gst::Element> = vec![source.clone().upcast()];
        chain.extend(encoder.chain(settings)?);
        chain.push(sink.upcast());
        let pipeline = gst::Pipeline::new();
        let bug = |error: gst::glib::BoolError| other(error.to_string());
        pipeline.add_many(&chain).map_err(bug)?;
        gst::Element::link_many(&chain).map_err(bug)?;
        if let Some(pad) = source.static_pad("src") {
            ask_key(&pad, asked);
        }
        if let Some(bus) = pipeline.bus() {
            bus.set_sync_handler(move |_, message| {
                if let gst::MessageView::Error(error) = message.view() {
                    // Full only when nobody looks any more.
                    let _ = out.try_send(Out::Broken(one_line(error)));
                }
                gst::BusSyncReply::Drop
            });
        }
        let session = Self { pipeline, source, pictures: pictures(size) };
        session
            .pipeline
            .set_state(gst::State::Playing)
            .map_err(|_| other("it does not open".to_owned()))?;
        Ok(session)
    }

    fn push(&self, frame: u64) {
        let pictures = self.pictures.len().max(1) as u64;
        if let Some(picture) = self.pictures.get((frame % pictures) as usize) {
            // Refused only by an encoder that has failed, which its bus says.
            let _ = self.source.push_buffer(at(picture, frame as u32, FPS));
        }
    }

    fn finish(&self) {
        let _ = self.source.end_of_stream();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Stopping cannot fail in a way that leaves anything to do.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Asks for a key frame at the frame of that number.
fn ask_key(pad: &gst::Pad, asked: u64) {
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(pts) = info.buffer().and_then(|b| b.pts())
            && frame_of(pts.nseconds()) == asked
        {
            let event = gst_video::DownstreamForceKeyUnitEvent::builder()
                .timestamp(pts)
                .running_time(pts)
                .all_headers(false)
                .count(1)
                .build();
            pad.push_event(event);
        }
        gst::PadProbeReturn::Ok
    });
}

fn sink(out: SyncSender<Out>) -> gst_app::AppSink {
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .build();
    let ended = out.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(unit) = unit_of(&sample) {
                out.send(unit).map_err(|_| gst::FlowError::Eos)?;
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .eos(move |_| {
            // Nobody listens when the run is already over.
            let _ = ended.send(Out::End);
        })
        .build();
    prompt_sink(callbacks).caps(&caps).build()
}

fn unit_of(sample: &gst::Sample) -> Option<Out> {
    let buffer = sample.buffer()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let pts_ns = segment.to_running_time(buffer.pts()?)?.nseconds();
    let config = sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok();
    let info = config.and_then(|c| parse_avcc(&c.map_readable().ok()?).ok());
    let data = bytes::Bytes::copy_from_slice(&buffer.map_readable().ok()?);
    let unit = Unit {
        frame: frame_of(pts_ns),
        idr: is_idr(&data, info.as_ref().map_or(4, |info| info.length_size)),
        marked: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        bytes: data.len(),
    };
    Some(Out::Unit { unit, configured: info.map(|info| (info.width, info.height)) })
}

fn frame_of(pts_ns: u64) -> u64 {
    (u128::from(pts_ns) * u128::from(FPS) + 500_000_000).div_euclid(1_000_000_000) as u64
}

/// What an element says of its error: the kind, and, on the last line of what is meant for
/// developers, what really happened.
fn one_line(error: &gst::message::Error) -> String {
    let debug = error.debug().unwrap_or_default();
    let details = debug.lines().skip(1).last().unwrap_or_default().trim();
    let text = match details {
        "" => error.error().to_string(),
        details => format!("{} {details}", error.error()),
    };
    text.replace('\n', " ").chars().take(REASON_CHARS_MAX).collect()
}
