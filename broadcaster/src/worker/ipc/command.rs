//! What the broadcaster tells its worker.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::id::RenditionId;
use common::rendition::{AudioTier, Ladder};
use serde::{Deserialize, Serialize};

use super::frame::{IpcError, put_head, put_json};
use crate::ingest::media::{Config, Frame, Track};
use crate::worker::encoder::choice::ProvenEncoder;
use crate::worker::ladder::TrialResult;

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
    /// No more input: finish open parts, report [`super::Report::Drained`] and exit 0.
    Drain,
}

/// What becomes of one video rendition. What is not ordered is made as planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its id; one that this worker does not make is passed over.
    pub rendition: RenditionId,
    /// Whether it is made at all. The last one is never taken away: see [`super::Report::Withdrawn`].
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
    /// [`super::FailCode::Machine`] and this line, unless it only passes through.
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

const START: u8 = 0x01;
const CONFIG: u8 = 0x02;
const FRAME: u8 = 0x03;
const DRAIN: u8 = 0x04;
const ORDERS: u8 = 0x05;

const FRAME_HEADER: usize = 18;

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
