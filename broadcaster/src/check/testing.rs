//! A stream as a correct server would tell it, for tests: playlists, media and the passing of
//! time, without any of the code that makes Shoal's own.

use std::fmt::Write as _;

/// 2026-01-01T00:00:00Z in microseconds.
pub(crate) const EPOCH_US: i64 = 1_767_225_600_000_000;
/// Where the stream lives in tests without a server.
pub(crate) const BASE: &str = "http://test/live/s/";
/// Renditions, best first, audio last.
pub(crate) const NAMES: [&str; 3] = ["720p", "480p", "audio"];
/// Every part of a full segment.
pub(crate) const PART_US: u64 = 500_000;

/// One segment, the same in every rendition but for its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) msn: u64,
    pub(crate) session: u32,
    pub(crate) date_us: i64,
    pub(crate) parts: Vec<u64>,
    pub(crate) complete: bool,
    pub(crate) gap: bool,
    pub(crate) first_of_session: bool,
    /// A part whose first frame lasts that long.
    pub(crate) hole: Option<(usize, u64)>,
    /// Where its media begins, on the session's clock.
    media_us: u64,
}

/// What has happened in a stream so far.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) now_us: i64,
    pub(crate) told: Vec<Told>,
    pub(crate) live: bool,
    pub(crate) ended: bool,
    session: u32,
    media_us: u64,
    dropped_discontinuities: u64,
    /// Segments in the window.
    pub(crate) window: usize,
    /// How long the next part lasts.
    pub(crate) part_us: u64,
    /// Parts of a full segment.
    pub(crate) parts: usize,
    /// By how much the dates of segments are ahead of the clock.
    pub(crate) clock_ahead_us: i64,
    /// How far from the live edge parts stay listed.
    pub(crate) parts_kept_us: u64,
}

impl Story {
    /// A stream about to begin.
    pub(crate) fn new() -> Self {
        Self {
            now_us: EPOCH_US,
            told: Vec::new(),
            live: false,
            ended: false,
            session: 0,
            media_us: 0,
            dropped_discontinuities: 0,
            window: 10,
            part_us: PART_US,
            parts: 4,
            clock_ahead_us: 0,
            parts_kept_us: 6_000_000,
        }
    }

    /// Time passes, half a second as a rule; while the encoder is there it makes a part.
    pub(crate) fn step(&mut self) {
        self.now_us += self.part_us as i64;
        if !self.live {
            return;
        }
        match self.told.last_mut() {
            Some(open) if !open.complete => open.parts.push(self.part_us),
            _ => self.open_segment(),
        }
        self.media_us += self.part_us;
        if let Some(open) = self.told.last_mut()
            && open.parts.len() == self.parts
        {
            open.complete = true;
        }
        self.slide();
    }

    fn open_segment(&mut self) {
        let msn = self.told.last().map_or(100, |t| t.msn + 1);
        let first = self.told.last().is_none_or(|t| t.session != self.session);
        self.told.push(Told {
            msn,
            session: self.session,
            date_us: self.now_us - self.part_us as i64 + self.clock_ahead_us,
            parts: vec![self.part_us],
            complete: false,
            gap: false,
            first_of_session: first,
            hole: None,
            media_us: self.media_us,
        });
    }

    fn slide(&mut self) {
        while self.told.iter().filter(|t| t.complete).count() > self.window {
            let gone = self.told.remove(0);
            self.dropped_discontinuities += u64::from(gone.first_of_session);
        }
    }

    /// The encoder connects.
    pub(crate) fn connect(&mut self) {
        self.session += 1;
        self.media_us = 0;
        self.live = true;
    }

    /// The encoder goes: what there is of the segment becomes a short one.
    pub(crate) fn disconnect(&mut self) {
        self.live = false;
        if let Some(open) = self.told.last_mut().filter(|t| !t.complete) {
            // A short part with the last frames that came.
            open.parts.push(300_000);
            open.complete = true;
            self.now_us += 300_000;
        }
        self.slide();
    }

