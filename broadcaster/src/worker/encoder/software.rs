//! How the encoders that run on the processor are set up.

use super::{Effort, KEY_INTERVAL, VBV_MS, VideoSettings, set};

/// Pixels per second that one thread of x264 is trusted with: 1080p30. Fewer threads cost less
/// in all, and slices of sliced threads cost quality.
const PIXELS_PER_THREAD: u64 = 1920 * 1080 * 30;

pub(super) fn x264(encoder: &gst::Element, settings: VideoSettings) {
    let preset = match settings.effort {
        Effort::Superfast => "superfast",
        Effort::Ultrafast => "ultrafast",
    };
    set(encoder, "speed-preset", &[preset]);
    set(encoder, "tune", &["zerolatency"]);
    set(encoder, "bitrate", &[&settings.kbps.max(1).to_string()]);
    set(encoder, "vbv-buf-capacity", &[&VBV_MS.to_string()]);
    set(encoder, "bframes", &["0"]);
    set(encoder, "key-int-max", &[KEY_INTERVAL]);
    set(encoder, "threads", &[&threads(settings.pixel_rate).to_string()]);
    set(encoder, "option-string", &["scenecut=0:open-gop=0"]);
}

pub(super) fn openh264(encoder: &gst::Element, settings: VideoSettings) {
    let bits = (settings.kbps.max(1) * 1000).to_string();
    set(encoder, "bitrate", &[&bits]);
    set(encoder, "max-bitrate", &[&bits]);
    set(encoder, "rate-control", &["bitrate"]);
    set(encoder, "complexity", &["low"]);
    set(encoder, "gop-size", &[KEY_INTERVAL]);
    set(encoder, "scene-change-detection", &["false"]);
    set(encoder, "multi-thread", &[&threads(settings.pixel_rate).to_string()]);
}

fn threads(pixel_rate: u64) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    pixel_rate.div_ceil(PIXELS_PER_THREAD).clamp(1, cores.min(16)) as u32
}
