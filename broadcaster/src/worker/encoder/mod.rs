//! The encoder elements that may make a rendition, best first, and how each is set up. Nothing
//! else knows an encoder's name.
//!
//! Being in the list says nothing: a hardware element is used only when [`attempt`] saw it work
//! on this machine ([`verdict`]), and [`choice`] says which rung tries which.

pub mod attempt;
pub mod choice;
#[cfg(test)]
#[allow(dead_code, reason = "also a part of `tests/encoders`, which uses the rest of it")]
pub(in crate::worker) mod fakes;
mod hardware;
mod software;
pub mod verdict;

use gst::prelude::*;

use super::ipc::{FailCode, Failed};

/// What a video encoder is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct VideoSettings {
    /// Target and highest sustained bitrate in kbit/s.
    pub kbps: u32,
    /// Pixels per second, which decides the number of threads.
    pub pixel_rate: u64,
    /// How much effort to spend.
    pub effort: Effort,
}

/// How much effort an encoder spends on quality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// x264 `superfast`; hardware balances speed and quality.
    #[default]
    Superfast,
    /// x264 `ultrafast`, when the trial says that `superfast` is too slow; hardware at its
    /// fastest.
    Ultrafast,
}

/// Whose work encoding is, which decides what a trial of it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// An NVIDIA card.
    Nvidia,
    /// The video unit of a graphics chip, through a render node: QSV and VA.
    Va,
    /// Apple's.
    VideoToolbox,
    /// A video device of the kernel.
    V4l2,
    /// The processor.
    Software,
}

/// One way to encode H.264. With what is around it ([`VideoEncoder::chain`]) it takes I420 and
/// gives avc access units, with a key frame where a force-key-unit event asks for one and nowhere
/// else, and no B-frames. Whether an element keeps that promise is what its trial finds out.
#[derive(Clone, Copy, Debug)]
pub struct VideoEncoder {
    /// The GStreamer element.
    pub element: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
    /// Whose work it is.
    pub family: Family,
    /// Whether it needs `h264parse` to give avc access units.
    pub needs_parse: bool,
    configure: fn(&gst::Element, VideoSettings),
    /// Caps that its output must be asked for, when it does not find them itself.
    output: Option<fn(VideoSettings) -> gst::Caps>,
}

const BAD: &str = "gstreamer1.0-plugins-bad";

/// Every video encoder, best first.
pub const VIDEO: [VideoEncoder; 11] = [
    hardware("nvautogpuh264enc", BAD, Family::Nvidia, hardware::nvidia),
    hardware("nvcudah264enc", BAD, Family::Nvidia, hardware::nvidia),
    hardware("nvh264enc", BAD, Family::Nvidia, hardware::nvidia),
    hardware("qsvh264enc", BAD, Family::Va, hardware::qsv),
    hardware("vah264enc", BAD, Family::Va, hardware::va),
    hardware("vah264lpenc", BAD, Family::Va, hardware::va),
    hardware("vaapih264enc", "gstreamer1.0-vaapi", Family::Va, hardware::vaapi),
    hardware("vtenc_h264_hw", BAD, Family::VideoToolbox, hardware::video_toolbox),
    VideoEncoder {
        output: Some(hardware::v4l2_level),
        ..hardware("v4l2h264enc", "gstreamer1.0-plugins-good", Family::V4l2, hardware::v4l2)
    },
    VideoEncoder {
        element: "x264enc",
        package: "gstreamer1.0-plugins-ugly",
        family: Family::Software,
        needs_parse: false,
        configure: software::x264,
        output: None,
    },
    VideoEncoder {
        element: "openh264enc",
        package: BAD,
        family: Family::Software,
        needs_parse: true,
        configure: software::openh264,
        output: None,
    },
];

const fn hardware(
    element: &'static str,
    package: &'static str,
    family: Family,
    configure: fn(&gst::Element, VideoSettings),
) -> VideoEncoder {
    VideoEncoder { element, package, family, needs_parse: true, configure, output: None }
}

/// AAC encoders, best first, with their Debian packages. All take bit/s.
const AUDIO: [(&str, &str); 3] = [
    ("fdkaacenc", "gstreamer1.0-plugins-bad"),
    ("avenc_aac", "gstreamer1.0-libav"),
    ("voaacenc", "gstreamer1.0-plugins-bad"),
];

/// The length of the rate control's buffer, in milliseconds: a segment of 2 s can exceed the
/// target by half at most, so that BANDWIDTH is honest.
const VBV_MS: u32 = 1000;

/// Frames between key frames when none is forced: never in practice. Elements that allow less get
/// the most they allow.
const KEY_INTERVAL: &str = "1000000";

/// The video encoder of that name.
pub fn video_named(element: &str) -> Option<&'static VideoEncoder> {
    VIDEO.iter().find(|e| e.element == element)
}

