//! Framed messages between the broadcaster and its worker, over one Unix socket that is the
//! worker's standard input. Pure: bytes in, messages out.
//!
//! Frame: `length: u32 LE` of what follows, `type: u8`, body. Bodies are JSON for what is rare
//! and fixed binary layouts (little endian) for media. A frame that breaks a rule is a typed
//! error, after which the stream of bytes cannot be trusted and the connection ends.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::id::RenditionId;
use common::rendition::{AudioTier, Kind, Ladder};
use serde::{Deserialize, Serialize};

use crate::ingest::media::{Config, Frame, Track};
use crate::worker::encoder::choice::ProvenEncoder;
use crate::worker::ladder::TrialResult;

/// Largest frame, in bytes: the largest part plus its header.
pub const FRAME_BYTES_MAX: usize = common::limit::PART_BYTES_MAX as usize + 64;

/// What the broadcaster tells its worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The first message: what to make. JSON.
    Start(Box<Start>),
    /// A pushed source's decoder configuration.
    Config(Config),
    /// A pushed source's access unit.
    Frame(Frame),
    /// What becomes of some video renditions from the next segment on. JSON.
    Orders(Vec<Order>),
    /// No more input: finish open parts, report [`Report::Drained`] and exit 0.
    Drain,
}

/// What becomes of one video rendition. What is not ordered is made as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its id; one that this worker does not make is passed over.
    pub rendition: RenditionId,
    /// Whether it is made at all. The last one is never taken away: see [`Report::Withdrawn`].
    pub on: bool,
    /// How much less than planned is spent on it.
    #[serde(default)]
    pub lowered: Lowered,
}

/// What is spared on a rendition, from nothing to most.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Lowered {
    /// Nothing.
    #[default]
    No,
    /// Effort: x264 `ultrafast`, or the fastest preset of another encoder.
    Effort,
    /// Effort, and every second frame.
    FrameRate,
}

/// What a worker makes, and of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The stream's name, for logs only.
    pub stream: String,
    /// Where media comes from.
    pub source: Source,
    /// Which video renditions to make.
    pub ladder: Ladder,
    /// Which audio renditions to make, when the source has audio.
    pub audio: Vec<AudioTier>,
    /// Length of a part, in microseconds (default 500 000).
    pub part_us: u32,
    /// Length of a segment, in microseconds (default 2 000 000).
    pub segment_us: u32,
    /// Longest distance of key frames that `source` may have to pass through, in microseconds
    /// (default 2 200 000; hls.md).
    pub keyframe_max_us: u32,
    /// Orders that hold from the start.
    #[serde(default)]
    pub orders: Vec<Order>,
    /// Whether each rendition's number is drawn into its pictures, for tests that look for
    /// renditions that were mixed up.
    #[serde(default)]
    pub marks: bool,
    /// What an earlier trial measured on this machine, for [`Ladder`] `auto`; without it the
    /// worker runs a trial of its own first, which delays the start by up to 3 s.
    #[serde(default)]
    pub trial: Option<TrialResult>,
    /// The encoders that work on this machine, best first; none: the software that is installed
    /// (`encoder::choice::usable`).
    #[serde(default)]
    pub encoders: Vec<ProvenEncoder>,
    /// Why nothing may be encoded here, when that is so: the worker then fails with
    /// [`FailCode::Machine`] and this line, unless it only passes through.
    #[serde(default)]
    pub encoding_refused: Option<String>,
}

/// Where a worker's media comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Source {
    /// The built-in moving picture with counter, clock and beep.
    Test {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Frames per second as numerator and denominator.
        fps: (u32, u32),
    },
    /// A media file, paced in real time.
    File {
        /// Its path on this machine.
        path: std::path::PathBuf,
        /// Start again at its end, without a gap in time.
        repeat: bool,
    },
    /// [`Command::Config`] and [`Command::Frame`] messages.
    Push,
}

