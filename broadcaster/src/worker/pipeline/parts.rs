//! What the branches of the graph are put together from.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use gst::prelude::*;

use super::{Admission, other};
use crate::worker::cut::Timeline;
use crate::worker::encoder;
use crate::worker::ipc::Failed;
use crate::worker::rung::Outlet;
use crate::worker::session::Event;

/// A graph that is being built.
pub(super) struct Building {
    pub(super) pipeline: gst::Pipeline,
    pub(super) timeline: Arc<Mutex<Timeline>>,
    pub(super) events: SyncSender<Event>,
    pub(super) outlets: Vec<(usize, Arc<Outlet>)>,
    pub(super) encoders: Vec<(usize, &'static str)>,
    pub(super) admission: Arc<Admission>,
}

impl Building {
    pub(super) fn source(&self, name: &str, caps: &gst::Caps) -> Result<gst_app::AppSrc, Failed> {
        let source = gst_app::AppSrc::builder()
            .name(name)
            .caps(caps)
            .format(gst::Format::Time)
            // Bounded by frames in `Feed::push`.
            .max_bytes(0)
            .build();
        self.pipeline.add(&source).map_err(bug)?;
        Ok(source)
    }

    pub(super) fn queue(&self, frames: u32) -> Result<gst::Element, Failed> {
        let queue = self.add("queue", "libgstreamer1.0-0")?;
        queue.set_property("max-size-buffers", frames);
        queue.set_property("max-size-bytes", 0u32);
        queue.set_property("max-size-time", 0u64);
        Ok(queue)
    }

    pub(super) fn filter(&self, caps: &gst::Caps) -> Result<gst::Element, Failed> {
        let filter = self.add("capsfilter", "libgstreamer1.0-0")?;
        filter.set_property("caps", caps);
        Ok(filter)
    }

    pub(super) fn add(
        &self,
        element: &'static str,
        package: &'static str,
    ) -> Result<gst::Element, Failed> {
        let made = gst::ElementFactory::make(element).build();
        let made = made.map_err(|_| encoder::missing(element, package))?;
        self.pipeline.add(&made).map_err(bug)?;
        Ok(made)
    }
}

pub(in crate::worker) fn link(chain: &[&gst::Element]) -> Result<(), Failed> {
    gst::Element::link_many(chain).map_err(bug)
}

pub(super) fn src_pad(element: &gst::Element) -> Result<gst::Pad, Failed> {
    element.static_pad("src").ok_or_else(|| other("no src pad".to_owned()))
}

pub(in crate::worker) fn bug(error: gst::glib::BoolError) -> Failed {
    other(format!("GStreamer: {error}"))
}