/// The best video encoder of this machine that needs no trial.
///
/// # Errors
/// [`FailCode::Machine`] naming the package to install.
pub fn best_video() -> Result<&'static VideoEncoder, Failed> {
    (VIDEO.iter().find(|e| e.family == Family::Software && e.is_installed()))
        .ok_or_else(|| missing("x264enc", "gstreamer1.0-plugins-ugly"))
}

impl VideoEncoder {
    /// Whether GStreamer knows the element here. Says nothing of whether it works.
    pub fn is_installed(&self) -> bool {
        gst::ElementFactory::find(self.element).is_some()
    }

    /// Makes the element.
    ///
    /// # Errors
    /// [`FailCode::Machine`] when it is missing or cannot be made.
    pub fn make(&self, settings: VideoSettings) -> Result<gst::Element, Failed> {
        let made = gst::ElementFactory::make(self.element).build();
        let encoder = made.map_err(|_| missing(self.element, self.package))?;
        (self.configure)(&encoder, settings);
        Ok(encoder)
    }

    /// Makes the element and what it needs around it, in order of the flow. Takes I420; behind
    /// it, avc access units can be asked for.
    ///
    /// # Errors
    /// [`FailCode::Machine`] naming the missing element's package.
    pub fn chain(&self, settings: VideoSettings) -> Result<Vec<gst::Element>, Failed> {
        let mut chain = Vec::new();
        if self.family != Family::Software {
            // Passes I420 through where the element takes it. Left to itself it might pick a
            // format that costs the colours a conversion.
            chain.push(plain("videoconvert", "gstreamer1.0-plugins-base")?);
            let formats = gst::List::new(["I420", "NV12"]);
            chain
                .push(filter(&gst::Caps::builder("video/x-raw").field("format", formats).build())?);
        }
        chain.push(self.make(settings)?);
        if let Some(output) = self.output {
            chain.push(filter(&output(settings))?);
        }
        if self.needs_parse {
            chain.push(plain("h264parse", BAD)?);
        }
        Ok(chain)
    }
}

/// Makes the best AAC encoder that this machine has, with its name.
///
/// # Errors
/// [`FailCode::Machine`] naming the package to install.
pub fn make_audio(kbps: u32) -> Result<(gst::Element, &'static str), Failed> {
    for (name, _) in AUDIO {
        if let Some(factory) = gst::ElementFactory::find(name) {
            let encoder = factory.create().property("bitrate", (kbps * 1000) as i32).build();
            return Ok((encoder.map_err(|_| missing(name, "gstreamer1.0-libav"))?, name));
        }
    }
    Err(missing("avenc_aac", "gstreamer1.0-libav"))
}

/// The failure for an element that is not installed.
pub fn missing(element: &str, package: &str) -> Failed {
    Failed {
        code: FailCode::Machine,
        message: format!(
            "GStreamer has no working element '{element}': install the package {package}"
        ),
    }
}

fn plain(element: &'static str, package: &'static str) -> Result<gst::Element, Failed> {
    gst::ElementFactory::make(element).build().map_err(|_| missing(element, package))
}

fn filter(caps: &gst::Caps) -> Result<gst::Element, Failed> {
    let filter = plain("capsfilter", "libgstreamer1.0-0")?;
    filter.set_property("caps", caps);
    Ok(filter)
}

/// Sets a property to the first of `values` that it can have. Names and values differ between
/// versions of an element and between machines, so what is not there is left alone; numbers are
/// brought into the range that the property has.
fn set(encoder: &gst::Element, property: &str, values: &[&str]) {
    let Some(spec) = encoder.find_property(property) else { return };
    let flags = spec.flags();
    if !flags.contains(gst::glib::ParamFlags::WRITABLE)
        || flags.contains(gst::glib::ParamFlags::CONSTRUCT_ONLY)
    {
        return;
    }
    for value in values {
        let value = in_range(&spec, value);
        if let Ok(value) = gst::glib::Value::deserialize_with_pspec(&value, &spec) {
            return encoder.set_property_from_value(property, &value);
        }
    }
    tracing::debug!(encoder = %encoder.name(), property, ?values, "has none of these values");
}

/// A number, brought into the range of its property: setting one beyond it panics. Anything else
/// stays as it is.
fn in_range(spec: &gst::glib::ParamSpec, value: &str) -> String {
    use gst::glib::{ParamSpecInt, ParamSpecUInt};
    let Ok(number) = value.parse::<i64>() else { return value.to_owned() };
    let range = match (spec.downcast_ref::<ParamSpecUInt>(), spec.downcast_ref::<ParamSpecInt>()) {
        (Some(spec), _) => (spec.minimum().into(), spec.maximum().into()),
        (_, Some(spec)) => (spec.minimum().into(), spec.maximum().into()),
        _ => (i64::MIN, i64::MAX),
    };
    number.clamp(range.0, range.1).to_string()
}

#[cfg(test)]
mod tests;
