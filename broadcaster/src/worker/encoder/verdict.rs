//! What a trial of an encoder says about it. Pure: what was seen goes in, a verdict with its
//! reason comes out.

use serde::{Deserialize, Serialize};

use super::choice::ProvenEncoder;
use super::{Family, video_named};

/// One access unit that came out of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Number of the frame that its time belongs to.
    pub frame: u64,
    /// Whether it is an IDR picture.
    pub idr: bool,
    /// Whether the encoder says that it is a key frame.
    pub marked: bool,
    /// Its size in bytes.
    pub bytes: usize,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that goes in has gone in and come out.
    Whole,
    /// The time was over first.
    Late,
    /// Nothing came out for so many milliseconds.
    Silent(u64),
    /// The encoder gave an error.
    Broken(String),
}

/// One run of an encoder at one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Size of the pictures.
    pub size: (u32, u32),
    /// Their rate, per second.
    pub fps: u32,
    /// The target in kbit/s.
    pub kbps: u32,
    /// Frames that go in.
    pub frames: u64,
    /// The frame for which a key frame was asked.
    pub asked: u64,
    /// The size that the decoder configuration tells, when there is one with SPS and PPS.
    pub configured: Option<(u32, u32)>,
    /// What came out.
    pub units: Vec<Unit>,
    /// From the first unit to the last, in microseconds.
    pub elapsed_us: u64,
    /// How it ended.
    pub ended: Ended,
}

/// Why an encoder does not count.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// It gave an error.
    #[error("it fails: {0}")]
    Broken(String),
    /// It went silent.
    #[error("it hangs: nothing came out for {ms} ms after {units} frames")]
    Silent {
        /// How long.
        ms: u64,
        /// What had come out before.
        units: usize,
    },
    /// Not in real time, or not by enough.
    #[error("it is too slow: {speed:.2} times real time, {min} is needed")]
    Slow {
        /// Its speed.
        speed: f64,
        /// What is needed.
        min: f64,
    },
    /// It began with something else.
    #[error("its first frame is no IDR")]
    FirstNoIdr,
    /// No key frame where one was asked for.
    #[error("a forced key frame did not come at its frame")]
    KeyIgnored,
    /// One where none was asked for.
    #[error("a key frame came unasked, at frame {0}")]
    KeyUnasked(u64),
    /// An IDR that is not marked, or the other way.
    #[error("frame {0} is marked as what it is not")]
    Mismarked(u64),
    /// Output in another order than input.
    #[error("its frames come in another order: it makes B-frames")]
    Reordered,
    /// Frames that never came.
    #[error("{0} frames did not come out")]
    Lost(u64),
    /// No decoder configuration.
    #[error("its codec_data has no SPS and PPS")]
    NoConfig,
    /// Pictures of another size.
    #[error("it makes {}x{}", .0.0, .0.1)]
    Size((u32, u32)),
    /// Far from the target.
    #[error("its bitrate is {0:.2} times the target")]
    Bitrate(f64),
}

/// How far from its target a bitrate may be.
pub const BITRATE_OFF_MAX: f64 = 0.25;

/// What one run said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SizeTried {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Why it does not count at this size; `None` when it does.
    pub reason: Option<String>,
    /// Whether it went silent, so that it does not count at any size: what hangs may take the
    /// device with it.
    pub hangs: bool,
    /// How many times faster than 30 frames per second, when enough came out to tell.
    pub speed: Option<f64>,
    /// Its bitrate beside the target, when enough came out to tell.
    pub bitrate_ratio: Option<f64>,
}

/// What a trial said about an encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The GStreamer element.
    pub element: String,
    /// Whether it counts.
    pub ok: bool,
    /// Why not; for one that counts, what it is not used for.
    pub reason: Option<String>,
    /// How many times faster than real time it is, at 1080p30 or at the largest size that it
    /// takes.
    pub speed: Option<f64>,
    /// Its bitrate beside the target, at that size.
    pub bitrate_ratio: Option<f64>,
    /// How many it makes at once; `None` when no limit was found.
    pub sessions_max: Option<u32>,
    /// The runs, first the one that must pass.
    pub sizes: Vec<SizeTried>,
}

