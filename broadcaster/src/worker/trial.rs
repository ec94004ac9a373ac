//! The short trial behind `ladder = "auto"`: what encoding costs on this machine.
//!
//! Encodes noisy test pictures for a moment at a few sizes, each with one encoder thread's worth
//! of work, and counts processor time, so that a machine that is busy for a moment is not taken
//! for a slow one. At most 3 s in all.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::rendition::{Preset, preset_named};

use super::cut::Timeline;
use super::encoder::{Effort, VideoSettings, best_video};
use super::ipc::Failed;
use super::ladder::{PlannedRung, TrialPoint, TrialResult};
use super::pipeline::{Graph, Running, VideoFeed, other};
use super::rung::{Encoding, Job, Leftovers};
use super::session::{EVENTS_MAX, Event, init_gstreamer};
use super::source_test::video_caps;
use super::testcard::{Reading, TestCard};

/// What is encoded, and how many frames of it: half a second of work on a slow core.
const POINTS: [(&str, Effort, u32); 6] = [
    ("360p", Effort::Superfast, 60),
    ("360p", Effort::Ultrafast, 60),
    ("720p", Effort::Superfast, 30),
    ("720p", Effort::Ultrafast, 30),
    ("1080p", Effort::Superfast, 15),
    ("1080p", Effort::Ultrafast, 15),
];

/// Longest time for one point; all six stay below 3 s.
const POINT_MAX: Duration = Duration::from_millis(450);

/// Different pictures, shown in turn.
const PICTURES: u32 = 8;

/// Size of the pictures: smaller rungs are scaled from it, as in a session.
const SOURCE: (u32, u32) = (1920, 1080);

/// Measures this machine.
///
/// # Errors
/// When GStreamer or its encoder is missing or does not work.
pub fn run() -> Result<TrialResult, Failed> {
    init_gstreamer()?;
    let pictures = pictures(SOURCE);
    let mut points = Vec::new();
    for (name, effort, frames) in POINTS {
        let preset = preset_named(name).ok_or_else(|| other(format!("no preset {name}")))?;
        let realtime = measure(preset, effort, frames, &pictures)?;
        points.push(TrialPoint { preset: name.to_owned(), effort, realtime });
    }
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    Ok(TrialResult { cores, points })
}

/// How many times faster than real time one core encodes this preset.
fn measure(
    preset: &Preset,
    effort: Effort,
    frames: u32,
    pictures: &[gst::Buffer],
) -> Result<f64, Failed> {
    let rung = PlannedRung {
        rung: preset.rung(),
        width: preset.width,
        height: preset.height,
        fps: Some((preset.fps, 1)),
        thin_to: None,
    };
    let graph = Graph {
        rungs: vec![(0, &rung)],
        marks: false,
        video: Some(VideoFeed::Raw(video_caps(SOURCE.0, SOURCE.1, (preset.fps, 1)))),
        tiers: Vec::new(),
        audio: None,
    };
    let (sender, events) = sync_channel(EVENTS_MAX);
    let timeline = Arc::new(Mutex::new(Timeline::new(2_000_000)));
    let running = Running::start(&graph, &timeline, &sender)?;
    let job = Job {
        output: 0,
        generation: 1,
        settings: VideoSettings {
            kbps: preset.video_kbps,
            pixel_rate: u64::from(preset.width) * u64::from(preset.height) * u64::from(preset.fps),
            effort,
        },
        size: (preset.width, preset.height),
        fps: (preset.fps, 1),
        thin_to: None,
    };
    let encoding = Encoding::start(job, best_video()?, &timeline, &sender, &Leftovers::default())?;
    if let Some((_, outlet)) = running.outlets.first() {
        outlet.switch(0, Some(encoding));
    }
    let Some(feed) = &running.video else { return Err(other("the trial has no input".into())) };
    let (began, cpu_began) = (Instant::now(), cpu_seconds()?);
    let (mut pushed, mut done) = (0u32, 0u32);
    for picture in pictures.iter().cycle() {
        while pushed < frames && feed.is_full() || pushed == frames {
            match events.recv_timeout(POINT_MAX.saturating_sub(began.elapsed())) {
                Ok(Event::Coded(_)) => done += 1,
                Ok(Event::OutputEnded { .. }) | Err(RecvTimeoutError::Timeout) => break,
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(other("the trial stopped".into()));
                }
            }
            if done == frames {
                break;
            }
        }
        if done == frames || began.elapsed() >= POINT_MAX {
            break;
        }
        feed.push(at(picture, pushed, preset.fps));
        pushed += 1;
    }
    let cpu = cpu_seconds()? - cpu_began;
    drop(events);
    if let Some(failed) = running.failure() {
        return Err(failed);
    }
    if done == 0 {
        // Slower than one frame in the time there was.
        return Ok(0.0);
    }
    Ok(f64::from(done) / f64::from(preset.fps) / cpu.max(0.001))
}

/// Different noisy pictures of this size, I420.
pub(super) fn pictures(size: (u32, u32)) -> Vec<gst::Buffer> {
    let card = TestCard::new(size.0, size.1, 4);
    let mut seed = 0x2545_f491u32;
    (0..PICTURES)
        .map(|n| {
            let mut frame = vec![0; card.frame_bytes()];
            card.draw(&mut frame, Reading { counter: n * 5, clock_ms: 0 });
            // A camera's noise: clean pictures would make every encoder look fast.
            for luma in &mut frame[..(size.0 * size.1) as usize] {
                seed ^= seed << 13;
                seed ^= seed >> 17;
                seed ^= seed << 5;
                *luma = luma.saturating_add((seed >> 29) as u8);
            }
            gst::Buffer::from_mut_slice(frame)
        })
        .collect()
}

/// The picture again, at another time; its bytes are shared.
pub(super) fn at(picture: &gst::Buffer, n: u32, fps: u32) -> gst::Buffer {
    let mut buffer = picture.clone();
    let ns = u64::from(n) * 1_000_000_000 / u64::from(fps.max(1));
    buffer.make_mut().set_pts(gst::ClockTime::from_nseconds(ns));
    buffer
}

/// Processor time of this process so far, from `/proc/self/stat`: user and system time are its
/// fields 14 and 15, in hundredths of a second.
fn cpu_seconds() -> Result<f64, Failed> {
    let unreadable = || other("cannot read /proc/self/stat".to_owned());
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|_| unreadable())?;
    // The second field is a name in parentheses that may hold spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(unreadable)?;
    let times: Vec<f64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
    match times[..] {
        [user, system] => Ok((user + system) / 100.0),
        _ => Err(unreadable()),
    }
}
