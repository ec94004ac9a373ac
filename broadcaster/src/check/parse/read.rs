//! Text to playlist: strict about what it knows, and ignoring tags it does not, as clients do.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{
    MasterPlaylist, Media, MediaPlaylist, OpenSegment, PLAYLIST_BYTES_MAX, Part, Report, Resource,
    Segment, ServerControl, SyntaxError, Variant,
};

/// Reads a media playlist.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn parse_media(text: &str) -> Result<MediaPlaylist, SyntaxError> {
    let mut reader = MediaReader::default();
    let mut last_line = 0;
    for (line, content) in lines(text)? {
        last_line = line;
        reader.read(content).map_err(|what| SyntaxError { line, what })?;
    }
    reader.finish().map_err(|what| SyntaxError { line: last_line, what })
}

/// Reads a multivariant playlist.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn parse_master(text: &str) -> Result<MasterPlaylist, SyntaxError> {
    let mut master = MasterPlaylist::default();
    let mut pending: Option<Variant> = None;
    for (line, content) in lines(text)? {
        let fail = |what: String| SyntaxError { line, what };
        if let Some(list) = content.strip_prefix("#EXT-X-STREAM-INF:") {
            if pending.is_some() {
                return Err(fail("EXT-X-STREAM-INF without a URI line after it".into()));
            }
            pending = Some(variant(&Attributes::read(list).map_err(fail)?).map_err(fail)?);
        } else if let Some(list) = content.strip_prefix("#EXT-X-MEDIA:") {
            let attributes = Attributes::read(list).map_err(fail)?;
            attributes.quoted("NAME").map_err(fail)?;
            master.media.push(Media {
                kind: attributes.plain("TYPE").map_err(fail)?.to_owned(),
                group: attributes.quoted("GROUP-ID").map_err(fail)?.to_owned(),
                uri: attributes.quoted_if("URI").map_err(fail)?.map(str::to_owned),
            });
        } else if ["#EXTINF:", "#EXT-X-TARGETDURATION:"].iter().any(|t| content.starts_with(t)) {
            return Err(fail("a media playlist's tag in a multivariant playlist".into()));
        } else if !content.starts_with('#') {
            let mut variant = pending
                .take()
                .ok_or_else(|| fail("a URI without EXT-X-STREAM-INF before it".into()))?;
            content.clone_into(&mut variant.uri);
            master.variants.push(variant);
        }
    }
    if master.variants.is_empty() || pending.is_some() {
        return Err(SyntaxError { line: 1, what: "it lists no variant".into() });
    }
    Ok(master)
}

/// Whether the text is a media playlist rather than a multivariant one.
pub(crate) fn is_media_playlist(text: &str) -> bool {
    text.lines().any(|l| l.starts_with("#EXT-X-TARGETDURATION:"))
}

fn variant(attributes: &Attributes<'_>) -> Result<Variant, String> {
    let resolution = match attributes.plain_if("RESOLUTION")? {
        None => None,
        Some(size) => Some(
            size.split_once('x')
                .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)))
                .ok_or_else(|| format!("RESOLUTION={size} is not WIDTHxHEIGHT"))?,
        ),
    };
    let rate = attributes.plain_if("FRAME-RATE")?.map(micros).transpose()?;
    Ok(Variant {
        uri: String::new(),
        bandwidth: attributes.whole_if("BANDWIDTH")?,
        average_bandwidth: attributes.whole_if("AVERAGE-BANDWIDTH")?,
        codecs: attributes.quoted_if("CODECS")?.map(str::to_owned),
        resolution,
        frame_rate_milli: rate.map(|r| r / 1000),
        audio_group: attributes.quoted_if("AUDIO")?.map(str::to_owned),
    })
}

/// The content lines after `#EXTM3U`, numbered from 1, comments and empty lines left out.
fn lines(text: &str) -> Result<impl Iterator<Item = (usize, &str)>, SyntaxError> {
    let fail = |what: &str| Err(SyntaxError { line: 1, what: what.into() });
    if text.len() > PLAYLIST_BYTES_MAX {
        return fail("the playlist is larger than 8 MiB");
    }
    if text.starts_with('\u{feff}') {
        return fail("a byte order mark before #EXTM3U");
    }
    if text.lines().next() != Some("#EXTM3U") {
        return fail("the first line is not #EXTM3U");
    }
    Ok(text.lines().enumerate().skip(1).map(|(index, line)| (index + 1, line)).filter(
        |(_, line)| !line.is_empty() && (!line.starts_with('#') || line.starts_with("#EXT")),
    ))
}

