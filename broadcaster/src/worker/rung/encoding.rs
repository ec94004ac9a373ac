//! A running encoder: the small graph behind an [`Outlet`](super::Outlet).

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use gst::prelude::*;

use super::fill::{Handed, repeats};
use super::{Generation, Leftovers, lock};
use crate::worker::cut::{Thinner, Timeline};
use crate::worker::encoder::{VideoEncoder, VideoSettings};
use crate::worker::ipc::Failed;
use crate::worker::pipeline::{bug, coded_sink, failure_of, link, other};
use crate::worker::session::Event;
use crate::worker::testcard;

/// How far an encoder may be behind before frames are left out, in milliseconds: rides out the
/// pauses of a busy machine, and is the most that encoding ever adds to latency.
const BEHIND_MS_MAX: u64 = 500;

/// Frames that may wait for an encoder, in bytes: large pictures may wait for less long.
const BEHIND_BYTES_MAX: u64 = 64 << 20;

/// Fewer frames than this in the queue would leave the encoder idle between two of them.
const BEHIND_FRAMES_MIN: u64 = 3;

/// Fewest frames per second of a rung whose gaps are filled.
const FILLED_FPS_MIN: u32 = 15;

/// What an encoder is made for.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// The number its frames are sent under.
    pub output: usize,
    /// Which encoding of that output this is.
    pub generation: Generation,
    /// What the encoder is asked to do.
    pub settings: VideoSettings,
    /// Size of the pictures, in pixels.
    pub size: (u32, u32),
    /// Their rate, in frames per second.
    pub fps: (u32, u32),
    /// The rate that is left of it; `None` keeps every frame.
    pub thin_to: Option<(u32, u32)>,
}

/// A running encoder. Dropping it stops it, which takes as long as its driver likes: see
/// [`Encoding::abandon`].
#[derive(Debug)]
pub struct Encoding {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    frames_max: u64,
    has_caps: bool,
    thin_to: Option<(u32, u32)>,
    thinner: Option<Thinner>,
    segment: Option<u32>,
    /// Whether gaps between pictures are filled: those of a source with few pictures are its own.
    fills: bool,
    handed: Handed,
    progress: Arc<Progress>,
    generation: Generation,
    leftovers: Leftovers,
}

/// What an encoder has done so far.
#[derive(Debug, Default)]
pub struct Progress {
    frames: AtomicU64,
    cpu_us: AtomicU64,
}

impl Progress {
    /// Frames it gave.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Processor time of its thread, in microseconds. An encoder with threads of its own uses more.
    pub fn cpu_us(&self) -> u64 {
        self.cpu_us.load(Ordering::Relaxed)
    }
}

impl Encoding {
    /// Builds and starts an encoder. It reports its frames as [`Event::Coded`], and counts among
    /// `leftovers` when it is given up.
    ///
    /// # Errors
    /// When an element is missing or does not start.
    pub fn start(
        job: Job,
        choice: &VideoEncoder,
        timeline: &Arc<Mutex<Timeline>>,
        events: &SyncSender<Event>,
        leftovers: &Leftovers,
    ) -> Result<Self, Failed> {
        let pipeline = gst::Pipeline::new();
        let source = gst_app::AppSrc::builder()
            .name(format!("in-{}", job.output))
            .format(gst::Format::Time)
            // Bounded by frames: nothing is admitted while an encoder is full.
            .max_bytes(0)
            .build();
        let mut chain: Vec<gst::Element> = vec![source.clone().upcast()];
        chain.extend(choice.chain(job.settings)?);
        let progress = Arc::new(Progress::default());
        chain.push(sink(job, &progress, events).upcast());
        for element in &chain {
            pipeline.add(element).map_err(bug)?;
        }
        link(&chain.iter().collect::<Vec<_>>())?;
        force_keys(&source, timeline, &progress)?;
        let encoding = Self {
            pipeline,
            source,
            frames_max: frames_max(job),
            has_caps: false,
            thin_to: job.thin_to,
            thinner: job.thin_to.map(Thinner::new),
            segment: None,
            fills: job.fps.0 >= FILLED_FPS_MIN * job.fps.1,
            handed: Handed::new(frames_max(job)),
            progress,
            generation: job.generation,
            leftovers: leftovers.clone(),
        };
        encoding.pipeline.set_state(gst::State::Playing).map_err(|_| {
            let why = format!("{} does not start", choice.element);
            encoding.failure().unwrap_or_else(|| other(why))
        })?;
        Ok(encoding)
    }

    /// Hands it a picture of session time `pts_ns`, which belongs to `segment`.
    pub(super) fn push(
        &mut self,
        sample: &gst::Sample,
        pts_ns: u64,
        segment: u32,
        mark: Option<u8>,
    ) {
        self.hand(sample, pts_ns, segment, mark, false);
    }

