//! A strict playlist parser, written apart from the code that writes Shoal's own playlists, so
//! that one mistake cannot hide the other. Pure. Durations and dates are whole microseconds.

mod read;
#[cfg(test)]
mod tests;

pub(crate) use read::{is_media_playlist, parse_master, parse_media};

/// Longest playlist that is read, in bytes: a day of 2 s segments is below it.
pub(crate) const PLAYLIST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a text is not a playlist: the line (from 1) and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// One media playlist, whole or (with `skipped` > 0) a delta update.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct MediaPlaylist {
    pub(crate) target_us: u64,
    pub(crate) part_target_us: Option<u64>,
    pub(crate) control: Option<ServerControl>,
    pub(crate) media_sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    /// Segments left out by EXT-X-SKIP, before the first of `segments`.
    pub(crate) skipped: u64,
    pub(crate) segments: Vec<Segment>,
    /// What is listed of the segment in progress.
    pub(crate) open: OpenSegment,
    /// URI of the EXT-X-PRELOAD-HINT of TYPE=PART.
    pub(crate) part_hint: Option<Resource>,
    pub(crate) reports: Vec<Report>,
    pub(crate) ended: bool,
}

/// Bytes at a URI, or a range of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Resource {
    pub(crate) uri: String,
    /// Offset and length.
    pub(crate) range: Option<(u64, u64)>,
}

/// A complete segment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Segment {
    pub(crate) msn: u64,
    /// Its discontinuity sequence number.
    pub(crate) discontinuity_number: u64,
    /// Whether EXT-X-DISCONTINUITY stands before it.
    pub(crate) discontinuity: bool,
    pub(crate) gap: bool,
    pub(crate) date_us: Option<i64>,
    pub(crate) duration_us: u64,
    pub(crate) resource: Resource,
    pub(crate) map: Option<Resource>,
    pub(crate) parts: Vec<Part>,
}

/// The segment in progress: its parts so far and the tags already given for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct OpenSegment {
    pub(crate) discontinuity: bool,
    pub(crate) date_us: Option<i64>,
    pub(crate) map: Option<Resource>,
    pub(crate) parts: Vec<Part>,
}

/// One EXT-X-PART.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Part {
    pub(crate) resource: Resource,
    pub(crate) duration_us: u64,
    pub(crate) independent: bool,
    pub(crate) gap: bool,
}

/// EXT-X-SERVER-CONTROL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerControl {
    pub(crate) can_block_reload: bool,
    pub(crate) can_skip_until_us: Option<u64>,
    pub(crate) hold_back_us: Option<u64>,
    pub(crate) part_hold_back_us: Option<u64>,
}

/// One EXT-X-RENDITION-REPORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) uri: String,
    pub(crate) last_msn: u64,
    pub(crate) last_part: Option<u64>,
}

/// A place in a rendition: a part of a segment, or (without part) the whole segment.
/// The whole of a segment comes after each of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) msn: u64,
    pub(crate) part: Option<u64>,
}

/// The multivariant playlist.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct MasterPlaylist {
    pub(crate) variants: Vec<Variant>,
    pub(crate) media: Vec<Media>,
}

/// One EXT-X-STREAM-INF.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Variant {
    pub(crate) uri: String,
    pub(crate) bandwidth: Option<u64>,
    pub(crate) average_bandwidth: Option<u64>,
    pub(crate) codecs: Option<String>,
    pub(crate) resolution: Option<(u32, u32)>,
    /// Frames per 1000 seconds.
    pub(crate) frame_rate_milli: Option<u64>,
    pub(crate) audio_group: Option<String>,
}

/// One EXT-X-MEDIA.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Media {
    pub(crate) kind: String,
    pub(crate) group: String,
    pub(crate) uri: Option<String>,
}

impl Segment {
    /// What a client relies on not to change: everything but the parts, which go with time.
    pub(crate) fn same_meaning(&self, other: &Self) -> bool {
        let of = |s: &Self| {
            (s.resource.clone(), s.duration_us, s.discontinuity, s.gap, s.date_us, s.map.clone())
        };
        of(self) == of(other)
    }
}

