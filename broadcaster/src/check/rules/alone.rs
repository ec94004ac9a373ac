//! What one playlist shows by itself. A segment or part is judged when it is first listed.

use super::media::Short;
use super::{Engine, seconds};
use crate::check::catalog::Rule;
use crate::check::parse::{MediaPlaylist, Part, Position, Segment};

impl Engine {
    pub(super) fn check_alone(
        &mut self,
        at_ms: u64,
        name: &str,
        before: Option<&MediaPlaylist>,
        now: &MediaPlaylist,
    ) {
        let same_header = before.is_some_and(|b| {
            (b.target_us, b.part_target_us, &b.control, b.ended)
                == (now.target_us, now.part_target_us, &now.control, now.ended)
        });
        if !same_header {
            self.check_header(at_ms, name, now);
        }
        let known_until = before.map_or(0, MediaPlaylist::open_msn);
        for segment in &now.segments {
            if segment.msn >= known_until || before.is_none() {
                self.check_segment(at_ms, name, now, segment);
            }
        }
        self.check_open_parts(at_ms, name, before, now);
        if now.part_target_us.is_some() && !now.ended {
            self.check_parts_listed(at_ms, name, now);
        }
        // One that left the multivariant playlist and came back begins anew.
        let returned = std::mem::take(&mut self.rendition(name).away);
        if let Some(before) = before
            && now.media_sequence > before.media_sequence
            && !now.ended
            && !returned
        {
            let left: u64 = now.segments.iter().map(|s| s.duration_us).sum();
            if left < 3 * now.target_us {
                let detail = format!(
                    "segment {} was removed although only {} stay listed",
                    before.media_sequence,
                    seconds(left)
                );
                self.find(at_ms, Rule::WindowTooShort, name, detail);
            }
        }
    }

    fn check_header(&mut self, at_ms: u64, name: &str, now: &MediaPlaylist) {
        let control = now.control.clone().unwrap_or_default();
        if !now.ended {
            let missing = match now.part_target_us {
                None => Some("EXT-X-PART-INF is missing"),
                Some(_) if !control.can_block_reload => Some("CAN-BLOCK-RELOAD=YES is missing"),
                Some(_) => None,
            };
            if let Some(missing) = missing {
                self.find(at_ms, Rule::LowLatencyMissing, name, missing.to_owned());
            }
        }
        if let Some(part_target) = now.part_target_us {
            let held = control.part_hold_back_us.unwrap_or(0);
            if held < 3 * part_target {
                let detail = format!(
                    "PART-HOLD-BACK is {}, PART-TARGET {}",
                    seconds(held),
                    seconds(part_target)
                );
                self.find(at_ms, Rule::PartHoldBack, name, detail);
            }
            let skip = control.can_skip_until_us.unwrap_or(0);
            if skip < 6 * now.target_us {
                let detail = format!(
                    "CAN-SKIP-UNTIL is {}, the target duration {}",
                    seconds(skip),
                    seconds(now.target_us)
                );
                self.find(at_ms, Rule::CanSkipUntil, name, detail);
            }
        }
        if let Some(held) = control.hold_back_us
            && held < 3 * now.target_us
        {
            let detail = format!(
                "HOLD-BACK is {}, the target duration {}",
                seconds(held),
                seconds(now.target_us)
            );
            self.find(at_ms, Rule::HoldBack, name, detail);
        }
    }

    fn check_segment(&mut self, at_ms: u64, name: &str, now: &MediaPlaylist, segment: &Segment) {
        let msn = segment.msn;
        let rounded = segment.duration_us.saturating_add(500_000) / 1_000_000 * 1_000_000;
        if rounded > now.target_us {
            let detail = format!(
                "segment {msn} lasts {}, the target duration is {}",
                seconds(segment.duration_us),
                seconds(now.target_us)
            );
            self.find(at_ms, Rule::SegmentTooLong, name, detail);
        }
        if segment.date_us.is_none() {
            self.find(at_ms, Rule::ProgramDateTimeMissing, name, format!("segment {msn}"));
        }
        if segment.map.is_none() && !segment.gap {
            self.find(at_ms, Rule::MapMissing, name, format!("segment {msn}"));
        }
        if !segment.parts.is_empty() && !segment.gap {
            let sum: u64 = segment.parts.iter().map(|p| p.duration_us).sum();
            if sum.abs_diff(segment.duration_us) > self.frame_us(name) {
                let detail = format!(
                    "segment {msn} lasts {}, its {} parts {}",
                    seconds(segment.duration_us),
                    segment.parts.len(),
                    seconds(sum)
                );
                self.find(at_ms, Rule::PartsSumDiffers, name, detail);
            }
        }
    }

