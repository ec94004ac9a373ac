//! Fake hardware for tests: elements under the names of real ones, each wrong in one way. They
//! encode with x264 inside.
//!
//! Not part of the library's tests only: `tests/encoders` includes this file too, so it uses
//! nothing of this crate.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

/// What is wrong with a fake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It does not open.
    Open,
    /// Opening it never ends.
    OpenHangs,
    /// It gives no more after as many frames as [`HANGS_AFTER`] says.
    Hangs,
    /// It does not come to its end.
    EosHangs,
    /// Closing it never ends.
    StopHangs,
    /// It kills its process.
    Crashes,
    /// It needs a quarter of a second per frame.
    Slow,
    /// It does not hear force-key-unit events.
    Deaf,
    /// What it gives first is no IDR.
    LateIdr,
    /// It gives key frames unasked.
    Keys,
    /// It gives B-frames.
    Reorders,
    /// It gives twice the bitrate.
    Double,
    /// At most two may be open at once.
    TwoSessions,
    /// It refuses more than 240 lines.
    NotLarge,
    /// It fails after as many frames as [`DIES_AFTER`] says.
    Dies,
    /// It fails as many frames after that as [`LATER`] says.
    DiesLater,
}

/// Frames that a [`Fault::Dies`] makes before it fails.
pub(crate) static DIES_AFTER: AtomicU32 = AtomicU32::new(45);

/// Frames from the failure of a [`Fault::Dies`] to that of a [`Fault::DiesLater`].
pub(crate) const LATER: u32 = 9;

/// Frames that a [`Fault::Hangs`] makes before it hangs.
pub(crate) static HANGS_AFTER: AtomicU32 = AtomicU32::new(0);

/// Lines of the pictures at which a fault with a number of frames shows; 0 for all.
pub(crate) static ONLY_LINES: AtomicU32 = AtomicU32::new(0);

/// How many [`Fault::TwoSessions`] are open.
static OPEN: AtomicU32 = AtomicU32::new(0);

/// Every fault with its name for [`register_all`].
pub(crate) const FAULTS: [(&str, Fault); 17] = [
    ("none", Fault::None),
    ("open", Fault::Open),
    ("open-hangs", Fault::OpenHangs),
    ("hangs", Fault::Hangs),
    ("eos-hangs", Fault::EosHangs),
    ("stop-hangs", Fault::StopHangs),
    ("crashes", Fault::Crashes),
    ("slow", Fault::Slow),
    ("deaf", Fault::Deaf),
    ("late-idr", Fault::LateIdr),
    ("keys", Fault::Keys),
    ("reorders", Fault::Reorders),
    ("double", Fault::Double),
    ("two-sessions", Fault::TwoSessions),
    ("not-large", Fault::NotLarge),
    ("dies", Fault::Dies),
    ("dies-later", Fault::DiesLater),
];

/// Registers fakes as a text such as `nvh264enc=hangs,vah264enc=none` says. `dies@150` and
/// `hangs@150` give that many frames first, `dies@150/180` does so with pictures of 180 lines only.
pub(crate) fn register_all(text: &str) {
    for (element, fault) in text.split(',').filter_map(|pair| pair.split_once('=')) {
        let (fault, after) = fault.split_once('@').map_or((fault, None), |(f, n)| (f, Some(n)));
        if let Some(after) = after {
            let (frames, lines) = after.split_once('/').unwrap_or((after, "0"));
            let frames = frames.parse().expect("a number of frames");
            DIES_AFTER.store(frames, Ordering::SeqCst);
            HANGS_AFTER.store(frames, Ordering::SeqCst);
            ONLY_LINES.store(lines.parse().expect("a number of lines"), Ordering::SeqCst);
        }
        let (_, fault) = FAULTS.iter().find(|(name, _)| *name == fault).expect("a known fault");
        register(element, *fault);
    }
}

/// Registers a fake under an element's name, in place of the real one.
pub(crate) fn register(element: &str, fault: Fault) {
    gst::init().expect("GStreamer");
    let kind = match fault {
        Fault::None => none::Object::static_type(),
        Fault::Open => open::Object::static_type(),
        Fault::OpenHangs => open_hangs::Object::static_type(),
        Fault::EosHangs => eos_hangs::Object::static_type(),
        Fault::StopHangs => stop_hangs::Object::static_type(),
        Fault::Hangs => hangs::Object::static_type(),
        Fault::Crashes => crashes::Object::static_type(),
        Fault::Slow => slow::Object::static_type(),
        Fault::Deaf => deaf::Object::static_type(),
        Fault::LateIdr => late_idr::Object::static_type(),
        Fault::Keys => keys::Object::static_type(),
        Fault::Reorders => reorders::Object::static_type(),
        Fault::Double => double::Object::static_type(),
        Fault::TwoSessions => two_sessions::Object::static_type(),
        Fault::NotLarge => not_large::Object::static_type(),
        Fault::Dies => dies::Object::static_type(),
        Fault::DiesLater => dies_later::Object::static_type(),
    };
    gst::Element::register(None, element, gst::Rank::NONE, kind).expect("registered");
}