/// What a worker tells the broadcaster.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Comes once, before any part: every rendition this worker makes. JSON header, then the
    /// init segments in the same order.
    Ready(Ready),
    /// One complete part.
    Part(Part),
    /// About once a second: proof of life and of speed. JSON.
    Status(Status),
    /// A rendition that ends here while the others go on: it was ordered off, its encoder failed,
    /// or it is `source` and its key frames turn out too far apart. Its last part was marked as the
    /// last of its segment. Parts of a later segment bring it back. JSON.
    Withdrawn(Withdrawn),
    /// From this segment on some renditions have other init segments. Every part before it has been
    /// sent; the first part of every rendition after it follows a discontinuity. JSON header, then
    /// the init segments in the same order.
    Changed(Changed),
    /// A decision after [`Report::Ready`] that is worth telling the operator. JSON.
    Noted(String),
    /// Why this worker is about to exit, in words for the operator. JSON.
    Failed(Failed),
    /// A picture of the source as a JPEG, about every 10 s: the stream's poster. Never comes from
    /// a worker that only passes through, since that decodes nothing.
    Thumb(Bytes),
    /// The source ended or [`Command::Drain`] is done: nothing follows.
    Drained,
}

/// The renditions of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// In the order that [`Part::rendition`] counts them.
    pub renditions: Vec<MadeRendition>,
    /// Decisions worth telling the operator, one line each: what `auto` picked and why, why
    /// `source` is left out, which encoder each rung uses.
    pub notes: Vec<String>,
    /// Wall clock of presentation time 0, in microseconds since the Unix epoch.
    pub wall_clock_us: i64,
}

/// One rendition as it is really made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MadeRendition {
    /// Its id.
    pub id: RenditionId,
    /// Video or audio.
    pub kind: Kind,
    /// RFC 6381 codec string, such as `avc1.64001f` or `mp4a.40.2`.
    pub codec: String,
    /// Picture width in pixels; 0 for audio.
    pub width: u32,
    /// Picture height in pixels; 0 for audio.
    pub height: u32,
    /// Frames per second as numerator and denominator; `(0, 1)` for audio or when unknown.
    pub fps: (u32, u32),
    /// Samples per second; 0 for video.
    pub sample_rate: u32,
    /// Channels; 0 for video.
    pub channels: u32,
    /// Target bitrate in bit/s; for a rendition that is passed through, as measured so far.
    pub bitrate: u32,
    /// Name of the encoder element, or `passthrough`.
    pub encoder: String,
    /// The CMAF init segment.
    #[serde(skip)]
    pub init: Bytes,
}

impl MadeRendition {
    /// Whether it goes through as it comes.
    pub fn is_passthrough(&self) -> bool {
        self.encoder == PASSTHROUGH
    }
}

/// Stands in place of an encoder's name where there is none.
pub const PASSTHROUGH: &str = "passthrough";

/// One CMAF part: a `moof` and its `mdat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index into [`Ready::renditions`].
    pub rendition: u8,
    /// Segment within this session, counted from 0, the same for all renditions at one time.
    pub segment: u32,
    /// Whether it starts with a key frame.
    pub independent: bool,
    /// Whether it is the last of its segment.
    pub last_of_segment: bool,
    /// Presentation time of its first frame in microseconds since the session's start.
    pub pts_us: u64,
    /// Its duration in microseconds.
    pub duration_us: u32,
    /// The bytes.
    pub data: Bytes,
}

/// A worker's pulse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Time of the newest frame read from the source, in microseconds since the session's start.
    pub source_us: u64,
    /// Frames of the source that could not be decoded or came too late.
    pub frames_dropped: u64,
    /// Incoming bitrate over the last seconds, in bit/s.
    pub bitrate_in: u64,
    /// Longest distance of key frames seen lately in the source, in microseconds; 0 when unknown.
    pub keyframe_distance_us: u64,
    /// Whether the source has B-frames.
    pub b_frames: bool,
    /// Per rendition, in the order of [`Ready::renditions`]: how far behind the source it is, in
    /// microseconds; 0 while it is not made.
    pub lag_us: Vec<u64>,
    /// Encoding against real time over the last second: 1 keeps up, 0.5 gets half of the frames
    /// done. `None` when nothing is encoded.
    #[serde(default)]
    pub speed: Option<f64>,
    /// Processor time of this process so far, in microseconds.
    #[serde(default)]
    pub cpu_us: u64,
    /// Per rendition: processor time of its encoder's thread so far, in microseconds, and frames
    /// that wait for it.
    #[serde(default)]
    pub encoders: Vec<EncoderStatus>,
}

