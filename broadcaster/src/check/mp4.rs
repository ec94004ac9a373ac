//! Reads what the rules need from fragmented MP4: tracks of an init segment; times, durations
//! and the first frame of segments and parts. Pure, and refuses rather than guesses.

/// Samples in one segment that are still believed: 120 fps for a minute.
const SAMPLES_MAX: u32 = 10_000;
/// Size and kind; boxes with a 64-bit size are refused, no segment is that large.
const BOX_HEADER: usize = 8;

/// Why bytes are not the fragmented MP4 they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mp4Error {
    #[error("the {0} box is cut short or has a wrong size")]
    Cut(&'static str),
    #[error("there is no {0} box")]
    Missing(&'static str),
    #[error("a fragment is for track {0}, which the init segment does not have")]
    UnknownTrack(u32),
    #[error("it has no samples, or more than {SAMPLES_MAX}")]
    Samples,
    #[error("the media lies outside of the bytes it came in")]
    Outside,
}

/// What an init segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Init {
    pub(crate) tracks: Vec<Track>,
}

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrackKind {
    Video,
    Audio,
    Other,
}

/// One track of an init segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Track {
    id: u32,
    pub(crate) kind: TrackKind,
    pub(crate) timescale: u32,
    /// As in CODECS; only the sample entry's name where the details are not read.
    pub(crate) codec: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    nal: Nal,
    defaults: Defaults,
    /// Media time at which presentation begins, by the edit list.
    edit_start: i64,
}

/// How frames are made of NAL units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nal {
    /// Length prefixes of that many bytes.
    H264(usize),
    H265(usize),
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Defaults {
    duration: u32,
    size: u32,
    flags: u32,
}

/// What a segment or part holds. Times are in the track's timescale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fragments {
    pub(crate) timescale: u32,
    /// Decode time of the first sample.
    pub(crate) start: u64,
    /// Earliest presentation time, edit list applied.
    pub(crate) start_presentation: i64,
    pub(crate) duration: u64,
    pub(crate) samples: u32,
    pub(crate) longest_sample: u32,
    /// How long each sample lasts.
    pub(crate) lengths: Vec<u32>,
    /// Whether every fragment begins where the one before it ended.
    pub(crate) unbroken: bool,
    /// Whether the first sample is a sync sample and, where that can be seen, an IDR frame.
    pub(crate) first_is_key: bool,
}

impl Init {
    /// The first track of that kind.
    pub(crate) fn track(&self, kind: TrackKind) -> Option<&Track> {
        self.tracks.iter().find(|t| t.kind == kind)
    }
}

impl Fragments {
    /// How long the sample lasts that begins so far into the media, in microseconds; `None` when
    /// no sample begins within a millisecond of there.
    pub(crate) fn sample_us_at(&self, offset_us: u64) -> Option<u64> {
        let mut at = 0u64;
        for length in &self.lengths {
            let at_us = self.us(at.cast_signed()).unsigned_abs();
            if at_us.abs_diff(offset_us) <= 1_000 {
                return Some(self.us(i64::from(*length)).unsigned_abs());
            }
            at += u64::from(*length);
        }
        None
    }

    /// A time or duration of this media in microseconds.
    pub(crate) fn us(&self, time: i64) -> i64 {
        let us = i128::from(time) * 1_000_000 / i128::from(self.timescale.max(1));
        i64::try_from(us).unwrap_or(i64::MAX)
    }
}

/// Reads an init segment.
///
/// # Errors
/// When it has no movie with at least one track.
pub(crate) fn read_init(bytes: &[u8]) -> Result<Init, Mp4Error> {
    let moov = find(bytes, b"moov")?.ok_or(Mp4Error::Missing("moov"))?;
    let mut tracks = Vec::new();
    for trak in boxes(moov).filter_map(|b| b.ok().filter(|(kind, _)| kind == b"trak")) {
        tracks.push(read_track(trak.1)?);
    }
    let mvex = find(moov, b"mvex")?.ok_or(Mp4Error::Missing("mvex"))?;
    for found in boxes(mvex) {
        let (kind, body) = found?;
        if &kind == b"trex" {
            let mut fields = Fields(body, "trex");
            fields.skip(4)?;
            let id = fields.u32()?;
            fields.skip(4)?;
            let defaults =
                Defaults { duration: fields.u32()?, size: fields.u32()?, flags: fields.u32()? };
            for track in tracks.iter_mut().filter(|t| t.id == id) {
                track.defaults = defaults;
            }
        }
    }
    if tracks.is_empty() {
        return Err(Mp4Error::Missing("trak"));
    }
    Ok(Init { tracks })
}