    /// A segment whose media was lost.
    pub(crate) fn lose_segment(&mut self) {
        let last = self.told.last().cloned();
        let (msn, length) = (last.as_ref().map_or(100, |t| t.msn + 1), 4 * PART_US);
        self.told.push(Told {
            msn,
            session: self.session,
            date_us: self.now_us,
            parts: vec![length],
            complete: true,
            gap: true,
            first_of_session: false,
            hole: None,
            media_us: self.media_us,
        });
        self.media_us += length;
        self.now_us += length as i64;
        self.slide();
    }

    /// The last place listed.
    pub(crate) fn last(&self) -> (u64, u64) {
        self.told.last().map_or((0, 0), |t| (t.msn, t.parts.len().saturating_sub(1) as u64))
    }

    /// What a blocking reload asks for next.
    pub(crate) fn next(&self) -> (u64, u64) {
        match self.told.last() {
            Some(open) if !open.complete => (open.msn, open.parts.len() as u64),
            Some(last) => (last.msn + 1, 0),
            None => (100, 0),
        }
    }

    /// The media playlist of a rendition, or with `skip` a delta update.
    pub(crate) fn playlist(&self, name: &str, skip: bool) -> String {
        let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n");
        text += "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,\
                 PART-HOLD-BACK=1.65\n#EXT-X-PART-INF:PART-TARGET=0.55\n";
        let first = self.told.first().map_or(100, |t| t.msn);
        let _ = writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{first}");
        let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.dropped_discontinuities);
        let mut to_edge: u64 = self.told.iter().flat_map(|t| &t.parts).sum();
        let skipped = if skip { self.skippable() } else { 0 };
        if skipped > 0 {
            let _ = writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
        }
        let mut map = (0, false);
        for (index, told) in self.told.iter().enumerate() {
            let length: u64 = told.parts.iter().sum();
            to_edge -= length;
            if index < skipped {
                map = (told.session, false);
                continue;
            }
            if told.first_of_session {
                text += "#EXT-X-DISCONTINUITY\n";
            }
            if map != (told.session, true) {
                let _ = writeln!(text, "#EXT-X-MAP:URI=\"../{}/{name}/init-1.mp4\"", told.session);
                map = (told.session, true);
            }
            let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", date(told.date_us));
            if !told.gap && (to_edge < self.parts_kept_us || !told.complete) {
                for (part, length) in told.parts.iter().enumerate() {
                    let independent =
                        if part == 0 || name == "audio" { ",INDEPENDENT=YES" } else { "" };
                    let _ = writeln!(
                        text,
                        "#EXT-X-PART:DURATION={:.6},URI=\"{}\"{independent}",
                        *length as f64 / 1e6,
                        part_uri(name, told, part)
                    );
                }
            }
            if told.gap {
                text += "#EXT-X-GAP\n";
            }
            if told.complete {
                let _ = writeln!(text, "#EXTINF:{:.6},", length as f64 / 1e6);
                let _ = writeln!(text, "{}", segment_uri(name, told));
            }
        }
        if self.ended {
            return text + "#EXT-X-ENDLIST\n";
        }
        if self.live {
            let (msn, part) = self.next();
            let session = self.session;
            let _ = writeln!(
                text,
                "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"../{session}/{name}/{msn}.{part}.m4s\""
            );
        }
        let (msn, part) = self.last();
        for other in NAMES.iter().filter(|n| **n != name) {
            let _ = writeln!(
                text,
                "#EXT-X-RENDITION-REPORT:URI=\"../{other}/media.m3u8\",LAST-MSN={msn},\
                 LAST-PART={part}"
            );
        }
        text
    }

    fn skippable(&self) -> usize {
        let mut to_edge = 0;
        let mut count = 0;
        for told in self.told.iter().rev() {
            count += usize::from(to_edge > 12_000_000);
            to_edge += told.parts.iter().sum::<u64>();
        }
        count
    }

    pub(crate) fn find(&self, msn: u64) -> Option<&Told> {
        self.told.iter().find(|t| t.msn == msn)
    }
}

