//! Stills of the source, for posters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use gst::prelude::*;

use super::parts::{Building, bug, link};
use super::{LEFT_OUT, other, prompt_sink};
use crate::worker::ipc::Failed;
use crate::worker::session::Event;

/// Session time between two stills, in nanoseconds (interfaces.md `thumb.jpg`).
const THUMB_EVERY_NS: u64 = 10_000_000_000;

/// JPEG quality of a still: a 360p picture is about 20 kB.
const THUMB_QUALITY: i32 = 75;

/// Width of a still that is scaled for its own sake.
const STILL_WIDTH_MAX: i32 = 640;

/// Whether this machine can make stills. A stream does not need them.
pub fn can_make_stills() -> bool {
    gst::ElementFactory::find("jpegenc").is_some()
}

impl Building {
    /// Takes a still from the smallest pictures every now and then.
    pub(super) fn thumb(
        &self,
        tee: &gst::Element,
        scale: bool,
        still_due_ns: Arc<AtomicU64>,
    ) -> Result<(), Failed> {
        let queue = self.queue(1)?;
        // A still is never worth waiting for.
        queue.set_property_from_str("leaky", "downstream");
        let jpeg = self.add("jpegenc", "gstreamer1.0-plugins-good")?;
        jpeg.set_property("quality", THUMB_QUALITY);
        let (events, again) = (self.events.clone(), Arc::clone(&still_due_ns));
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let map = sample.buffer().and_then(|b| b.map_readable().ok());
                if let Some(map) = map {
                    // Nor is it worth waiting for a busy session: the next picture will do.
                    let thumb = Event::Thumb(Bytes::copy_from_slice(&map));
                    if events.try_send(thumb).is_err() {
                        again.store(0, Ordering::Relaxed);
                    }
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        let sink = prompt_sink(callbacks).build();
        self.pipeline.add(&sink).map_err(bug)?;
        let pad = queue.static_pad("sink").ok_or_else(|| other("no sink pad".to_owned()))?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(pts) = info.buffer().and_then(|b| b.pts()) else {
                return LEFT_OUT;
            };
            if pts.nseconds() < still_due_ns.load(Ordering::Relaxed) {
                return LEFT_OUT;
            }
            still_due_ns.store(pts.nseconds() + THUMB_EVERY_NS, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        if !scale {
            return link(&[tee, &queue, &jpeg, sink.upcast_ref()]);
        }
        let scale = self.add("videoscale", "gstreamer1.0-plugins-base")?;
        let caps = gst::Caps::builder("video/x-raw")
            .field("width", gst::IntRange::new(16, STILL_WIDTH_MAX))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build();
        let filter = self.filter(&caps)?;
        link(&[tee, &queue, &scale, &filter, &jpeg, sink.upcast_ref()])
    }
}
