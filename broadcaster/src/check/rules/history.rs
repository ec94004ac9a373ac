//! What two playlists of one rendition, one after the other, show: numbers that must not go
//! back, lines that must not change, and the pace at which parts appear.

use std::collections::VecDeque;

use super::{DATE_ROUNDING_US, Dropped, Engine, NAMES_MAX, News, Rendition, seconds};
use crate::check::catalog::Rule;
use crate::check::parse::{MediaPlaylist, Part, Position, Resource, Segment};

/// How far a date may lie in the future before it is called wrong: clocks that agree within 1 s,
/// and as much again.
const FUTURE_MAX_US: i64 = 2_000_000;

/// Segment ends after which hints that named no part are judged: below it one stutter of a source
/// would be a quarter.
const HINTED_ENDS_MIN: u32 = 8;

/// How the hints of a rendition have done where a segment ended.
#[derive(Debug, Default)]
pub(super) struct Hints {
    ends: u32,
    wrong_ends: u32,
}

/// How regularly parts arrive, in windows of [`PACE_PARTS`].
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Arrival minus media time of the last parts, in microseconds.
    lags: VecDeque<i64>,
    late_windows: u32,
}

/// Parts in one window: two segments of four parts, so that a pattern within segments shows.
const PACE_PARTS: usize = 8;
/// Irregular windows in a row before it is the server's habit and not a stall of the source.
const PACE_WINDOWS: u32 = 3;

impl Engine {
    /// Compares `now` with the playlist before it and tells what is new.
    pub(super) fn follow(
        &mut self,
        at_ms: u64,
        name: &str,
        before: Option<&MediaPlaylist>,
        now: &MediaPlaylist,
        wall_us: Option<i64>,
    ) -> News {
        let mut news = news(before, now);
        let mut renumbered = false;
        if let Some(before) = before {
            self.check_constants(at_ms, name, before, now);
            renumbered = self.check_numbers(at_ms, name, before, now);
            if before.ended && (now.last() > before.last() || !now.ended) {
                let detail = "the playlist goes on after EXT-X-ENDLIST".to_owned();
                self.find(at_ms, Rule::EndedThenContinued, name, detail);
            }
            if !renumbered {
                self.check_lines(at_ms, name, before, now);
                self.check_hint(at_ms, name, before, now, &news);
            }
        }
        self.check_names(at_ms, name, &news, renumbered);
        self.check_sequence(at_ms, name, now, &news);
        if let Some(wall_us) = wall_us
            && let Some(edge) = now.edge_date_us()
            && edge.saturating_sub(wall_us) > FUTURE_MAX_US
        {
            let ahead = edge.saturating_sub(wall_us).unsigned_abs();
            let detail = format!("the media ends {} in the future", seconds(ahead));
            self.find_once(at_ms, Rule::ProgramDateTimeWrong, name, "future", detail);
        }
        self.check_pace(at_ms, name, now, &news);
        self.remember(at_ms, name, before, now, &mut news);
        news
    }

    /// A playlist came that says nothing new.
    pub(super) fn check_stuck(&mut self, at_ms: u64, name: &str) {
        let grace_ms = self.limits.grace_ms;
        let slack_ms = self.limits.slack_ms;
        let Some(rendition) = self.renditions.get(name) else { return };
        let Some(playlist) = &rendition.playlist else { return };
        let still_ms = at_ms.saturating_sub(rendition.changed_ms);
        let allowed_ms = grace_ms + 4 * playlist.target_us / 1000 + slack_ms;
        if !playlist.ended && still_ms > allowed_ms {
            let key = rendition.changed_ms.to_string();
            let detail = format!("unchanged and without EXT-X-ENDLIST for {} s", still_ms / 1000);
            self.find_once(at_ms, Rule::PlaylistStuck, name, &key, detail);
        }
    }

    /// The server was away: what comes next is not measured against what came before.
    pub(super) fn forget_pace(&mut self) {
        for rendition in self.renditions.values_mut() {
            rendition.pace = Pace::default();
            rendition.behind_since_ms = None;
        }
    }

    fn check_constants(
        &mut self,
        at_ms: u64,
        name: &str,
        before: &MediaPlaylist,
        now: &MediaPlaylist,
    ) {
        if before.target_us != now.target_us {
            let detail =
                format!("from {} to {}", seconds(before.target_us), seconds(now.target_us));
            self.find(at_ms, Rule::TargetDurationChanged, name, detail);
        }
        if now.ended {
            return; // What is for live playback may go when the stream has ended.
        }
        if before.part_target_us != now.part_target_us {
            let detail = format!("from {:?} to {:?} us", before.part_target_us, now.part_target_us);
            self.find(at_ms, Rule::PartTargetChanged, name, detail);
        }
        if before.control != now.control {
            let detail = format!("from {:?} to {:?}", before.control, now.control);
            self.find(at_ms, Rule::ServerControlChanged, name, detail);
        }
    }

