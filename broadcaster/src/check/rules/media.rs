//! The bytes themselves: what segments and parts hold against what the playlist says of them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Engine, NAMES_MAX, master, seconds};
use crate::check::catalog::Rule;
use crate::check::mp4::{Fragments, Init, TrackKind, read_fragments, read_init};
use crate::check::parse::{Position, Resource};

/// Segments whose frame rate is remembered: 15 s of them are what a machine may take to find out
/// that it cannot make every frame.
const RATES_MAX: usize = 8;

/// What was measured of a rendition's media.
#[derive(Debug, Default)]
pub(super) struct Media {
    pub(super) frame_us: Option<u64>,
    /// Frames per 1000 s of the latest segments, at most [`RATES_MAX`].
    frame_rates: VecDeque<u64>,
    pub(super) newest_init: Option<Init>,
    pub(super) sizes: master::Sizes,
    /// Digest of what each resource answered.
    digests: BTreeMap<Resource, [u8; 32]>,
    /// Parts of the last few segments, to be put together and compared.
    parts: BTreeMap<u64, BTreeMap<u64, Bytes>>,
    wholes: BTreeMap<u64, Bytes>,
    /// Parts that are too short unless the frame after them did not fit.
    short_parts: Vec<Short>,
    /// The last segment whose media was read: number, discontinuity number, end of its media.
    last_end: Option<(u64, u64, u64)>,
}

/// A part below 85 % of PART-TARGET that is not the last of its segment. A part ends at the last
/// frame that fits, so a source with a hole can leave no other choice; the media tells.
#[derive(Debug, Clone)]
pub(super) struct Short {
    pub(super) at_ms: u64,
    pub(super) place: Position,
    pub(super) duration_us: u64,
    /// Where it ends, from the start of its segment.
    pub(super) before_us: u64,
}

/// Segments whose bytes are kept for comparison.
const KEPT_SEGMENTS: usize = 3;
/// Shortest media from which a frame rate is measured.
const RATE_US_MIN: i64 = 900_000;

/// Short parts that wait to be judged: a server that makes only such is told of these.
const SHORT_MAX: usize = 1_000;

impl Media {
    /// Highest frame rate lately, in frames per 1000 s, and whether that was long enough to say
    /// that there are no higher ones.
    pub(super) fn frame_rate_milli(&self) -> Option<(u64, bool)> {
        let highest = self.frame_rates.iter().max()?;
        Some((*highest, self.frame_rates.len() >= RATES_MAX))
    }
}

impl Media {
    pub(super) fn add_short(&mut self, short: Short) {
        if self.short_parts.len() < SHORT_MAX {
            self.short_parts.push(short);
        }
    }
}

impl Engine {
    /// An init segment was fetched.
    pub(crate) fn handle_init(&mut self, at_ms: u64, name: &str, resource: &Resource, body: &[u8]) {
        self.check_content(at_ms, name, resource, body);
        match read_init(body) {
            Ok(init) => {
                if init.tracks.len() > 1 {
                    let codecs: Vec<_> = init.tracks.iter().map(|t| t.codec.as_str()).collect();
                    let detail = format!("{} has {}", resource.uri, codecs.join(" and "));
                    self.find_once(at_ms, Rule::AudioNotApart, name, &resource.uri, detail);
                }
                let rendition = self.rendition(name);
                rendition.media.newest_init = Some(init.clone());
                // Another encoder may make fewer or more frames.
                rendition.media.frame_rates.clear();
                rendition.inits.insert(resource.clone(), init);
            }
            Err(error) => {
                let detail = format!("{}: {error}", resource.uri);
                self.find(at_ms, Rule::MediaUnreadable, name, detail);
            }
        }
    }

    /// A part was fetched.
    pub(crate) fn handle_part(
        &mut self,
        at_ms: u64,
        name: &str,
        place: Position,
        resource: &Resource,
        body: &Bytes,
    ) {
        self.check_content(at_ms, name, resource, body);
        let Some(index) = place.part else { return };
        self.read_part(at_ms, name, place, body);
        let media = &mut self.rendition(name).media;
        media.parts.entry(place.msn).or_default().insert(index, body.clone());
        while media.parts.len() > KEPT_SEGMENTS {
            media.parts.pop_first();
        }
        self.put_together(at_ms, name, place.msn);
    }

