//! How hardware encoders are set up: a constant rate with a buffer of [`VBV_MS`], no B-frames,
//! nothing held back, and key frames on request only.
//!
//! Each function covers every version of its elements: properties that one lacks are left out.
//! What comes of it is for the trial to judge.

use super::{Effort, KEY_INTERVAL, VBV_MS, VideoSettings, set};

/// `nvh264enc` and the elements that replace it from GStreamer 1.22 on.
pub(super) fn nvidia(encoder: &gst::Element, settings: VideoSettings) {
    // The older element has no p1 to p7.
    let presets: &[&str] = match settings.effort {
        Effort::Superfast => &["p4", "low-latency-hq"],
        Effort::Ultrafast => &["p1", "low-latency-hp"],
    };
    set(encoder, "preset", presets);
    set(encoder, "tune", &["ultra-low-latency", "low-latency"]);
    rate(encoder, settings);
    for property in ["rc-mode", "rate-control"] {
        set(encoder, property, &["cbr"]);
    }
    set(encoder, "vbv-buffer-size", &[&buffer_kbits(settings)]);
    for property in ["bframes", "b-frames", "rc-lookahead"] {
        set(encoder, property, &["0"]);
    }
    for property in ["zerolatency", "zero-reorder-delay"] {
        set(encoder, property, &["true"]);
    }
    for property in ["i-adapt", "b-adapt"] {
        set(encoder, property, &["false"]);
    }
    // Without end; some versions also take 0 for that, but as "key frames only".
    set(encoder, "gop-size", &["-1"]);
}

/// Intel Quick Sync.
pub(super) fn qsv(encoder: &gst::Element, settings: VideoSettings) {
    set(encoder, "target-usage", &[usage(settings.effort)]);
    set(encoder, "low-latency", &["true"]);
    rate(encoder, settings);
    set(encoder, "rate-control", &["cbr"]);
    set(encoder, "b-frames", &["0"]);
    set(encoder, "gop-size", &[KEY_INTERVAL]);
}

/// The VA elements of plugins-bad.
pub(super) fn va(encoder: &gst::Element, settings: VideoSettings) {
    set(encoder, "target-usage", &[usage(settings.effort)]);
    set(encoder, "rate-control", &["cbr"]);
    rate(encoder, settings);
    set(encoder, "cpb-size", &[&buffer_kbits(settings)]);
    set(encoder, "b-frames", &["0"]);
    // At most 1024, which no segment reaches at up to 170 frames per second.
    set(encoder, "key-int-max", &[KEY_INTERVAL]);
}

/// The VA element that came before.
pub(super) fn vaapi(encoder: &gst::Element, settings: VideoSettings) {
    let level = match settings.effort {
        Effort::Superfast => "4",
        Effort::Ultrafast => "7",
    };
    set(encoder, "quality-level", &[level]);
    set(encoder, "rate-control", &["cbr"]);
    rate(encoder, settings);
    set(encoder, "cpb-length", &[&VBV_MS.to_string()]);
    set(encoder, "max-bframes", &["0"]);
    set(encoder, "keyframe-period", &[KEY_INTERVAL]);
}

/// Apple's.
pub(super) fn video_toolbox(encoder: &gst::Element, settings: VideoSettings) {
    set(encoder, "realtime", &["true"]);
    set(encoder, "allow-frame-reordering", &["false"]);
    set(encoder, "rate-control", &["cbr"]);
    rate(encoder, settings);
    set(encoder, "max-keyframe-interval", &[KEY_INTERVAL]);
}

/// Devices of the kernel. Drivers know different controls and pass over the others.
pub(super) fn v4l2(encoder: &gst::Element, settings: VideoSettings) {
    let bits = u64::from(settings.kbps.max(1)) * 1000;
    let controls = format!(
        "controls,video_bitrate_mode=1,video_bitrate={bits},video_bitrate_peak={bits},\
         video_b_frames=0,video_gop_size={KEY_INTERVAL},h264_i_frame_period={KEY_INTERVAL},\
         repeat_sequence_header=1"
    );
    set(encoder, "extra-controls", &[&controls]);
}

/// The level, which drivers do not raise by themselves: with the least one they refuse HD.
pub(super) fn v4l2_level(settings: VideoSettings) -> gst::Caps {
    // What the standard allows of each level, in pixels per second.
    let level = match settings.pixel_rate {
        rate if rate <= 27_648_000 => "3.1",
        rate if rate <= 62_914_560 => "4",
        rate if rate <= 133_693_440 => "4.2",
        _ => "5.1",
    };
    gst::Caps::builder("video/x-h264").field("level", level).build()
}

fn rate(encoder: &gst::Element, settings: VideoSettings) {
    let kbps = settings.kbps.max(1).to_string();
    set(encoder, "bitrate", &[&kbps]);
    set(encoder, "max-bitrate", &[&kbps]);
}

fn buffer_kbits(settings: VideoSettings) -> String {
    (u64::from(settings.kbps.max(1)) * u64::from(VBV_MS) / 1000).to_string()
}

/// 1 is best, 7 is fastest.
fn usage(effort: Effort) -> &'static str {
    match effort {
        Effort::Superfast => "4",
        Effort::Ultrafast => "7",
    }
}
