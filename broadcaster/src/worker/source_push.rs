//! Media that a publisher pushes: waits until it is clear which tracks there are, places frames in
//! session time, and notices when the publisher's media changes. Pure: time is an argument.
//!
//! Session time 0 is the first IDR frame, or the first audio frame when there is no video. What
//! comes before it is left out.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use common::rendition::AudioTier;

use super::aac::{self, AudioInfo};
use super::h264::{self, VideoInfo, is_idr};
use super::ipc::{FailCode, Failed};
use super::ladder::Picture;
use super::session::input;
use crate::ingest::media::{Config, Frame, Track};

/// How long a second track is waited for once the first has begun.
const SECOND_TRACK_WAIT: Duration = Duration::from_millis(1500);

/// Bytes held while waiting: 1.5 s at 80 Mbit/s, after which the session begins with what is
/// there.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Frames held while waiting, against floods of empty ones.
const HELD_FRAMES_MAX: usize = 2048;

/// Video frames that show the frame rate when the stream does not say it.
const RATE_FRAMES: usize = 10;

/// How far back time may step before it is another recording, in microseconds.
const BACK_US_MAX: i64 = 1_000_000;

/// How far ahead time may step before it is another recording, in microseconds.
const AHEAD_US_MAX: i64 = 10_000_000;

/// The intake of one publisher's media.
#[derive(Debug, Default)]
pub struct Intake {
    video: Option<VideoTrack>,
    audio: Option<AudioTrack>,
    held: VecDeque<Frame>,
    held_bytes: usize,
    /// When the first usable frame came, and at which wall clock.
    first: Option<(Duration, i64)>,
    origin: Option<Origin>,
    last_dts_us: [Option<i64>; 2],
    b_frames: bool,
    key_us: Option<i64>,
    key_distance_us: u64,
}

/// A pushed video track.
#[derive(Clone, Debug)]
pub struct VideoTrack {
    /// Its `AVCDecoderConfigurationRecord`.
    pub avcc: Bytes,
    /// What it shows.
    pub picture: Picture,
    length_size: u8,
}

/// A pushed audio track.
#[derive(Clone, Debug)]
pub struct AudioTrack {
    /// Its `AudioSpecificConfig`.
    pub asc: Bytes,
    /// What that says.
    pub info: AudioInfo,
}

/// Where session time 0 is on the publisher's clock, and which tracks take part.
#[derive(Clone, Copy, Debug)]
struct Origin {
    pts_us: i64,
    dts_us: i64,
    video: bool,
    audio: bool,
}

/// Everything needed to begin a session.
#[derive(Debug)]
pub struct Begin {
    /// The video track, when it takes part.
    pub video: Option<VideoTrack>,
    /// The audio track, when it takes part.
    pub audio: Option<AudioTrack>,
    /// Wall clock of session time 0, in microseconds since the Unix epoch.
    pub wall_clock_us: i64,
    /// What to tell the operator.
    pub notes: Vec<String>,
    /// The frames held so far.
    pub frames: Vec<Placed>,
}

/// A frame in session time.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Whether it is video, else audio.
    pub is_video: bool,
    /// Whether decoding can start here.
    pub key: bool,
    /// Presentation time in nanoseconds.
    pub pts_ns: u64,
    /// Decoding time in nanoseconds, moved so that the first key frame's equals its
    /// presentation time.
    pub dts_ns: u64,
    /// The access unit.
    pub data: Bytes,
}

impl Placed {
    /// The frame as a GStreamer buffer that shares its bytes.
    pub fn buffer(&self) -> gst::Buffer {
        let mut buffer = gst::Buffer::from_slice(self.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(self.pts_ns));
            if !self.key {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        buffer
    }
}

impl Intake {
    /// Takes a track's configuration.
    ///
    /// # Errors
    /// [`FailCode::Input`] when it cannot be used, [`FailCode::Changed`] when it differs from the
    /// one this session began with.
    pub fn handle_config(&mut self, config: Config) -> Result<(), Failed> {
        let began = self.origin.is_some();
        match config {
            Config::H264 { avcc } => {
                if self.video.as_ref().is_some_and(|v| v.avcc == avcc) {
                    return Ok(());
                }
                if began {
                    return Err(changed("the publisher's video settings changed"));
                }
                let info = h264::parse_avcc(&avcc).map_err(|error| {
                    input(format!(
                        "{error}: the publisher must send H.264 with a complete configuration"
                    ))
                })?;
                let length_size = info.length_size;
                self.video = Some(VideoTrack { picture: picture(&info), avcc, length_size });
                // Frames of another configuration would not decode.
                self.held.retain(|f| f.track != Track::Video);
            }
            Config::Aac { asc } => {
                if self.audio.as_ref().is_some_and(|a| a.asc == asc) {
                    return Ok(());
                }
                if began {
                    return Err(changed("the publisher's audio settings changed"));
                }
                let info = aac::parse_asc(&asc).ok_or_else(|| input(
                    "the AAC configuration cannot be read: the publisher must send AAC-LC with 1 to 8 channels".into(),
                ))?;
                self.audio = Some(AudioTrack { asc, info });
                self.held.retain(|f| f.track != Track::Audio);
            }
        }
        Ok(())
    }