/// The type of a fake with one fault: a bin around x264.
macro_rules! fake {
    ($module:ident, $name:literal, $fault:expr) => {
        mod $module {
            use super::*;

            #[derive(Default)]
            pub struct Imp;

            #[glib::object_subclass]
            impl ObjectSubclass for Imp {
                const NAME: &'static str = $name;
                type Type = Object;
                type ParentType = gst::Bin;
            }

            impl ObjectImpl for Imp {
                fn properties() -> &'static [glib::ParamSpec] {
                    // GLib wants its own for each type.
                    static PROPERTIES: OnceLock<Vec<glib::ParamSpec>> = OnceLock::new();
                    PROPERTIES.get_or_init(properties)
                }

                fn set_property(&self, _: usize, value: &glib::Value, _: &glib::ParamSpec) {
                    set_bitrate(self.obj().upcast_ref(), value, $fault);
                }

                fn constructed(&self) {
                    self.parent_constructed();
                    build(self.obj().upcast_ref(), $fault);
                }
            }

            impl GstObjectImpl for Imp {}

            impl ElementImpl for Imp {
                fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
                    metadata()
                }

                fn pad_templates() -> &'static [gst::PadTemplate] {
                    templates()
                }

                fn change_state(
                    &self,
                    change: gst::StateChange,
                ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
                    before(self.obj().upcast_ref(), change, $fault)?;
                    self.parent_change_state(change)
                }
            }

            impl BinImpl for Imp {}

            glib::wrapper! {
                pub struct Object(ObjectSubclass<Imp>) @extends gst::Bin, gst::Element, gst::Object;
            }
        }
    };
}

fake!(none, "ShoalFakeNone", Fault::None);
fake!(open, "ShoalFakeOpen", Fault::Open);
fake!(open_hangs, "ShoalFakeOpenHangs", Fault::OpenHangs);
fake!(stop_hangs, "ShoalFakeStopHangs", Fault::StopHangs);
fake!(hangs, "ShoalFakeHangs", Fault::Hangs);
fake!(eos_hangs, "ShoalFakeEosHangs", Fault::EosHangs);
fake!(crashes, "ShoalFakeCrashes", Fault::Crashes);
fake!(slow, "ShoalFakeSlow", Fault::Slow);
fake!(deaf, "ShoalFakeDeaf", Fault::Deaf);
fake!(late_idr, "ShoalFakeLateIdr", Fault::LateIdr);
fake!(keys, "ShoalFakeKeys", Fault::Keys);
fake!(reorders, "ShoalFakeReorders", Fault::Reorders);
fake!(double, "ShoalFakeDouble", Fault::Double);
fake!(two_sessions, "ShoalFakeTwoSessions", Fault::TwoSessions);
fake!(not_large, "ShoalFakeNotLarge", Fault::NotLarge);
fake!(dies, "ShoalFakeDies", Fault::Dies);
fake!(dies_later, "ShoalFakeDiesLater", Fault::DiesLater);

/// In kbit/s, as most hardware has it. All other properties are missing, as they may be.
fn properties() -> Vec<glib::ParamSpec> {
    vec![glib::ParamSpecUInt::builder("bitrate").build()]
}

fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
    static METADATA: OnceLock<gst::subclass::ElementMetadata> = OnceLock::new();
    Some(METADATA.get_or_init(|| {
        gst::subclass::ElementMetadata::new("Fake", "Codec/Encoder/Video", "For tests", "Shoal")
    }))
}

/// Takes NV12 only, as most hardware does.
fn templates() -> &'static [gst::PadTemplate] {
    static TEMPLATES: OnceLock<Vec<gst::PadTemplate>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let raw = gst::Caps::builder("video/x-raw").field("format", "NV12").build();
        let coded = gst::Caps::builder("video/x-h264").build();
        let template = |name, direction, caps| {
            gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps)
        };
        [("sink", gst::PadDirection::Sink, &raw), ("src", gst::PadDirection::Src, &coded)]
            .into_iter()
            .map(|(name, direction, caps)| template(name, direction, caps).expect("a template"))
            .collect()
    })
}

