//! Writes CMAF: one init segment per rendition, and one `moof` + `mdat` per part. Pure.
//!
//! Times in the files are session times: `tfdt` of a part is its [`super::ipc::Part::pts_us`] in
//! ticks (90 000 per second for video, the sample rate for audio), and the durations of its
//! samples end exactly where the next part starts, because all are differences of absolute
//! times. There is no edit list. A source with B-frames is written with signed composition
//! offsets (`trun` version 1) so that a key frame's `tfdt` equals its presentation time.

use bytes::Bytes;
use mp4_atom::{
    Atom, Audio, Avc1, Avcc, Codec, Dinf, Dref, DrefEntry, Encode, Esds, FourCC, Ftyp, Hdlr, Mdhd,
    Mdia, Mfhd, Minf, Moof, Moov, Mp4a, Mvex, Mvhd, Pasp, Smhd, Stbl, Stsd, Tfdt, Tfhd, Tkhd, Traf,
    Trak, Trex, Trun, TrunEntry, Url, Visual, Vmhd, esds,
};

use super::cut::Cut;

/// Ticks per second of every video rendition: what RTMP's milliseconds and all usual frame rates
/// divide into.
pub const VIDEO_TIMESCALE: u32 = 90_000;

const TRACK_ID: u32 = 1;
/// Sample flags (ISO/IEC 14496-12 §8.8.3.1): depends on no other sample.
const SYNC: u32 = 0x0200_0000;
/// Depends on others, and is not a sync sample.
const NON_SYNC: u32 = 0x0101_0000;

/// Why an init segment could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    /// The configuration does not fit into the boxes.
    #[error("cannot write CMAF boxes: {0}")]
    Box(#[from] mp4_atom::Error),
}

/// The init segment of a video rendition with this `AVCDecoderConfigurationRecord`.
///
/// # Errors
/// When the record is malformed.
pub fn video_init(
    avcc: &[u8],
    (width, height): (u32, u32),
    pixel_aspect: (u32, u32),
) -> Result<Bytes, MuxError> {
    let (across, down) = pixel_aspect;
    let entry = Avc1 {
        visual: Visual {
            data_reference_index: 1,
            width: width as u16,
            height: height as u16,
            ..Visual::default()
        },
        avcc: Avcc::decode_body(&mut &avcc[..])?,
        btrt: None,
        colr: None,
        pasp: (across != down).then_some(Pasp { h_spacing: across, v_spacing: down }),
        taic: None,
        fiel: None,
        spatial: None,
    };
    let display_width = u64::from(width) * u64::from(across) / u64::from(down.max(1));
    let tkhd =
        Tkhd { width: (display_width as u16).into(), height: (height as u16).into(), ..tkhd() };
    let minf = Minf { vmhd: Some(Vmhd::default()), ..minf(entry.into()) };
    init(b"vide", VIDEO_TIMESCALE, tkhd, minf, NON_SYNC)
}

/// The init segment of an AAC rendition with this `AudioSpecificConfig`.
///
/// # Errors
/// When a value does not fit into the boxes.
pub fn audio_init(
    asc: &[u8],
    sample_rate: u32,
    channels: u32,
    bitrate: u32,
) -> Result<Bytes, MuxError> {
    let entry = Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: channels as u16,
            sample_size: 16,
            // The field has 16 bits; decoders take the rate from the configuration.
            sample_rate: u16::try_from(sample_rate).unwrap_or(0).into(),
        },
        esds: Esds {
            es_desc: esds::EsDescriptor {
                es_id: 1,
                depends_on_es_id: None,
                url: None,
                ocr_es_id: None,
                stream_priority: 0,
                dec_config: esds::DecoderConfig {
                    object_type_indication: 0x40,
                    stream_type: 5,
                    up_stream: 0,
                    buffer_size_db: [0; 3].into(),
                    max_bitrate: bitrate,
                    avg_bitrate: bitrate,
                    dec_specific: Some(esds::DecoderSpecific {
                        profile: 0,
                        freq_index: 0,
                        chan_conf: 0,
                        raw: asc.to_vec(),
                    }),
                },
                sl_config: esds::SLConfig {},
            },
        },
        btrt: None,
        taic: None,
    };
    let tkhd = Tkhd { volume: 1.into(), ..tkhd() };
    let minf = Minf { smhd: Some(Smhd::default()), ..minf(entry.into()) };
    init(b"soun", sample_rate, tkhd, minf, SYNC)
}

