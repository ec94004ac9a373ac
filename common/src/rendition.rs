//! Renditions: the encoded tracks of a stream, the presets they come from, and the ladder that
//! says which a stream has.

use serde::{Deserialize, Serialize};

use crate::id::RenditionId;

/// What a rendition carries. Audio and video never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One video track, no audio.
    Video,
    /// One audio track.
    Audio,
}

/// One video rendition to encode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    /// Its name, free within the stream; two rungs may share a size.
    pub id: RenditionId,
    /// Picture width in pixels, even.
    pub width: u32,
    /// Picture height in pixels, even.
    pub height: u32,
    /// Frames per second at most; a slower source keeps its own rate.
    pub fps: u32,
    /// Target video bitrate in kbit/s.
    pub video_kbps: u32,
}

/// One audio rendition to encode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioTier {
    /// Its name, free within the stream.
    pub id: RenditionId,
    /// Target bitrate in kbit/s.
    pub kbps: u32,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
}

/// Which video renditions a stream has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ladder {
    /// `"auto"`: what this machine can encode in real time; `"passthrough"`: the source as sent.
    Named(NamedLadder),
    /// These rungs, by preset name or in full, best first. The name `source` means passthrough.
    Rungs(Vec<RungChoice>),
}

/// A ladder that is chosen for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedLadder {
    /// The rungs that a short trial showed this machine can carry.
    Auto,
    /// Only the source, not re-encoded.
    Passthrough,
}

/// One entry of a ladder in configuration or in the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RungChoice {
    /// A preset's name, or `source`.
    Preset(String),
    /// A rung of one's own.
    Own(Rung),
}

/// The id of the rendition that carries the source without re-encoding.
pub const SOURCE_ID: &str = "source";

/// The rungs of the demo stream, best first.
pub const DEMO_LADDER: [&str; 3] = ["720p", "480p", "360p"];

/// A named size, rate and bitrate for software encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// Its name, which is also the rendition's id.
    pub id: &'static str,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Frames per second.
    pub fps: u32,
    /// Video bitrate in kbit/s.
    pub video_kbps: u32,
    /// What a viewer reads in a menu.
    pub label: &'static str,
}

/// Every preset, smallest first (interfaces.md 'Ladder presets').
pub const PRESETS: [Preset; 13] = [
    preset("240p", 426, 240, 30, 350, "Very low"),
    preset("360p", 640, 360, 30, 700, "Lowest"),
    preset("480p", 854, 480, 30, 1500, "Low"),
    preset("720p", 1280, 720, 30, 2500, "Medium"),
    preset("720p60", 1280, 720, 60, 3500, "Medium 60"),
    preset("1080p", 1920, 1080, 30, 4000, "High"),
    preset("1080p60", 1920, 1080, 60, 6000, "High 60"),
    preset("1440p60", 2560, 1440, 60, 10_000, "Very high"),
    preset("2160p60", 3840, 2160, 60, 18_000, "4K"),
    preset("low-500", 1280, 720, 24, 500, "Low 500"),
    preset("normal-1000", 1280, 720, 24, 1000, "Normal 1000"),
    preset("high-2000", 1920, 1080, 30, 2000, "High 2000"),
    preset("veryhigh-4000", 1920, 1080, 30, 4000, "Very high 4000"),
];

/// How many of [`PRESETS`], from the first, form the rising sequence that `auto` chooses from.
pub const LADDER_PRESETS: usize = 9;

const fn preset(
    id: &'static str,
    width: u32,
    height: u32,
    fps: u32,
    video_kbps: u32,
    label: &'static str,
) -> Preset {
    Preset { id, width, height, fps, video_kbps, label }
}

/// The preset of that name; `4k60` is another name of `2160p60`.
pub fn preset_named(name: &str) -> Option<&'static Preset> {
    let name = if name == "4k60" { "2160p60" } else { name };
    PRESETS.iter().find(|p| p.id == name)
}

impl Preset {
    /// The rung this preset stands for.
    ///
    /// # Panics
    /// Never: the names in [`PRESETS`] are valid ids, which a test shows.
    pub fn rung(&self) -> Rung {
        let id = match self.id.parse() {
            Ok(id) => id,
            Err(_) => unreachable!("preset names are valid ids"),
        };
        Rung {
            id,
            width: self.width,
            height: self.height,
            fps: self.fps,
            video_kbps: self.video_kbps,
        }
    }
}

/// The audio renditions a stream has unless it says otherwise: AAC 128 kbit/s, 48 kHz stereo.
pub fn default_audio() -> Vec<AudioTier> {
    match "audio".parse() {
        Ok(id) => vec![AudioTier { id, kbps: 128, sample_rate: 48_000, channels: 2 }],
        Err(_) => unreachable!("'audio' is a valid id"),
    }
}

/// What a viewer reads for a rendition: the preset's label, or the picture's height.
pub fn label(id: &str, height: u32) -> String {
    match preset_named(id) {
        Some(preset) => preset.label.to_owned(),
        None if id == SOURCE_ID => "Source".to_owned(),
        None => format!("{height}p"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_makes_a_rung_with_even_size() {
        for preset in &PRESETS {
            let rung = preset.rung();
            assert_eq!(rung.id.as_str(), preset.id);
            assert_eq!((rung.width % 2, rung.height % 2), (0, 0), "{}", preset.id);
        }
        assert_eq!(preset_named("4k60").map(|p| p.id), Some("2160p60"));
    }

    #[test]
    fn a_ladder_reads_names_presets_and_own_rungs() {
        let read = |json: &str| serde_json::from_str::<Ladder>(json).expect(json);
        assert_eq!(read("\"auto\""), Ladder::Named(NamedLadder::Auto));
        assert_eq!(read("\"passthrough\""), Ladder::Named(NamedLadder::Passthrough));
        let own = r#"["source",{"id":"x","width":64,"height":36,"fps":10,"video_kbps":50}]"#;
        let Ladder::Rungs(rungs) = read(own) else { panic!("a list is a list of rungs") };
        assert_eq!(rungs[0], RungChoice::Preset("source".into()));
        assert!(matches!(&rungs[1], RungChoice::Own(r) if r.fps == 10));
    }
}