    /// A whole segment was fetched.
    pub(crate) fn handle_segment(
        &mut self,
        at_ms: u64,
        name: &str,
        msn: u64,
        resource: &Resource,
        body: &Bytes,
    ) {
        self.check_content(at_ms, name, resource, body);
        self.read_segment(at_ms, name, msn, body);
        let media = &mut self.rendition(name).media;
        media.wholes.insert(msn, body.clone());
        while media.wholes.len() > KEPT_SEGMENTS {
            media.wholes.pop_first();
        }
        self.put_together(at_ms, name, msn);
    }

    /// Compares what a resource answers now with what it answered before.
    pub(crate) fn check_content(
        &mut self,
        at_ms: u64,
        name: &str,
        resource: &Resource,
        body: &[u8],
    ) {
        let digest: [u8; 32] = Sha256::digest(body).into();
        let digests = &mut self.rendition(name).media.digests;
        if digests.len() >= NAMES_MAX {
            digests.pop_first();
        }
        if digests.insert(resource.clone(), digest).is_some_and(|old| old != digest) {
            let detail = format!("{} answered other bytes before", resource.uri);
            self.find(at_ms, Rule::UriContentChanged, name, detail);
        }
    }

    /// Compares parts with their segment once both are there.
    fn put_together(&mut self, at_ms: u64, name: &str, msn: u64) {
        let Some(count) = self.playlist(name).and_then(|p| p.segment(msn)).map(|s| s.parts.len())
        else {
            return;
        };
        let media = &mut self.rendition(name).media;
        let Some(parts) = media.parts.get(&msn).filter(|p| count > 0 && p.len() == count) else {
            return;
        };
        let joined: Vec<u8> = parts.values().flat_map(|p| p.iter().copied()).collect();
        let Some(whole) = media.wholes.get(&msn) else { return };
        if joined != **whole {
            let detail = format!(
                "segment {msn} has {} bytes, its {count} parts {}, and they are not the same",
                whole.len(),
                joined.len()
            );
            self.find(at_ms, Rule::SegmentBytesDiffer, name, detail);
        }
        let media = &mut self.rendition(name).media;
        media.parts.remove(&msn);
        media.wholes.remove(&msn);
    }

    fn fragments(
        &mut self,
        at_ms: u64,
        name: &str,
        place: Position,
        body: &[u8],
    ) -> Option<Fragments> {
        let map = self.map_of(name, place.msn)?;
        let init = self.renditions.get(name)?.inits.get(&map)?;
        match read_fragments(init, body) {
            Ok(fragments) => Some(fragments),
            Err(error) => {
                self.find(at_ms, Rule::MediaUnreadable, name, format!("{place}: {error}"));
                None
            }
        }
    }

    fn read_part(&mut self, at_ms: u64, name: &str, place: Position, body: &[u8]) {
        let Some(playlist) = self.playlist(name) else { return };
        let parts = match playlist.segment(place.msn) {
            Some(segment) => &segment.parts,
            None if playlist.open_msn() == place.msn => &playlist.open.parts,
            None => return,
        };
        let index = place.part.and_then(|p| usize::try_from(p).ok());
        let Some(listed) = index.and_then(|i| parts.get(i)).cloned() else { return };
        let Some(media) = self.fragments(at_ms, name, place, body) else { return };
        let length_us = media.us(media.duration.cast_signed()).unsigned_abs();
        let frame_us = media.us(i64::from(media.longest_sample)).unsigned_abs();
        if length_us.abs_diff(listed.duration_us) > frame_us {
            let (said, is) = (seconds(listed.duration_us), seconds(length_us));
            let detail = format!("part {place} is said to last {said}, its media lasts {is}");
            self.find(at_ms, Rule::PartDurationWrong, name, detail);
        }
        if listed.independent && !media.first_is_key {
            self.find(at_ms, Rule::IndependentFlagWrong, name, format!("part {place}"));
        }
    }