    /// Takes a frame that arrived at `now` (any clock) and `wall_clock_us`. Gives it back in
    /// session time once the session has begun; before, it is held.
    ///
    /// # Errors
    /// [`FailCode::Changed`] when its time jumped, or its track appeared after the beginning.
    pub fn handle_frame(
        &mut self,
        mut frame: Frame,
        now: Duration,
        wall_clock_us: i64,
    ) -> Result<Option<Placed>, Failed> {
        let length_size = match frame.track {
            Track::Video => self.video.as_ref().map(|v| v.length_size),
            Track::Audio => self.audio.as_ref().map(|_| 0),
        };
        // Without a configuration, or without bytes, a frame means nothing.
        let Some(length_size) = length_size.filter(|_| !frame.data.is_empty()) else {
            return Ok(None);
        };
        if frame.track == Track::Video {
            // Some encoders call a recovery point a key frame.
            frame.key = frame.key && is_idr(&frame.data, length_size);
        }
        let jumped = self.check_jump(&frame);
        let Some(origin) = self.origin else {
            if jumped.is_err() {
                // Nothing has been published yet: begin with the new time.
                self.restart();
            }
            self.hold(frame, now, wall_clock_us);
            return Ok(None);
        };
        jumped?;
        let takes_part = match frame.track {
            Track::Video => origin.video,
            Track::Audio => origin.audio,
        };
        if !takes_part {
            if frame.track == Track::Video && !frame.key {
                return Ok(None);
            }
            return Err(changed("a track appeared that was missing when the session began"));
        }
        Ok(self.place(frame, origin))
    }

    /// Gives what is needed to begin, once: when both tracks have come, or the second has been
    /// waited for long enough.
    ///
    /// # Errors
    /// Never yet; kept for sources that turn out unusable only with their first frames.
    pub fn poll_begin(&mut self, now: Duration) -> Result<Option<Begin>, Failed> {
        let (Some((since, wall_clock_us)), None) = (self.first, self.origin) else {
            return Ok(None);
        };
        let video = self.held.iter().any(|f| f.track == Track::Video);
        let audio = self.held.iter().any(|f| f.track == Track::Audio);
        let waited = now.saturating_sub(since) >= SECOND_TRACK_WAIT
            || self.held_bytes > HELD_BYTES_MAX
            || self.held.len() > HELD_FRAMES_MAX;
        let rate_known = !video || self.video.as_ref().is_some_and(|v| v.picture.fps.is_some());
        let enough = rate_known
            || self.held.iter().filter(|f| f.track == Track::Video).count() > RATE_FRAMES;
        if !(waited || video && audio && enough) {
            return Ok(None);
        }
        let first = self.held.iter().find(|f| !video || f.track == Track::Video);
        let Some(first) = first else { return Ok(None) };
        let origin = Origin { pts_us: first.pts_us, dts_us: first.dts_us, video, audio };
        self.origin = Some(origin);
        let mut notes = Vec::new();
        if video && !rate_known {
            let fps = measured_rate(&self.held);
            if let Some(track) = &mut self.video {
                track.picture.fps = fps;
            }
        }
        if !(video && audio) {
            let missing = if video { "audio" } else { "video" };
            notes.push(format!("the publisher sends no {missing}"));
        }
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let frames = held.into_iter().filter_map(|f| self.place(f, origin)).collect();
        Ok(Some(Begin {
            video: self.video.clone().filter(|_| video),
            audio: self.audio.clone().filter(|_| audio),
            wall_clock_us,
            notes,
            frames,
        }))
    }

    /// Longest distance of the key frames seen so far that the current one may still exceed, in
    /// microseconds; 0 before the second key frame.
    pub fn key_distance_us(&self) -> u64 {
        self.key_distance_us
    }

    /// Whether frames are shown in another order than they are decoded.
    pub fn has_b_frames(&self) -> bool {
        self.b_frames
    }

