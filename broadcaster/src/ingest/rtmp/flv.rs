//! FLV tag bodies, as RTMP carries them, to [`Media`].
//!
//! H.264 and AAC are taken, in the classic form and as enhanced RTMP (fourcc `avc1`, `mp4a`);
//! every other codec is refused by name, with what to set in the encoder. Whatever comes out is
//! well-formed as far as the next stage relies on it: configurations have parameter sets, NAL
//! lengths fit, a frame never precedes its configuration.

use bytes::{Buf, Bytes};

use crate::ingest::media::{Config, Frame, Media, Track};

/// Largest decoder configuration, in bytes: real ones are below 1 KiB.
const CONFIG_BYTES_MAX: usize = common::limit::INIT_BYTES_MAX;

/// Why a tag's body cannot be used; the publisher is told and its connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlvError {
    /// A video codec other than H.264.
    #[error("H.264 and AAC are needed; this encoder sends {0}: set the video encoder to H.264")]
    VideoCodec(String),
    /// An audio codec other than AAC.
    #[error("H.264 and AAC are needed; this encoder sends {0}: set the audio encoder to AAC")]
    AudioCodec(String),
    /// Several tracks of one kind.
    #[error(
        "one video and one audio track are needed; this encoder sends several: turn multitrack off"
    )]
    Multitrack,
    /// A body that ends too early.
    #[error("a {0} is cut short")]
    Short(&'static str),
    /// A configuration that no decoder can use.
    #[error("the encoder's {0} configuration cannot be used: {1}")]
    Config(&'static str, &'static str),
    /// A video frame whose NAL unit lengths do not add up to it.
    #[error("a video frame is not made of length-prefixed NAL units")]
    NalLength,
}

/// Reads the tags of one publisher, in order.
#[derive(Debug, Default)]
pub struct Demux {
    clock: Clock,
    avcc: Option<Bytes>,
    asc: Option<Bytes>,
    /// Bytes in front of each NAL unit, as the configuration says.
    nal_length_bytes: usize,
    /// Frames that came before their track's configuration, which nothing can decode.
    pub frames_before_config: u64,
}

impl Demux {
    /// Reads the body of a video tag that carries `timestamp_ms`; `None` when it holds no media.
    ///
    /// # Errors
    /// When the codec is not H.264, or the body is malformed.
    pub fn handle_video(
        &mut self,
        timestamp_ms: u32,
        mut body: Bytes,
    ) -> Result<Option<Media>, FlvError> {
        const WHAT: &str = "video tag";
        let Some(first) = body.try_get_u8().ok() else { return Ok(None) };
        let mut frame_type = first >> 4;
        let (packet, composition_ms) = if first & EXTENDED_VIDEO != 0 {
            frame_type &= 0x7;
            let mut packet = first & 0x0f;
            skip_extensions(&mut packet, &mut body)?;
            if frame_type == COMMAND_FRAME && packet != EX_METADATA {
                return Ok(None);
            }
            if packet == EX_MULTITRACK {
                return Err(FlvError::Multitrack);
            }
            let fourcc = take::<4>(&mut body, WHAT)?;
            if &fourcc != b"avc1" {
                return Err(FlvError::VideoCodec(fourcc_name(fourcc)));
            }
            match packet {
                EX_SEQUENCE_START => (Packet::Config, 0),
                EX_CODED_FRAMES => (Packet::Frame, composition(&mut body)?),
                EX_CODED_FRAMES_X => (Packet::Frame, 0),
                _ => return Ok(None),
            }
        } else {
            if frame_type == COMMAND_FRAME {
                return Ok(None);
            }
            let codec = first & 0x0f;
            if codec != CODEC_AVC {
                return Err(FlvError::VideoCodec(video_codec_name(codec)));
            }
            // Some encoders end with a tag of one byte.
            let Ok(packet) = body.try_get_u8() else { return Ok(None) };
            let composition_ms = composition(&mut body)?;
            match packet {
                0 => (Packet::Config, 0),
                1 => (Packet::Frame, composition_ms),
                _ => return Ok(None),
            }
        };
        match packet {
            Packet::Config => {
                self.nal_length_bytes = check_avcc(&body)?;
                Ok(changed(&mut self.avcc, body).map(|avcc| Media::Config(Config::H264 { avcc })))
            }
            Packet::Frame if body.is_empty() => Ok(None),
            Packet::Frame if self.avcc.is_none() => {
                self.frames_before_config += 1;
                Ok(None)
            }
            Packet::Frame => {
                let key = has_idr(&body, self.nal_length_bytes)?;
                let dts_us = self.clock.at(timestamp_ms);
                let pts_us = dts_us.saturating_add(i64::from(composition_ms) * 1000);
                Ok(Some(Media::Frame(Frame {
                    track: Track::Video,
                    key,
                    pts_us,
                    // A few encoders send negative composition times; the contract has none.
                    dts_us: dts_us.min(pts_us),
                    data: body,
                })))
            }
        }
    }