/// What one encoder does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderStatus {
    /// Processor time of its thread so far, in microseconds.
    pub cpu_us: u64,
    /// Frames that wait for it.
    pub waiting: u64,
}

/// Renditions of a worker whose encoders were replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The first segment made so, within this session.
    pub segment: u32,
    /// Index into [`Ready::renditions`], and what is made there now.
    pub renditions: Vec<(u8, MadeRendition)>,
}

/// The end of one rendition of a worker that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Index into [`Ready::renditions`].
    pub rendition: u8,
    /// One line for the operator: why, and what to do.
    pub note: String,
    /// Whether it failed, as opposed to being ordered off.
    pub failed: bool,
}

/// The end of a worker that could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What kind of failure.
    pub code: FailCode,
    /// One line that says what to do.
    pub message: String,
}

/// Kinds of failure that the broadcaster treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailCode {
    /// The input cannot be used as it is (not media, unsupported codec): trying again is useless.
    Input,
    /// This machine lacks something (a plugin, an encoder): trying again is useless.
    Machine,
    /// The source changed (size, codec, time jump): start again with a new session at once.
    Changed,
    /// Anything else: try again with back-off.
    Other,
}

/// Why bytes from the other side could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// Longer than [`FRAME_BYTES_MAX`], or shorter than its type needs.
    #[error("a frame of type {kind:#04x} cannot have {len} bytes")]
    Length {
        /// The frame's type, 0 when not yet known.
        kind: u8,
        /// Its length.
        len: usize,
    },
    /// A type this side does not know.
    #[error("unknown frame type {0:#04x}")]
    Kind(u8),
    /// JSON that does not fit.
    #[error("bad JSON body: {0}")]
    Json(#[from] serde_json::Error),
    /// A field with an impossible value.
    #[error("bad value of {0}")]
    Value(&'static str),
}

const START: u8 = 0x01;
const CONFIG: u8 = 0x02;
const FRAME: u8 = 0x03;
const DRAIN: u8 = 0x04;
const ORDERS: u8 = 0x05;
const READY: u8 = 0x81;
const PART: u8 = 0x82;
const STATUS: u8 = 0x83;
const FAILED: u8 = 0x84;
const DRAINED: u8 = 0x85;
const WITHDRAWN: u8 = 0x86;
const THUMB: u8 = 0x87;
const CHANGED: u8 = 0x88;
const NOTED: u8 = 0x89;

const FRAME_HEADER: usize = 18;
const PART_HEADER: usize = 18;

/// Takes the next whole frame from `input`, or `None` when more bytes are needed.
/// Returns its type and body; the body shares `input`'s memory.
///
/// # Errors
/// [`IpcError::Length`] when the announced length is out of bounds.
pub fn take_frame(input: &mut BytesMut) -> Result<Option<(u8, Bytes)>, IpcError> {
    let Some(head) = input.first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_le_bytes(*head) as usize;
    if len == 0 || len > FRAME_BYTES_MAX {
        return Err(IpcError::Length { kind: 0, len });
    }
    if input.len() < 4 + len {
        input.reserve(4 + len - input.len());
        return Ok(None);
    }
    input.advance(4);
    let mut body = input.split_to(len).freeze();
    let kind = body.get_u8();
    Ok(Some((kind, body)))
}

impl Command {
    /// Reads one frame that [`take_frame`] gave.
    ///
    /// # Errors
    /// When the frame breaks a rule.
    pub fn decode(kind: u8, mut body: Bytes) -> Result<Self, IpcError> {
        match kind {
            START => Ok(Self::Start(serde_json::from_slice(&body)?)),
            CONFIG => {
                if body.is_empty() {
                    return Err(IpcError::Length { kind, len: 0 });
                }
                match body.get_u8() {
                    0 => Ok(Self::Config(Config::H264 { avcc: body })),
                    1 => Ok(Self::Config(Config::Aac { asc: body })),
                    _ => Err(IpcError::Value("track")),
                }
            }
            FRAME => {
                if body.len() < FRAME_HEADER {
                    return Err(IpcError::Length { kind, len: body.len() });
                }
                let track = match body.get_u8() {
                    0 => Track::Video,
                    1 => Track::Audio,
                    _ => return Err(IpcError::Value("track")),
                };
                let key = body.get_u8() != 0;
                let (pts_us, dts_us) = (body.get_i64_le(), body.get_i64_le());
                Ok(Self::Frame(Frame { track, key, pts_us, dts_us, data: body }))
            }
            DRAIN => Ok(Self::Drain),
            ORDERS => Ok(Self::Orders(serde_json::from_slice(&body)?)),
            other => Err(IpcError::Kind(other)),
        }
    }

    /// Appends this message as one frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Start(start) => put_json(out, START, start),
            Self::Config(config) => {
                let (tag, data) = match config {
                    Config::H264 { avcc } => (0, avcc),
                    Config::Aac { asc } => (1, asc),
                };
                put_head(out, CONFIG, 1 + data.len());
                out.put_u8(tag);
                out.put_slice(data);
            }
            Self::Frame(frame) => {
                put_head(out, FRAME, FRAME_HEADER + frame.data.len());
                out.put_u8(match frame.track {
                    Track::Video => 0,
                    Track::Audio => 1,
                });
                out.put_u8(frame.key.into());
                out.put_i64_le(frame.pts_us);
                out.put_i64_le(frame.dts_us);
                out.put_slice(&frame.data);
            }
            Self::Drain => put_head(out, DRAIN, 0),
            Self::Orders(orders) => put_json(out, ORDERS, orders),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct ReadyHeader {
    renditions: Vec<MadeRendition>,
    init_bytes: Vec<usize>,
    notes: Vec<String>,
    wall_clock_us: i64,
}

impl Report {
    /// Reads one frame that [`take_frame`] gave.
    ///
    /// # Errors
    /// When the frame breaks a rule.
    pub fn decode(kind: u8, mut body: Bytes) -> Result<Self, IpcError> {
        match kind {
            READY => Ok(Self::Ready(decode_ready(body)?)),
            CHANGED => Ok(Self::Changed(decode_changed(body)?)),
            PART => {
                if body.len() <= PART_HEADER {
                    return Err(IpcError::Length { kind, len: body.len() });
                }
                let rendition = body.get_u8();
                let flags = body.get_u8();
                let segment = body.get_u32_le();
                let pts_us = body.get_u64_le();
                let duration_us = body.get_u32_le();
                Ok(Self::Part(Part {
                    rendition,
                    segment,
                    independent: flags & 1 != 0,
                    last_of_segment: flags & 2 != 0,
                    pts_us,
                    duration_us,
                    data: body,
                }))
            }
            STATUS => Ok(Self::Status(serde_json::from_slice(&body)?)),
            FAILED => Ok(Self::Failed(serde_json::from_slice(&body)?)),
            DRAINED => Ok(Self::Drained),
            THUMB if body.is_empty() => Err(IpcError::Length { kind, len: 0 }),
            THUMB => Ok(Self::Thumb(body)),
            WITHDRAWN => Ok(Self::Withdrawn(serde_json::from_slice(&body)?)),
            NOTED => Ok(Self::Noted(serde_json::from_slice(&body)?)),
            other => Err(IpcError::Kind(other)),
        }
    }

    /// Appends this message as one frame to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Ready(ready) => encode_ready(ready, out),
            Self::Changed(changed) => encode_changed(changed, out),
            Self::Part(part) => {
                put_head(out, PART, PART_HEADER + part.data.len());
                out.put_u8(part.rendition);
                out.put_u8(u8::from(part.independent) | (u8::from(part.last_of_segment) << 1));
                out.put_u32_le(part.segment);
                out.put_u64_le(part.pts_us);
                out.put_u32_le(part.duration_us);
                out.put_slice(&part.data);
            }
            Self::Status(status) => put_json(out, STATUS, status),
            Self::Withdrawn(withdrawn) => put_json(out, WITHDRAWN, withdrawn),
            Self::Noted(note) => put_json(out, NOTED, note),
            Self::Failed(failed) => put_json(out, FAILED, failed),
            Self::Thumb(jpeg) => {
                put_head(out, THUMB, jpeg.len());
                out.put_slice(jpeg);
            }
            Self::Drained => put_head(out, DRAINED, 0),
        }
    }
}

