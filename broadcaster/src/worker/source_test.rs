//! The built-in source: draws the test card and plays the tone, paced by the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gst::prelude::*;

use super::pipeline::{Feed, other};
use super::session::{Event, Pulse};
use super::testcard::{Reading, TestCard, tone};

/// Samples per second of the tone.
pub const TONE_RATE: u32 = 48_000;

/// A frame this late is left out, and all before now with it: pauses of a busy machine are caught
/// up with, a machine that is too slow is not.
const LATE_MAX: Duration = Duration::from_millis(400);

/// Caps of the pictures.
pub fn video_caps(width: u32, height: u32, fps: (u32, u32)) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", width as i32)
        .field("height", height as i32)
        .field("framerate", gst::Fraction::new(fps.0 as i32, fps.1 as i32))
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .field("interlace-mode", "progressive")
        .field("colorimetry", "bt709")
        .field("chroma-site", "mpeg2")
        .build()
}

/// Caps of the tone.
pub fn audio_caps() -> gst::Caps {
    gst::Caps::builder("audio/x-raw")
        .field("format", "S16LE")
        .field("layout", "interleaved")
        .field("rate", TONE_RATE as i32)
        .field("channels", 1i32)
        .build()
}

/// What the source draws.
#[derive(Clone, Copy, Debug)]
pub struct TestSource {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Frames per second.
    pub fps: (u32, u32),
}

/// Draws until `stop` is set.
pub fn run(
    source: TestSource,
    video: &Feed,
    audio: Option<&Feed>,
    pulse: &Pulse,
    events: &SyncSender<Event>,
    stop: &Arc<AtomicBool>,
) {
    // GStreamer's default I420 layout pads rows to four bytes.
    let card = TestCard::new(source.width, source.height, 4);
    let Some(pool) = pool(card.frame_bytes()) else {
        // Nobody is listening when the session is already over.
        let _ = events.send(Event::Failed(other("no memory for test pictures".to_owned())));
        return;
    };
    let began = Instant::now();
    let wall_clock_us = wall_clock().as_micros() as i64;
    if events.send(Event::Started { wall_clock_us }).is_err() {
        return;
    }
    let time_of = |n: u64| frame_time(n, source.fps);
    let (mut n, mut sample) = (0u64, 0u64);
    while !stop.load(Ordering::Relaxed) {
        let due = time_of(n);
        match due.checked_sub(began.elapsed()) {
            Some(early) => std::thread::sleep(early),
            None if began.elapsed() - due > LATE_MAX => {
                n += 1;
                pulse.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            None => {}
        }
        if !video.is_full()
            && let Some(buffer) = draw(&card, &pool, n, due, time_of(n + 1) - due)
        {
            video.push(buffer);
        } else {
            pulse.dropped.fetch_add(1, Ordering::Relaxed);
        }
        pulse.source_us.store(due.as_micros() as u64, Ordering::Relaxed);
        n += 1;
        if let Some(audio) = audio {
            let until = (time_of(n).as_nanos() * u128::from(TONE_RATE) / 1_000_000_000) as u64;
            // Refused only when the graph has stopped.
            audio.push(samples(sample, until, wall_clock_us));
            sample = until;
        }
    }
}

fn frame_time(n: u64, fps: (u32, u32)) -> Duration {
    let (num, den) = (u128::from(fps.0.max(1)), u128::from(fps.1.max(1)));
    let ns = (u128::from(n) * den * 1_000_000_000 + num / 2) / num;
    Duration::from_nanos(ns as u64)
}

fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn pool(bytes: usize) -> Option<gst::BufferPool> {
    let pool = gst::BufferPool::new();
    let mut config = pool.config();
    // Bounded by what the graph holds.
    config.set_params(None, bytes as u32, 2, 0);
    pool.set_config(config).ok()?;
    pool.set_active(true).ok()?;
    Some(pool)
}

fn draw(
    card: &TestCard,
    pool: &gst::BufferPool,
    n: u64,
    pts: Duration,
    duration: Duration,
) -> Option<gst::Buffer> {
    let mut buffer = pool.acquire_buffer(None).ok()?;
    let frame = buffer.get_mut()?;
    frame.set_pts(gst::ClockTime::try_from(pts).ok()?);
    frame.set_duration(gst::ClockTime::try_from(duration).ok()?);
    let reading = Reading { counter: n as u32, clock_ms: wall_clock().as_millis() as u64 };
    card.draw(&mut frame.map_writable().ok()?, reading);
    Some(buffer)
}

fn samples(from: u64, to: u64, wall_clock_us: i64) -> gst::Buffer {
    let time =
        |index: u64| gst::ClockTime::from_nseconds(index * 1_000_000_000 / u64::from(TONE_RATE));
    let data: Vec<u8> =
        (from..to).flat_map(|i| tone(i, TONE_RATE, wall_clock_us).to_le_bytes()).collect();
    let mut buffer = gst::Buffer::from_mut_slice(data);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(time(from));
        buffer.set_duration(time(to) - time(from));
    }
    buffer
}