    fn hold(&mut self, frame: Frame, now: Duration, wall_clock_us: i64) {
        let has_key = self.held.iter().any(|f| f.track == Track::Video);
        match frame.track {
            Track::Video if !has_key && !frame.key => return,
            Track::Video if !has_key => {
                // Session time starts here, whatever audio came before.
                self.first = Some((self.first.map_or(now, |f| f.0), wall_clock_us));
            }
            Track::Video | Track::Audio => {
                self.first.get_or_insert((now, wall_clock_us));
            }
        }
        self.held_bytes += frame.data.len();
        self.held.push_back(frame);
    }

    fn restart(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
        self.first = None;
        self.last_dts_us = [None; 2];
    }

    fn check_jump(&mut self, frame: &Frame) -> Result<(), Failed> {
        let last = &mut self.last_dts_us[usize::from(frame.track == Track::Audio)];
        let step = frame.dts_us.saturating_sub(last.unwrap_or(frame.dts_us));
        if !(-BACK_US_MAX..=AHEAD_US_MAX).contains(&step) {
            let seconds = step as f64 / 1e6;
            return Err(changed(&format!("the publisher's time jumped by {seconds:+.1} s")));
        }
        *last = Some(last.map_or(frame.dts_us, |l| l.max(frame.dts_us)));
        Ok(())
    }

