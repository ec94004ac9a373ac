//! What must be equal in all renditions of a stream, and what they say about each other.

use std::collections::BTreeSet;

use super::{DATE_ROUNDING_US, Engine, FACTS_MAX, Fact, seconds};
use crate::check::catalog::Rule;
use crate::check::parse::{MediaPlaylist, Position, Report};

/// A rendition report that names a place nobody has seen yet.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    at_ms: u64,
    by: String,
    about: String,
    place: Position,
}

/// Open claims: a report each for 32 renditions, several versions deep.
const CLAIMS_MAX: usize = 256;

/// How much older than the newest playlist a report may be, besides one part: the server renders
/// a playlist when one rendition's part comes and the others' parts come at their own time.
const REPORT_AGE_MAX_MS: u64 = 500;

impl Engine {
    /// Compares a changed playlist with the other renditions.
    pub(super) fn compare(
        &mut self,
        at_ms: u64,
        name: &str,
        before: Option<&MediaPlaylist>,
        now: &MediaPlaylist,
    ) {
        if before.is_none() {
            self.compare_headers(at_ms, name, now);
        }
        let known_until = before.map_or(0, MediaPlaylist::open_msn);
        for segment in &now.segments {
            if segment.msn < known_until {
                continue;
            }
            let earlier = segment.msn.checked_sub(1).and_then(|m| now.segment(m));
            let fact = Fact {
                date_us: segment.date_us,
                discontinuity_number: segment.discontinuity_number,
                discontinuity: segment.discontinuity,
                gap: segment.gap,
                new_map: earlier
                    .filter(|e| !e.gap && e.map.is_some())
                    .map(|e| e.map != segment.map),
                start_us: None,
            };
            self.learn(at_ms, name, segment.msn, fact);
        }
        self.check_reports(at_ms, name, now);
        self.check_claims(at_ms);
        self.check_behind(at_ms, name, now);
    }

    /// The first presentation time of a segment's media became known.
    pub(super) fn learn_start(&mut self, at_ms: u64, name: &str, msn: u64, start_us: i64) {
        let Some(facts) = self.facts.get_mut(&msn) else { return };
        let Some(fact) = facts.get_mut(name) else { return };
        fact.start_us = Some(start_us);
        let own_video = self.is_video(name);
        let lead = self.lead.clone();
        let leads = |name: &str| lead.as_deref() == Some(name);
        let mut others = Vec::new();
        for (other, fact) in self.facts.get(&msn).into_iter().flatten() {
            if let Some(start) = fact.start_us
                && other != name
            {
                others.push((other.clone(), start, fact.discontinuity));
            }
        }
        for (other, other_start, discontinuity) in others {
            match (own_video, self.is_video(&other)) {
                (true, true) => {
                    self.compare_video_starts(at_ms, msn, (name, start_us), (&other, other_start));
                }
                // Audio follows one video; that the others agree with that one is checked above.
                (true, false) if !discontinuity && leads(name) => {
                    self.check_audio_start(at_ms, msn, (&other, other_start), start_us);
                }
                (false, true) if !discontinuity && leads(&other) => {
                    self.check_audio_start(at_ms, msn, (name, start_us), other_start);
                }
                _ => {}
            }
        }
    }

    fn compare_video_starts(&mut self, at_ms: u64, msn: u64, a: (&str, i64), b: (&str, i64)) {
        let frame = self.frame_us(a.0).max(self.frame_us(b.0));
        if a.1.abs_diff(b.1) > frame {
            let detail = format!(
                "segment {msn} starts at {:.3} s, in {} at {:.3} s",
                a.1 as f64 / 1e6,
                b.0,
                b.1 as f64 / 1e6
            );
            self.find(at_ms, Rule::SegmentBoundaryDiffers, a.0, detail);
        }
    }

