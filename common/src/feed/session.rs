//! The session record: the renditions and where numbering goes on.

use super::FeedError;
use super::bytes::{Reader, Writer};
use crate::id::{Msn, RenditionId, SessionNumber, StreamName};
use crate::limit::{INIT_BYTES_MAX, RENDITIONS_MAX};
use crate::rendition::Kind;

/// What a session consists of, from `first_msn` on. A change of encoder inside a session is a
/// further record of the same session with a later `first_msn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The stream.
    pub stream: StreamName,
    /// The broadcast it belongs to, counted from 1.
    pub broadcast: u32,
    /// Its number.
    pub session: SessionNumber,
    /// The first segment that this record describes.
    pub first_msn: Msn,
    /// Discontinuity sequence number of that segment.
    pub discontinuity_sequence: u64,
    /// Longest duration of a part, in microseconds; constant for the life of a stream.
    pub part_target_us: u32,
    /// Longest duration of a segment, rounded to seconds; constant for the life of a stream.
    pub target_duration_s: u16,
    /// The renditions, in the order of their numbers.
    pub renditions: Vec<Rendition>,
}

/// One rendition of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendition {
    /// Its number in part records of this session.
    pub number: u8,
    /// Its id.
    pub id: RenditionId,
    /// Video or audio.
    pub kind: Kind,
    /// RFC 6381 codec string.
    pub codec: String,
    /// Pixels across; 0 for audio.
    pub width: u16,
    /// Pixels down; 0 for audio.
    pub height: u16,
    /// Frames per second as numerator and denominator; `(0, 1)` for audio.
    pub fps: (u32, u32),
    /// Samples per second; 0 for video.
    pub sample_rate: u32,
    /// Channels; 0 for video.
    pub channels: u8,
    /// Target bitrate in bit/s.
    pub bitrate: u32,
    /// Stripes that its parts are split into.
    pub stripes: u8,
    /// The number in the init segment's name, `init-{n}.mp4`.
    pub init_number: u16,
    /// The init segment's length in bytes.
    pub init_length: u32,
    /// The init segment's SHA-256.
    pub init_sha256: [u8; 32],
}

impl Session {
    /// The rendition with that number in part records.
    pub fn rendition(&self, number: u8) -> Option<&Rendition> {
        self.renditions.iter().find(|r| r.number == number)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.text(self.stream.as_str());
        out.u32(self.broadcast);
        out.u32(self.session.0);
        out.u64(self.first_msn.0);
        out.u64(self.discontinuity_sequence);
        out.u32(self.part_target_us);
        out.u16(self.target_duration_s);
        out.u8(self.renditions.len() as u8);
        for rendition in &self.renditions {
            rendition.write(out);
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, FeedError> {
        let mut session = Self {
            stream: input.name("stream")?,
            broadcast: input.u32()?,
            session: SessionNumber(input.u32()?),
            first_msn: Msn(input.u64()?),
            discontinuity_sequence: input.u64()?,
            part_target_us: input.u32()?,
            target_duration_s: input.u16()?,
            renditions: Vec::new(),
        };
        if session.part_target_us == 0 || session.target_duration_s == 0 {
            return Err(FeedError::Value("target duration"));
        }
        let count = usize::from(input.u8()?);
        if count == 0 || count > RENDITIONS_MAX {
            return Err(FeedError::Value("number of renditions"));
        }
        for _ in 0..count {
            let rendition = Rendition::read(input)?;
            if session
                .renditions
                .iter()
                .any(|r| r.number == rendition.number || r.id == rendition.id)
            {
                return Err(FeedError::Value("rendition named twice"));
            }
            session.renditions.push(rendition);
        }
        Ok(session)
    }
}

impl Rendition {
    fn write(&self, out: &mut Writer) {
        out.u8(self.number);
        out.text(self.id.as_str());
        out.u8(match self.kind {
            Kind::Video => 0,
            Kind::Audio => 1,
        });
        out.text(&self.codec);
        out.u16(self.width);
        out.u16(self.height);
        out.u32(self.fps.0);
        out.u32(self.fps.1);
        out.u32(self.sample_rate);
        out.u8(self.channels);
        out.u32(self.bitrate);
        out.u8(self.stripes);
        out.u16(self.init_number);
        out.u32(self.init_length);
        out.raw(&self.init_sha256);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, FeedError> {
        let rendition = Self {
            number: input.u8()?,
            id: input.name("rendition")?,
            kind: match input.u8()? {
                0 => Kind::Video,
                1 => Kind::Audio,
                _ => return Err(FeedError::Value("kind")),
            },
            codec: codec(input.text("codec")?)?,
            width: input.u16()?,
            height: input.u16()?,
            fps: (input.u32()?, input.u32()?),
            sample_rate: input.u32()?,
            channels: input.u8()?,
            bitrate: input.u32()?,
            stripes: input.u8()?,
            init_number: input.u16()?,
            init_length: input.u32()?,
            init_sha256: input.array()?,
        };
        if rendition.stripes == 0 || rendition.stripes > 64 {
            return Err(FeedError::Value("stripes"));
        }
        if rendition.fps.1 == 0 {
            return Err(FeedError::Value("frame rate"));
        }
        if rendition.init_length == 0 || rendition.init_length as usize > INIT_BYTES_MAX {
            return Err(FeedError::Value("init length"));
        }
        Ok(rendition)
    }
}

/// Codec strings stand in playlists between quotes: nothing but the characters of RFC 6381.
fn codec(text: &str) -> Result<String, FeedError> {
    let fine = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if fine { Ok(text.to_owned()) } else { Err(FeedError::Value("codec")) }
}