/// Judges one run. Slowness counts where `speed_min` says so.
pub fn judge(seen: &Seen, speed_min: Option<f64>) -> SizeTried {
    let (speed, ratio) = (speed(seen), bitrate_ratio(seen));
    SizeTried {
        width: seen.size.0,
        height: seen.size.1,
        reason: fault(seen, speed, ratio, speed_min).map(|fault| fault.to_string()),
        hangs: matches!(seen.ended, Ended::Silent(_)),
        speed,
        bitrate_ratio: ratio,
    }
}

fn fault(
    seen: &Seen,
    speed: Option<f64>,
    ratio: Option<f64>,
    speed_min: Option<f64>,
) -> Option<Fault> {
    match &seen.ended {
        Ended::Broken(why) => return Some(Fault::Broken(why.clone())),
        Ended::Silent(ms) => return Some(Fault::Silent { ms: *ms, units: seen.units.len() }),
        Ended::Whole | Ended::Late => {}
    }
    if !seen.units.is_sorted_by(|a, b| a.frame < b.frame) {
        return Some(Fault::Reordered);
    }
    if let Some(unit) = seen.units.iter().find(|u| u.idr != u.marked) {
        return Some(Fault::Mismarked(unit.frame));
    }
    let unasked = |u: &&Unit| u.idr && u.frame != 0 && u.frame != seen.asked;
    match seen.units.first() {
        None => return Some(Fault::Lost(seen.frames)),
        Some(unit) if !unit.idr => return Some(Fault::FirstNoIdr),
        Some(_) => {}
    }
    if seen.units.iter().any(|u| u.frame == seen.asked && !u.idr) {
        return Some(Fault::KeyIgnored);
    }
    if let Some(unit) = seen.units.iter().find(unasked) {
        return Some(Fault::KeyUnasked(unit.frame));
    }
    match seen.configured {
        None => return Some(Fault::NoConfig),
        Some(size) if size != seen.size => return Some(Fault::Size(size)),
        Some(_) => {}
    }
    let min = speed_min.unwrap_or(0.0);
    let speed = speed.unwrap_or(0.0);
    if speed < min || seen.ended == Ended::Late {
        return Some(Fault::Slow { speed, min });
    }
    let lost = seen.frames.saturating_sub(seen.units.len() as u64);
    if lost > 0 {
        return Some(Fault::Lost(lost));
    }
    ratio.filter(|ratio| (ratio - 1.0).abs() > BITRATE_OFF_MAX).map(Fault::Bitrate)
}

/// How much faster than its own rate it went. The first frame is left out: it waits until the
/// encoder is open.
fn speed(seen: &Seen) -> Option<f64> {
    let frames = seen.units.len().checked_sub(2)? + 1;
    Some(frames as f64 / f64::from(seen.fps) / (seen.elapsed_us.max(1) as f64 / 1e6))
}

/// The bitrate after the first second, in which the rate control finds its way, beside the
/// target.
fn bitrate_ratio(seen: &Seen) -> Option<f64> {
    let settled = seen.units.get(seen.fps as usize..).filter(|rest| !rest.is_empty())?;
    let bits = settled.iter().map(|u| u.bytes as f64 * 8.0).sum::<f64>();
    let seconds = settled.len() as f64 / f64::from(seen.fps);
    Some(bits / seconds / (f64::from(seen.kbps) * 1000.0))
}