    /// Whether numbering went back, so that lines cannot be compared by number.
    fn check_numbers(
        &mut self,
        at_ms: u64,
        name: &str,
        before: &MediaPlaylist,
        now: &MediaPlaylist,
    ) -> bool {
        let mut back = false;
        if now.media_sequence < before.media_sequence {
            let detail = format!("from {} to {}", before.media_sequence, now.media_sequence);
            self.find(at_ms, Rule::MsnDecreased, name, detail);
            back = true;
        }
        if now.discontinuity_sequence < before.discontinuity_sequence {
            let (from, to) = (before.discontinuity_sequence, now.discontinuity_sequence);
            let detail = format!("from {from} to {to}");
            self.find(at_ms, Rule::DiscontinuitySequenceDecreased, name, detail);
            back = true;
        }
        back
    }

    fn check_lines(&mut self, at_ms: u64, name: &str, before: &MediaPlaylist, now: &MediaPlaylist) {
        if now.last() < before.last() && now.open_msn() <= before.open_msn() {
            let end = |p: &MediaPlaylist| p.last().map_or("nothing".into(), |l| l.to_string());
            let detail = format!("the end went back from {} to {}", end(before), end(now));
            self.find(at_ms, Rule::PlaylistRewritten, name, detail);
            return;
        }
        for old in &before.segments {
            let Some(new) = now.segment(old.msn) else { continue };
            if !old.same_meaning(new) {
                let detail = format!("segment {}: {}", old.msn, difference(old, new));
                self.find(at_ms, Rule::SegmentChanged, name, detail);
            } else if old.discontinuity_number != new.discontinuity_number {
                let detail = format!(
                    "segment {} had number {}, now {}",
                    old.msn, old.discontinuity_number, new.discontinuity_number
                );
                let key = now.media_sequence.to_string();
                self.find_once(at_ms, Rule::DiscontinuitySequenceWrong, name, &key, detail);
            }
            // Parts may go, all at once, but not change.
            if !new.parts.is_empty() && new.parts != old.parts {
                self.part_changed(at_ms, name, old.msn, &old.parts, &new.parts);
            }
        }
        self.check_open_kept(at_ms, name, before, now);
    }

    /// The parts of what was in progress are still there, or the segment made of them is.
    fn check_open_kept(
        &mut self,
        at_ms: u64,
        name: &str,
        before: &MediaPlaylist,
        now: &MediaPlaylist,
    ) {
        let msn = before.open_msn();
        let old = &before.open.parts;
        if old.is_empty() || msn < now.media_sequence {
            return;
        }
        let new = match now.segment(msn) {
            // Lost media is told by a gap; a segment far from the edge lists no parts.
            Some(segment) if segment.gap || segment.parts.is_empty() => return,
            Some(segment) => &segment.parts,
            None => &now.open.parts,
        };
        if new.len() < old.len() {
            let detail = format!("segment {msn} had {} parts and has {}", old.len(), new.len());
            self.find(at_ms, Rule::PlaylistRewritten, name, detail);
        } else if new.get(..old.len()) != Some(old.as_slice()) {
            self.part_changed(at_ms, name, msn, old, new);
        }
    }

    fn part_changed(&mut self, at_ms: u64, name: &str, msn: u64, old: &[Part], new: &[Part]) {
        let index = old.iter().zip(new).position(|(o, n)| o != n).unwrap_or(new.len());
        let show = |p: Option<&Part>| match p {
            Some(p) => format!("{} of {}", p.resource.uri, seconds(p.duration_us)),
            None => "nothing".into(),
        };
        let detail = format!(
            "part {msn}.{index} was {}, now {}",
            show(old.get(index)),
            show(new.get(index))
        );
        self.find(at_ms, Rule::PartChanged, name, detail);
    }