/// Reads a segment or part: one or more fragments of one track.
///
/// # Errors
/// When it is not whole, or not of this init segment.
pub(crate) fn read_fragments(init: &Init, bytes: &[u8]) -> Result<Fragments, Mp4Error> {
    let mut all: Option<Fragments> = None;
    let mut from_box = bytes;
    for found in boxes(bytes) {
        let (kind, body) = found?;
        if &kind == b"moof" {
            let one = read_moof(init, body, from_box)?;
            all = Some(match all {
                None => one,
                Some(before) => join(before, one)?,
            });
        }
        from_box = from_box.get(BOX_HEADER + body.len()..).unwrap_or(&[]);
    }
    all.ok_or(Mp4Error::Missing("moof"))
}

fn join(a: Fragments, b: Fragments) -> Result<Fragments, Mp4Error> {
    let samples = a.samples.saturating_add(b.samples);
    if samples > SAMPLES_MAX {
        return Err(Mp4Error::Samples);
    }
    Ok(Fragments {
        unbroken: a.unbroken && b.unbroken && a.start.checked_add(a.duration) == Some(b.start),
        duration: a.duration.saturating_add(b.duration),
        start_presentation: a.start_presentation.min(b.start_presentation),
        samples,
        longest_sample: a.longest_sample.max(b.longest_sample),
        lengths: a.lengths.into_iter().chain(b.lengths).collect(),
        timescale: a.timescale,
        start: a.start,
        first_is_key: a.first_is_key,
    })
}

/// One fragment; `from_moof` begins with the moof box and goes on to its media.
fn read_moof(init: &Init, moof: &[u8], from_moof: &[u8]) -> Result<Fragments, Mp4Error> {
    let traf = find(moof, b"traf")?.ok_or(Mp4Error::Missing("traf"))?;
    let mut tfhd = Fields(find(traf, b"tfhd")?.ok_or(Mp4Error::Missing("tfhd"))?, "tfhd");
    let flags = tfhd.u32()? & 0xff_ffff;
    let id = tfhd.u32()?;
    let track = init.tracks.iter().find(|t| t.id == id).ok_or(Mp4Error::UnknownTrack(id))?;
    let mut defaults = track.defaults;
    tfhd.skip(if flags & 0x1 != 0 { 8 } else { 0 })?;
    tfhd.skip(if flags & 0x2 != 0 { 4 } else { 0 })?;
    for (flag, field) in
        [(0x8, &mut defaults.duration), (0x10, &mut defaults.size), (0x20, &mut defaults.flags)]
    {
        if flags & flag != 0 {
            *field = tfhd.u32()?;
        }
    }
    let mut tfdt = Fields(find(traf, b"tfdt")?.ok_or(Mp4Error::Missing("tfdt"))?, "tfdt");
    let start = if tfdt.u32()? >> 24 == 1 { tfdt.u64()? } else { u64::from(tfdt.u32()?) };

    let mut fragments = Fragments {
        timescale: track.timescale,
        start,
        start_presentation: i64::MAX,
        duration: 0,
        samples: 0,
        longest_sample: 0,
        lengths: Vec::new(),
        unbroken: true,
        first_is_key: false,
    };
    // Media without an offset of its own follows what came before it, at first the mdat header.
    let mut at = BOX_HEADER + moof.len() + BOX_HEADER;
    for found in boxes(traf) {
        let (kind, body) = found?;
        if &kind == b"trun" {
            let trun = Fields(body, "trun");
            at = read_trun(track, defaults, trun, from_moof, at, &mut fragments)?;
        }
    }
    if fragments.samples == 0 {
        return Err(Mp4Error::Samples);
    }
    Ok(fragments)
}