#[derive(Default)]
struct MediaReader {
    playlist: MediaPlaylist,
    target: Option<u64>,
    media_sequence_seen: bool,
    discontinuities: u64,
    // Tags waiting for the URI line they belong to.
    duration: Option<u64>,
    gap: bool,
    range: Option<(u64, Option<u64>)>,
    range_end: BTreeMap<String, u64>,
    open: OpenSegment,
    map: Option<Resource>,
}

impl MediaReader {
    fn read(&mut self, line: &str) -> Result<(), String> {
        let (tag, value) = match line.strip_prefix('#') {
            None => return self.uri(line),
            Some(rest) => rest.split_once(':').unwrap_or((rest, "")),
        };
        match tag {
            "EXT-X-VERSION" => {
                whole(value)?;
            }
            "EXT-X-TARGETDURATION" => {
                once(self.target.replace(whole(value)?), "EXT-X-TARGETDURATION twice")?;
            }
            "EXT-X-MEDIA-SEQUENCE" => {
                if self.media_sequence_seen || !self.playlist.segments.is_empty() {
                    return Err("EXT-X-MEDIA-SEQUENCE twice or after a segment".into());
                }
                self.media_sequence_seen = true;
                self.playlist.media_sequence = whole(value)?;
            }
            "EXT-X-DISCONTINUITY-SEQUENCE" => {
                if !self.playlist.segments.is_empty() || self.discontinuities > 0 {
                    return Err("EXT-X-DISCONTINUITY-SEQUENCE after what it counts".into());
                }
                self.playlist.discontinuity_sequence = whole(value)?;
            }
            "EXT-X-PART-INF" => {
                let target = Attributes::read(value)?.duration("PART-TARGET")?;
                self.playlist.part_target_us = Some(target);
            }
            "EXT-X-SERVER-CONTROL" => self.playlist.control = Some(control(value)?),
            "EXT-X-SKIP" => {
                if !self.playlist.segments.is_empty() || self.playlist.skipped > 0 {
                    return Err("EXT-X-SKIP twice or after a segment".into());
                }
                let skipped = Attributes::read(value)?.whole("SKIPPED-SEGMENTS")?;
                if skipped == 0 {
                    return Err("EXT-X-SKIP that skips nothing".into());
                }
                self.playlist.skipped = skipped;
            }
            "EXTINF" => {
                let (seconds, _title) =
                    value.split_once(',').ok_or("EXTINF without a comma after the duration")?;
                once(self.duration.replace(micros(seconds)?), "EXTINF twice for one segment")?;
            }
            "EXT-X-BYTERANGE" => self.range = Some(byte_range(value)?),
            "EXT-X-DISCONTINUITY" => {
                if self.open.discontinuity {
                    return Err("EXT-X-DISCONTINUITY twice for one segment".into());
                }
                self.open.discontinuity = true;
                self.discontinuities += 1;
            }
            "EXT-X-GAP" => self.gap = true,
            "EXT-X-PROGRAM-DATE-TIME" => self.open.date_us = Some(date(value)?),
            "EXT-X-MAP" => {
                let attributes = Attributes::read(value)?;
                let range = attributes.quoted_if("BYTERANGE")?.map(byte_range).transpose()?;
                let range = range.map(|(length, offset)| (offset.unwrap_or(0), length));
                self.map = Some(Resource { uri: attributes.quoted("URI")?.into(), range });
            }
            "EXT-X-PART" => self.part(&Attributes::read(value)?)?,
            "EXT-X-PRELOAD-HINT" => {
                let attributes = Attributes::read(value)?;
                let uri = attributes.quoted("URI")?.to_owned();
                if attributes.plain("TYPE")? == "PART" {
                    if self.playlist.part_hint.is_some() {
                        return Err("EXT-X-PRELOAD-HINT of TYPE=PART twice".into());
                    }
                    let start = attributes.whole_if("BYTERANGE-START")?;
                    let length = attributes.whole_if("BYTERANGE-LENGTH")?;
                    let range = start.zip(length);
                    self.playlist.part_hint = Some(Resource { uri, range });
                }
            }
            "EXT-X-RENDITION-REPORT" => {
                let attributes = Attributes::read(value)?;
                self.playlist.reports.push(Report {
                    uri: attributes.quoted("URI")?.into(),
                    last_msn: attributes.whole("LAST-MSN")?,
                    last_part: attributes.whole_if("LAST-PART")?,
                });
            }
            "EXT-X-ENDLIST" => self.playlist.ended = true,
            "EXT-X-STREAM-INF" | "EXT-X-MEDIA" => {
                return Err("a multivariant playlist's tag in a media playlist".into());
            }
            // Clients ignore tags they do not know.
            _ => {}
        }
        Ok(())
    }

