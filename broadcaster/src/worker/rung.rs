//! One rung's encoder: a small graph of its own behind an [`Outlet`], so that it can be stopped,
//! started and replaced while the other rungs go on.
//!
//! ```text
//! pictures of the rung's size ─► Outlet ─► appsrc ! [upload] ! encoder [! h264parse] ! appsink
//! ```
//!
//! An outlet opens and shuts with the first frame of a segment. It never leaves out a frame by
//! itself and never waits: whether a frame goes to all open outlets or to none is decided before
//! the pictures are scaled (see [`super::pipeline`]), so that all rungs miss the same frames and
//! an encoder that hangs holds up nobody.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;

use super::cut::{Thinner, Timeline};
use super::encoder::{VideoEncoder, VideoSettings};
use super::ipc::Failed;
use super::pipeline::{bug, coded_sink, link, other};
use super::session::Event;
use super::testcard;

/// How far an encoder may be behind before frames are left out, in milliseconds: rides out the
/// pauses of a busy machine, and is the most that encoding ever adds to latency.
const BEHIND_MS_MAX: u64 = 500;

/// Frames that may wait for an encoder, in bytes: large pictures may wait for less long.
const BEHIND_BYTES_MAX: u64 = 64 << 20;

/// Fewer frames than this in the queue would leave the encoder idle between two of them.
const BEHIND_FRAMES_MIN: u64 = 3;

/// Pictures further apart than this have others between them, in nanoseconds: parts of half a second
/// may differ by 82 ms.
const GAP_NS_MAX: u64 = 75_000_000;

/// How far pictures that fill a gap are apart at most, in nanoseconds: two frames of 30.
const REPEAT_EVERY_NS: u64 = 67_000_000;

/// Fewest frames per second of a rung whose gaps are filled.
const FILLED_FPS_MIN: u32 = 15;

/// A gap from here on is a hole in the source, in nanoseconds.
const HOLE_NS_MIN: u64 = 500_000_000;

