//! What an H.264 decoder configuration says about its stream. Pure; the bytes are remote input.

use bytes::Bytes;

/// Facts from an `AVCDecoderConfigurationRecord` and its first sequence parameter set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoInfo {
    /// RFC 6381 codec string, such as `avc1.64001f`.
    pub codec: String,
    /// Picture width in pixels, cropped.
    pub width: u32,
    /// Picture height in pixels, cropped.
    pub height: u32,
    /// Shape of a pixel, across and down.
    pub pixel_aspect: (u32, u32),
    /// Frames per second when the stream says so plausibly.
    pub fps: Option<(u32, u32)>,
    /// Bytes of a NAL unit's length prefix.
    pub length_size: u8,
}

/// Why a decoder configuration cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum H264Error {
    /// Not an `AVCDecoderConfigurationRecord` with a sequence and a picture parameter set.
    #[error("the H.264 configuration record is incomplete")]
    Record,
    /// A sequence parameter set that breaks the standard's bounds.
    #[error("the H.264 sequence parameter set cannot be read")]
    Sps,
}

/// Reads an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1).
///
/// # Errors
/// When it is incomplete or its picture size is impossible.
pub fn parse_avcc(avcc: &[u8]) -> Result<VideoInfo, H264Error> {
    let [1, profile, compatibility, level, lengths, sets, rest @ ..] = avcc else {
        return Err(H264Error::Record);
    };
    if sets & 0x1f == 0 {
        return Err(H264Error::Record);
    }
    let (sps, rest) = take_set(rest).ok_or(H264Error::Record)?;
    let mut rest = rest;
    for _ in 1..(sets & 0x1f) {
        rest = take_set(rest).ok_or(H264Error::Record)?.1;
    }
    let (pps_count, rest) = rest.split_first().ok_or(H264Error::Record)?;
    if *pps_count == 0 || take_set(rest).is_none() {
        return Err(H264Error::Record);
    }
    let sps = parse_sps(sps).ok_or(H264Error::Sps)?;
    Ok(VideoInfo {
        codec: format!("avc1.{profile:02x}{compatibility:02x}{level:02x}"),
        length_size: (lengths & 3) + 1,
        ..sps
    })
}

fn take_set(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len));
    (len >= 4 && rest.len() >= len).then(|| rest.split_at(len))
}

/// Whether an access unit of length-prefixed NAL units contains an IDR slice.
pub fn is_idr(data: &Bytes, length_size: u8) -> bool {
    let mut rest = &data[..];
    let size = usize::from(length_size);
    while rest.len() > size {
        let len = rest[..size].iter().fold(0usize, |n, b| (n << 8) | usize::from(*b));
        match rest[size] & 0x1f {
            5 => return true,
            1..=4 => return false,
            _ => {}
        }
        let Some(next) = size.checked_add(len).and_then(|n| rest.get(n..)) else { return false };
        rest = next;
    }
    false
}

/// Largest width or height of a level 6.2 picture.
const SIDE_MAX: u32 = 16_888;