    fn hand(
        &mut self,
        sample: &gst::Sample,
        pts_ns: u64,
        segment: u32,
        mark: Option<u8>,
        is_repeat: bool,
    ) {
        let first = self.segment.replace(segment) != Some(segment);
        if self.thinner.as_mut().is_some_and(|thinner| !thinner.keep(pts_ns, first)) {
            return;
        }
        let Some(mut buffer) = sample.buffer_owned() else { return };
        if buffer.pts().is_some_and(|pts| pts.nseconds() != pts_ns) {
            // The bytes are shared; only the time is its own.
            buffer.make_mut().set_pts(gst::ClockTime::from_nseconds(pts_ns));
        }
        if !self.has_caps {
            let mut caps = sample.caps().map(|c| c.to_owned());
            if let (Some(caps), Some((fps, per))) = (&mut caps, self.thin_to) {
                let rate = gst::Fraction::new(fps as i32, per.max(1) as i32);
                caps.make_mut().set("framerate", rate);
            }
            self.source.set_caps(caps.as_ref());
            self.has_caps = true;
        }
        if let Some(mark) = mark {
            buffer = marked(buffer, sample.caps(), mark);
        }
        // Refused only when the encoder has failed, which its bus says.
        let _ = self.source.push_buffer(buffer);
        self.handed.add(is_repeat);
    }

    /// Shows a picture again until the next one at `next_ns`, when that is long.
    pub(super) fn fill(
        &mut self,
        (before, before_ns, segment): &(gst::Sample, u64, u32),
        next_ns: u64,
        mark: Option<u8>,
    ) {
        if !self.fills {
            return;
        }
        for at_ns in repeats(*before_ns, next_ns) {
            if self.has_room() {
                self.hand(before, at_ns, *segment, mark, true);
            }
        }
    }

    /// Whether it has room for another picture.
    pub(super) fn has_room(&self) -> bool {
        self.source.current_level_buffers() < self.frames_max
    }

    /// Frames that wait for it.
    pub fn waiting(&self) -> u64 {
        self.source.current_level_buffers()
    }

    /// Those of them that came from the source: not repeats, which nobody waits for.
    pub fn waiting_of_source(&self) -> u64 {
        self.handed.of_source(self.waiting())
    }

    /// Which encoding of its output it is.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What it has done.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Says that no more pictures come; [`Event::OutputEnded`] follows its last frame.
    pub fn finish(&self) {
        // Refused only when the encoder has failed, which its bus says.
        let _ = self.source.end_of_stream();
    }

    /// What went wrong in it, if anything has.
    pub fn failure(&self) -> Option<Failed> {
        failure_of(&self.pipeline)
    }

    /// Gets rid of it without waiting for it to stop.
    pub fn abandon(self) {
        self.abandon_and(());
    }

    /// The same, and lets go of `held` when it has stopped.
    pub fn abandon_and(self, held: impl Send + 'static) {
        let leftover = self.leftovers.add();
        // Without a thread to spare it is left as it is: stopped here, it might wait for us.
        let stops = ManuallyDrop::new((self, leftover));
        let ends = std::thread::Builder::new().name("encoder-end".to_owned());
        let _ = ends.spawn(move || {
            let (encoding, leftover) = ManuallyDrop::into_inner(stops);
            drop(encoding);
            drop(leftover);
            drop(held);
        });
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        // Stopping cannot fail in a way that leaves anything to do.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn frames_max(job: Job) -> u64 {
    let by_time = u64::from(job.fps.0) * BEHIND_MS_MAX / 1000 / u64::from(job.fps.1.max(1));
    // Planar 4:2:0.
    let frame_bytes = u64::from(job.size.0) * u64::from(job.size.1) * 3 / 2;
    by_time.min(BEHIND_BYTES_MAX / frame_bytes.max(1)).max(BEHIND_FRAMES_MIN)
}

fn sink(job: Job, progress: &Arc<Progress>, events: &SyncSender<Event>) -> gst_app::AppSink {
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .build();
    let progress = Arc::clone(progress);
    coded_sink(job.output, job.generation, &caps, events, move || {
        progress.frames.fetch_add(1, Ordering::Relaxed);
    })
}

/// Asks the encoder for a key frame where a segment begins, and counts what it costs: the elements
/// of one rung run in one thread, which comes back here when it is done with a picture.
fn force_keys(
    source: &gst_app::AppSrc,
    timeline: &Arc<Mutex<Timeline>>,
    progress: &Arc<Progress>,
) -> Result<(), Failed> {
    let pad = source.static_pad("src").ok_or_else(|| other("no src pad".to_owned()))?;
    // The first frame is a key frame without being asked for.
    let (timeline, segment) = (Arc::clone(timeline), AtomicU32::new(u32::MAX));
    let progress = Arc::clone(progress);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        progress.cpu_us.store(thread_cpu_us(), Ordering::Relaxed);
        let Some(pts) = info.buffer().and_then(|b| b.pts()) else {
            return gst::PadProbeReturn::Ok;
        };
        let of_frame = lock(&timeline).segment_of(pts.useconds());
        if segment.swap(of_frame, Ordering::Relaxed) < of_frame {
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

/// Processor time of the calling thread so far, in microseconds.
fn thread_cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Draws a rung's number into a picture of its own.
fn marked(mut buffer: gst::Buffer, caps: Option<&gst::CapsRef>, mark: u8) -> gst::Buffer {
    let info = caps.and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
    if let Some(info) = info {
        let picture = buffer.make_mut();
        if let Ok(mut frame) = gst_video::VideoFrameRef::from_buffer_ref_writable(picture, &info) {
            let stride = info.stride()[0] as usize;
            let (width, height) = (info.width() as usize, info.height() as usize);
            if let Ok(luma) = frame.plane_data_mut(0) {
                testcard::draw_mark(luma, stride, width, height, mark);
            }
        }
    }
    buffer
}
