//! The multivariant playlist: every quality that can be played right now.

use m3u8_rs::{AlternativeMedia, AlternativeMediaType, MasterPlaylist, Resolution, VariantStream};

use crate::id::RenditionId;
use crate::rendition::Kind;

/// Bandwidth of a rendition before anything was measured, as a ratio to its target bitrate: what
/// the encoders' rate control may reach at its peak.
const PEAK_RATIO: f64 = 1.5;

/// Name of the group of all audio renditions.
const AUDIO_GROUP: &str = "audio";

/// One playable rendition.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its id.
    pub id: RenditionId,
    /// Video or audio.
    pub kind: Kind,
    /// RFC 6381 codec string.
    pub codec: String,
    /// Pixels across; 0 for audio.
    pub width: u32,
    /// Pixels down; 0 for audio.
    pub height: u32,
    /// Frames per second; 0 when unknown or for audio.
    pub fps: f64,
    /// Channels; 0 for video.
    pub channels: u32,
    /// Target bitrate in bit/s.
    pub bitrate: u64,
    /// Highest bitrate of a segment so far, in bit/s.
    pub peak_bps: u64,
    /// Mean bitrate so far, in bit/s; 0 when nothing was measured.
    pub mean_bps: u64,
}

impl Variant {
    fn peak(&self) -> u64 {
        self.peak_bps.max((self.bitrate as f64 * PEAK_RATIO) as u64)
    }

    fn mean(&self) -> u64 {
        if self.mean_bps == 0 { self.bitrate } else { self.mean_bps }
    }
}

/// The multivariant playlist of these renditions, best quality first; audio renditions form one
/// group, and the first of them is also offered alone.
pub fn multivariant(renditions: &[Variant]) -> String {
    let audio: Vec<_> = renditions.iter().filter(|r| r.kind == Kind::Audio).collect();
    let mut video: Vec<_> = renditions.iter().filter(|r| r.kind == Kind::Video).collect();
    video.sort_by_key(|r| std::cmp::Reverse((r.width * r.height, r.bitrate)));
    // Each variant must cover the dearest audio it may be played with.
    let audio_peak = audio.iter().map(|r| r.peak()).max().unwrap_or(0);
    let audio_mean = audio.iter().map(|r| r.mean()).max().unwrap_or(0);
    let variants = video
        .iter()
        .map(|r| video_variant(r, audio.first().copied(), audio_peak, audio_mean))
        .chain(audio.first().map(|r| audio_variant(r)))
        .collect();
    let playlist = MasterPlaylist {
        version: Some(9),
        variants,
        alternatives: audio.iter().enumerate().map(|(i, r)| alternative(r, i == 0)).collect(),
        independent_segments: true,
        ..MasterPlaylist::default()
    };
    let mut out = Vec::with_capacity(1024);
    // Writing to memory cannot fail.
    let _ = playlist.write_to(&mut out);
    String::from_utf8(out).unwrap_or_default()
}

fn video_variant(
    video: &Variant,
    audio: Option<&Variant>,
    audio_peak: u64,
    audio_mean: u64,
) -> VariantStream {
    let codecs = match audio {
        Some(audio) => format!("{},{}", video.codec, audio.codec),
        None => video.codec.clone(),
    };
    VariantStream {
        uri: format!("{}/media.m3u8", video.id),
        bandwidth: video.peak() + audio_peak,
        average_bandwidth: Some(video.mean() + audio_mean),
        codecs: Some(codecs),
        resolution: Some(Resolution { width: video.width.into(), height: video.height.into() }),
        frame_rate: (video.fps > 0.0).then_some(video.fps),
        audio: audio.map(|_| AUDIO_GROUP.to_owned()),
        ..VariantStream::default()
    }
}

fn audio_variant(audio: &Variant) -> VariantStream {
    VariantStream {
        uri: format!("{}/media.m3u8", audio.id),
        bandwidth: audio.peak(),
        average_bandwidth: Some(audio.mean()),
        codecs: Some(audio.codec.clone()),
        audio: Some(AUDIO_GROUP.to_owned()),
        ..VariantStream::default()
    }
}

fn alternative(audio: &Variant, default: bool) -> AlternativeMedia {
    AlternativeMedia {
        media_type: AlternativeMediaType::Audio,
        uri: Some(format!("{}/media.m3u8", audio.id)),
        group_id: AUDIO_GROUP.to_owned(),
        name: audio.id.to_string(),
        default,
        autoselect: true,
        channels: Some(audio.channels.to_string()),
        ..AlternativeMedia::default()
    }
}