fn read_trun(
    track: &Track,
    defaults: Defaults,
    mut trun: Fields<'_>,
    from_moof: &[u8],
    mut at: usize,
    fragments: &mut Fragments,
) -> Result<usize, Mp4Error> {
    let head = trun.u32()?;
    let (version, flags) = (head >> 24, head & 0xff_ffff);
    let count = trun.u32()?;
    if count > SAMPLES_MAX {
        return Err(Mp4Error::Samples);
    }
    if flags & 0x1 != 0 {
        at = usize::try_from(trun.i32()?).map_err(|_| Mp4Error::Outside)?;
    }
    let first_flags = if flags & 0x4 != 0 { Some(trun.u32()?) } else { None };
    for index in 0..count {
        let duration = if flags & 0x100 != 0 { trun.u32()? } else { defaults.duration };
        let size = if flags & 0x200 != 0 { trun.u32()? } else { defaults.size };
        let own_flags = if flags & 0x400 != 0 { trun.u32()? } else { defaults.flags };
        let offset = match (flags & 0x800 != 0, version) {
            (false, _) => 0,
            (true, 0) => i64::from(trun.u32()?),
            (true, _) => i64::from(trun.i32()?),
        };
        let end = at.saturating_add(size as usize);
        let sample = from_moof.get(at..end).ok_or(Mp4Error::Outside)?;
        if fragments.samples == 0 {
            let sample_flags = first_flags.filter(|_| index == 0).unwrap_or(own_flags);
            let sync = sample_flags & 0x1_0000 == 0;
            fragments.first_is_key = sync && begins_with_key_frame(track.nal, sample);
        }
        let decode = fragments.start.saturating_add(fragments.duration);
        let decode = i64::try_from(decode).unwrap_or(i64::MAX);
        let presentation = decode.saturating_add(offset).saturating_sub(track.edit_start);
        fragments.start_presentation = fragments.start_presentation.min(presentation);
        fragments.duration = fragments.duration.saturating_add(u64::from(duration));
        fragments.longest_sample = fragments.longest_sample.max(duration);
        fragments.lengths.push(duration);
        fragments.samples += 1;
        at = end;
    }
    Ok(at)
}

/// Whether the first picture in a sample is an IDR (H.264) or random access (H.265) picture.
fn begins_with_key_frame(nal: Nal, mut sample: &[u8]) -> bool {
    let prefix = match nal {
        Nal::H264(prefix) | Nal::H265(prefix) => prefix,
        Nal::None => return true,
    };
    while let Some((length, rest)) = sample.split_at_checked(prefix) {
        let length = length.iter().fold(0usize, |sum, b| (sum << 8) | usize::from(*b));
        let Some((unit, after)) = rest.split_at_checked(length) else { return false };
        let Some(first) = unit.first() else { return false };
        let verdict = match nal {
            Nal::H264(_) => match first & 0x1f {
                5 => Some(true),
                1..=4 => Some(false),
                _ => None,
            },
            _ => match (first >> 1) & 0x3f {
                16..=21 => Some(true),
                0..=15 => Some(false),
                _ => None,
            },
        };
        if let Some(verdict) = verdict {
            return verdict;
        }
        sample = after;
    }
    false
}

fn read_track(trak: &[u8]) -> Result<Track, Mp4Error> {
    let mut tkhd = Fields(find(trak, b"tkhd")?.ok_or(Mp4Error::Missing("tkhd"))?, "tkhd");
    let version = tkhd.u32()? >> 24;
    tkhd.skip(if version == 1 { 16 } else { 8 })?;
    let id = tkhd.u32()?;
    let mdia = find(trak, b"mdia")?.ok_or(Mp4Error::Missing("mdia"))?;
    let mut mdhd = Fields(find(mdia, b"mdhd")?.ok_or(Mp4Error::Missing("mdhd"))?, "mdhd");
    let version = mdhd.u32()? >> 24;
    mdhd.skip(if version == 1 { 16 } else { 8 })?;
    let timescale = mdhd.u32()?;
    let mut hdlr = Fields(find(mdia, b"hdlr")?.ok_or(Mp4Error::Missing("hdlr"))?, "hdlr");
    hdlr.skip(8)?;
    let kind = match &hdlr.u32()?.to_be_bytes() {
        b"vide" => TrackKind::Video,
        b"soun" => TrackKind::Audio,
        _ => TrackKind::Other,
    };
    let minf = find(mdia, b"minf")?.ok_or(Mp4Error::Missing("minf"))?;
    let stbl = find(minf, b"stbl")?.ok_or(Mp4Error::Missing("stbl"))?;
    let stsd = find(stbl, b"stsd")?.ok_or(Mp4Error::Missing("stsd"))?;
    let entries = stsd.get(8..).ok_or(Mp4Error::Cut("stsd"))?;
    let (entry, body) = boxes(entries).next().ok_or(Mp4Error::Missing("sample entry"))??;
    let mut track = Track {
        id,
        kind,
        timescale,
        codec: String::from_utf8_lossy(&entry).trim_end().to_lowercase(),
        width: 0,
        height: 0,
        nal: Nal::None,
        defaults: Defaults::default(),
        edit_start: edit_start(trak)?,
    };
    match kind {
        TrackKind::Video => read_visual_entry(&mut track, body)?,
        TrackKind::Audio => read_audio_entry(&mut track, body)?,
        TrackKind::Other => {}
    }
    if timescale == 0 {
        return Err(Mp4Error::Cut("mdhd"));
    }
    Ok(track)
}

