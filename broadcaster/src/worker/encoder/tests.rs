use std::time::Duration;

use super::attempt::{self, Demands};
use super::fakes::{self, Fault};
use super::*;

fn ready() {
    gst::init().expect("GStreamer");
}

const SETTINGS: VideoSettings =
    VideoSettings { kbps: 2500, pixel_rate: 1280 * 720 * 30, effort: Effort::Ultrafast };

#[test]
fn hardware_comes_before_software_and_no_name_comes_twice() {
    let software = VIDEO.iter().map(|e| e.family == Family::Software);
    assert!(software.is_sorted());
    let mut names: Vec<_> = VIDEO.iter().map(|e| e.element).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), VIDEO.len());
}

#[test]
fn a_property_is_brought_into_its_range_and_an_unknown_one_is_left_alone() {
    ready();
    let encoder = gst::ElementFactory::make("x264enc").build().expect("x264enc");
    set(&encoder, "bframes", &["1000000"]);
    assert_eq!(encoder.property::<u32>("bframes"), 16);
    set(&encoder, "speed-preset", &["p4", "fast"]);
    set(&encoder, "no-such-property", &["1"]);
    set(&encoder, "tune", &["no-such-value"]);
    let preset = encoder.property_value("speed-preset").serialize().expect("a nick");
    assert_eq!(preset, "fast");
}

#[test]
fn x264_is_set_up_as_asked() {
    ready();
    let encoder = video_named("x264enc").expect("listed").make(SETTINGS).expect("installed");
    let shown = |name: &str| encoder.property_value(name).serialize().expect("shown").to_string();
    assert_eq!(shown("speed-preset"), "ultrafast");
    assert!(shown("tune").to_lowercase().contains("zero"), "{}", shown("tune"));
    assert_eq!((encoder.property::<u32>("bitrate"), encoder.property::<u32>("bframes")), (2500, 0));
    assert_eq!(encoder.property::<u32>("vbv-buf-capacity"), 1000);
    assert_eq!(encoder.property::<u32>("key-int-max"), 1_000_000);
}

#[test]
fn what_is_not_installed_names_its_package() {
    ready();
    let absent = VideoEncoder { element: "no-such-element", package: "the-package", ..VIDEO[0] };
    let failed = absent.chain(SETTINGS).expect_err("missing");
    assert_eq!(failed.code, FailCode::Machine);
    assert!(failed.message.contains("the-package"), "{}", failed.message);
}

#[test]
fn one_that_fails_on_the_way_says_what_failed() {
    fakes::register("vaapih264enc", Fault::Dies);
    let demands = Demands {
        sizes: vec![(320, 180, 400)],
        frames: 60,
        speed_min: 0.0,
        silence_max: Duration::from_secs(30),
    };
    let tried = attempt::run("vaapih264enc", &demands).expect("it is listed");
    assert!(!tried.ok);
    let reason = tried.reason.expect("a reason");
    assert!(reason.ends_with("the device is gone"), "{reason}");
}

#[test]
fn a_name_that_is_not_listed_is_an_error_and_an_absent_element_a_verdict() {
    ready();
    assert!(attempt::run("fakesink", &Demands::default()).is_err());
    let tried = attempt::run("vtenc_h264_hw", &Demands::default()).expect("it is listed");
    assert_eq!((tried.ok, tried.reason.as_deref()), (false, Some("not installed")));
}
