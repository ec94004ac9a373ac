//! Compressed media as a publisher sends it, whatever protocol carried it.

use bytes::Bytes;

/// Which elementary stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// The video track.
    Video,
    /// The audio track.
    Audio,
}

/// What a publisher's connection says about its media, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// How to decode the track from here on. Comes before the track's first frame; a second one
    /// with other bytes means the encoder changed.
    Config(Config),
    /// One access unit.
    Frame(Frame),
}

/// A track's decoder configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// H.264; the `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1).
    H264 {
        /// The record, as `codec_data` of length-prefixed (avc) access units.
        avcc: Bytes,
    },
    /// AAC; the `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1).
    Aac {
        /// The configuration, as `codec_data` of raw AAC frames.
        asc: Bytes,
    },
}

/// One access unit of one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its track.
    pub track: Track,
    /// Whether decoding can start here (video: IDR; audio: always).
    pub key: bool,
    /// Presentation time in microseconds on the publisher's clock; both tracks share it.
    pub pts_us: i64,
    /// Decoding time in microseconds on the same clock, never after `pts_us`.
    pub dts_us: i64,
    /// H.264: length-prefixed NAL units. AAC: one raw frame.
    pub data: Bytes,
}

impl Config {
    /// The track that this configures.
    pub fn track(&self) -> Track {
        match self {
            Self::H264 { .. } => Track::Video,
            Self::Aac { .. } => Track::Audio,
        }
    }
}
