//! The encoder elements that may make a rendition, best first, and how each is set up. Hardware
//! encoders join the list; nothing else knows an encoder's name.

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
    /// x264 `superfast`.
    #[default]
    Superfast,
    /// x264 `ultrafast`, when the trial says that `superfast` is too slow.
    Ultrafast,
}

/// One way to encode H.264. It gives avc access units, with a key frame where a force-key-unit
/// event asks for one and nowhere else, and no B-frames.
#[derive(Clone, Copy, Debug)]
pub struct VideoEncoder {
    /// The GStreamer element.
    pub element: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
    /// Whether it needs `h264parse` to give avc access units.
    pub needs_parse: bool,
    configure: fn(gst::ElementFactory, VideoSettings) -> Result<gst::Element, gst::glib::BoolError>,
}

/// Every video encoder, best first.
pub const VIDEO: [VideoEncoder; 2] = [
    VideoEncoder {
        element: "x264enc",
        package: "gstreamer1.0-plugins-ugly",
        needs_parse: false,
        configure: x264,
    },
    VideoEncoder {
        element: "openh264enc",
        package: "gstreamer1.0-plugins-bad",
        needs_parse: true,
        configure: openh264,
    },
];

/// AAC encoders, best first, with their Debian packages. All take bit/s.
const AUDIO: [(&str, &str); 3] = [
    ("fdkaacenc", "gstreamer1.0-plugins-bad"),
    ("avenc_aac", "gstreamer1.0-libav"),
    ("voaacenc", "gstreamer1.0-plugins-bad"),
];

/// The length of the rate control's buffer, in milliseconds: a segment of 2 s can exceed the
/// target by half at most, so that BANDWIDTH is honest.
const VBV_MS: u32 = 1000;

/// Frames between key frames when none is forced: never in practice.
const KEY_INTERVAL: u32 = 1_000_000;

/// Pixels per second that one thread of x264 is trusted with: 1080p30. Fewer threads cost less
/// in all, and slices of sliced threads cost quality.
const PIXELS_PER_THREAD: u64 = 1920 * 1080 * 30;

/// The best video encoder that this machine has.
///
/// # Errors
/// [`FailCode::Machine`] naming the package to install.
pub fn best_video() -> Result<&'static VideoEncoder, Failed> {
    (VIDEO.iter().find(|e| gst::ElementFactory::find(e.element).is_some()))
        .ok_or_else(|| missing("x264enc", VIDEO[0].package))
}

/// For each of that many rungs, what can encode it, best first.
///
/// # Errors
/// [`FailCode::Machine`] naming the package to install.
pub fn choices(rungs: usize) -> Result<Vec<Vec<&'static VideoEncoder>>, Failed> {
    if rungs == 0 {
        return Ok(Vec::new());
    }
    best_video()?;
    let installed = VIDEO.iter().filter(|e| gst::ElementFactory::find(e.element).is_some());
    let installed: Vec<_> = installed.collect();
    Ok(vec![installed; rungs])
}

impl VideoEncoder {
    /// Makes the element.
    ///
    /// # Errors
    /// [`FailCode::Machine`] when it is missing or refuses its settings.
    pub fn make(&self, settings: VideoSettings) -> Result<gst::Element, Failed> {
        let factory = gst::ElementFactory::find(self.element)
            .ok_or_else(|| missing(self.element, self.package))?;
        (self.configure)(factory, settings).map_err(|_| missing(self.element, self.package))
    }
}

impl VideoEncoder {
    /// Whether it is a device and not a program.
    pub fn is_hardware(&self) -> bool {
        false
    }

    /// Makes the elements that turn pictures into avc access units, in order.
    ///
    /// # Errors
    /// [`FailCode::Machine`] when one is missing or refuses its settings.
    pub fn make_chain(&self, settings: VideoSettings) -> Result<Vec<gst::Element>, Failed> {
        let mut chain = vec![self.make(settings)?];
        if self.needs_parse {
            let parse = gst::ElementFactory::make("h264parse").build();
            chain.push(parse.map_err(|_| missing("h264parse", "gstreamer1.0-plugins-bad"))?);
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

fn threads(pixel_rate: u64) -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    pixel_rate.div_ceil(PIXELS_PER_THREAD).clamp(1, cores.min(16)) as u32
}

fn x264(
    factory: gst::ElementFactory,
    settings: VideoSettings,
) -> Result<gst::Element, gst::glib::BoolError> {
    let preset = match settings.effort {
        Effort::Superfast => "superfast",
        Effort::Ultrafast => "ultrafast",
    };
    factory
        .create()
        .property_from_str("speed-preset", preset)
        .property_from_str("tune", "zerolatency")
        .property("bitrate", settings.kbps.max(1))
        .property("vbv-buf-capacity", VBV_MS)
        .property("bframes", 0u32)
        .property("key-int-max", KEY_INTERVAL)
        .property("threads", threads(settings.pixel_rate))
        .property("option-string", "scenecut=0:open-gop=0")
        .build()
}

fn openh264(
    factory: gst::ElementFactory,
    settings: VideoSettings,
) -> Result<gst::Element, gst::glib::BoolError> {
    factory
        .create()
        .property("bitrate", settings.kbps.max(1) * 1000)
        .property("max-bitrate", settings.kbps.max(1) * 1000)
        .property_from_str("rate-control", "bitrate")
        .property_from_str("complexity", "low")
        .property("gop-size", KEY_INTERVAL)
        .property("scene-change-detection", false)
        .property("multi-thread", threads(settings.pixel_rate))
        .build()
}
