//! What an `AudioSpecificConfig` says about its stream. Pure; the bytes are remote input.

/// Facts from an `AudioSpecificConfig` (ISO/IEC 14496-3 §1.6.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioInfo {
    /// RFC 6381 codec string, such as `mp4a.40.2`.
    pub codec: String,
    /// Samples per second of the coded frames (for HE-AAC, half of what a listener hears).
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// Samples in a frame.
    pub frame_samples: u32,
}

const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// Reads an `AudioSpecificConfig`; `None` when it is incomplete or not of the AAC family.
pub fn parse_asc(asc: &[u8]) -> Option<AudioInfo> {
    let first_bytes = asc.iter().take(8).fold(0u64, |n, b| (n << 8) | u64::from(*b));
    let mut bits = Bits { value: first_bytes, left: 8 * asc.len().min(8) as u32 };
    let mut object = bits.take(5)?;
    if object == 31 {
        object = 32 + bits.take(6)?;
    }
    let sample_rate = match bits.take(4)? {
        15 => bits.take(24)?,
        index => *RATES.get(index as usize)?,
    };
    let channels = match bits.take(4)? {
        7 => 8,
        n @ 1..=6 => n,
        // Channels described inside the stream: seen only with exotic layouts.
        _ => return None,
    };
    // 1 main, 2 low complexity, 3 scalable rate, 4 long-term prediction, 5 and 29 HE-AAC.
    if !matches!(object, 1..=5 | 29) || !(7_000..=96_000).contains(&sample_rate) {
        return None;
    }
    let short = !matches!(object, 5 | 29) && bits.take(1)? == 1;
    Some(AudioInfo {
        codec: format!("mp4a.40.{object}"),
        sample_rate,
        channels,
        frame_samples: if short { 960 } else { 1024 },
    })
}

struct Bits {
    value: u64,
    left: u32,
}

impl Bits {
    fn take(&mut self, count: u32) -> Option<u32> {
        self.left = self.left.checked_sub(count)?;
        Some(((self.value >> self.left) & ((1 << count) - 1)) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_common_configurations_are_read() {
        let lc = parse_asc(&[0x11, 0x90]).expect("48 kHz stereo low complexity");
        assert_eq!((lc.codec.as_str(), lc.sample_rate, lc.channels), ("mp4a.40.2", 48_000, 2));
        let lc = parse_asc(&[0x12, 0x10, 0x56, 0xe5, 0]).expect("44.1 kHz as ffmpeg writes it");
        assert_eq!((lc.sample_rate, lc.channels, lc.frame_samples), (44_100, 2, 1024));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Some(info) = parse_asc(&bytes) {
                prop_assert!(info.sample_rate > 0 && info.channels > 0);
            }
        }
    }
}