fn decode_ready(body: Bytes) -> Result<Ready, IpcError> {
    let (header, mut body): (ReadyHeader, Bytes) = take_header(READY, body)?;
    let mut renditions = header.renditions;
    take_inits(renditions.iter_mut(), &header.init_bytes, &mut body)?;
    Ok(Ready { renditions, notes: header.notes, wall_clock_us: header.wall_clock_us })
}

fn encode_ready(ready: &Ready, out: &mut BytesMut) {
    let header = ReadyHeader {
        renditions: ready.renditions.clone(),
        init_bytes: ready.renditions.iter().map(|r| r.init.len()).collect(),
        notes: ready.notes.clone(),
        wall_clock_us: ready.wall_clock_us,
    };
    put_with_inits(out, READY, &header, ready.renditions.iter());
}

#[derive(Serialize, Deserialize)]
struct ChangedHeader {
    segment: u32,
    renditions: Vec<(u8, MadeRendition)>,
    init_bytes: Vec<usize>,
}

fn decode_changed(body: Bytes) -> Result<Changed, IpcError> {
    let (header, mut body): (ChangedHeader, Bytes) = take_header(CHANGED, body)?;
    let mut renditions = header.renditions;
    take_inits(renditions.iter_mut().map(|(_, made)| made), &header.init_bytes, &mut body)?;
    Ok(Changed { segment: header.segment, renditions })
}