/// The multivariant playlist.
pub(crate) fn master() -> String {
    "#EXTM3U\n#EXT-X-INDEPENDENT-SEGMENTS\n\
     #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio\",DEFAULT=YES,AUTOSELECT=YES,\
     CHANNELS=\"2\",URI=\"audio/media.m3u8\"\n\
     #EXT-X-STREAM-INF:BANDWIDTH=400000,AVERAGE-BANDWIDTH=300000,\
     CODECS=\"avc1.42c01f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=30.000,AUDIO=\"audio\"\n\
     720p/media.m3u8\n\
     #EXT-X-STREAM-INF:BANDWIDTH=400000,AVERAGE-BANDWIDTH=300000,\
     CODECS=\"avc1.42c01f,mp4a.40.2\",RESOLUTION=854x480,FRAME-RATE=30.000,AUDIO=\"audio\"\n\
     480p/media.m3u8\n\
     #EXT-X-STREAM-INF:BANDWIDTH=150000,AVERAGE-BANDWIDTH=120000,CODECS=\"mp4a.40.2\",\
     AUDIO=\"audio\"\naudio/media.m3u8\n"
        .into()
}

/// URI of a segment, from its playlist.
pub(crate) fn segment_uri(name: &str, told: &Told) -> String {
    format!("../{}/{name}/{}.m4s", told.session, told.msn)
}

/// URI of a part, from its playlist.
pub(crate) fn part_uri(name: &str, told: &Told, part: usize) -> String {
    format!("../{}/{name}/{}.{part}.m4s", told.session, told.msn)
}

fn date(us: i64) -> String {
    let date = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000)
        .expect("a date in this century");
    date.format(&time::format_description::well_known::Rfc3339).expect("it can be written")
}

/// A box.
pub(crate) fn mp4_box(kind: &[u8; 4], bodies: &[&[u8]]) -> Vec<u8> {
    let body = bodies.concat();
    let size = u32::try_from(body.len() + 8).expect("small");
    [&size.to_be_bytes(), &kind[..], &body].concat()
}

/// The init segment of a rendition.
pub(crate) fn init(name: &str) -> Vec<u8> {
    init_with(&[name])
}

/// An init segment with the tracks of these renditions.
pub(crate) fn init_with(names: &[&str]) -> Vec<u8> {
    let traks: Vec<u8> = names.iter().flat_map(|name| trak(name)).collect();
    let trex = mp4_box(b"trex", &[&[0; 4], &1u32.to_be_bytes(), &[0; 16]]);
    let moov = mp4_box(b"moov", &[&traks, &mp4_box(b"mvex", &[&trex])]);
    [mp4_box(b"ftyp", &[b"cmf2\0\0\0\0"]), moov].concat()
}

fn trak(name: &str) -> Vec<u8> {
    let video = name != "audio";
    let (width, height) = if name == "720p" { (1280u16, 720u16) } else { (854, 480) };
    let entry = if video {
        let avcc = mp4_box(b"avcC", &[&[1, 0x42, 0xc0, 0x1f, 0xff, 0xe0, 0]]);
        let head = [&[0; 24], &width.to_be_bytes()[..], &height.to_be_bytes(), &[0; 50]].concat();
        mp4_box(b"avc1", &[&head, &avcc])
    } else {
        let config = [&[0x04, 17, 0x40, 0x15][..], &[0; 11], &[0x05, 2, 0x11, 0x90]].concat();
        let stream = [&[0x03, 22, 0, 1, 0][..], &config].concat();
        let esds = mp4_box(b"esds", &[&[0; 4], &stream]);
        mp4_box(b"mp4a", &[&[0; 28], &esds])
    };
    let stsd = mp4_box(b"stsd", &[&[0; 7], &[1], &entry]);
    let minf = mp4_box(b"minf", &[&mp4_box(b"stbl", &[&stsd])]);
    let handler: &[u8] = if video { b"vide" } else { b"soun" };
    let hdlr = mp4_box(b"hdlr", &[&[0; 8], handler, &[0; 13]]);
    let mdhd = mp4_box(b"mdhd", &[&[0; 12], &90_000u32.to_be_bytes(), &[0; 8]]);
    let mdia = mp4_box(b"mdia", &[&mdhd, &hdlr, &minf]);
    let tkhd = mp4_box(b"tkhd", &[&[0; 12], &1u32.to_be_bytes(), &[0; 68]]);
    mp4_box(b"trak", &[&tkhd, &mdia])
}