fn build(bin: &gst::Bin, fault: Fault) {
    let made = gst::ElementFactory::make("x264enc").name("inner");
    let inner = made.build().expect("x264enc is installed");
    inner.set_property_from_str("speed-preset", "ultrafast");
    inner.set_property("vbv-buf-capacity", 1000u32);
    inner.set_property("threads", 1u32);
    inner.set_property("key-int-max", if fault == Fault::Keys { 10u32 } else { 1_000_000 });
    if fault == Fault::Reorders {
        inner.set_property("bframes", 2u32);
        inner.set_property("b-adapt", false);
        inner.set_property("rc-lookahead", 0i32);
    } else {
        inner.set_property_from_str("tune", "zerolatency");
    }
    inner.set_property("option-string", "scenecut=0");
    bin.add(&inner).expect("an empty bin");
    for (name, template) in ["sink", "src"].into_iter().zip(templates()) {
        let target = inner.static_pad(name).expect("x264enc has it");
        let pad = gst::GhostPad::from_template_with_target(template, &target);
        bin.add_pad(&pad.expect("a pad")).expect("a new pad");
        let count = AtomicU32::new(0);
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        target.add_probe(kinds, move |pad, info| spoil(pad, info, fault, &count));
    }
}

fn set_bitrate(bin: &gst::Bin, value: &glib::Value, fault: Fault) {
    let kbps: u32 = value.get().expect("the property's type");
    let inner = bin.by_name("inner").expect("it is built");
    inner.set_property("bitrate", if fault == Fault::Double { kbps * 2 } else { kbps });
}

/// What happens when it is opened or closed.
fn before(
    bin: &gst::Bin,
    change: gst::StateChange,
    fault: Fault,
) -> Result<(), gst::StateChangeError> {
    match (change, fault) {
        (gst::StateChange::NullToReady, Fault::Open) => {
            gst::element_error!(bin, gst::ResourceError::NotFound, ["no such device"]);
            Err(gst::StateChangeError)
        }
        (gst::StateChange::NullToReady, Fault::OpenHangs) => sleep_for_ever(),
        (gst::StateChange::ReadyToNull, Fault::StopHangs) => sleep_for_ever(),
        (gst::StateChange::NullToReady, Fault::TwoSessions) => {
            if OPEN.fetch_add(1, Ordering::SeqCst) < 2 {
                return Ok(());
            }
            OPEN.fetch_sub(1, Ordering::SeqCst);
            gst::element_error!(bin, gst::ResourceError::Busy, ["no session is left"]);
            Err(gst::StateChangeError)
        }
        (gst::StateChange::ReadyToNull, Fault::TwoSessions) => {
            OPEN.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Spoils what goes in (at its sink pad) or comes out.
fn spoil(
    pad: &gst::Pad,
    info: &mut gst::PadProbeInfo<'_>,
    fault: Fault,
    count: &AtomicU32,
) -> gst::PadProbeReturn {
    let goes_in = pad.direction() == gst::PadDirection::Sink;
    let element = pad.parent_element().expect("the encoder inside");
    match &info.data {
        Some(gst::PadProbeData::Buffer(_)) => {
            let n = count.fetch_add(1, Ordering::SeqCst);
            let only = ONLY_LINES.load(Ordering::SeqCst);
            let shows = |after: u32| goes_in && n >= after && (only == 0 || lines(pad) == only);
            let dies = DIES_AFTER.load(Ordering::SeqCst);
            match fault {
                Fault::Hangs if shows(HANGS_AFTER.load(Ordering::SeqCst)) => sleep_for_ever(),
                Fault::Crashes if goes_in => std::process::abort(),
                Fault::Slow if goes_in => std::thread::sleep(Duration::from_millis(250)),
                Fault::LateIdr if !goes_in && n == 0 => return gst::PadProbeReturn::Handled,
                Fault::Dies if shows(dies) => return fail(&element, info),
                Fault::DiesLater if shows(dies + LATER) => return fail(&element, info),
                _ => {}
            }
        }
        Some(gst::PadProbeData::Event(event)) if goes_in => {
            if fault == Fault::EosHangs && event.type_() == gst::EventType::Eos {
                sleep_for_ever();
            }
            if fault == Fault::Deaf && gst_video::ForceKeyUnitEvent::is(event) {
                return gst::PadProbeReturn::Handled;
            }
            if let (Fault::NotLarge, gst::EventView::Caps(caps)) = (fault, event.view()) {
                let height = caps.caps().structure(0).and_then(|s| s.get::<i32>("height").ok());
                if height.is_none_or(|height| height > 240) {
                    gst::element_error!(element, gst::StreamError::Format, ["it is too large"]);
                }
            }
        }
        _ => {}
    }
    gst::PadProbeReturn::Ok
}

fn fail(element: &gst::Element, info: &mut gst::PadProbeInfo<'_>) -> gst::PadProbeReturn {
    gst::element_error!(element, gst::StreamError::Encode, ["the device is gone"]);
    info.flow_res = Err(gst::FlowError::Error);
    gst::PadProbeReturn::Handled
}

/// Lines of the pictures that pass a pad.
fn lines(pad: &gst::Pad) -> u32 {
    let caps = pad.current_caps();
    let height = caps.and_then(|caps| caps.structure(0)?.get::<i32>("height").ok());
    height.map_or(0, |height| height as u32)
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