    fn check_hint(
        &mut self,
        at_ms: u64,
        name: &str,
        before: &MediaPlaylist,
        now: &MediaPlaylist,
        news: &News,
    ) {
        let Some((place, first)) = news.parts.first() else { return };
        let fresh_session = match now.segment(place.msn) {
            Some(segment) => segment.discontinuity,
            None => now.open.discontinuity,
        };
        // A hint names the next part of its session; nobody can hint at the next session, and a
        // gap was not foreseen.
        if (fresh_session && place.part == Some(0)) || first.gap {
            return;
        }
        // The parts between are not known when segments went by unseen.
        if place.msn > before.open_msn() + 1 || before.last().is_none() {
            return;
        }
        let Some(hint) = &before.part_hint else {
            let detail = format!("part {place} was not hinted");
            self.find(at_ms, Rule::PreloadHintMissing, name, detail);
            return;
        };
        let right = hint.uri == first.resource.uri;
        if place.part != Some(0) {
            if !right {
                let detail = format!("{} was hinted, {} came", hint.uri, first.resource.uri);
                self.find(at_ms, Rule::PreloadHintWrong, name, detail);
            }
            return;
        }
        let hints = &mut self.rendition(name).hints;
        hints.ends += 1;
        hints.wrong_ends += u32::from(!right);
        if hints.ends >= HINTED_ENDS_MIN && hints.wrong_ends * 4 > hints.ends {
            let detail = format!(
                "{} of {} times a segment ended, the hint did not name the next one's first part",
                hints.wrong_ends, hints.ends
            );
            self.rendition(name).hints = Hints::default();
            self.find(at_ms, Rule::PreloadHintWrong, name, detail);
        }
    }

    /// One URI, one meaning.
    fn check_names(&mut self, at_ms: u64, name: &str, news: &News, renumbered: bool) {
        let whole = news
            .segments
            .iter()
            .filter(|s| !s.gap)
            .map(|s| (Position { msn: s.msn, part: None }, &s.resource));
        let parts = news.parts.iter().map(|(place, part)| (*place, &part.resource));
        let named: Vec<(Position, Resource)> =
            whole.chain(parts).map(|(place, resource)| (place, resource.clone())).collect();
        for (place, resource) in named {
            let rendition = self.rendition(name);
            let old = rendition.names.insert(resource.clone(), place);
            if rendition.names.len() > NAMES_MAX
                && let Some(oldest) =
                    rendition.names.iter().min_by_key(|(_, p)| **p).map(|(r, _)| r.clone())
            {
                rendition.names.remove(&oldest);
            }
            if let Some(old) = old
                && old != place
                && !renumbered
            {
                let detail = format!("{} named {old} and now names {place}", resource.uri);
                self.find(at_ms, Rule::UriReused, name, detail);
            }
        }
    }

    /// New segments follow those before them: dates, maps, discontinuities.
    fn check_sequence(&mut self, at_ms: u64, name: &str, now: &MediaPlaylist, news: &News) {
        let frame = self.frame_us(name) + DATE_ROUNDING_US;
        let Some(first_new) = news.segments.first() else { return };
        for pair in now.segments.windows(2) {
            let [old, new] = pair else { continue };
            if new.msn < first_new.msn {
                continue;
            }
            if old.map != new.map && !new.discontinuity && !old.gap && !new.gap {
                let detail = format!("segment {}", new.msn);
                self.find(at_ms, Rule::MapChangedWithoutDiscontinuity, name, detail);
            }
            let (Some(from), Some(to)) = (old.date_us, new.date_us) else { continue };
            let step = to.saturating_sub(from);
            let length = i64::try_from(old.duration_us).unwrap_or(i64::MAX);
            let error = step.saturating_sub(length);
            let allowed = i64::try_from(frame).unwrap_or(i64::MAX);
            let wrong = if new.discontinuity { error < -allowed } else { error.abs() > allowed };
            if wrong {
                let detail = format!(
                    "segment {} lasts {} and segment {} is dated {:.3} s after it",
                    old.msn,
                    seconds(old.duration_us),
                    new.msn,
                    step as f64 / 1e6
                );
                self.find(at_ms, Rule::ProgramDateTimeWrong, name, detail);
            }
        }
    }