/// A part as `moof` and `mdat`. `sequence` counts the parts of a rendition from 1.
///
/// # Errors
/// When a value does not fit into the boxes.
pub fn part(sequence: u32, cut: &Cut) -> Result<Bytes, MuxError> {
    let starts = cut.samples.iter().map(|s| s.start);
    let ends = starts.clone().skip(1).chain([cut.end]);
    let durations: Vec<u32> =
        starts.zip(ends).map(|(start, end)| end.saturating_sub(start) as u32).collect();
    let same = durations.first().copied().filter(|d| durations.iter().all(|o| o == d));
    let reordered = cut.samples.iter().any(|s| s.offset != 0);
    let all_keys = cut.samples.iter().all(|s| s.key);
    let first_only = cut.samples.iter().skip(1).all(|s| !s.key);
    let entries: Vec<TrunEntry> = (cut.samples.iter().zip(&durations).enumerate())
        .map(|(i, (sample, duration))| TrunEntry {
            duration: same.is_none().then_some(*duration),
            size: Some(sample.data.len() as u32),
            flags: match (all_keys, first_only) {
                (true, _) => None,
                (false, true) => (i == 0 && sample.key).then_some(SYNC),
                (false, false) => Some(if sample.key { SYNC } else { NON_SYNC }),
            },
            cts: reordered.then_some(sample.offset.into()),
        })
        .collect();
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number: sequence },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: TRACK_ID,
                default_sample_duration: same,
                default_sample_flags: Some(if all_keys { SYNC } else { NON_SYNC }),
                default_base_is_moof: true,
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt { base_media_decode_time: cut.start() }),
            trun: vec![Trun { data_offset: Some(0), samples: entries.into() }],
            ..Traf::default()
        }],
    };
    let payload: usize = cut.samples.iter().map(|s| s.data.len()).sum();
    let mut out = Vec::new();
    moof.encode(&mut out)?;
    // The offset has a fixed size, so the box keeps its length when the real value goes in.
    let offset = out.len() as i32 + MDAT_HEADER as i32;
    for trun in moof.traf.iter_mut().flat_map(|t| &mut t.trun) {
        trun.data_offset = Some(offset);
    }
    out.clear();
    out.reserve(offset as usize + payload);
    moof.encode(&mut out)?;
    out.extend_from_slice(&((payload + MDAT_HEADER) as u32).to_be_bytes());
    out.extend_from_slice(b"mdat");
    for sample in &cut.samples {
        out.extend_from_slice(&sample.data);
    }
    Ok(out.into())
}

const MDAT_HEADER: usize = 8;

fn init(
    handler: &[u8; 4],
    timescale: u32,
    tkhd: Tkhd,
    minf: Minf,
    sample_flags: u32,
) -> Result<Bytes, MuxError> {
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: [b"iso6", b"cmfc", b"cmf2", b"mp41"].map(FourCC::new).to_vec(),
    };
    let moov = Moov {
        mvhd: Mvhd {
            timescale: 1000,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Mvhd::default()
        },
        trak: vec![Trak {
            tkhd,
            mdia: Mdia {
                mdhd: Mdhd { timescale, language: "und".into(), ..Mdhd::default() },
                hdlr: Hdlr { handler: FourCC::new(handler), name: "Shoal".into() },
                minf,
            },
            ..Trak::default()
        }],
        mvex: Some(Mvex {
            trex: vec![Trex {
                track_id: TRACK_ID,
                default_sample_description_index: 1,
                default_sample_duration: 0,
                default_sample_size: 0,
                default_sample_flags: sample_flags,
            }],
            ..Mvex::default()
        }),
        ..Moov::default()
    };
    let mut out = Vec::new();
    ftyp.encode(&mut out)?;
    moov.encode(&mut out)?;
    Ok(out.into())
}

fn tkhd() -> Tkhd {
    Tkhd { track_id: TRACK_ID, enabled: true, in_movie: true, ..Tkhd::default() }
}

fn minf(entry: Codec) -> Minf {
    Minf {
        dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
        stbl: Stbl {
            stsd: Stsd { codecs: vec![entry] },
            stco: Some(mp4_atom::Stco::default()),
            ..Stbl::default()
        },
        ..Minf::default()
    }
}