/// The bytes of a part: 30 frames a second for video, 50 for audio.
pub(crate) fn part(name: &str, told: &Told, index: usize) -> Vec<u8> {
    let before: u64 = told.parts[..index].iter().sum();
    let start_us = told.media_us + before;
    match told.hole.filter(|(part, _)| *part == index) {
        Some((_, hole_us)) => {
            holed_fragment(name, start_us, told.parts[index], hole_us, index == 0)
        }
        None => fragment(name, start_us, told.parts[index], index == 0),
    }
}

impl Told {
    /// Where its media begins, on its session's clock.
    pub(crate) fn media_us(&self) -> u64 {
        self.media_us
    }

    /// The same segment with its media later by so much.
    pub(crate) fn later(&self, by_us: u64) -> Self {
        Self { media_us: self.media_us + by_us, ..self.clone() }
    }
}

/// The bytes of a segment: its parts.
pub(crate) fn segment(name: &str, told: &Told) -> Vec<u8> {
    (0..told.parts.len()).flat_map(|index| part(name, told, index)).collect()
}

/// One fragment, beginning at `start_us` and lasting `length_us`.
pub(crate) fn fragment(name: &str, start_us: u64, length_us: u64, key: bool) -> Vec<u8> {
    let frame_us = if name == "audio" { 20_000 } else { 33_333 };
    holed_fragment(name, start_us, length_us, frame_us, key)
}

/// As [`fragment`], with a first frame that lasts `first_us`.
fn holed_fragment(name: &str, start_us: u64, length_us: u64, first_us: u64, key: bool) -> Vec<u8> {
    let video = name != "audio";
    let ticks: u32 = if video { 3_000 } else { 1_800 };
    // To the nearest tick.
    let first_ticks = u32::try_from((first_us * 90 + 500) / 1000).expect("short");
    let rest = (length_us * 90 / 1000).saturating_sub(first_ticks.into());
    let count = 1 + u32::try_from(rest / u64::from(ticks)).expect("few frames");
    let size: u32 = if video { 600 } else { 150 };
    let tfhd = mp4_box(b"tfhd", &[&0x02_0000u32.to_be_bytes(), &1u32.to_be_bytes()]);
    let start = start_us * 90 / 1000;
    let tfdt = mp4_box(b"tfdt", &[&0x0100_0000u32.to_be_bytes(), &start.to_be_bytes()]);
    let samples: Vec<u8> = (0..count)
        .flat_map(|index| {
            let sync = !video || (key && index == 0);
            let flags: u32 = if sync { 0x0200_0000 } else { 0x0101_0000 };
            let ticks = if index == 0 { first_ticks } else { ticks };
            [ticks.to_be_bytes(), size.to_be_bytes(), flags.to_be_bytes()].concat()
        })
        .collect();
    // moof header, mfhd, traf header, tfhd, tfdt, trun, then the header of mdat.
    let trun_bytes = 8 + 12 + samples.len();
    let offset = 8 + 16 + 8 + tfhd.len() + tfdt.len() + trun_bytes + 8;
    let offset = u32::try_from(offset).expect("small");
    let flags = 0x701u32.to_be_bytes();
    let trun = mp4_box(b"trun", &[&flags, &count.to_be_bytes(), &offset.to_be_bytes(), &samples]);
    let traf = mp4_box(b"traf", &[&tfhd, &tfdt, &trun]);
    let moof = mp4_box(b"moof", &[&mp4_box(b"mfhd", &[&[0; 8]]), &traf]);
    let mut media = Vec::new();
    for index in 0..count {
        let kind: u8 = if video && key && index == 0 { 0x65 } else { 0x41 };
        media.extend_from_slice(&(size - 4).to_be_bytes());
        media.push(kind);
        // Bytes that differ from part to part.
        let fill = (start as u8).wrapping_add(index as u8);
        media.resize(media.len() + size as usize - 5, fill);
    }
    [moof, mp4_box(b"mdat", &[&media])].concat()
}