/// The verdict on an encoder: it counts when it passed the first size and hung at none.
pub fn conclude(element: &str, sizes: Vec<SizeTried>, sessions_max: Option<u32>) -> Tried {
    let hangs = sizes.iter().find(|size| size.hangs);
    let ok = hangs.is_none() && sizes.first().is_some_and(|size| size.reason.is_none());
    let worst = hangs.or(sizes.iter().find(|size| size.reason.is_some()));
    let reason = worst.and_then(|size| {
        let why = size.reason.as_deref()?;
        Some(match ok {
            true => format!("not for {}x{}: {why}", size.width, size.height),
            false => format!("at {}x{}: {why}", size.width, size.height),
        })
    });
    let passed = sizes.iter().filter(|size| size.reason.is_none());
    let shown = passed.max_by_key(|s| s.width * s.height).or(sizes.first());
    let (speed, bitrate_ratio) = shown.map_or((None, None), |s| (s.speed, s.bitrate_ratio));
    let element = element.to_owned();
    Tried { element, ok, reason, speed, bitrate_ratio, sessions_max, sizes }
}

/// The verdict on one whose trial said nothing at all.
pub fn untried(element: &str, reason: impl Into<String>) -> Tried {
    Tried { ok: false, reason: Some(reason.into()), ..conclude(element, Vec::new(), None) }
}

/// How far an encoder may be used, when it may.
pub fn proven(tried: &Tried, speed_min: f64) -> Option<ProvenEncoder> {
    let encoder = video_named(&tried.element).filter(|_| tried.ok)?;
    let area = |size: &&SizeTried| u64::from(size.width) * u64::from(size.height);
    let passed = || tried.sizes.iter().filter(|size| size.reason.is_none());
    let failed = || tried.sizes.iter().filter(|size| size.reason.is_some());
    let (least, most) = (passed().min_by_key(area)?, passed().max_by_key(area)?);
    // What is larger than anything tried is left to the limit of pixels.
    let limited = |beyond: bool, size: &SizeTried| beyond.then_some((size.width, size.height));
    let pixel_rate = passed()
        .filter_map(|s| Some(s.speed? / speed_min * area(&s) as f64 * f64::from(FPS)))
        .fold(0.0, f64::max) as u64;
    Some(ProvenEncoder {
        element: tried.element.clone(),
        sessions_max: tried.sessions_max,
        smallest: limited(failed().any(|s| area(&s) < area(&least)), least),
        largest: limited(failed().any(|s| area(&s) > area(&most)), most),
        pixel_rate_max: (encoder.family != Family::Software).then_some(pixel_rate),
    })
}

