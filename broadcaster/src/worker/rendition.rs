//! One rendition of a session: frames in, parts out. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use common::rendition::Kind;

use super::cut::{PartCutter, Sample, SampleClock, Timeline, ns_to_ticks, ticks_to_us};
use super::ipc::{MadeRendition, Part};
use super::mux::{self, MuxError, VIDEO_TIMESCALE};
use super::{aac, h264};

/// Collects frames of one track into parts.
#[derive(Debug)]
pub struct Rendition {
    /// What it is; the codec and init segment are known with its first frame.
    pub made: MadeRendition,
    /// Whether it is listed: from its first part on until it is withdrawn.
    pub listed: bool,
    timescale: u32,
    part_us: u32,
    cutter: PartCutter,
    sequence: u32,
    started: bool,
    audio: Option<AudioPlace>,
    newest_us: u64,
    bytes: u64,
}

#[derive(Debug)]
struct AudioPlace {
    clock: SampleClock,
    /// Frames whose segment is not yet certain.
    waiting: VecDeque<Sample>,
}

/// How long audio waits for video to say where segments begin, in microseconds. Longer than any
/// interleaving of a publisher and than video is behind on a machine that is too slow; after it
/// audio goes on alone.
const WAIT_US_MAX: u64 = 2_000_000;

/// Audio frames that wait at most: [`WAIT_US_MAX`] at 96 kHz, doubled.
const WAITING_MAX: usize = 384;

