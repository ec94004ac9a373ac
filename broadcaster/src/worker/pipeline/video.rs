//! The branch that decodes and scales the pictures, once for each size.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gst::prelude::*;

use super::parts::{Building, bug, link};
use super::{Feed, Graph, LEFT_OUT, VideoFeed, can_make_stills, other, prompt_sink};
use crate::worker::cut::Thinner;
use crate::worker::ipc::Failed;
use crate::worker::ladder::{Picture, PlannedRung};
use crate::worker::rung::Outlet;

/// How long decoding and scaling may be behind before raw frames are left out, in milliseconds:
/// rides out the pauses of a busy machine. What encoders may add is in [`super::rung`].
const BEHIND_MS_MAX: u64 = 300;

/// The same for coded frames, where leaving one out costs all up to the next key frame; longer
/// than what is held while a second track is waited for.
const CODED_BEHIND_MS_MAX: u64 = 3000;

/// Pictures of one size and rate, and the tee that hands them out.
#[derive(Clone)]
struct Level {
    width: u32,
    height: u32,
    thin_to: Option<(u32, u32)>,
    tee: gst::Element,
    /// For this size and those it is scaled from, how many open outlets need it.
    users: Vec<Arc<AtomicUsize>>,
}

impl Building {
    pub(super) fn video(&mut self, graph: &Graph<'_>, feed: &VideoFeed) -> Result<Feed, Failed> {
        let (caps, compressed) = match feed {
            VideoFeed::Raw(caps) => (caps.clone(), false),
            VideoFeed::H264 { avcc, picture } => (h264_caps(avcc, *picture), true),
        };
        let source = self.source("video-in", &caps)?;
        let fps = (caps.structure(0)).and_then(|s| s.get::<gst::Fraction>("framerate").ok());
        let fps = fps.map_or(30, |f| f.numer() / f.denom().max(1)).max(1) as u64;
        let behind_ms_max = if compressed { CODED_BEHIND_MS_MAX } else { BEHIND_MS_MAX };
        let frames_max = (fps * behind_ms_max / 1000).max(2);
        let mut head: gst::Element = source.clone().upcast();
        if compressed {
            let decoder = self.add("avdec_h264", "gstreamer1.0-libav")?;
            // Frame threads would each hold a frame back; slices cost no latency.
            decoder.set_property_from_str("thread-type", "slice");
            let convert = self.add("videoconvert", "gstreamer1.0-plugins-base")?;
            let i420 = gst::Caps::builder("video/x-raw").field("format", "I420").build();
            let filter = self.filter(&i420)?;
            link(&[&head, &decoder, &convert, &filter])?;
            head = filter;
        }
        let tee = self.add("tee", "libgstreamer1.0-0")?;
        link(&[&head, &tee])?;
        let still_due_ns = Arc::new(AtomicU64::new(0));
        let whole =
            Level { width: u32::MAX, height: u32::MAX, thin_to: None, tee, users: Vec::new() };
        let mut levels = vec![whole];
        for (output, rung) in &graph.rungs {
            let level = self.level(&mut levels, rung, &still_due_ns)?;
            self.outlet(*output, &level, graph.marks.then_some(*output as u8))?;
        }
        self.admit(&head, &source, compressed.then_some(fps))?;
        let smallest = levels.last().map(|l| l.tee.clone());
        if let (Some(tee), true) = (smallest, can_make_stills()) {
            self.thumb(&tee, graph.rungs.is_empty(), still_due_ns)?;
        }
        Ok(Feed { source, frames_max })
    }

    /// The tee with pictures for this rung, scaled from the smallest level that has them all.
    fn level(
        &mut self,
        levels: &mut Vec<Level>,
        rung: &PlannedRung,
        still_due_ns: &Arc<AtomicU64>,
    ) -> Result<Level, Failed> {
        let covers = |l: &&Level| {
            l.width >= rung.width
                && l.height >= rung.height
                && (l.thin_to.is_none() || l.thin_to == rung.thin_to)
        };
        // Halving is ten times as cheap as any other ratio.
        let half =
            |l: &&Level| covers(l) && (l.width, l.height) == (2 * rung.width, 2 * rung.height);
        let parent = levels.iter().rev().find(half).or_else(|| levels.iter().rev().find(covers));
        let Some(parent) = parent else {
            return Err(other(format!("no pictures for {}", rung.rung.id)));
        };
        let same =
            |l: &Level| (l.width, l.height, l.thin_to) == (rung.width, rung.height, rung.thin_to);
        if same(parent) {
            return Ok(parent.clone());
        }
        let (parent_tee, thin) = (parent.tee.clone(), parent.thin_to != rung.thin_to);
        let mut users = parent.users.clone();
        let needed = Arc::new(AtomicUsize::new(0));
        users.push(Arc::clone(&needed));
        let scale = self.add("videoscale", "gstreamer1.0-plugins-base")?;
        scale.set_property_from_str("method", "bilinear");
        scale.set_property("add-borders", false);
        let caps = gst::Caps::builder("video/x-raw")
            .field("width", rung.width as i32)
            .field("height", rung.height as i32)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build();
        let filter = self.filter(&caps)?;
        let tee = self.add("tee", "libgstreamer1.0-0")?;
        link(&[&parent_tee, &scale, &filter, &tee])?;
        keep_colours(&scale, &filter, caps)?;
        only_when_needed(&scale, needed, Arc::clone(still_due_ns))?;
        if let (true, Some(fps)) = (thin, rung.thin_to) {
            self.thin(&scale, fps)?;
        }
        let (width, height, thin_to) = (rung.width, rung.height, rung.thin_to);
        let level = Level { width, height, thin_to, tee, users };
        levels.push(level.clone());
        Ok(level)
    }