    fn place(&mut self, frame: Frame, origin: Origin) -> Option<Placed> {
        let is_video = frame.track == Track::Video;
        let pts_us = frame.pts_us.checked_sub(origin.pts_us)?;
        let dts_origin = if is_video { origin.dts_us } else { origin.pts_us };
        let dts_us = frame.dts_us.checked_sub(dts_origin)?;
        let pts_ns = u64::try_from(pts_us).ok()?.checked_mul(1000)?;
        let dts_ns = u64::try_from(dts_us).unwrap_or(0).saturating_mul(1000);
        if is_video {
            self.b_frames |= pts_us != dts_us;
            if frame.key {
                if let Some(last) = self.key_us.replace(pts_us) {
                    self.key_distance_us = u64::try_from(pts_us - last).unwrap_or(0);
                }
            } else if let Some(last) = self.key_us {
                // Still waiting for the next one: already at least this far.
                let so_far = u64::try_from(pts_us - last).unwrap_or(0);
                self.key_distance_us = self.key_distance_us.max(so_far);
            }
        }
        Some(Placed { is_video, key: frame.key, pts_ns, dts_ns, data: frame.data })
    }
}

/// Whether AAC of this configuration can be passed through as this tier.
pub fn aac_fits(asc: &[u8], tier: &AudioTier, whatever: bool) -> bool {
    aac::parse_asc(asc).is_some_and(|info| {
        let same = (info.sample_rate, info.channels) == (tier.sample_rate, tier.channels);
        whatever || (same && info.codec == "mp4a.40.2")
    })
}

fn picture(info: &VideoInfo) -> Picture {
    // Browsers decode Baseline, Main and High: 8 bits, 4:2:0.
    let passable =
        ["avc1.42", "avc1.4d", "avc1.58", "avc1.64"].iter().any(|p| info.codec.starts_with(p));
    Picture {
        width: info.width,
        height: info.height,
        pixel_aspect: info.pixel_aspect,
        fps: info.fps,
        passable,
    }
}

/// The frame rate that decoding times show, as one of the usual ones when near.
fn measured_rate(held: &VecDeque<Frame>) -> Option<(u32, u32)> {
    let mut times = held.iter().filter(|f| f.track == Track::Video).map(|f| f.dts_us);
    let first = times.next()?;
    let (steps, last) = times.fold((0i64, first), |(n, _), t| (n + 1, t));
    if steps == 0 || last <= first {
        return None;
    }
    let rate = steps as f64 * 1e6 / (last - first) as f64;
    let usual = [30, 25, 60, 50, 24, 15, 20, 10, 12, 48];
    let near = usual.into_iter().find(|u| (rate / f64::from(*u) - 1.0).abs() < 0.015);
    let rounded = near.unwrap_or(rate.round() as u32);
    (1..=240).contains(&rounded).then_some((rounded, 1))
}

fn changed(message: &str) -> Failed {
    Failed { code: FailCode::Changed, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVCC: &[u8] = &[
        1, 0x64, 0, 0x28, 0xff, 0xe1, 0, 0x1b, 0x67, 0x64, 0, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02,
        0x27, 0xe5, 0xc0, 0x44, 0, 0, 3, 0, 4, 0, 0, 3, 0, 0xf0, 0x3c, 0x60, 0xc6, 0x58, 1, 0, 6,
        0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0,
    ];

    fn video(pts_ms: i64, key: bool) -> Frame {
        let nal: &[u8] = if key { &[0, 0, 0, 2, 0x65, 1] } else { &[0, 0, 0, 2, 0x41, 1] };
        Frame {
            track: Track::Video,
            key,
            pts_us: pts_ms * 1000,
            dts_us: pts_ms * 1000,
            data: Bytes::from_static(nal),
        }
    }

    fn audio(pts_ms: i64) -> Frame {
        Frame {
            track: Track::Audio,
            key: true,
            data: Bytes::from_static(&[1]),
            ..video(pts_ms, true)
        }
    }

    fn configured() -> Intake {
        let mut intake = Intake::default();
        intake.handle_config(Config::H264 { avcc: Bytes::from_static(AVCC) }).expect("H.264");
        intake.handle_config(Config::Aac { asc: Bytes::from_static(&[0x11, 0x90]) }).expect("AAC");
        intake
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_session_begins_at_the_first_idr_when_both_tracks_are_there() {
        let mut intake = configured();
        for (ms, frame) in [(0, video(4967, false)), (1, audio(4990)), (2, video(5000, true))] {
            assert!(intake.handle_frame(frame, at(ms), 77).expect("held").is_none());
        }
        let begin = intake.poll_begin(at(3)).expect("fine").expect("both tracks are there");
        assert!(begin.video.is_some() && begin.audio.is_some() && begin.notes.is_empty());
        assert_eq!(begin.frames.len(), 1, "audio before the first picture is left out");
        assert_eq!((begin.frames[0].pts_ns, begin.wall_clock_us), (0, 77));
        let next = intake.handle_frame(audio(5010), at(4), 78).expect("fine").expect("placed");
        assert_eq!(next.pts_ns, 10_000_000);
    }

    #[test]
    fn a_missing_track_is_waited_for_and_then_done_without() {
        let mut intake = configured();
        intake.handle_frame(video(0, true), at(0), 0).expect("held");
        assert!(intake.poll_begin(at(1400)).expect("fine").is_none());
        let begin = intake.poll_begin(at(1500)).expect("fine").expect("long enough");
        assert!(begin.video.is_some() && begin.audio.is_none());
        assert!(begin.notes[0].contains("no audio"));
        let late = intake.handle_frame(audio(2000), at(2000), 0).expect_err("a new session");
        assert_eq!(late.code, FailCode::Changed);
    }

    #[test]
    fn jumps_and_new_settings_end_the_session_but_small_steps_do_not() {
        let began = || {
            let mut intake = configured();
            intake.handle_frame(video(0, true), at(0), 0).expect("held");
            intake.handle_frame(audio(0), at(0), 0).expect("held");
            intake.poll_begin(at(0)).expect("fine").expect("begun");
            intake.handle_frame(video(5000, true), at(1), 0).expect("5 s ahead is a hole");
            intake
        };
        for (ms, ok) in [(4100, true), (3900, false), (14_900, true), (15_100, false)] {
            assert_eq!(began().handle_frame(video(ms, true), at(2), 0).is_ok(), ok, "{ms} ms");
        }
        let other = Config::Aac { asc: Bytes::from_static(&[0x12, 0x10]) };
        assert_eq!(began().handle_config(other).expect_err("changed").code, FailCode::Changed);
        let same = Config::H264 { avcc: Bytes::from_static(AVCC) };
        assert!(began().handle_config(same).is_ok());
    }

    #[test]
    fn a_recovery_point_is_no_key_frame() {
        let mut intake = configured();
        let fake = Frame { key: true, ..video(0, false) };
        intake.handle_frame(fake, at(0), 0).expect("left out");
        intake.handle_frame(audio(0), at(0), 0).expect("held");
        assert!(intake.poll_begin(at(100)).expect("fine").is_none());
    }

    #[test]
    fn unusable_configurations_are_refused_with_advice() {
        let mut intake = Intake::default();
        let failed = intake.handle_config(Config::H264 { avcc: Bytes::from_static(&[1, 2]) });
        assert!(failed.expect_err("refused").message.contains("H.264"));
        let failed = intake.handle_config(Config::Aac { asc: Bytes::new() });
        assert!(failed.expect_err("refused").message.contains("AAC-LC"));
    }

    #[test]
    fn an_unstated_frame_rate_is_measured() {
        let held: VecDeque<Frame> = (0..10).map(|i| video(i * 1000 / 25, i == 0)).collect();
        assert_eq!(measured_rate(&held), Some((25, 1)));
    }
}