    fn part(&mut self, attributes: &Attributes<'_>) -> Result<(), String> {
        let uri = attributes.quoted("URI")?.to_owned();
        let range = attributes.quoted_if("BYTERANGE")?.map(byte_range).transpose()?;
        let range = range.map(|range| self.resolve_range(&uri, range));
        self.open.parts.push(Part {
            resource: Resource { uri, range },
            duration_us: attributes.duration("DURATION")?,
            independent: attributes.flag("INDEPENDENT")?,
            gap: attributes.flag("GAP")?,
        });
        Ok(())
    }

    fn resolve_range(&mut self, uri: &str, (length, offset): (u64, Option<u64>)) -> (u64, u64) {
        let offset = offset.or_else(|| self.range_end.get(uri).copied()).unwrap_or(0);
        self.range_end.insert(uri.to_owned(), offset.saturating_add(length));
        (offset, length)
    }

    fn uri(&mut self, uri: &str) -> Result<(), String> {
        let duration_us = self.duration.take().ok_or("a URI without EXTINF before it")?;
        let range = self.range.take().map(|range| self.resolve_range(uri, range));
        let open = std::mem::take(&mut self.open);
        let first = self.playlist.media_sequence.checked_add(self.playlist.skipped);
        let msn = first.and_then(|f| f.checked_add(self.playlist.segments.len() as u64));
        self.playlist.segments.push(Segment {
            // The segment after it needs a number as well.
            msn: msn.filter(|msn| *msn < u64::MAX).ok_or("EXT-X-MEDIA-SEQUENCE is too large")?,
            discontinuity_number: self
                .playlist
                .discontinuity_sequence
                .saturating_add(self.discontinuities),
            discontinuity: open.discontinuity,
            gap: std::mem::take(&mut self.gap),
            date_us: open.date_us,
            duration_us,
            resource: Resource { uri: uri.to_owned(), range },
            map: self.map.clone(),
            parts: open.parts,
        });
        Ok(())
    }

    fn finish(mut self) -> Result<MediaPlaylist, String> {
        let target = self.target.ok_or("EXT-X-TARGETDURATION is missing")?;
        if self.duration.is_some() {
            return Err("EXTINF without a URI line after it".into());
        }
        if target == 0 || target > 3600 {
            return Err(format!("EXT-X-TARGETDURATION:{target} is not a useful duration"));
        }
        if !self.open.parts.is_empty() && self.playlist.part_target_us.is_none() {
            return Err("EXT-X-PART without EXT-X-PART-INF".into());
        }
        self.playlist.target_us = target * 1_000_000;
        self.open.map = self.map;
        self.playlist.open = self.open;
        Ok(self.playlist)
    }
}

/// Refuses what replaced something.
fn once<T>(before: Option<T>, problem: &str) -> Result<(), String> {
    before.map_or(Ok(()), |_| Err(problem.to_owned()))
}

fn control(value: &str) -> Result<ServerControl, String> {
    let attributes = Attributes::read(value)?;
    Ok(ServerControl {
        can_block_reload: attributes.flag("CAN-BLOCK-RELOAD")?,
        can_skip_until_us: attributes.duration_if("CAN-SKIP-UNTIL")?,
        hold_back_us: attributes.duration_if("HOLD-BACK")?,
        part_hold_back_us: attributes.duration_if("PART-HOLD-BACK")?,
    })
}

/// An attribute list: `NAME=value,NAME="value"`.
struct Attributes<'a>(BTreeMap<&'a str, Value<'a>>);

