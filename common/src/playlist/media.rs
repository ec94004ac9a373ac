//! The media playlist of one rendition.

use std::fmt::Write as _;

use time::OffsetDateTime;
use time::format_description::well_known::iso8601::{
    Config, EncodedConfig, Iso8601, TimePrecision,
};

use super::{init_path, part_path, seconds, segment_path};
use crate::id::{Msn, RenditionId};
use crate::window::{RenditionWindow, Segment};

/// Parts stay listed this many target durations from the live edge, at least (RFC 8216bis
/// §4.4.4.9 allows their removal after three).
const PARTS_LISTED_TARGETS: u64 = 3;

/// `CAN-SKIP-UNTIL` in target durations; six is the least that RFC 8216bis §4.4.3.8 allows.
const SKIP_TARGETS: u64 = 6;

/// `HOLD-BACK` in target durations and `PART-HOLD-BACK` in part targets; three is the least that
/// RFC 8216bis §4.4.3.8 allows, and the least is the lowest latency.
const HOLD_BACK_TARGETS: u64 = 3;

/// RFC 3339 with milliseconds, as `EXT-X-PROGRAM-DATE-TIME` wants it.
const DATE_TIME: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second { decimal_digits: std::num::NonZeroU8::new(3) })
    .encode();

/// What a media playlist is written from.
#[derive(Clone, Copy, Debug)]
pub struct Media<'a> {
    /// The rendition.
    pub rendition: &'a RenditionWindow,
    /// Longest duration of a part, in microseconds.
    pub part_target_us: u32,
    /// Longest duration of a segment, in seconds.
    pub target_duration_s: u16,
    /// The newest part of every other rendition.
    pub reports: &'a [Report],
}

/// How far another rendition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its id.
    pub id: RenditionId,
    /// Its newest segment, whole or not.
    pub last_msn: Msn,
    /// The newest part of that segment.
    pub last_part: u16,
}

impl Media<'_> {
    /// The whole playlist.
    pub fn full(&self) -> String {
        self.render(0)
    }

    /// The playlist with its older segments replaced by `EXT-X-SKIP`, or `None` when there is
    /// nothing to skip.
    pub fn delta(&self) -> Option<String> {
        let boundary_us = SKIP_TARGETS * self.target_us();
        let segments = self.rendition.segments();
        let mut from_end_us = 0;
        let mut kept = 0;
        // A segment may be skipped when all of it is further from the end than the boundary.
        for segment in segments.iter().rev() {
            if from_end_us >= boundary_us {
                break;
            }
            from_end_us += segment.duration_us;
            kept += 1;
        }
        match segments.len() - kept {
            0 => None,
            skipped => Some(self.render(skipped)),
        }
    }

    fn target_us(&self) -> u64 {
        u64::from(self.target_duration_s) * 1_000_000
    }

    fn render(&self, skipped: usize) -> String {
        let segments = self.rendition.segments();
        // About 100 bytes a line; four part lines in each of the last segments.
        let mut out = String::with_capacity(1024 + segments.len() * 200 + 20 * 120);
        self.header(&mut out, skipped);
        let mut init = None;
        let parts_from = self.parts_from();
        for (i, segment) in segments.iter().enumerate() {
            let needs = (segment.session, segment.init_number);
            let map = init.replace(needs) != Some(needs);
            if i >= skipped {
                self.segment(&mut out, segment, map, i >= parts_from);
            }
        }
        self.footer(&mut out);
        out
    }

    fn header(&self, out: &mut String, skipped: usize) {
        let part_target = u64::from(self.part_target_us);
        let target_us = self.target_us();
        let first = self.rendition.segments().front();
        // The tag before the first segment counts itself (RFC 8216bis §6.2.1), so the playlist's
        // own number is one less while it is still listed.
        let discontinuities =
            first.map_or(0, |s| s.discontinuity_sequence.saturating_sub(s.discontinuity.into()));
        let first_msn = first.map_or(self.rendition.next_part().0, |s| s.msn);
        let _ = write!(
            out,
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:{target}\n\
             #EXT-X-PART-INF:PART-TARGET={part}\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={skip},\
             HOLD-BACK={hold},PART-HOLD-BACK={part_hold}\n\
             #EXT-X-MEDIA-SEQUENCE:{first_msn}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}\n",
            target = self.target_duration_s,
            part = seconds(part_target),
            skip = seconds(SKIP_TARGETS * target_us),
            hold = seconds(HOLD_BACK_TARGETS * target_us),
            part_hold = seconds(HOLD_BACK_TARGETS * part_target),
        );
        if skipped > 0 {
            let _ = writeln!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
        }
    }

    /// Index of the first segment whose parts are listed.
    fn parts_from(&self) -> usize {
        let segments = self.rendition.segments();
        let listed_us = PARTS_LISTED_TARGETS * self.target_us();
        let mut from_end_us = 0;
        for (i, segment) in segments.iter().enumerate().rev() {
            if from_end_us > listed_us {
                return i + 1;
            }
            from_end_us += segment.duration_us;
        }
        0
    }

    fn segment(&self, out: &mut String, segment: &Segment, map: bool, parts: bool) {
        let id = self.rendition.id();
        if segment.discontinuity {
            out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if map {
            let path = init_path(segment.session, id, segment.init_number);
            let _ = writeln!(out, "#EXT-X-MAP:URI=\"../{path}\"");
        }
        let _ = writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", date_time(segment.wall_clock_us));
        if parts && !segment.gap {
            for (i, part) in segment.parts.iter().enumerate() {
                let path = part_path(segment.session, id, segment.msn, i as u16);
                let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
                let _ = writeln!(
                    out,
                    "#EXT-X-PART:DURATION={},URI=\"../{path}\"{independent}",
                    seconds(part.duration_us.into()),
                );
            }
        }
        if segment.complete {
            let gap = if segment.gap { "#EXT-X-GAP\n" } else { "" };
            let path = segment_path(segment.session, id, segment.msn);
            let _ = writeln!(out, "{gap}#EXTINF:{},\n../{path}", seconds(segment.duration_us));
        }
    }

    fn footer(&self, out: &mut String) {
        if self.rendition.ended() {
            out.push_str("#EXT-X-ENDLIST\n");
            return;
        }
        if let Some(last) = self.rendition.segments().back() {
            let (msn, part) = self.rendition.next_part();
            let path = part_path(last.session, self.rendition.id(), msn, part);
            let _ = writeln!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"../{path}\"");
        }
        for report in self.reports {
            let _ = writeln!(
                out,
                "#EXT-X-RENDITION-REPORT:URI=\"../{}/media.m3u8\",LAST-MSN={},LAST-PART={}",
                report.id, report.last_msn, report.last_part,
            );
        }
    }
}

/// Microseconds since the Unix epoch as RFC 3339 in UTC with milliseconds.
pub fn date_time(wall_clock_us: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall_clock_us) * 1000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Iso8601::<DATE_TIME>).unwrap_or_default()
}