    /// Parts that come in bursts were held back by the server: their lag behind the media's own
    /// clock then differs by more than a part within one or two segments, over and over.
    fn check_pace(&mut self, at_ms: u64, name: &str, now: &MediaPlaylist, news: &News) {
        let Some(part_target_us) = now.part_target_us else { return };
        if news.afresh {
            self.rendition(name).pace = Pace::default();
            return;
        }
        let slack_us = self.limits.slack_ms * 1000;
        for (place, _) in &news.parts {
            let Some(end_us) = part_end_us(now, *place) else { continue };
            let pace = &mut self.rendition(name).pace;
            pace.lags.push_back(at_ms as i64 * 1000 - end_us);
            if pace.lags.len() < PACE_PARTS {
                continue;
            }
            let mut sorted: Vec<i64> = pace.lags.drain(..).collect();
            sorted.sort_unstable();
            let least = sorted.first().copied().unwrap_or(0);
            let median = sorted.get(PACE_PARTS / 2).copied().unwrap_or(0);
            let spread_us = (median - least).unsigned_abs();
            if spread_us > part_target_us + slack_us {
                pace.late_windows += 1;
            } else {
                pace.late_windows = 0;
            }
            if pace.late_windows >= PACE_WINDOWS {
                pace.late_windows = 0;
                let detail = format!(
                    "parts come in bursts: half of the last {PACE_PARTS} were listed {} later \
                     than the promptest",
                    seconds(spread_us)
                );
                self.find(at_ms, Rule::PartListedLate, name, detail);
            }
        }
    }

    fn remember(
        &mut self,
        at_ms: u64,
        name: &str,
        before: Option<&MediaPlaylist>,
        now: &MediaPlaylist,
        news: &mut News,
    ) {
        let rendition: &mut Rendition = self.rendition(name);
        rendition.longest_us = rendition.longest_us.max(now.duration_us());
        if let Some(last) = now.last() {
            rendition.positions.push_back((at_ms, last));
            if rendition.positions.len() > 256 {
                rendition.positions.pop_front();
            }
        }
        for old in before.iter().flat_map(|b| &b.segments) {
            if old.msn < now.media_sequence && !old.gap {
                let keep_us = old.duration_us.saturating_add(rendition.longest_us);
                // It may have gone right after it was seen last, however late that is noticed.
                let seen_ms = rendition.changed_ms;
                news.dropped.push(Dropped {
                    msn: old.msn,
                    resource: old.resource.clone(),
                    fetchable_until_ms: seen_ms.saturating_add(keep_us / 1000),
                });
            }
        }
        let in_use: std::collections::BTreeSet<&Resource> = now
            .segments
            .iter()
            .filter_map(|s| s.map.as_ref())
            .chain(now.open.map.as_ref())
            .collect();
        rendition.inits.retain(|uri, _| in_use.contains(uri));
    }
}

/// What `now` lists and `before` did not.
fn news(before: Option<&MediaPlaylist>, now: &MediaPlaylist) -> News {
    let mut news = News { afresh: before.is_none(), ..News::default() };
    let known_open = before.map_or(0, MediaPlaylist::open_msn);
    let known_parts = before.map_or(0, |b| b.open.parts.len());
    let new_parts = |msn: u64, parts: &[Part]| -> Vec<(Position, Part)> {
        let skip = if before.is_none() || msn > known_open {
            0
        } else if msn == known_open {
            known_parts
        } else {
            usize::MAX
        };
        let placed = parts.iter().enumerate().skip(skip);
        placed.map(|(i, p)| (Position { msn, part: Some(i as u64) }, p.clone())).collect()
    };
    for segment in &now.segments {
        news.parts.extend(new_parts(segment.msn, &segment.parts));
        if before.is_none() || segment.msn >= known_open {
            news.segments.push(segment.clone());
        }
    }
    news.parts.extend(new_parts(now.open_msn(), &now.open.parts));
    news
}

/// The date at which a listed part's media ends.
fn part_end_us(playlist: &MediaPlaylist, place: Position) -> Option<i64> {
    let (start, parts) = match playlist.segment(place.msn) {
        Some(segment) => (segment.date_us?, &segment.parts),
        None => (playlist.open_date_us()?, &playlist.open.parts),
    };
    let count = usize::try_from(place.part?).ok()?.checked_add(1)?;
    let length: u64 = parts.get(..count)?.iter().map(|p| p.duration_us).sum();
    start.checked_add(i64::try_from(length).ok()?)
}

fn difference(old: &Segment, new: &Segment) -> String {
    if old.resource != new.resource {
        format!("its URI was {}, now {}", old.resource.uri, new.resource.uri)
    } else if old.duration_us != new.duration_us {
        format!("it lasted {}, now {}", seconds(old.duration_us), seconds(new.duration_us))
    } else if old.map != new.map {
        "its EXT-X-MAP changed".into()
    } else if old.date_us != new.date_us {
        "its EXT-X-PROGRAM-DATE-TIME changed".into()
    } else if old.discontinuity != new.discontinuity {
        "its EXT-X-DISCONTINUITY came or went".into()
    } else {
        "its EXT-X-GAP came or went".into()
    }
}