#[derive(Clone, Copy)]
enum Value<'a> {
    Quoted(&'a str),
    Plain(&'a str),
}

impl<'a> Attributes<'a> {
    fn read(mut rest: &'a str) -> Result<Self, String> {
        let mut map = BTreeMap::new();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').ok_or("an attribute without '='")?;
            if name.is_empty()
                || !name.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'-'))
            {
                return Err(format!("{name:?} is not an attribute name"));
            }
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (text, after) =
                        quoted.split_once('"').ok_or("a quoted string without its end")?;
                    (Value::Quoted(text), after)
                }
                None => {
                    let end = after.find(',').unwrap_or(after.len());
                    let (text, after) = after.split_at(end);
                    if text.is_empty() || text.contains([' ', '"']) {
                        return Err(format!("{name} has no proper value"));
                    }
                    (Value::Plain(text), after)
                }
            };
            if map.insert(name, value).is_some() {
                return Err(format!("{name} twice in one tag"));
            }
            rest = match after.strip_prefix(',') {
                Some("") => return Err("a comma after the last attribute".into()),
                Some(next) => next,
                None if after.is_empty() => after,
                None => return Err(format!("no comma after {name}")),
            };
        }
        Ok(Self(map))
    }

    fn quoted_if(&self, name: &str) -> Result<Option<&'a str>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Quoted(text)) => Ok(Some(text)),
            Some(Value::Plain(_)) => Err(format!("{name} must be a quoted string")),
        }
    }

    fn plain_if(&self, name: &str) -> Result<Option<&'a str>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Plain(text)) => Ok(Some(text)),
            Some(Value::Quoted(_)) => Err(format!("{name} must not be quoted")),
        }
    }

    fn quoted(&self, name: &str) -> Result<&'a str, String> {
        self.quoted_if(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    fn plain(&self, name: &str) -> Result<&'a str, String> {
        self.plain_if(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    fn whole(&self, name: &str) -> Result<u64, String> {
        whole(self.plain(name)?)
    }

    fn whole_if(&self, name: &str) -> Result<Option<u64>, String> {
        self.plain_if(name)?.map(whole).transpose()
    }

    fn duration(&self, name: &str) -> Result<u64, String> {
        micros(self.plain(name)?)
    }

    fn duration_if(&self, name: &str) -> Result<Option<u64>, String> {
        self.plain_if(name)?.map(micros).transpose()
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        match self.plain_if(name)? {
            None | Some("NO") => Ok(false),
            Some("YES") => Ok(true),
            Some(other) => Err(format!("{name}={other} is neither YES nor NO")),
        }
    }
}

fn whole(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} is not a whole number"));
    }
    text.parse().map_err(|_| format!("{text} is too large"))
}

/// A decimal number of seconds as microseconds, rounded to the nearest.
fn micros(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a decimal number");
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || text.ends_with('.') {
        return Err(bad());
    }
    let mut digits = fraction.bytes().chain(std::iter::repeat(b'0')).map(|b| u64::from(b - b'0'));
    let millionths = digits.by_ref().take(6).fold(0, |sum, digit| sum * 10 + digit);
    let round_up = u64::from(digits.next() >= Some(5));
    whole(seconds)
        .map_err(|_| bad())?
        .checked_mul(1_000_000)
        .and_then(|us| us.checked_add(millionths + round_up))
        .filter(|us| i64::try_from(*us).is_ok())
        .ok_or_else(|| format!("{text} is too large"))
}

fn byte_range(text: &str) -> Result<(u64, Option<u64>), String> {
    match text.split_once('@') {
        Some((length, offset)) => Ok((whole(length)?, Some(whole(offset)?))),
        None => Ok((whole(text)?, None)),
    }
}

fn date(text: &str) -> Result<i64, String> {
    // ISO 8601 also has offsets without a colon (+0100), which ffmpeg writes.
    let offset = text.len().checked_sub(5).and_then(|at| text.split_at_checked(at));
    let colon = match offset {
        Some((head, tail)) if tail.starts_with(['+', '-']) && !tail.contains(':') => {
            match tail.split_at_checked(3) {
                Some((hours, minutes)) => format!("{head}{hours}:{minutes}"),
                None => text.to_owned(),
            }
        }
        _ => text.to_owned(),
    };
    let date = OffsetDateTime::parse(&colon, &Rfc3339)
        .map_err(|_| format!("{text} is not a date as in 2026-01-31T12:00:00.000Z"))?;
    i64::try_from(date.unix_timestamp_nanos() / 1000).map_err(|_| format!("{text} is out of range"))
}