    fn check_audio_start(&mut self, at_ms: u64, msn: u64, audio: (&str, i64), video_start: i64) {
        // Timescales differ, so allow for rounding of each.
        let after = audio.1.saturating_sub(video_start);
        let frame = i64::try_from(self.frame_us(audio.0)).unwrap_or(i64::MAX);
        if after < -1_000 || after > frame.saturating_add(1_000) {
            let detail = format!(
                "segment {msn} starts {:.4} s after the video's, one frame lasts {:.4} s",
                after as f64 / 1e6,
                frame as f64 / 1e6
            );
            let key = msn.to_string();
            self.find_once(at_ms, Rule::AudioBoundaryWrong, audio.0, &key, detail);
        }
    }

    fn compare_headers(&mut self, at_ms: u64, name: &str, now: &MediaPlaylist) {
        let other = self
            .renditions
            .iter()
            .filter(|(other, r)| r.listed && *other != name)
            .find_map(|(other, r)| Some((other.clone(), r.playlist.clone()?)));
        let Some((other, reference)) = other else { return };
        if reference.target_us != now.target_us {
            let (ours, theirs) = (seconds(now.target_us), seconds(reference.target_us));
            let detail = format!("{ours}, in {other} {theirs}");
            self.find(at_ms, Rule::TargetDurationDiffers, name, detail);
        }
        if reference.ended || now.ended {
            return;
        }
        if reference.control != now.control || reference.part_target_us != now.part_target_us {
            let detail = format!(
                "{:?}, PART-TARGET {:?} us; in {other} {:?}, {:?} us",
                now.control, now.part_target_us, reference.control, reference.part_target_us
            );
            self.find(at_ms, Rule::ServerControlDiffers, name, detail);
        }
    }