/// Frames per second of every trial.
pub const FPS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    /// A run without fault: 90 frames of 1000 bytes in a second.
    fn good() -> Seen {
        let key = |frame| frame == 0 || frame == 46;
        Seen {
            size: (1280, 720),
            fps: FPS,
            kbps: 240,
            frames: 90,
            asked: 46,
            configured: Some((1280, 720)),
            units: (0..90)
                .map(|frame| Unit { frame, idr: key(frame), marked: key(frame), bytes: 1000 })
                .collect(),
            elapsed_us: 1_000_000,
            ended: Ended::Whole,
        }
    }

    fn reason(spoil: impl FnOnce(&mut Seen)) -> String {
        let mut seen = good();
        spoil(&mut seen);
        judge(&seen, Some(1.25)).reason.unwrap_or_default()
    }

    fn lose(seen: &mut Seen, frame: u64) {
        seen.units.retain(|unit| unit.frame != frame);
    }

    fn key(seen: &mut Seen, frame: usize, is: bool) {
        seen.units[frame].idr = is;
        seen.units[frame].marked = is;
    }

    #[test]
    fn a_run_without_fault_passes_and_gives_its_figures() {
        let tried = judge(&good(), Some(1.25));
        assert_eq!(tried.reason, None);
        assert_eq!(tried.bitrate_ratio, Some(1.0));
        assert!(tried.speed.is_some_and(|speed| (2.9..3.0).contains(&speed)), "{tried:?}");
    }

    #[test]
    fn every_fault_has_its_reason() {
        assert_eq!(reason(|s| s.ended = Ended::Broken("no device".into())), "it fails: no device");
        let hangs = reason(|s| {
            s.ended = Ended::Silent(3000);
            s.units.clear();
        });
        assert_eq!(hangs, "it hangs: nothing came out for 3000 ms after 0 frames");
        let slow = reason(|s| s.elapsed_us = 2_966_667);
        assert_eq!(slow, "it is too slow: 1.00 times real time, 1.25 is needed");
        assert!(reason(|s| s.ended = Ended::Late).contains("too slow"));
        assert_eq!(reason(|s| key(s, 0, false)), "its first frame is no IDR");
        assert_eq!(reason(|s| lose(s, 0)), "its first frame is no IDR");
        assert!(reason(|s| key(s, 46, false)).contains("forced key frame did not come"));
        assert_eq!(reason(|s| key(s, 47, true)), "a key frame came unasked, at frame 47");
        assert!(reason(|s| s.units[7].marked = true).contains("frame 7 is marked"));
        assert!(reason(|s| s.units.swap(3, 4)).contains("B-frames"));
        assert_eq!(reason(|s| lose(s, 70)), "1 frames did not come out");
        assert_eq!(reason(|s| s.units.clear()), "90 frames did not come out");
        assert!(reason(|s| s.configured = None).contains("SPS and PPS"));
        assert_eq!(reason(|s| s.configured = Some((16, 16))), "it makes 16x16");
        assert_eq!(reason(|s| s.kbps = 120), "its bitrate is 2.00 times the target");
        assert_eq!(reason(|s| s.kbps = 480), "its bitrate is 0.50 times the target");
    }

    #[test]
    fn a_quarter_off_the_target_and_a_slow_processor_are_no_fault() {
        assert_eq!(reason(|s| s.kbps = 195), "");
        let mut slow = good();
        slow.elapsed_us = 10_000_000;
        assert_eq!(judge(&slow, None).reason, None);
    }

    fn sized(height: u32, reason: Option<&str>) -> SizeTried {
        SizeTried {
            width: height * 16 / 9,
            height,
            reason: reason.map(str::to_owned),
            hangs: false,
            speed: Some(2.5),
            bitrate_ratio: Some(1.0),
        }
    }

    #[test]
    fn an_encoder_that_fails_at_one_size_is_used_for_the_others() {
        let sizes = vec![sized(720, None), sized(1080, Some("why")), sized(360, Some("small"))];
        let tried = conclude("vah264enc", sizes, Some(3));
        assert!(tried.ok);
        assert_eq!(tried.reason.as_deref(), Some("not for 1920x1080: why"));
        let proven = proven(&tried, 1.25).expect("it counts");
        assert_eq!((proven.smallest, proven.largest), (Some((1280, 720)), Some((1280, 720))));
        assert_eq!(proven.sessions_max, Some(3));
        assert_eq!(proven.pixel_rate_max, Some(2 * 1280 * 720 * 30));
    }

    #[test]
    fn an_encoder_that_fails_at_the_first_size_does_not_count() {
        let tried = conclude("vah264enc", vec![sized(720, Some("why")), sized(360, None)], None);
        assert_eq!((tried.ok, tried.reason.as_deref()), (false, Some("at 1280x720: why")));
        assert_eq!(proven(&tried, 1.25), None);
        assert_eq!(proven(&untried("vah264enc", "why"), 1.25), None);
    }

    #[test]
    fn an_encoder_that_hangs_at_any_size_does_not_count() {
        let silent = SizeTried { hangs: true, ..sized(1080, Some("it hangs")) };
        let tried = conclude("vah264enc", vec![sized(720, None), silent], None);
        assert_eq!((tried.ok, tried.reason.as_deref()), (false, Some("at 1920x1080: it hangs")));
    }

    #[test]
    fn one_without_fault_has_no_limit_of_size_and_software_none_of_pixels() {
        let sizes = || vec![sized(720, None), sized(1080, None), sized(360, None)];
        let chip = proven(&conclude("vah264enc", sizes(), None), 1.25).expect("it counts");
        assert_eq!((chip.smallest, chip.largest, chip.sessions_max), (None, None, None));
        let x264 = proven(&conclude("x264enc", sizes(), None), 1.25).expect("it counts");
        assert_eq!(x264, ProvenEncoder::unlimited("x264enc"));
    }
}