fn read_visual_entry(track: &mut Track, body: &[u8]) -> Result<(), Mp4Error> {
    let mut fields = Fields(body, "sample entry");
    fields.skip(24)?;
    track.width = u32::from(fields.u16()?);
    track.height = u32::from(fields.u16()?);
    fields.skip(50)?;
    if let Some(avcc) = find(fields.0, b"avcC")? {
        let [_, profile, compatibility, level, length, ..] = avcc else {
            return Err(Mp4Error::Cut("avcC"));
        };
        track.codec = format!("{}.{profile:02x}{compatibility:02x}{level:02x}", track.codec);
        track.nal = Nal::H264(usize::from(length & 3) + 1);
    } else if let Some(hvcc) = find(fields.0, b"hvcC")? {
        let length = hvcc.get(21).ok_or(Mp4Error::Cut("hvcC"))?;
        track.nal = Nal::H265(usize::from(length & 3) + 1);
    }
    Ok(())
}

fn read_audio_entry(track: &mut Track, body: &[u8]) -> Result<(), Mp4Error> {
    let mut fields = Fields(body, "sample entry");
    fields.skip(28)?;
    if let Some(esds) = find(fields.0, b"esds")? {
        let (object, config) = decoder_config(esds).ok_or(Mp4Error::Cut("esds"))?;
        track.codec = match config {
            Some(audio_object) if object == 0x40 => format!("mp4a.40.{audio_object}"),
            _ => format!("mp4a.{object:02x}"),
        };
    }
    Ok(())
}

/// The object type of an elementary stream, and for AAC its audio object type.
fn decoder_config(esds: &[u8]) -> Option<(u8, Option<u8>)> {
    let stream = descriptor(esds.get(4..)?, 0x03)?;
    let flags = *stream.get(2)?;
    let mut skip = 3;
    skip += if flags & 0x80 != 0 { 2 } else { 0 };
    if flags & 0x40 != 0 {
        skip += 1 + usize::from(*stream.get(skip)?);
    }
    skip += if flags & 0x20 != 0 { 2 } else { 0 };
    let config = descriptor(stream.get(skip..)?, 0x04)?;
    let object = *config.first()?;
    let specific = config.get(13..).and_then(|rest| descriptor(rest, 0x05));
    let audio_object = specific.and_then(|s| match s {
        [first, second, ..] if first >> 3 == 31 => Some(32 + ((first & 7) << 3 | second >> 5)),
        [first, ..] => Some(first >> 3),
        [] => None,
    });
    Some((object, audio_object))
}

/// The body of the MPEG-4 descriptor that `bytes` begins with, when it has that tag.
fn descriptor(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (first, mut rest) = bytes.split_first()?;
    let mut length = 0usize;
    for _ in 0..4 {
        let (byte, after) = rest.split_first()?;
        rest = after;
        length = (length << 7) | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    (*first == tag).then(|| rest.get(..length))?
}

fn edit_start(trak: &[u8]) -> Result<i64, Mp4Error> {
    let Some(edts) = find(trak, b"edts")? else { return Ok(0) };
    let Some(elst) = find(edts, b"elst")? else { return Ok(0) };
    let mut fields = Fields(elst, "elst");
    let version = fields.u32()? >> 24;
    for _ in 0..fields.u32()?.min(16) {
        let media_time = if version == 1 {
            fields.skip(8)?;
            fields.u64()?.cast_signed()
        } else {
            fields.skip(4)?;
            i64::from(fields.i32()?)
        };
        fields.skip(4)?;
        // -1 is an empty edit: a wait before the media, which has no part in its own times.
        if media_time >= 0 {
            return Ok(media_time);
        }
    }
    Ok(0)
}

type Found<'a> = Result<([u8; 4], &'a [u8]), Mp4Error>;