    /// Reads the body of an audio tag that carries `timestamp_ms`; `None` when it holds no media.
    ///
    /// # Errors
    /// When the codec is not AAC, or the body is malformed.
    pub fn handle_audio(
        &mut self,
        timestamp_ms: u32,
        mut body: Bytes,
    ) -> Result<Option<Media>, FlvError> {
        let Ok(first) = body.try_get_u8() else { return Ok(None) };
        let packet = match first >> 4 {
            FORMAT_AAC => match body.try_get_u8() {
                Ok(0) => Packet::Config,
                Ok(1) => Packet::Frame,
                _ => return Ok(None),
            },
            FORMAT_EXTENDED => {
                let mut packet = first & 0x0f;
                skip_extensions(&mut packet, &mut body)?;
                if packet == EX_AUDIO_MULTITRACK {
                    return Err(FlvError::Multitrack);
                }
                let fourcc = take::<4>(&mut body, "audio tag")?;
                if &fourcc != b"mp4a" {
                    return Err(FlvError::AudioCodec(fourcc_name(fourcc)));
                }
                match packet {
                    EX_SEQUENCE_START => Packet::Config,
                    EX_CODED_FRAMES => Packet::Frame,
                    _ => return Ok(None),
                }
            }
            format => return Err(FlvError::AudioCodec(audio_format_name(format))),
        };
        match packet {
            Packet::Config => {
                check_asc(&body)?;
                Ok(changed(&mut self.asc, body).map(|asc| Media::Config(Config::Aac { asc })))
            }
            Packet::Frame if body.is_empty() => Ok(None),
            Packet::Frame if self.asc.is_none() => {
                self.frames_before_config += 1;
                Ok(None)
            }
            Packet::Frame => {
                let time_us = self.clock.at(timestamp_ms);
                Ok(Some(Media::Frame(Frame {
                    track: Track::Audio,
                    key: true,
                    pts_us: time_us,
                    dts_us: time_us,
                    data: body,
                })))
            }
        }
    }
}

enum Packet {
    Config,
    Frame,
}

/// Makes one endless clock of timestamps that wrap, for both tracks together since they share it.
///
/// RTMP's milliseconds have 32 bits, but ffmpeg sends 31 of them. Both wrap at multiples of 2^31,
/// so the nearest time to the last one modulo 2^31 is meant: a step back by a reordered tag is a
/// step back, and a wrap is none.
#[derive(Debug, Default)]
struct Clock {
    last_ms: Option<i64>,
}

impl Clock {
    /// The time of a tag in microseconds.
    fn at(&mut self, timestamp_ms: u32) -> i64 {
        let now_ms = match self.last_ms {
            None => timestamp_ms.into(),
            Some(last_ms) => {
                let step = timestamp_ms.wrapping_sub(last_ms as u32);
                // The sign of 31 bits, not of 32.
                let step = (step << 1) as i32 >> 1;
                last_ms.saturating_add(step.into())
            }
        };
        self.last_ms = Some(now_ms);
        now_ms.saturating_mul(1000)
    }
}

