//! The multivariant playlist, and what it says against what was measured.

use std::collections::VecDeque;

use super::{Engine, Listed};
use crate::check::catalog::Rule;
use crate::check::mp4::{Init, TrackKind};
use crate::check::parse::{MasterPlaylist, Variant, parse_master};

/// Sizes of one rendition's segments, for its bit rates (RFC 8216 4.1).
#[derive(Debug, Default)]
pub(super) struct Sizes {
    last: VecDeque<(u64, u64, u64)>,
    peak: u64,
    bytes: u64,
    duration_us: u64,
    count: u32,
}

/// Segments measured before an average means something.
const AVERAGE_SEGMENTS_MIN: u32 = 10;

impl Sizes {
    /// A segment in order of its number; one that does not follow the last begins a new run: a
    /// rendition that comes back has a new window, and knows no average beyond it.
    fn add(&mut self, msn: u64, bytes: u64, duration_us: u64, target_us: u64) {
        if self.last.back().is_some_and(|(last, ..)| last.checked_add(1) != Some(msn)) {
            *self = Self { peak: self.peak, ..Self::default() };
        }
        self.last.push_back((msn, bytes, duration_us));
        if self.last.len() > 64 {
            self.last.pop_front();
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.duration_us = self.duration_us.saturating_add(duration_us);
        self.count = self.count.saturating_add(1);
        // The largest bit rate of any contiguous set of segments whose total duration is between
        // 0.5 and 1.5 times the target duration.
        let (mut bytes, mut duration) = (0u64, 0u64);
        for (_, size, length) in self.last.iter().rev() {
            bytes = bytes.saturating_add(*size);
            duration = duration.saturating_add(*length);
            if duration.saturating_mul(2) > target_us.saturating_mul(3) {
                break;
            }
            if duration.saturating_mul(2) >= target_us && duration > 0 {
                self.peak = self.peak.max(bits_per_s(bytes, duration));
            }
        }
    }

    fn average(&self) -> Option<u64> {
        (self.count >= AVERAGE_SEGMENTS_MIN && self.duration_us > 0)
            .then(|| bits_per_s(self.bytes, self.duration_us))
    }
}

fn bits_per_s(bytes: u64, duration_us: u64) -> u64 {
    let rate = u128::from(bytes) * 8_000_000 / u128::from(duration_us.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

impl Engine {
    /// The multivariant playlist at `url` arrived; `asked_ms` is when it was asked for.
    /// Returns the renditions it lists.
    pub(crate) fn handle_master(
        &mut self,
        at_ms: u64,
        asked_ms: u64,
        url: &str,
        text: &str,
    ) -> Option<Vec<Listed>> {
        let master = match parse_master(text) {
            Ok(master) => master,
            Err(error) => {
                self.find(at_ms, Rule::PlaylistSyntax, "", format!("{url}: {error}"));
                return None;
            }
        };
        if self.master.as_ref() != Some(&master) {
            self.check_attributes(at_ms, &master);
        }
        let listed = listed(url, &master);
        for rendition in self.renditions.values_mut() {
            rendition.listed = false;
        }
        for one in &listed {
            let rendition = self.rendition(&one.name);
            rendition.listed = true;
            rendition.url.clone_from(&one.url);
            rendition.video = one.video;
        }
        self.let_go_unlisted();
        self.lead = listed.iter().find(|l| l.video).map(|l| l.name.clone());
        self.master = Some(master);
        self.master_asked_ms = asked_ms;
        self.check_missing_reports(at_ms, asked_ms);
        self.judge_maps_kept(at_ms, asked_ms);
        self.check_media_attributes(at_ms);
        Some(listed)
    }

    /// What is no longer listed may end, and come back with a window that begins anew. Others need
    /// not have spoken of it meanwhile.
    fn let_go_unlisted(&mut self) {
        let unlisted: Vec<String> =
            self.renditions.iter().filter(|(_, r)| !r.listed).map(|(n, _)| n.clone()).collect();
        for rendition in self.renditions.values_mut() {
            rendition.was_away |= !rendition.listed;
            rendition.report_missing_since_ms.retain(|other, _| !unlisted.contains(other));
        }
    }

    /// A lone media playlist is checked, without a multivariant one.
    pub(crate) fn handle_lone(&mut self, url: &str) -> Listed {
        let one = Listed { name: name_of(url), url: url.to_owned(), video: true };
        let rendition = self.rendition(&one.name);
        rendition.listed = true;
        rendition.url = url.to_owned();
        rendition.video = true;
        one
    }

    /// Whether the last multivariant playlist lists the rendition.
    pub(crate) fn is_listed(&self, name: &str) -> bool {
        self.renditions.get(name).is_some_and(|r| r.listed)
    }

    /// How large a segment is.
    pub(crate) fn handle_size(&mut self, at_ms: u64, name: &str, msn: u64, bytes: u64) {
        let Some(playlist) = self.playlist(name) else { return };
        let Some(segment) = playlist.segment(msn) else { return };
        let (duration_us, target_us) = (segment.duration_us, playlist.target_us);
        self.rendition(name).media.sizes.add(msn, bytes, duration_us, target_us);
        self.check_bandwidth(at_ms);
    }

    fn check_attributes(&mut self, at_ms: u64, master: &MasterPlaylist) {
        for variant in &master.variants {
            let audio_only = variant.codecs.as_deref().is_some_and(only_audio);
            let missing = [
                ("BANDWIDTH", variant.bandwidth.is_none()),
                ("AVERAGE-BANDWIDTH", variant.average_bandwidth.is_none()),
                ("CODECS", variant.codecs.is_none()),
                ("RESOLUTION", variant.resolution.is_none() && !audio_only),
                ("FRAME-RATE", variant.frame_rate_milli.is_none() && !audio_only),
            ];
            for (attribute, _) in missing.iter().filter(|(_, missing)| *missing) {
                let detail = format!("{}: {attribute}", variant.uri);
                self.find(at_ms, Rule::VariantAttributeMissing, "", detail);
            }
            if let (Some(average), Some(peak)) = (variant.average_bandwidth, variant.bandwidth)
                && average > peak
            {
                let detail = format!(
                    "{}: AVERAGE-BANDWIDTH {average} is above BANDWIDTH {peak}",
                    variant.uri
                );
                self.find(at_ms, Rule::AverageBandwidthExceeded, "", detail);
            }
        }
    }

    fn check_bandwidth(&mut self, at_ms: u64) {
        let Some(master) = self.master.clone() else { return };
        let asked_ms = self.master_asked_ms;
        self.exceeded.retain(|uri, _| master.variants.iter().any(|v| v.uri == *uri));
        for variant in &master.variants {
            let own = name_in(&master, &variant.uri);
            let Some(rendition) = self.renditions.get(&own) else { continue };
            let (mut peak, mut average) =
                (rendition.media.sizes.peak, rendition.media.sizes.average());
            let group = variant.audio_group.as_deref();
            let audio: Vec<&str> = master
                .media
                .iter()
                .filter(|m| m.kind == "AUDIO" && Some(m.group.as_str()) == group)
                .filter_map(|m| m.uri.as_deref())
                .filter(|uri| *uri != variant.uri)
                .collect();
            let sizes =
                |uri: &&str| self.renditions.get(&name_in(&master, uri)).map(|r| &r.media.sizes);
            peak += audio.iter().filter_map(sizes).map(|s| s.peak).max().unwrap_or(0);
            let audio_average = audio.iter().filter_map(sizes).filter_map(Sizes::average).max();
            average = average.map(|a| a + audio_average.unwrap_or(0));
            if let Some(said) = variant.bandwidth
                && peak > said
            {
                let detail = format!("BANDWIDTH is {said}, the measured peak {peak} bit/s");
                let key = format!("{} {}", variant.uri, peak / (said / 10).max(1));
                self.find_once(at_ms, Rule::BandwidthExceeded, &own, &key, detail);
            }
            let exceeded = matches!((variant.average_bandwidth, average),
                (Some(said), Some(average)) if average > said.saturating_add(said / 10));
            // Segments may have ended since the playlist was asked for: one asked for later counts.
            let again = match exceeded {
                true => *self.exceeded.entry(variant.uri.clone()).or_insert(at_ms) < asked_ms,
                false => {
                    self.exceeded.remove(&variant.uri);
                    false
                }
            };
            if let (Some(said), Some(average)) = (variant.average_bandwidth, average)
                && again
            {
                let detail = format!("AVERAGE-BANDWIDTH is {said}, measured {average} bit/s");
                let key = format!("{} {}", variant.uri, average / (said / 10).max(1));
                self.find_once(at_ms, Rule::AverageBandwidthExceeded, &own, &key, detail);
            }
        }
    }

    /// CODECS, RESOLUTION and FRAME-RATE against the media. Right after a session has changed,
    /// playlist and media may be of different sessions, so a mismatch counts when the next
    /// multivariant playlist still has it.
    fn check_media_attributes(&mut self, at_ms: u64) {
        let Some(master) = self.master.clone() else { return };
        let mut mismatches = Vec::new();
        for variant in &master.variants {
            let own = name_in(&master, &variant.uri);
            let Some(media) = self.renditions.get(&own).map(|r| &r.media) else { continue };
            let Some(init) = &media.newest_init else { continue };
            if let Some(detail) = self.codec_mismatch(&master, variant, init) {
                mismatches.push((Rule::CodecsWrong, own.clone(), detail));
            }
            if let (Some((w, h)), Some(track)) = (variant.resolution, init.track(TrackKind::Video))
                && (w, h) != (track.width, track.height)
            {
                let (width, height) = (track.width, track.height);
                let detail = format!("RESOLUTION is {w}x{h}, the media's {width}x{height}");
                mismatches.push((Rule::ResolutionWrong, own.clone(), detail));
            }
            if let (Some(said), Some((measured, long))) =
                (variant.frame_rate_milli, media.frame_rate_milli())
                // FRAME-RATE is a maximum: frames may be missing for a while, but half of them all
                // the time would be wrong.
                && (measured * 100 > said * 102 || (long && measured * 2 < said))
            {
                let rate = |milli: u64| format!("{:.3}", milli as f64 / 1000.0);
                let detail = format!("FRAME-RATE is {}, measured {}", rate(said), rate(measured));
                mismatches.push((Rule::FrameRateWrong, own.clone(), detail));
            }
        }
        let before = std::mem::replace(&mut self.mismatches, mismatches.clone());
        for (rule, own, detail) in mismatches {
            if before.iter().any(|(r, o, _)| (*r, o) == (rule, &own)) {
                let key = detail.clone();
                self.find_once(at_ms, rule, &own, &key, detail);
            }
        }
    }

    fn codec_mismatch(
        &self,
        master: &MasterPlaylist,
        variant: &Variant,
        init: &Init,
    ) -> Option<String> {
        let codecs = variant.codecs.as_ref()?;
        let said: Vec<String> = codecs.split(',').map(|c| c.trim().to_lowercase()).collect();
        let audio = master
            .media
            .iter()
            .filter(|m| m.kind == "AUDIO" && Some(&m.group) == variant.audio_group.as_ref())
            .filter_map(|m| self.renditions.get(&name_in(master, m.uri.as_deref()?)))
            .filter_map(|r| r.media.newest_init.as_ref());
        // A codec without details in its name is compared as far as it goes.
        let named = |codec: &String| {
            said.iter().any(|s| s == codec || (!codec.contains('.') && s.starts_with(codec)))
        };
        let mut needed = std::iter::once(init).chain(audio).flat_map(|i| &i.tracks);
        let missing = needed.find(|t| !named(&t.codec))?;
        Some(format!("CODECS is {codecs:?}, the media has {}", missing.codec))
    }
}

fn only_audio(codecs: &str) -> bool {
    codecs.split(',').all(|c| {
        let c = c.trim();
        ["mp4a", "opus", "Opus", "ac-3", "ec-3", "fLaC"].iter().any(|a| c.starts_with(a))
    })
}

fn listed(url: &str, master: &MasterPlaylist) -> Vec<Listed> {
    let Ok(base) = reqwest::Url::parse(url) else { return Vec::new() };
    let variants = master.variants.iter().map(|v| {
        let audio = v.codecs.as_deref().is_some_and(only_audio);
        (v.uri.as_str(), !audio)
    });
    let media = master
        .media
        .iter()
        .filter(|m| m.kind == "AUDIO" || m.kind == "VIDEO")
        .filter_map(|m| Some((m.uri.as_deref()?, m.kind == "VIDEO")));
    let mut all: Vec<Listed> = Vec::new();
    for (uri, video) in variants.chain(media) {
        let Ok(url) = base.join(uri) else { continue };
        if all.iter().any(|l| l.url == url.as_str()) {
            continue;
        }
        all.push(Listed { name: name_in(master, uri), url: url.into(), video });
    }
    all
}

/// The name of a rendition: the path to its playlist, shortened where that stays unique.
fn name_in(master: &MasterPlaylist, uri: &str) -> String {
    let short = name_of(uri);
    let uris = master
        .variants
        .iter()
        .map(|v| v.uri.as_str())
        .chain(master.media.iter().filter_map(|m| m.uri.as_deref()));
    let unique = uris.filter(|other| *other != uri).all(|other| name_of(other) != short);
    if unique { short } else { uri.to_owned() }
}

/// `a/720p/media.m3u8` is `720p`, `live_720.m3u8` is `live_720`.
fn name_of(uri: &str) -> String {
    let path = uri.split(['?', '#']).next().unwrap_or(uri);
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or(path);
    match parts.next() {
        Some(folder) if !folder.is_empty() => folder.to_owned(),
        _ => file.trim_end_matches(".m3u8").to_owned(),
    }
}

#[cfg(test)]
mod size_tests {
    use super::*;

    #[test]
    fn a_rendition_that_comes_back_has_an_average_of_what_came_since() {
        let mut sizes = Sizes::default();
        for msn in 0..12 {
            sizes.add(msn, 500_000, 2_000_000, 2_000_000);
        }
        assert_eq!(sizes.average(), Some(2_000_000));
        for msn in 20..29 {
            sizes.add(msn, 250_000, 2_000_000, 2_000_000);
        }
        assert_eq!(sizes.average(), None, "too few to say");
        sizes.add(29, 250_000, 2_000_000, 2_000_000);
        assert_eq!((sizes.average(), sizes.peak), (Some(1_000_000), 2_000_000));
    }
}