    /// Where pictures of this level go out to one rung's encoder.
    fn outlet(&mut self, output: usize, level: &Level, mark: Option<u8>) -> Result<(), Failed> {
        let outlet = Outlet::new(Arc::clone(&self.timeline), level.users.clone(), mark);
        let outlet = Arc::new(outlet);
        let (out, ended) = (Arc::clone(&outlet), Arc::clone(&outlet));
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                out.handle(&sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| ended.finish())
            .build();
        let sink = prompt_sink(callbacks).name(format!("outlet-{output}")).build();
        self.pipeline.add(&sink).map_err(bug)?;
        link(&[&level.tee, sink.upcast_ref()])?;
        self.outlets.push((output, outlet));
        Ok(())
    }

    /// Leaves frames out before `element` and corrects the rate that its caps announce.
    fn thin(&self, element: &gst::Element, fps: (u32, u32)) -> Result<(), Failed> {
        let timeline = Arc::clone(&self.timeline);
        let thinner = Mutex::new(Thinner::new(fps));
        let segment = AtomicU32::new(0);
        let rate = gst::Fraction::new(fps.0 as i32, fps.1.max(1) as i32);
        let pad = element.static_pad("sink").ok_or_else(|| other("no sink pad".to_owned()))?;
        let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        pad.add_probe(kinds, move |_, info| match &mut info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let Some(pts) = buffer.pts() else { return LEFT_OUT };
                let of_frame = {
                    let timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
                    timeline.segment_of(pts.useconds())
                };
                let first = segment.fetch_max(of_frame, Ordering::Relaxed) < of_frame;
                let mut thinner = thinner.lock().unwrap_or_else(PoisonError::into_inner);
                if thinner.keep(pts.nseconds(), first) { gst::PadProbeReturn::Ok } else { LEFT_OUT }
            }
            Some(gst::PadProbeData::Event(event)) => {
                let caps = match event.view() {
                    gst::EventView::Caps(caps) => Some(caps.caps_owned()),
                    _ => None,
                };
                if let Some(mut caps) = caps {
                    caps.make_mut().set("framerate", rate);
                    *event = gst::event::Caps::new(&caps);
                }
                gst::PadProbeReturn::Ok
            }
            _ => gst::PadProbeReturn::Ok,
        });
        Ok(())
    }
}

/// Makes a scaler pass only pictures that an open outlet or the next still needs.
fn only_when_needed(
    scale: &gst::Element,
    needed: Arc<AtomicUsize>,
    still_due_ns: Arc<AtomicU64>,
) -> Result<(), Failed> {
    let pad = scale.static_pad("sink").ok_or_else(|| other("no sink pad".to_owned()))?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let pts_ns = info.buffer().and_then(|b| b.pts()).map_or(0, |pts| pts.nseconds());
        let still_due = pts_ns >= still_due_ns.load(Ordering::Relaxed);
        if needed.load(Ordering::Relaxed) > 0 || still_due {
            gst::PadProbeReturn::Ok
        } else {
            LEFT_OUT
        }
    });
    Ok(())
}

/// Makes a scaler keep the colours as they are. Left alone it turns HD colours into SD colours,
/// pixel by pixel, which costs three times the scaling.
fn keep_colours(
    scale: &gst::Element,
    filter: &gst::Element,
    caps: gst::Caps,
) -> Result<(), Failed> {
    let filter = filter.downgrade();
    let pad = scale.static_pad("sink").ok_or_else(|| other("no sink pad".to_owned()))?;
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(event)) = info.event().map(|e| e.view())
            && let (Ok(video), Some(filter)) =
                (gst_video::VideoInfo::from_caps(event.caps()), filter.upgrade())
        {
            let mut caps = caps.clone();
            caps.make_mut().set("colorimetry", video.colorimetry().to_string());
            filter.set_property("caps", &caps);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn h264_caps(avcc: &Bytes, picture: Picture) -> gst::Caps {
    let mut caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("parsed", true)
        .field("codec_data", gst::Buffer::from_slice(avcc.clone()))
        .field("width", picture.width as i32)
        .field("height", picture.height as i32);
    if let Some((fps, per)) = picture.fps {
        caps = caps.field("framerate", gst::Fraction::new(fps as i32, per.max(1) as i32));
    }
    caps.build()
}