// Video tags: FLV 10.1 E.4.3, enhanced RTMP v1 and v2.
const EXTENDED_VIDEO: u8 = 0x80;
const COMMAND_FRAME: u8 = 5;
const CODEC_AVC: u8 = 7;
const EX_SEQUENCE_START: u8 = 0;
const EX_CODED_FRAMES: u8 = 1;
const EX_CODED_FRAMES_X: u8 = 3;
const EX_METADATA: u8 = 4;
const EX_AUDIO_MULTITRACK: u8 = 5;
const EX_MULTITRACK: u8 = 6;
const EX_MOD: u8 = 7;

// Audio tags: FLV 10.1 E.4.2.
const FORMAT_EXTENDED: u8 = 9;
const FORMAT_AAC: u8 = 10;

/// Skips enhanced RTMP's packet modifiers, which wrap the packet type that counts.
fn skip_extensions(packet: &mut u8, body: &mut Bytes) -> Result<(), FlvError> {
    const WHAT: &str = "packet modifier";
    while *packet == EX_MOD {
        let [short] = take::<1>(body, WHAT)?;
        let mut len = usize::from(short) + 1;
        if len == 256 {
            len = usize::from(u16::from_be_bytes(take(body, WHAT)?)) + 1;
        }
        if body.len() < len {
            return Err(FlvError::Short(WHAT));
        }
        body.advance(len);
        let [kinds] = take::<1>(body, WHAT)?;
        *packet = kinds & 0x0f;
    }
    Ok(())
}

fn composition(body: &mut Bytes) -> Result<i32, FlvError> {
    let [a, b, c] = take(body, "video tag")?;
    Ok(i32::from_be_bytes([a, b, c, 0]) >> 8)
}

fn take<const N: usize>(body: &mut Bytes, what: &'static str) -> Result<[u8; N], FlvError> {
    let head = *body.first_chunk::<N>().ok_or(FlvError::Short(what))?;
    body.advance(N);
    Ok(head)
}

/// Stores `new` and gives it back, unless it is what was there already: many encoders repeat
/// their configuration.
fn changed(current: &mut Option<Bytes>, new: Bytes) -> Option<Bytes> {
    if current.as_ref() == Some(&new) {
        return None;
    }
    *current = Some(new.clone());
    Some(new)
}

/// Checks an `AVCDecoderConfigurationRecord` and gives the length of its NAL length fields.
fn check_avcc(avcc: &[u8]) -> Result<usize, FlvError> {
    let wrong = |why| FlvError::Config("H.264", why);
    let [version, _, _, _, lengths, sets, rest @ ..] = avcc else {
        return Err(wrong("it is too short"));
    };
    if *version != 1 {
        return Err(wrong("it has an unknown version"));
    }
    if avcc.len() > CONFIG_BYTES_MAX {
        return Err(wrong("it is too long"));
    }
    let rest = parameter_sets(rest, sets & 0x1f).ok_or(wrong("it has no SPS"))?;
    let (pps, rest) = rest.split_first().ok_or(wrong("it has no PPS"))?;
    parameter_sets(rest, *pps).ok_or(wrong("it has no PPS"))?;
    match usize::from(lengths & 3) + 1 {
        3 => Err(wrong("it has NAL lengths of 3 bytes")),
        bytes => Ok(bytes),
    }
}