    fn read_segment(&mut self, at_ms: u64, name: &str, msn: u64, body: &[u8]) {
        let Some(segment) = self.playlist(name).and_then(|p| p.segment(msn)).cloned() else {
            return;
        };
        let place = Position { msn, part: None };
        let Some(media) = self.fragments(at_ms, name, place, body) else { return };
        let video = self
            .renditions
            .get(name)
            .and_then(|r| r.inits.get(segment.map.as_ref()?))
            .is_some_and(|i| i.track(TrackKind::Video).is_some());
        let length_us = media.us(media.duration.cast_signed()).unsigned_abs();
        let frame_us = media.us(i64::from(media.longest_sample)).unsigned_abs().max(1);
        if video && !media.first_is_key {
            self.find(at_ms, Rule::SegmentNotIdr, name, format!("segment {msn}"));
        }
        if length_us.abs_diff(segment.duration_us) > frame_us {
            let (said, is) = (seconds(segment.duration_us), seconds(length_us));
            let detail = format!("segment {msn} is said to last {said}, its media lasts {is}");
            self.find(at_ms, Rule::SegmentDurationWrong, name, detail);
        }
        self.judge_short_parts(name, msn, &media);
        self.check_timeline(at_ms, name, msn, segment.discontinuity_number, &media);
        let own = &mut self.rendition(name).media;
        own.frame_us = Some(frame_us);
        let length = media.us(media.duration.cast_signed());
        if video && length >= RATE_US_MIN && media.unbroken {
            let rate = u64::from(media.samples) * 1_000_000_000 / length.unsigned_abs().max(1);
            own.frame_rates.push_back(rate);
            if own.frame_rates.len() > RATES_MAX {
                own.frame_rates.pop_front();
            }
        }
        let start_us = media.us(media.start_presentation);
        self.learn_start(at_ms, name, msn, start_us);
    }

    /// Judges short parts of a segment whose media was read now, and those of segments so old that
    /// theirs never will be.
    fn judge_short_parts(&mut self, name: &str, msn: u64, media: &Fragments) {
        let Some(target_us) = self.playlist(name).and_then(|p| p.part_target_us) else { return };
        let short = &mut self.rendition(name).media.short_parts;
        let (judged, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(short).into_iter().partition(|s| s.place.msn <= msn);
        *short = waiting;
        for one in judged {
            let next_us = media.sample_us_at(one.before_us).filter(|_| one.place.msn == msn);
            let fits = next_us.is_none_or(|next| one.duration_us + next <= target_us);
            if fits {
                self.find_short(name, &one, target_us);
            }
        }
    }

    /// The check ends: what could not be excused is told.
    pub(super) fn judge_all_short_parts(&mut self) {
        let names: Vec<String> = self.renditions.keys().cloned().collect();
        for name in names {
            let target_us = self.playlist(&name).and_then(|p| p.part_target_us).unwrap_or(0);
            for one in std::mem::take(&mut self.rendition(&name).media.short_parts) {
                self.find_short(&name, &one, target_us);
            }
        }
    }

    fn find_short(&mut self, name: &str, short: &Short, target_us: u64) {
        let detail = format!(
            "part {} lasts {}, PART-TARGET is {}",
            short.place,
            seconds(short.duration_us),
            seconds(target_us)
        );
        self.find(short.at_ms, Rule::PartTooShort, name, detail);
    }

    fn check_timeline(
        &mut self,
        at_ms: u64,
        name: &str,
        msn: u64,
        discontinuity_number: u64,
        media: &Fragments,
    ) {
        let end = media.start.saturating_add(media.duration);
        let last = self.rendition(name).media.last_end.replace((msn, discontinuity_number, end));
        if !media.unbroken {
            let detail = format!("the fragments of segment {msn} do not follow each other");
            self.find(at_ms, Rule::MediaTimelineBroken, name, detail);
        }
        let Some((last_msn, last_number, last_end)) = last else { return };
        let follows = last_msn.checked_add(1) == Some(msn) && last_number == discontinuity_number;
        if follows && media.start.abs_diff(last_end) > u64::from(media.longest_sample) {
            let apart = media.start.cast_signed().saturating_sub(last_end.cast_signed());
            let detail = format!(
                "segment {msn} begins {:.3} s after the end of segment {last_msn}",
                media.us(apart) as f64 / 1e6
            );
            self.find(at_ms, Rule::MediaTimelineBroken, name, detail);
        }
    }
}