impl Position {
    fn key(self) -> (u64, u64) {
        (self.msn, self.part.unwrap_or(u64::MAX))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.part {
            Some(part) => write!(f, "{}.{part}", self.msn),
            None => write!(f, "{}", self.msn),
        }
    }
}

impl MediaPlaylist {
    /// The number of the segment in progress: one past the last complete one.
    pub(crate) fn open_msn(&self) -> u64 {
        self.media_sequence.saturating_add(self.skipped).saturating_add(self.segments.len() as u64)
    }

    /// Where the playlist ends. `None` when it lists nothing.
    pub(crate) fn last(&self) -> Option<Position> {
        if let Some(index) = (self.open.parts.len() as u64).checked_sub(1) {
            return Some(Position { msn: self.open_msn(), part: Some(index) });
        }
        let last = self.segments.last()?;
        Some(Position { msn: last.msn, part: None })
    }

    /// The segment of that number, if it is listed and complete.
    pub(crate) fn segment(&self, msn: u64) -> Option<&Segment> {
        let first = self.media_sequence.checked_add(self.skipped)?;
        self.segments.get(usize::try_from(msn.checked_sub(first)?).ok()?)
    }

    /// Whether a blocking reload for that part may be answered with this playlist.
    pub(crate) fn has(&self, msn: u64, part: Option<u64>) -> bool {
        let open = self.open_msn();
        let Some(part) = part else { return msn < open };
        if msn.checked_add(1) == Some(open) {
            // A part past the end of the last whole segment means part 0 of the next one.
            return match self.segments.last() {
                Some(last) if !last.parts.is_empty() && part >= last.parts.len() as u64 => {
                    !self.open.parts.is_empty()
                }
                _ => true,
            };
        }
        msn < open || (msn == open && part < self.open.parts.len() as u64)
    }

    /// How long everything listed lasts.
    pub(crate) fn duration_us(&self) -> u64 {
        self.segments.iter().map(|s| s.duration_us).sum::<u64>() + self.open_us()
    }

    /// How long the parts of the segment in progress last.
    pub(crate) fn open_us(&self) -> u64 {
        self.open.parts.iter().map(|p| p.duration_us).sum()
    }

    /// The date at which the listed media ends, when the last segment has a date.
    pub(crate) fn edge_date_us(&self) -> Option<i64> {
        let (date, length) = match (self.open.parts.is_empty(), self.segments.last()) {
            (true, Some(last)) => (last.date_us?, last.duration_us),
            (true, None) => return None,
            (false, _) => (self.open_date_us()?, self.open_us()),
        };
        Some(date.saturating_add(i64::try_from(length).ok()?))
    }

    /// The date of the segment in progress: its own, or what follows from the one before.
    pub(crate) fn open_date_us(&self) -> Option<i64> {
        self.open.date_us.or_else(|| {
            let last = self.segments.last()?;
            last.date_us?.checked_add(i64::try_from(last.duration_us).ok()?)
        })
    }
}

/// The whole playlist that a delta update stands for.
///
/// # Errors
/// When the segments it skips are not all in `base`.
pub(crate) fn apply_delta(
    base: &MediaPlaylist,
    delta: &MediaPlaylist,
) -> Result<MediaPlaylist, String> {
    let mut whole = delta.clone();
    whole.skipped = 0;
    whole.segments.clear();
    for offset in 0..delta.skipped {
        let msn = delta.media_sequence.saturating_add(offset);
        let segment = base.segment(msn).ok_or_else(|| {
            format!("it skips segment {msn}, which the playlist before it did not list")
        })?;
        whole.segments.push(Segment { parts: Vec::new(), ..segment.clone() });
    }
    whole.segments.extend(delta.segments.iter().cloned());
    // What EXT-X-MAP was in force when the skipped part ended applies on.
    let mut map = None;
    let mut number = whole.discontinuity_sequence;
    for segment in &mut whole.segments {
        number = number.saturating_add(u64::from(segment.discontinuity));
        segment.discontinuity_number = number;
        if segment.map.is_none() {
            segment.map.clone_from(&map);
        }
        map.clone_from(&segment.map);
    }
    if whole.open.map.is_none() {
        whole.open.map = map;
    }
    Ok(whole)
}