fn parse_sps(sps: &[u8]) -> Option<VideoInfo> {
    let payload = unescape(sps.get(1..)?);
    let mut r = Bits { bytes: &payload, at: 0 };
    let profile = r.bits(8)?;
    r.bits(16)?;
    r.ue()?;
    let mut chroma = 1;
    let mut separate = false;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = r.ue()?;
        if chroma == 3 {
            separate = r.bit()?;
        }
        r.ue()?;
        r.ue()?;
        r.bit()?;
        if r.bit()? {
            for i in 0..if chroma == 3 { 12 } else { 8 } {
                if r.bit()? {
                    skip_scaling_list(&mut r, if i < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    r.ue()?;
    match r.ue()? {
        0 => drop(r.ue()?),
        1 => {
            r.bit()?;
            r.ue()?;
            r.ue()?;
            let cycle = r.ue()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                r.ue()?;
            }
        }
        _ => {}
    }
    r.ue()?;
    r.bit()?;
    let width_mbs = r.ue()?.checked_add(1)?;
    let height_units = r.ue()?.checked_add(1)?;
    let frames_only = r.bit()?;
    if !frames_only {
        r.bit()?;
    }
    r.bit()?;
    if width_mbs > SIDE_MAX / 16 || height_units > SIDE_MAX / 16 {
        return None;
    }
    let field_factor = if frames_only { 1 } else { 2 };
    let (mut width, mut height) = (width_mbs * 16, height_units * 16 * field_factor);
    if r.bit()? {
        let chroma = if separate { 0 } else { chroma };
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma == 1 { 2 } else { 1 } * field_factor;
        let (left, right, top, bottom) = (r.ue()?, r.ue()?, r.ue()?, r.ue()?);
        let across = left.checked_add(right)?.checked_mul(unit_x)?;
        let down = top.checked_add(bottom)?.checked_mul(unit_y)?;
        width = width.checked_sub(across).filter(|w| *w > 0)?;
        height = height.checked_sub(down).filter(|h| *h > 0)?;
    }
    let (pixel_aspect, fps) =
        if r.bit()? { vui(&mut r).unwrap_or(((1, 1), None)) } else { ((1, 1), None) };
    Some(VideoInfo { codec: String::new(), width, height, pixel_aspect, fps, length_size: 4 })
}

/// A numerator and a denominator.
type Ratio = (u32, u32);

/// Pixel shape and frame rate from the video usability information.
fn vui(r: &mut Bits<'_>) -> Option<(Ratio, Option<Ratio>)> {
    let mut aspect = (1, 1);
    if r.bit()? {
        aspect = match r.bits(8)? {
            255 => (r.bits(16)?, r.bits(16)?),
            n => ASPECTS.get(n as usize).copied().unwrap_or((1, 1)),
        };
        if aspect.0 == 0 || aspect.1 == 0 {
            aspect = (1, 1);
        }
    }
    if r.bit()? {
        r.bit()?;
    }
    if r.bit()? {
        r.bits(4)?;
        if r.bit()? {
            r.bits(24)?;
        }
    }
    if r.bit()? {
        r.ue()?;
        r.ue()?;
    }
    let mut fps = None;
    if r.bit()? {
        let (units, scale) = (r.bits(32)?, r.bits(32)?);
        // A frame lasts two ticks (H.264 §E.2.1).
        let halves = u64::from(units) * 2;
        let plausible = u64::from(scale) >= halves && u64::from(scale) <= halves * 240;
        if units > 0 && plausible {
            fps = reduce(u64::from(scale), halves);
        }
    }
    Some((aspect, fps))
}

/// Pixel shapes of H.264 table E-1.
const ASPECTS: [(u32, u32); 17] = [
    (1, 1),
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

/// A fraction in lowest terms, or `None` when it does not fit 32 bits.
pub fn reduce(num: u64, den: u64) -> Option<(u32, u32)> {
    let (mut a, mut b) = (num, den);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    if a == 0 {
        return None;
    }
    Some((u32::try_from(num / a).ok()?, u32::try_from(den / a).ok()?))
}

fn skip_scaling_list(r: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            let coded = i64::from(r.ue()?);
            let delta = if coded % 2 == 0 { -(coded / 2) } else { (coded + 1) / 2 };
            next = (last + delta).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Removes emulation prevention bytes.
fn unescape(nal: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal.len());
    let mut zeroes = 0;
    for byte in nal {
        if *byte == 3 && zeroes >= 2 {
            zeroes = 0;
            continue;
        }
        zeroes = if *byte == 0 { zeroes + 1 } else { 0 };
        out.push(*byte);
    }
    out
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |value, _| Some((value << 1) | u32::from(self.bit()?)))
    }

    /// An unsigned Exp-Golomb number.
    fn ue(&mut self) -> Option<u32> {
        let mut zeroes = 0;
        while !self.bit()? {
            zeroes += 1;
            if zeroes > 31 {
                return None;
            }
        }
        Some((1u32 << zeroes) - 1 + self.bits(zeroes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Written by x264 (ffmpeg 5.1): 1920x1080, 30 fps, High, cropped from 1088 lines.
    const X264_1080P30: &str = "01640028ffe1001b67640028acd940780227e5c044000003000400000300f03c60c65801000668ebe3cb22c0fdf8f800";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
            .collect()
    }

    #[test]
    fn a_real_record_gives_codec_size_and_rate() {
        let info = parse_avcc(&hex(X264_1080P30)).expect("a record x264 wrote");
        assert_eq!(info.codec, "avc1.640028");
        assert_eq!((info.width, info.height), (1920, 1080));
        assert_eq!(info.fps, Some((30, 1)));
        assert_eq!(info.length_size, 4);
    }

    #[test]
    fn idr_is_found_behind_parameter_sets_and_sei() {
        let unit = |kind: u8| [&[0, 0, 0, 3, kind, 1, 2][..]].concat();
        let join =
            |kinds: &[u8]| Bytes::from(kinds.iter().flat_map(|k| unit(*k)).collect::<Vec<_>>());
        assert!(is_idr(&join(&[9, 7, 8, 6, 5]), 4));
        assert!(!is_idr(&join(&[6, 1]), 4));
        assert!(!is_idr(&Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 6]), 4));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..48, value: u8) {
            let _ = parse_avcc(&bytes);
            let _ = is_idr(&Bytes::from(bytes), 4);
            let mut record = hex(X264_1080P30);
            let at = at % record.len();
            record[at] = value;
            let _ = parse_avcc(&record);
        }
    }
}
