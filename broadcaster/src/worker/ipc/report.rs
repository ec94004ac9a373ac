//! What a worker tells the broadcaster.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::id::RenditionId;
use common::rendition::Kind;
use serde::{Deserialize, Serialize};

use super::frame::{IpcError, put_head, put_json, take_header};

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
    /// The source ended or [`super::Command::Drain`] is done: nothing follows.
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

const READY: u8 = 0x81;
const PART: u8 = 0x82;
const STATUS: u8 = 0x83;
const FAILED: u8 = 0x84;
const DRAINED: u8 = 0x85;
const WITHDRAWN: u8 = 0x86;
const THUMB: u8 = 0x87;
const CHANGED: u8 = 0x88;
const NOTED: u8 = 0x89;

const PART_HEADER: usize = 18;

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

#[derive(Serialize, Deserialize)]
struct ReadyHeader {
    renditions: Vec<MadeRendition>,
    init_bytes: Vec<usize>,
    notes: Vec<String>,
    wall_clock_us: i64,
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