fn encode_changed(changed: &Changed, out: &mut BytesMut) {
    let made = || changed.renditions.iter().map(|(_, made)| made);
    let header = ChangedHeader {
        segment: changed.segment,
        renditions: changed.renditions.clone(),
        init_bytes: made().map(|r| r.init.len()).collect(),
    };
    put_with_inits(out, CHANGED, &header, made());
}

/// Takes the JSON header that stands before init segments.
fn take_header<T: serde::de::DeserializeOwned>(
    kind: u8,
    mut body: Bytes,
) -> Result<(T, Bytes), IpcError> {
    if body.len() < 4 {
        return Err(IpcError::Length { kind, len: body.len() });
    }
    let header_len = body.get_u32_le() as usize;
    if header_len > body.len() {
        return Err(IpcError::Value("header length"));
    }
    Ok((serde_json::from_slice(&body.split_to(header_len))?, body))
}

fn take_inits<'a>(
    renditions: impl ExactSizeIterator<Item = &'a mut MadeRendition>,
    lengths: &[usize],
    body: &mut Bytes,
) -> Result<(), IpcError> {
    if renditions.len() > common::limit::RENDITIONS_MAX || renditions.len() != lengths.len() {
        return Err(IpcError::Value("renditions"));
    }
    for (rendition, len) in renditions.zip(lengths) {
        if *len == 0 || *len > body.len() || *len > common::limit::INIT_BYTES_MAX {
            return Err(IpcError::Value("init length"));
        }
        rendition.init = body.split_to(*len);
    }
    Ok(())
}

fn put_with_inits<'a>(
    out: &mut BytesMut,
    kind: u8,
    header: &impl Serialize,
    renditions: impl Iterator<Item = &'a MadeRendition> + Clone,
) {
    // Only plain structs with string keys come here, which JSON can always express.
    let header = serde_json::to_vec(header).unwrap_or_default();
    let inits: usize = renditions.clone().map(|r| r.init.len()).sum();
    put_head(out, kind, 4 + header.len() + inits);
    out.put_u32_le(header.len() as u32);
    out.put_slice(&header);
    for rendition in renditions {
        out.put_slice(&rendition.init);
    }
}

fn put_head(out: &mut BytesMut, kind: u8, body: usize) {
    out.reserve(5 + body);
    out.put_u32_le(body as u32 + 1);
    out.put_u8(kind);
}