    fn learn(&mut self, at_ms: u64, name: &str, msn: u64, fact: Fact) {
        let here = self.facts.entry(msn).or_default();
        here.insert(name.to_owned(), fact.clone());
        let others: Vec<(String, Fact)> = here
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(other, fact)| (other.clone(), fact.clone()))
            .collect();
        while self.facts.len() > FACTS_MAX {
            self.facts.pop_first();
        }
        self.check_maps_at_discontinuity(at_ms, msn);
        // One comparison tells it all: if it equals one, it equals those compared before.
        let Some((other, theirs)) =
            others.iter().find(|(o, _)| self.is_video(o)).or(others.first())
        else {
            return;
        };
        if theirs.discontinuity_number != fact.discontinuity_number {
            let detail = format!(
                "segment {msn} has discontinuity number {}, in {other} {}",
                fact.discontinuity_number, theirs.discontinuity_number
            );
            let key = fact.discontinuity_number.to_string();
            self.find_once(at_ms, Rule::DiscontinuityDiffers, name, &key, detail);
        }
        if let (Some(ours), Some(dated)) = (fact.date_us, theirs.date_us)
            && !(fact.gap || theirs.gap)
            && !fact.discontinuity
        {
            let frame = self.frame_us(name).max(self.frame_us(other)) + DATE_ROUNDING_US;
            if ours.abs_diff(dated) > frame {
                let detail = format!(
                    "segment {msn} is dated {:.3} s away from {other}'s",
                    ours.saturating_sub(dated) as f64 / 1e6
                );
                self.find(at_ms, Rule::SegmentBoundaryDiffers, name, detail);
            }
        }
    }

    /// Once all listed renditions have shown a segment with a discontinuity.
    fn check_maps_at_discontinuity(&mut self, at_ms: u64, msn: u64) {
        let Some(facts) = self.facts.get(&msn) else { return };
        let mut listed = self.renditions.iter().filter(|(_, r)| r.listed).peekable();
        if listed.peek().is_none() {
            return;
        }
        let all = listed
            .all(|(n, _)| facts.get(n).is_some_and(|f| f.discontinuity && f.new_map.is_some()));
        if all && facts.values().all(|f| f.new_map == Some(false)) {
            self.maps_kept.entry(msn).or_insert(at_ms);
            if self.master.is_none() {
                self.judge_maps_kept(at_ms, u64::MAX);
            }
        }
    }

    /// Called when a new multivariant playlist has been read: a rendition whose new map was the
    /// reason may have been away, and be listed only now.
    pub(super) fn judge_maps_kept(&mut self, at_ms: u64, asked_ms: u64) {
        let facts = &self.facts;
        let listed: Vec<&String> =
            self.renditions.iter().filter(|(_, r)| r.listed).map(|(name, _)| name).collect();
        let mut wrong = Vec::new();
        self.maps_kept.retain(|msn, since| {
            let Some(facts) = facts.get(msn) else { return false };
            if *since >= asked_ms || listed.iter().any(|name| !facts.contains_key(*name)) {
                return true;
            }
            if facts.values().all(|f| f.new_map == Some(false)) {
                wrong.push(*msn);
            }
            false
        });
        for msn in wrong {
            let detail = format!("segment {msn}: every rendition keeps its EXT-X-MAP");
            let key = msn.to_string();
            self.find_once(at_ms, Rule::MapUnchangedAtDiscontinuity, "", &key, detail);
        }
    }

    fn check_reports(&mut self, at_ms: u64, name: &str, now: &MediaPlaylist) {
        if now.ended || now.part_target_us.is_none() {
            return;
        }
        let Some(url) = self.renditions.get(name).map(|r| r.url.clone()) else { return };
        let base = reqwest::Url::parse(&url).ok();
        let same = |uri: &str, other: &str| {
            base.as_ref().and_then(|b| b.join(uri).ok()).is_some_and(|u| u.as_str() == other)
        };
        let others: Vec<(String, String)> = self
            .renditions
            .iter()
            .filter(|(other, r)| r.listed && *other != name)
            .map(|(other, r)| (other.clone(), r.url.clone()))
            .collect();
        for (other, other_url) in others {
            match now.reports.iter().find(|r| same(&r.uri, &other_url)) {
                Some(report) => {
                    self.rendition(name).report_missing_since_ms.remove(&other);
                    self.check_report(at_ms, name, &other, report, now);
                }
                // The multivariant playlist that lists it may be older than this one: judged
                // when the next one still does.
                None => {
                    self.rendition(name).report_missing_since_ms.entry(other).or_insert(at_ms);
                }
            }
        }
    }

    /// Called when a new multivariant playlist has been read.
    pub(super) fn check_missing_reports(&mut self, at_ms: u64, asked_ms: u64) {
        let listed: BTreeSet<String> = self
            .renditions
            .iter()
            .filter(|(_, r)| r.listed)
            .map(|(name, _)| name.clone())
            .collect();
        for rendition in self.renditions.values_mut() {
            // One that left owes nobody a report; should it come back, the time counts anew.
            rendition.report_missing_since_ms.retain(|other, _| listed.contains(other));
        }
        let mut missing = Vec::new();
        for (name, rendition) in self.renditions.iter().filter(|(_, r)| r.listed) {
            for (other, since) in &rendition.report_missing_since_ms {
                if *since < asked_ms && self.renditions.get(other).is_some_and(|r| r.listed) {
                    missing.push((name.clone(), other.clone()));
                }
            }
        }
        for (name, other) in missing {
            self.rendition(&name).report_missing_since_ms.remove(&other);
            self.find(at_ms, Rule::RenditionReportMissing, &name, format!("none for {other}"));
        }
    }

    fn check_report(
        &mut self,
        at_ms: u64,
        name: &str,
        other: &str,
        report: &Report,
        now: &MediaPlaylist,
    ) {
        let Some(seen) = self.renditions.get(other) else { return };
        let place = report_position(report, seen.playlist.as_ref());
        let age_ms =
            REPORT_AGE_MAX_MS + self.limits.slack_ms + now.part_target_us.unwrap_or(0) / 1000;
        // In the first moments nothing is long ago.
        let known = at_ms.checked_sub(age_ms).and_then(|old| {
            seen.positions.iter().rev().find(|(when, _)| *when <= old).map(|(_, p)| *p)
        });
        let newest = seen.positions.back().map(|(_, p)| *p);
        if let Some(known) = known
            && place < known
            && !same_place(place, known, seen.playlist.as_ref())
        {
            let detail = format!("{other} is said to end at {place}, it reached {known} long ago");
            self.find(at_ms, Rule::RenditionReportWrong, name, detail);
        } else if newest.is_some_and(|n| place > n) && self.claims.len() < CLAIMS_MAX {
            self.claims.push_back(Claim {
                at_ms,
                by: name.to_owned(),
                about: other.to_owned(),
                place,
            });
        }
    }

    fn check_claims(&mut self, at_ms: u64) {
        let mut open = std::mem::take(&mut self.claims);
        let mut wrong = Vec::new();
        open.retain(|claim| {
            let Some(about) = self.renditions.get(&claim.about).filter(|r| r.listed) else {
                return false;
            };
            let Some(playlist) = &about.playlist else { return false };
            let come = playlist.last().is_some_and(|last| {
                last >= claim.place || same_place(claim.place, last, Some(playlist))
            });
            // Judged only by a playlist that came well after the claim was made.
            let later_ms = claim.at_ms + 3 * playlist.target_us / 1000;
            let judged = about.changed_ms > later_ms || come;
            if judged && !come {
                wrong.push(claim.clone());
            }
            !judged
        });
        self.claims = open;
        for claim in wrong {
            let detail = format!("{} never had {}", claim.about, claim.place);
            self.find(at_ms, Rule::RenditionReportWrong, &claim.by, detail);
        }
    }

    /// Others that have stood still while this one went on.
    fn check_behind(&mut self, at_ms: u64, name: &str, now: &MediaPlaylist) {
        let Some(edge) = now.edge_date_us() else { return };
        let allowed_us = 3 * now.target_us;
        let allowed_ms = allowed_us / 1000 + self.limits.slack_ms;
        self.rendition(name).behind_since_ms = None;
        let mut behind = Vec::new();
        for (other, rendition) in self.renditions.iter_mut().filter(|(_, r)| r.listed) {
            let Some(playlist) = rendition.playlist.as_ref().filter(|p| !p.ended) else { continue };
            let Some(other_edge) = playlist.edge_date_us() else { continue };
            let lag = edge.saturating_sub(other_edge);
            if other == name || lag <= i64::try_from(allowed_us).unwrap_or(i64::MAX) {
                continue;
            }
            let since = *rendition.behind_since_ms.get_or_insert(at_ms);
            if at_ms.saturating_sub(since) > allowed_ms {
                rendition.behind_since_ms = Some(at_ms);
                behind.push((other.clone(), lag));
            }
        }
        for (other, lag) in behind {
            let detail = format!("{:.1} s behind {name}", lag as f64 / 1e6);
            self.find(at_ms, Rule::RenditionBehind, &other, detail);
        }
    }
}

/// A report as a place: without LAST-PART, or with the last part of a whole segment, it is the
/// whole segment.
fn report_position(report: &Report, playlist: Option<&MediaPlaylist>) -> Position {
    let place = Position { msn: report.last_msn, part: report.last_part };
    match playlist.and_then(|p| p.segment(report.last_msn)) {
        Some(segment)
            if !segment.parts.is_empty()
                && report.last_part == Some(segment.parts.len() as u64 - 1) =>
        {
            Position { msn: report.last_msn, part: None }
        }
        _ => place,
    }
}

/// Whether two places are the same: the last part of a segment may be seen before the segment is
/// known to be complete.
fn same_place(a: Position, b: Position, playlist: Option<&MediaPlaylist>) -> bool {
    if a.msn != b.msn {
        return false;
    }
    let count = playlist.and_then(|p| p.segment(a.msn)).map(|s| s.parts.len() as u64);
    let whole = |p: Position| match (p.part, count) {
        // How many parts a segment has that lists none is not known.
        (None, _) | (_, Some(0)) => true,
        (Some(part), Some(count)) => part + 1 >= count,
        _ => false,
    };
    a == b || (whole(a) && whole(b))
}