/// Skips `count` parameter sets, each behind its length; `None` when there are none or they are
/// cut short or empty.
fn parameter_sets(mut bytes: &[u8], count: u8) -> Option<&[u8]> {
    if count == 0 {
        return None;
    }
    for _ in 0..count {
        let (len, rest) = bytes.split_first_chunk::<2>()?;
        let (set, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        set.first()?;
        bytes = rest;
    }
    Some(bytes)
}

/// Whether an access unit has an IDR slice; checks that its NAL units fill it.
fn has_idr(mut data: &[u8], length_bytes: usize) -> Result<bool, FlvError> {
    const IDR: u8 = 5;
    let mut idr = false;
    while !data.is_empty() {
        let (len, rest) = data.split_at_checked(length_bytes).ok_or(FlvError::NalLength)?;
        let len = len.iter().fold(0, |len, byte| (len << 8) | usize::from(*byte));
        let (nal, rest) = rest.split_at_checked(len).ok_or(FlvError::NalLength)?;
        idr |= nal.first().is_some_and(|header| header & 0x1f == IDR);
        data = rest;
    }
    Ok(idr)
}

/// Checks an `AudioSpecificConfig` as far as choosing a decoder needs it.
fn check_asc(asc: &[u8]) -> Result<(), FlvError> {
    let wrong = |why| FlvError::Config("AAC", why);
    let Some(&[a, b]) = asc.first_chunk::<2>() else {
        return Err(wrong("it is too short"));
    };
    if asc.len() > CONFIG_BYTES_MAX {
        return Err(wrong("it is too long"));
    }
    // 2: AAC-LC; 5 and 29: AAC-LC with SBR, with PS.
    if !matches!(a >> 3, 2 | 5 | 29) {
        return Err(wrong("set the AAC profile to LC"));
    }
    let rate = ((a & 7) << 1) | (b >> 7);
    if rate == 13 || rate == 14 {
        return Err(wrong("it has an unknown sample rate"));
    }
    Ok(())
}

fn video_codec_name(codec: u8) -> String {
    match codec {
        2 => "Sorenson H.263".into(),
        3 | 6 => "Screen Video".into(),
        4 | 5 => "VP6".into(),
        8 => "H.263".into(),
        9 => "MPEG-4 Part 2".into(),
        // Not in the specification, but what some encoders send.
        12 => "HEVC".into(),
        13 => "AV1".into(),
        other => format!("video codec {other}"),
    }
}

fn audio_format_name(format: u8) -> String {
    match format {
        0 | 3 => "PCM".into(),
        1 => "ADPCM".into(),
        2 | 14 => "MP3".into(),
        4..=6 => "Nellymoser".into(),
        7 | 8 => "G.711".into(),
        11 => "Speex".into(),
        13 => "Opus".into(),
        other => format!("audio format {other}"),
    }
}

fn fourcc_name(fourcc: [u8; 4]) -> String {
    match &fourcc {
        b"hvc1" | b"hev1" => "HEVC".into(),
        b"av01" => "AV1".into(),
        b"vp09" => "VP9".into(),
        b"vp08" => "VP8".into(),
        b"vvc1" => "VVC".into(),
        b"Opus" => "Opus".into(),
        b".mp3" => "MP3".into(),
        b"fLaC" => "FLAC".into(),
        b"ac-3" => "AC-3".into(),
        b"ec-3" => "E-AC-3".into(),
        other => format!("{:?}", other.escape_ascii().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AVCC: &[u8] = &[1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 2, 0x67, 0x64, 1, 0, 2, 0x68, 0xee];
    const ASC: &[u8] = &[0x11, 0x90];
    const IDR: &[u8] = &[0, 0, 0, 2, 0x65, 0xaa];
    const NOT_IDR: &[u8] = &[0, 0, 0, 2, 0x41, 0xaa];

    fn tag(head: &[u8], body: &[u8]) -> Bytes {
        [head, body].concat().into()
    }

    fn ready() -> Demux {
        let mut demux = Demux::default();
        let config = demux.handle_video(0, tag(&[0x17, 0, 0, 0, 0], AVCC));
        assert!(matches!(config, Ok(Some(Media::Config(Config::H264 { .. })))));
        let config = demux.handle_audio(0, tag(&[0xaf, 0], ASC));
        assert!(matches!(config, Ok(Some(Media::Config(Config::Aac { .. })))));
        demux
    }

    fn frame(media: Result<Option<Media>, FlvError>) -> Frame {
        match media {
            Ok(Some(Media::Frame(frame))) => frame,
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    #[test]
    fn composition_time_separates_presentation_from_decoding() {
        let mut demux = ready();
        let seen = frame(demux.handle_video(1000, tag(&[0x17, 1, 0, 0, 80], IDR)));
        assert_eq!((seen.dts_us, seen.pts_us, seen.key), (1_000_000, 1_080_000, true));
        let seen = frame(demux.handle_video(1040, tag(&[0x27, 1, 0xff, 0xff, 0xd8], NOT_IDR)));
        assert_eq!((seen.dts_us, seen.pts_us, seen.key), (1_000_000, 1_000_000, false));
    }

    #[test]
    fn a_key_frame_is_one_with_an_idr_slice_whatever_the_tag_says() {
        let mut demux = ready();
        assert!(!frame(demux.handle_video(0, tag(&[0x17, 1, 0, 0, 0], NOT_IDR))).key);
        assert!(frame(demux.handle_video(0, tag(&[0x27, 1, 0, 0, 0], IDR))).key);
    }

    #[test]
    fn time_goes_on_over_the_wraps_of_32_and_of_31_bits_on_both_tracks() {
        for mask in [0xffff_ffff, 0x7fff_ffff] {
            let mut demux = ready();
            let mut times = Vec::new();
            for time_ms in (1..).map(|step| step * 0x3000_0000i64).take(20) {
                let wrapped = (time_ms & mask) as u32;
                let video = demux.handle_video(wrapped, tag(&[0x27, 1, 0, 0, 0], NOT_IDR));
                times.push(frame(video).dts_us - time_ms * 1000);
                let late = ((time_ms - 20) & mask) as u32;
                let audio = demux.handle_audio(late, tag(&[0xaf, 1], &[1]));
                times.push(frame(audio).dts_us - (time_ms - 20) * 1000);
            }
            assert_eq!(times, [0; 40]);
        }
    }

    #[test]
    fn a_clock_that_starts_just_below_a_wrap_goes_on() {
        let mut demux = ready();
        let mut time = |ms| frame(demux.handle_audio(ms, tag(&[0xaf, 1], &[1]))).pts_us;
        assert_eq!(time(0).wrapping_sub(time(0xffff_ffff)), 1000);
    }

    #[test]
    fn enhanced_tags_of_h264_and_aac_are_taken() {
        let mut demux = Demux::default();
        let config = demux.handle_video(0, tag(b"\x90avc1", AVCC));
        assert!(matches!(config, Ok(Some(Media::Config(_)))));
        let seen = frame(demux.handle_video(40, tag(b"\x91avc1\x00\x00\x28", IDR)));
        assert_eq!((seen.dts_us, seen.pts_us, &seen.data[..]), (40_000, 80_000, IDR));
        let seen = frame(demux.handle_video(80, tag(b"\xa3avc1", NOT_IDR)));
        assert_eq!((seen.pts_us, &seen.data[..]), (80_000, NOT_IDR));
        // With a modifier of one byte in front: nanoseconds of the timestamp.
        let seen = frame(demux.handle_video(120, tag(b"\xa7\x02\x00\x00\x09\x03avc1", NOT_IDR)));
        assert_eq!(seen.pts_us, 120_000);
        assert!(matches!(demux.handle_audio(0, tag(b"\x90mp4a", ASC)), Ok(Some(Media::Config(_)))));
        assert_eq!(&frame(demux.handle_audio(0, tag(b"\x91mp4a", &[7]))).data[..], [7]);
    }

    #[test]
    fn other_codecs_are_refused_with_what_to_set() {
        let video = |head: &[u8]| {
            Demux::default().handle_video(0, tag(head, &[0; 8])).expect_err("refused").to_string()
        };
        let audio = |head: &[u8]| {
            Demux::default().handle_audio(0, tag(head, &[0; 8])).expect_err("refused").to_string()
        };
        let hevc =
            "H.264 and AAC are needed; this encoder sends HEVC: set the video encoder to H.264";
        assert_eq!(video(b"\x90hvc1"), hevc);
        assert_eq!(video(&[0x1c, 0]), hevc);
        for (head, name) in [(&b"\x90av01"[..], "AV1"), (b"\x14", "VP6"), (b"\x12", "Sorenson")] {
            assert!(video(head).contains(&format!("sends {name}")), "{name}");
        }
        for (head, name) in [(&b"\x2f"[..], "MP3"), (b"\xb2", "Speex"), (b"\x90Opus", "Opus")] {
            let refusal = audio(head);
            assert!(refusal.contains(&format!("sends {name}")), "{refusal}");
            assert!(refusal.ends_with("set the audio encoder to AAC"), "{refusal}");
        }
        assert!(video(b"\x96").contains("multitrack"));
    }

    #[test]
    fn a_repeated_configuration_is_not_news_and_another_one_is() {
        let mut demux = ready();
        let again = |demux: &mut Demux, avcc: &[u8]| {
            demux.handle_video(0, tag(&[0x17, 0, 0, 0, 0], avcc)).expect("valid")
        };
        assert_eq!(again(&mut demux, AVCC), None);
        let mut other = AVCC.to_vec();
        other[3] = 0x28;
        assert!(again(&mut demux, &other).is_some());
        assert!(again(&mut demux, AVCC).is_some());
    }

    #[test]
    fn frames_before_their_configuration_are_counted_and_dropped() {
        let mut demux = Demux::default();
        assert_eq!(demux.handle_video(0, tag(&[0x17, 1, 0, 0, 0], IDR)), Ok(None));
        assert_eq!(demux.handle_audio(0, tag(&[0xaf, 1], &[1])), Ok(None));
        assert_eq!(demux.frames_before_config, 2);
    }

    #[test]
    fn what_a_decoder_could_not_use_is_an_error() {
        for cut in 0..AVCC.len() {
            let config = tag(&[0x17, 0, 0, 0, 0], &AVCC[..cut]);
            let read = Demux::default().handle_video(0, config);
            assert!(matches!(read, Err(FlvError::Config("H.264", _))), "cut at {cut}: {read:?}");
        }
        for bad in [&[0x11][..], &[0x1f, 0x90], &[0x16, 0x90]] {
            let read = Demux::default().handle_audio(0, tag(&[0xaf, 0], bad));
            assert!(matches!(read, Err(FlvError::Config("AAC", _))), "{bad:?}: {read:?}");
        }
        for bad in [&IDR[..5], &[0, 0, 0, 1, 0x65, 0], &[0, 0, 1, 0x65]] {
            let read = ready().handle_video(0, tag(&[0x17, 1, 0, 0, 0], bad));
            assert_eq!(read, Err(FlvError::NalLength), "{bad:?}");
        }
    }

    #[test]
    fn empty_end_and_command_tags_carry_nothing() {
        let mut demux = ready();
        for body in [&[][..], &[0x17], &[0x17, 2, 0, 0, 0], &[0x17, 1, 0, 0, 0], &[0x57, 0]] {
            assert_eq!(demux.handle_video(0, tag(body, &[])), Ok(None), "{body:?}");
        }
        for body in [&[][..], &[0xaf], &[0xaf, 1]] {
            assert_eq!(demux.handle_audio(0, tag(body, &[])), Ok(None), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn frames_keep_the_contract_for_any_tags(
            tags in prop::collection::vec((any::<bool>(), any::<u32>(), any::<[u8; 5]>(), 0..3u8), 0..40),
        ) {
            let mut demux = ready();
            for (video, time, mut head, kind) in tags {
                if kind > 0 {
                    (head[0], head[1]) = (if video { 0x27 } else { 0xaf }, 1);
                }
                let body = if kind == 2 { IDR } else { NOT_IDR };
                let read = match video {
                    true => demux.handle_video(time, tag(&head, body)),
                    false => demux.handle_audio(time, tag(&head[..2], body)),
                };
                if let Ok(Some(Media::Frame(frame))) = read {
                    prop_assert!(frame.dts_us <= frame.pts_us);
                    prop_assert!(!frame.data.is_empty());
                }
            }
        }
    }
}