fn put_json(out: &mut BytesMut, kind: u8, body: &impl Serialize) {
    // Only plain structs with string keys come here, which JSON can always express.
    let body = serde_json::to_vec(body).unwrap_or_default();
    put_head(out, kind, body.len());
    out.put_slice(&body);
}

#[cfg(test)]
mod tests {
    use common::id::RenditionId;
    use common::rendition::Kind;
    use proptest::prelude::*;

    use super::*;

    fn only_frame(out: &mut BytesMut) -> (u8, Bytes) {
        let frame = take_frame(out).expect("a good length").expect("a whole frame");
        assert!(out.is_empty());
        frame
    }

    fn command_again(command: &Command) -> Command {
        let mut out = BytesMut::new();
        command.encode(&mut out);
        let (kind, body) = only_frame(&mut out);
        Command::decode(kind, body).expect("what was encoded")
    }

    fn report_again(report: &Report) -> Report {
        let mut out = BytesMut::new();
        report.encode(&mut out);
        let (kind, body) = only_frame(&mut out);
        Report::decode(kind, body).expect("what was encoded")
    }

    #[test]
    fn every_message_comes_back_as_it_was_sent() {
        let frame = Frame {
            track: Track::Audio,
            key: true,
            pts_us: -7,
            dts_us: i64::MIN,
            data: Bytes::from_static(b"aac"),
        };
        let id: RenditionId = "720p".parse().expect("an id");
        for command in [
            Command::Config(Config::H264 { avcc: Bytes::from_static(b"avcc") }),
            Command::Config(Config::Aac { asc: Bytes::from_static(b"asc") }),
            Command::Frame(frame),
            Command::Orders(vec![Order { rendition: id.clone(), on: false, lowered: Lowered::No }]),
            Command::Drain,
        ] {
            assert_eq!(command_again(&command), command);
        }
        let made = MadeRendition {
            id,
            kind: Kind::Video,
            codec: "avc1.64001f".into(),
            width: 1280,
            height: 720,
            fps: (30_000, 1001),
            sample_rate: 0,
            channels: 0,
            bitrate: 2_500_000,
            encoder: "x264enc".into(),
            init: Bytes::from_static(b"init"),
        };
        let ready = Ready {
            renditions: vec![
                made.clone(),
                MadeRendition { init: Bytes::from_static(b"2"), ..made.clone() },
            ],
            notes: vec!["a note".into()],
            wall_clock_us: -1,
        };
        let part = Part {
            rendition: 3,
            segment: u32::MAX,
            independent: true,
            last_of_segment: false,
            pts_us: u64::MAX,
            duration_us: 500_000,
            data: Bytes::from_static(b"moof"),
        };
        for report in [
            Report::Ready(ready),
            Report::Part(part.clone()),
            Report::Part(Part { independent: false, last_of_segment: true, ..part }),
            Report::Status(Status { lag_us: vec![1, 2], ..Status::default() }),
            Report::Withdrawn(Withdrawn { rendition: 0, note: "why".into(), failed: true }),
            Report::Changed(Changed { segment: 7, renditions: vec![(1, made)] }),
            Report::Thumb(Bytes::from_static(b"jpeg")),
            Report::Failed(Failed { code: FailCode::Changed, message: "m".into() }),
            Report::Drained,
        ] {
            assert_eq!(report_again(&report), report);
        }
    }

    #[test]
    fn a_length_out_of_bounds_is_refused_before_memory_is_spent() {
        for len in [0, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut input = BytesMut::from(&len.to_le_bytes()[..]);
            assert!(matches!(take_frame(&mut input), Err(IpcError::Length { .. })), "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_panics_and_none_is_taken_before_it_is_whole(
            kind: u8, body in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200,
        ) {
            let _ = Command::decode(kind, Bytes::from(body.clone()));
            let _ = Report::decode(kind, Bytes::from(body.clone()));
            let mut whole = BytesMut::new();
            put_head(&mut whole, kind, body.len());
            whole.put_slice(&body);
            let mut short = BytesMut::from(&whole[..cut.min(whole.len() - 1)]);
            prop_assert!(matches!(take_frame(&mut short), Ok(None)));
            prop_assert_eq!(only_frame(&mut whole), (kind, Bytes::from(body)));
        }
    }
}