/// The boxes of `bytes`, as kind and body; ends after the first one that is cut short.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = Found<'_>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let now = rest.take().filter(|r| !r.is_empty())?;
        let read = || {
            let (size, after) = now.split_first_chunk::<4>()?;
            let (kind, _) = after.split_first_chunk::<4>()?;
            let size = u32::from_be_bytes(*size) as usize;
            Some((*kind, now.get(BOX_HEADER..size)?, now.get(size..)?))
        };
        match read() {
            Some((kind, body, after)) => {
                rest = Some(after);
                Some(Ok((kind, body)))
            }
            None => Some(Err(Mp4Error::Cut("last"))),
        }
    })
}

/// The body of the first box of that kind.
fn find<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Result<Option<&'a [u8]>, Mp4Error> {
    for found in boxes(bytes) {
        let (kind, body) = found?;
        if &kind == wanted {
            return Ok(Some(body));
        }
    }
    Ok(None)
}

/// Big-endian fields read one after the other.
struct Fields<'a>(&'a [u8], &'static str);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Mp4Error> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(Mp4Error::Cut(self.1))?;
        self.0 = rest;
        Ok(*field)
    }

    fn skip(&mut self, count: usize) -> Result<(), Mp4Error> {
        self.0 = self.0.get(count..).ok_or(Mp4Error::Cut(self.1))?;
        Ok(())
    }

    fn u16(&mut self) -> Result<u16, Mp4Error> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, Mp4Error> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn i32(&mut self) -> Result<i32, Mp4Error> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Mp4Error> {
        Ok(u64::from_be_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{self, Story};

    fn story() -> Story {
        let mut story = Story::new();
        story.connect();
        (0..8).for_each(|_| story.step());
        story
    }

    #[test]
    fn an_init_segment_tells_codec_and_size() {
        let video = read_init(&testing::init("720p")).expect("an init segment");
        let track = video.track(TrackKind::Video).expect("a video track");
        assert_eq!((track.codec.as_str(), track.width, track.height), ("avc1.42c01f", 1280, 720));
        let audio = read_init(&testing::init("audio")).expect("an init segment");
        assert_eq!(audio.track(TrackKind::Audio).map(|t| t.codec.as_str()), Some("mp4a.40.2"));
        assert_eq!(audio.track(TrackKind::Video), None);
    }

    #[test]
    fn a_segment_tells_its_times_and_its_first_frame() {
        let init = read_init(&testing::init("720p")).expect("an init segment");
        let story = story();
        let media = read_fragments(&init, &testing::segment("720p", &story.told[1]))
            .expect("a right segment");
        assert_eq!(media.us(media.start_presentation), 2_000_000);
        assert_eq!(media.us(media.duration.cast_signed()), 2_000_000);
        assert_eq!(media.samples, 60);
        assert!(media.first_is_key && media.unbroken);
        let middle = testing::part("720p", &story.told[1], 2);
        assert!(!read_fragments(&init, &middle).expect("a right part").first_is_key);
    }

    #[test]
    fn fragments_that_leave_a_hole_are_told() {
        let init = read_init(&testing::init("audio")).expect("an init segment");
        let bytes = [
            testing::fragment("audio", 0, 500_000, true),
            testing::fragment("audio", 600_000, 500_000, true),
        ];
        assert!(!read_fragments(&init, &bytes.concat()).expect("readable").unbroken);
    }

    #[test]
    fn no_cut_makes_the_reader_panic_and_each_is_refused() {
        let init_bytes = testing::init("720p");
        let init = read_init(&init_bytes).expect("an init segment");
        let part = testing::part("720p", &story().told[0], 0);
        for length in 0..part.len() {
            assert!(read_fragments(&init, &part[..length]).is_err(), "cut at {length}");
        }
        for length in 0..init_bytes.len() {
            assert!(read_init(&init_bytes[..length]).is_err(), "cut at {length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_flipped_byte_makes_the_reader_panic(at in 0usize..400, value: u8) {
            let mut init_bytes = testing::init("720p");
            if let Some(byte) = init_bytes.get_mut(at) {
                *byte = value;
            }
            let _read = read_init(&init_bytes);
            let init = read_init(&testing::init("720p")).expect("an init segment");
            let mut part = testing::part("720p", &story().told[0], 0);
            part[at] = value;
            let _read = read_fragments(&init, &part);
        }
    }
}