/// Which encoding of a rung a frame comes from: what an abandoned one still says does not count.
pub type Generation = u32;

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
    progress: Arc<Progress>,
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
    /// Builds and starts an encoder. It reports its frames as [`Event::Coded`].
    ///
    /// # Errors
    /// When an element is missing or does not start.
    pub fn start(
        job: Job,
        choice: &VideoEncoder,
        timeline: &Arc<Mutex<Timeline>>,
        events: &SyncSender<Event>,
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
            progress,
        };
        encoding.pipeline.set_state(gst::State::Playing).map_err(|_| {
            let why = format!("{} does not start", choice.element);
            encoding.failure().unwrap_or_else(|| other(why))
        })?;
        Ok(encoding)
    }

    /// Hands it a picture of session time `pts_ns`, which belongs to `segment`.
    fn push(&mut self, sample: &gst::Sample, pts_ns: u64, segment: u32, mark: Option<u8>) {
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
    }

    /// Shows a picture again until the next one at `next_ns`, when that is long.
    fn fill(
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
                self.push(before, at_ns, *segment, mark);
            }
        }
    }

    /// Whether it has room for another picture.
    fn has_room(&self) -> bool {
        self.source.current_level_buffers() < self.frames_max
    }

    /// Frames that wait for it.
    pub fn waiting(&self) -> u64 {
        self.source.current_level_buffers()
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
        super::pipeline::failure_of(&self.pipeline)
    }

    /// Gets rid of it without waiting for it to stop.
    pub fn abandon(self) {
        // Without a thread to spare it is left as it is: stopped here, it might wait for us.
        let held = ManuallyDrop::new(self);
        let ends = std::thread::Builder::new().name("encoder-end".to_owned());
        let _ = ends.spawn(move || drop(ManuallyDrop::into_inner(held)));
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

/// Where the pictures of one rung come out of the graph that scales them.
#[derive(Debug)]
pub struct Outlet {
    timeline: Arc<Mutex<Timeline>>,
    gate: Mutex<Gate>,
    /// For each size between the source and this rung, how many outlets need it.
    sizes: Vec<Arc<AtomicUsize>>,
    /// Drawn into every picture.
    mark: Option<u8>,
}

#[derive(Debug, Default)]
struct Gate {
    current: Option<Encoding>,
    /// What takes its place from this segment on.
    next: Option<(u32, Option<Encoding>)>,
    /// The newest picture, its time and its segment.
    newest: Option<(gst::Sample, u64, u32)>,
    /// Works on its last pictures.
    ending: Option<Encoding>,
}

impl Outlet {
    /// A shut outlet. `sizes` counts, for each size that is scaled for it, the outlets that need
    /// it. `mark` is drawn into every picture.
    pub fn new(
        timeline: Arc<Mutex<Timeline>>,
        sizes: Vec<Arc<AtomicUsize>>,
        mark: Option<u8>,
    ) -> Self {
        Self { timeline, gate: Mutex::default(), sizes, mark }
    }

    /// From the start of `segment` on, `next` gets the pictures, or nobody. What got them before
    /// finishes what it has and reports its end.
    pub fn switch(&self, segment: u32, next: Option<Encoding>) {
        self.change(|gate| {
            let unused = gate.next.replace((segment, next));
            unused.and_then(|(_, unused)| unused)
        });
    }

    /// Throws away every encoding at once.
    pub fn cut(&self) {
        // Each leaves the gate before it is stopped, which may take long.
        self.change(|gate| gate.next.take().and_then(|(_, next)| next));
        self.change(|gate| gate.current.take());
        self.forget_ended();
    }

    /// Looks at the encoding that works on its last pictures, if there is one.
    pub fn look_at_ending<T>(&self, look: impl FnOnce(&Encoding) -> T) -> Option<T> {
        self.gate().ending.as_ref().map(look)
    }

    /// The encoding that was finishing has finished.
    pub fn forget_ended(&self) {
        let ended = self.gate().ending.take();
        if let Some(ended) = ended {
            ended.abandon();
        }
    }

    /// Whether it can take another picture now; a shut one can take any number.
    pub fn has_room(&self) -> bool {
        self.gate().current.as_ref().is_none_or(Encoding::has_room)
    }

    /// Looks at the encoding that gets pictures, if there is one.
    pub fn look<T>(&self, look: impl FnOnce(&Encoding) -> T) -> Option<T> {
        self.gate().current.as_ref().map(look)
    }

    /// Says that no more pictures come to anybody.
    pub fn finish(&self) {
        if let Some(current) = &self.gate().current {
            current.finish();
        }
    }

    /// A picture of the rung's size.
    pub(super) fn handle(&self, sample: &gst::Sample) {
        let Some(pts_ns) = sample.buffer().and_then(|b| b.pts()).map(|pts| pts.nseconds()) else {
            return;
        };
        let segment = lock(&self.timeline).segment_of(pts_ns / 1000);
        self.change(|gate| {
            let newest = gate.newest.replace((sample.clone(), pts_ns, segment));
            // What fills the gap belongs to whoever had the picture before it.
            if let (Some(current), Some(before)) = (&mut gate.current, newest) {
                current.fill(&before, pts_ns, self.mark);
            }
            let mut unused = None;
            if gate.next.as_ref().is_some_and(|(at, _)| segment >= *at) {
                let next = gate.next.take().and_then(|(_, next)| next);
                let old = std::mem::replace(&mut gate.current, next);
                if let Some(old) = &old {
                    old.finish();
                }
                unused = std::mem::replace(&mut gate.ending, old);
            }
            if let Some(current) = &mut gate.current {
                current.push(sample, pts_ns, segment, self.mark);
            }
            unused
        });
    }

    /// Changes the gate, counts the sizes it needs anew and gets rid of what it gives back.
    fn change(&self, change: impl FnOnce(&mut Gate) -> Option<Encoding>) {
        let mut gate = self.gate();
        let before = gate.needs_pictures();
        let unused = change(&mut gate);
        let after = gate.needs_pictures();
        for size in &self.sizes {
            match (before, after) {
                (false, true) => drop(size.fetch_add(1, Ordering::Relaxed)),
                (true, false) => drop(size.fetch_sub(1, Ordering::Relaxed)),
                _ => {}
            }
        }
        drop(gate);
        if let Some(unused) = unused {
            unused.abandon();
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn needs_pictures(&self) -> bool {
        self.current.is_some() || self.next.as_ref().is_some_and(|(_, next)| next.is_some())
    }
}

/// When a picture is shown again because the next one comes late: a machine that is too slow leaves
/// pictures out, and without others in their place no part could end where it should (hls.md: parts
/// of 85 to 100 % of PART-TARGET). What did not change costs an encoder next to nothing.
fn repeats(before_ns: u64, next_ns: u64) -> impl Iterator<Item = u64> {
    let gap_ns = next_ns.saturating_sub(before_ns);
    let wanted = if (GAP_NS_MAX..HOLE_NS_MIN).contains(&gap_ns) {
        gap_ns.div_ceil(REPEAT_EVERY_NS)
    } else {
        1
    };
    (1..wanted).map(move |i| before_ns + i * gap_ns / wanted)
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

fn lock(timeline: &Mutex<Timeline>) -> MutexGuard<'_, Timeline> {
    timeline.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_filled_evenly_and_a_hole_or_a_slow_source_is_left_alone() {
        let ms = |before: u64, next: u64| -> Vec<u64> {
            repeats(before * 1_000_000, next * 1_000_000).map(|ns| ns / 1_000_000).collect()
        };
        assert!(ms(0, 33).is_empty() && ms(0, 66).is_empty());
        assert_eq!(ms(1_000, 1_100), [1_050]);
        assert_eq!(ms(0, 200), [66, 133]);
        assert_eq!(ms(0, 499).len(), 7);
        assert!(ms(0, 500).is_empty() && ms(500, 0).is_empty());
    }
}