    /// Parts of segments that were complete when first seen, and all parts but those already
    /// judged while their segment was in progress.
    fn check_open_parts(
        &mut self,
        at_ms: u64,
        name: &str,
        before: Option<&MediaPlaylist>,
        now: &MediaPlaylist,
    ) {
        let Some(target) = now.part_target_us else { return };
        let open = now.open_msn();
        let lists = now
            .segments
            .iter()
            .map(|s| (s.msn, &s.parts))
            .chain(std::iter::once((open, &now.open.parts)));
        for (msn, parts) in lists {
            let judged = judged_parts(before, msn);
            for (index, part) in parts.iter().enumerate() {
                let place = Position { msn, part: Some(index as u64) };
                if index >= judged.listed {
                    self.check_part(at_ms, name, place, part, target);
                }
                // The last of a segment may be short, and the last one listed may be that.
                let last = index + 1 == parts.len();
                let short = part.duration_us.saturating_mul(100) < target.saturating_mul(85);
                if short && !last && index >= judged.followed {
                    let before_us = parts.iter().take(index + 1).map(|p| p.duration_us).sum();
                    let short = Short { at_ms, place, duration_us: part.duration_us, before_us };
                    self.rendition(name).media.add_short(short);
                }
            }
        }
    }

    fn check_part(&mut self, at_ms: u64, name: &str, place: Position, part: &Part, target: u64) {
        if part.duration_us > target {
            let detail = format!(
                "part {place} lasts {}, PART-TARGET is {}",
                seconds(part.duration_us),
                seconds(target)
            );
            self.find(at_ms, Rule::PartTooLong, name, detail);
        }
        if place.part == Some(0) && !part.independent && !part.gap && self.is_video(name) {
            self.find(at_ms, Rule::FirstPartNotIndependent, name, format!("part {place}"));
        }
    }

    fn check_parts_listed(&mut self, at_ms: u64, name: &str, now: &MediaPlaylist) {
        let mut to_edge = now.open_us();
        for segment in now.segments.iter().rev() {
            if to_edge < 3 * now.target_us {
                if segment.parts.is_empty() && !segment.gap {
                    let detail = format!(
                        "segment {} ends {} before the live edge and lists no parts",
                        segment.msn,
                        seconds(to_edge)
                    );
                    let key = segment.msn.to_string();
                    self.find_once(at_ms, Rule::PartsListedTooBriefly, name, &key, detail);
                }
            } else if to_edge > 5 * now.target_us && !segment.parts.is_empty() {
                let detail = format!(
                    "segment {} ends {} before the live edge and still lists its parts",
                    segment.msn,
                    seconds(to_edge)
                );
                let key = segment.msn.to_string();
                self.find_once(at_ms, Rule::PartsListedTooLong, name, &key, detail);
            }
            to_edge = to_edge.saturating_add(segment.duration_us);
        }
    }
}

struct Judged {
    /// Parts that were listed before.
    listed: usize,
    /// Parts that already had another one after them.
    followed: usize,
}

fn judged_parts(before: Option<&MediaPlaylist>, msn: u64) -> Judged {
    let Some(before) = before else { return Judged { listed: 0, followed: 0 } };
    if msn == before.open_msn() {
        let listed = before.open.parts.len();
        return Judged { listed, followed: listed.saturating_sub(1) };
    }
    if msn < before.open_msn() {
        return Judged { listed: usize::MAX, followed: usize::MAX };
    }
    Judged { listed: 0, followed: 0 }
}