/// Why a rendition cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RenditionError {
    /// Its decoder configuration cannot be read.
    #[error("the {0} configuration cannot be read")]
    Config(&'static str),
    /// It cannot be written.
    #[error(transparent)]
    Mux(#[from] MuxError),
}

impl Rendition {
    /// A rendition of which no frame has come yet. `made` has everything but codec and init.
    pub fn new(made: MadeRendition, part_us: u32) -> Self {
        let timescale = match made.kind {
            Kind::Video => VIDEO_TIMESCALE,
            Kind::Audio => made.sample_rate,
        };
        let (fps, per) = if made.fps.0 == 0 { (30, 1) } else { made.fps };
        let frame = match made.kind {
            Kind::Video => u64::from(VIDEO_TIMESCALE) * u64::from(per) / u64::from(fps),
            Kind::Audio => 1024,
        };
        Self {
            listed: false,
            timescale,
            part_us,
            cutter: PartCutter::new(part_us, timescale, frame),
            sequence: 0,
            started: false,
            audio: None,
            newest_us: 0,
            bytes: 0,
            made,
        }
    }

    /// Takes the decoder configuration (`AVCDecoderConfigurationRecord` or
    /// `AudioSpecificConfig`), which completes [`Self::made`].
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn handle_config(&mut self, config: &[u8]) -> Result<(), RenditionError> {
        match self.made.kind {
            Kind::Video => {
                let info = h264::parse_avcc(config).map_err(|_| RenditionError::Config("H.264"))?;
                (self.made.width, self.made.height) = (info.width, info.height);
                self.made.init =
                    mux::video_init(config, (info.width, info.height), info.pixel_aspect)?;
                self.made.codec = info.codec;
            }
            Kind::Audio => {
                let info = aac::parse_asc(config).ok_or(RenditionError::Config("AAC"))?;
                (self.made.sample_rate, self.made.channels) = (info.sample_rate, info.channels);
                self.timescale = info.sample_rate;
                self.cutter =
                    PartCutter::new(self.part_us, info.sample_rate, info.frame_samples.into());
                self.audio = Some(AudioPlace {
                    clock: SampleClock::new(info.sample_rate, info.frame_samples),
                    waiting: VecDeque::new(),
                });
                let (rate, channels) = (info.sample_rate, info.channels);
                self.made.init = mux::audio_init(config, rate, channels, self.made.bitrate)?;
                self.made.codec = info.codec;
            }
        }
        Ok(())
    }

    /// Forgets codec and init segment: another encoder will make it.
    pub fn forget_config(&mut self) {
        self.made.init = Bytes::new();
        self.started = false;
    }

    /// Whether codec and init segment are known.
    pub fn is_ready(&self) -> bool {
        !self.made.init.is_empty()
    }

    /// Takes a video frame; times in nanoseconds of session time, `dts_ns` such that it equals
    /// `pts_ns` at the first key frame. Gives the parts it completes, with `rendition` still 0.
    ///
    /// # Errors
    /// When a part cannot be written.
    pub fn handle_video(
        &mut self,
        timeline: &Timeline,
        (pts_ns, dts_ns): (u64, u64),
        key: bool,
        data: Bytes,
    ) -> Result<Vec<Part>, MuxError> {
        if !self.started && !key {
            return Ok(Vec::new());
        }
        self.started = true;
        self.newest_us = self.newest_us.max(pts_ns / 1000);
        let (pts, start) =
            (ns_to_ticks(pts_ns, self.timescale), ns_to_ticks(dts_ns, self.timescale));
        let offset = i64::try_from(pts).unwrap_or(0) - i64::try_from(start).unwrap_or(0);
        let offset = i32::try_from(offset).unwrap_or(0);
        let mut segment = self.cutter.segment();
        if key {
            segment = segment.max(timeline.segment_of(pts_ns / 1000));
        }
        let cuts = self.cutter.push(segment, Sample { start, offset, key, data });
        cuts.into_iter().map(|cut| self.write(&cut)).collect()
    }

    /// Takes an audio frame; time in nanoseconds of session time. Parts come from
    /// [`Self::poll_audio`].
    pub fn handle_audio(&mut self, pts_ns: u64, data: Bytes) {
        let Some(audio) = &mut self.audio else { return };
        if audio.waiting.len() >= WAITING_MAX {
            return;
        }
        let Some(start) = audio.clock.place(pts_ns) else { return };
        audio.waiting.push_back(Sample { start, offset: 0, key: true, data });
    }

    /// Gives the parts of the audio frames whose segment is certain by now. With `alone`, there is
    /// no video to wait for.
    ///
    /// # Errors
    /// When a part cannot be written.
    pub fn poll_audio(
        &mut self,
        timeline: &mut Timeline,
        alone: bool,
    ) -> Result<Vec<Part>, MuxError> {
        let mut parts = Vec::new();
        let Some(newest) = self.audio.as_ref().and_then(|a| a.waiting.back()).map(|s| s.start)
        else {
            return Ok(parts);
        };
        let newest_us = ticks_to_us(newest, self.timescale);
        let wait_us = if alone { 0 } else { WAIT_US_MAX };
        if newest_us >= timeline.seen_us().unwrap_or(0) + wait_us {
            timeline.go_on_without_video(newest_us - wait_us);
        }
        let certain_us = timeline.seen_us().unwrap_or(0);
        while let Some(sample) = self.audio.as_mut().and_then(|a| {
            let next = a.waiting.front()?;
            let certain = ticks_to_us(next.start, self.timescale) <= certain_us;
            certain.then(|| a.waiting.pop_front()).flatten()
        }) {
            let pts_us = ticks_to_us(sample.start, self.timescale);
            self.newest_us = pts_us;
            let segment = timeline.segment_of(pts_us).max(self.cutter.segment());
            for cut in self.cutter.push(segment, sample) {
                parts.push(self.write(&cut)?);
            }
        }
        Ok(parts)
    }

    /// Ends the last part; nothing follows.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&mut self) -> Result<Option<Part>, MuxError> {
        let cut = self.cutter.finish();
        cut.map(|cut| self.write(&cut)).transpose()
    }

    /// Session time of the newest frame, in microseconds.
    pub fn newest_us(&self) -> u64 {
        self.newest_us
    }

    /// Bitrate of the parts made so far, in bit/s; 0 before the first.
    pub fn measured_bitrate(&self) -> u32 {
        let us = self.newest_us.max(u64::from(self.part_us));
        u32::try_from(self.bytes * 8_000_000 / us).unwrap_or(u32::MAX)
    }

    fn write(&mut self, cut: &super::cut::Cut) -> Result<Part, MuxError> {
        self.sequence = self.sequence.wrapping_add(1);
        let pts_us = ticks_to_us(cut.start(), self.timescale);
        let end_us = ticks_to_us(cut.end, self.timescale);
        let data = mux::part(self.sequence, cut)?;
        self.bytes += data.len() as u64;
        Ok(Part {
            rendition: 0,
            segment: cut.segment,
            independent: cut.samples.first().is_some_and(|s| s.key),
            last_of_segment: cut.last_of_segment,
            pts_us,
            duration_us: (end_us - pts_us) as u32,
            data,
        })
    }
}
