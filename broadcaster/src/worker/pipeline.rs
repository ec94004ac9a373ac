//! The GStreamer graph of one source: decodes once, scales in a cascade and hands the pictures to
//! the [`Outlet`] of each rung, behind which its encoder has a graph of its own ([`super::rung`]).
//! Audio is encoded here.
//!
//! ```text
//! appsrc [! avdec_h264 ! videoconvert] ! (admission) tee ─► outlet 1080p
//!                                                     ├─► videoscale ! tee ─► outlet 720p
//!                                                     │                  └─► videoscale ! tee ─► outlet 360p
//!                                                     └─► videoscale ! tee ─► outlet 480p
//! appsrc [! avdec_aac] ! audioconvert ! audioresample ! avenc_aac ! appsink
//! ```
//!
//! The graph has no clock of its own: whoever feeds it paces, and frames carry session time from
//! end to end. A frame is admitted when every open outlet has room for it, else it is left out
//! before it is scaled, so that all rungs miss the same frames. Sizes that no open outlet needs are
//! not scaled.

mod admission;
mod audio;
mod coded;
mod parts;
mod stills;
mod video;

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::rendition::AudioTier;
use gst::prelude::*;

use super::aac::AudioInfo;
use super::cut::Timeline;
use super::ipc::{FailCode, Failed};
use super::ladder::{Picture, PlannedRung};
use super::rung::Outlet;
use super::session::Event;

pub use admission::Admission;
pub use coded::Coded;
pub(super) use coded::{coded_sink, prompt_sink};
use parts::Building;
pub(super) use parts::{bug, link};
pub use stills::can_make_stills;

/// What is fed as video.
#[derive(Clone, Debug)]
pub enum VideoFeed {
    /// Raw pictures with these caps.
    Raw(gst::Caps),
    /// H.264 access units with this `AVCDecoderConfigurationRecord`.
    H264 {
        /// The record.
        avcc: Bytes,
        /// What it shows.
        picture: Picture,
    },
}

/// What is fed as audio.
#[derive(Clone, Debug)]
pub enum AudioFeed {
    /// Raw samples with these caps.
    Raw(gst::Caps),
    /// Raw AAC frames with this `AudioSpecificConfig`.
    Aac {
        /// The configuration.
        asc: Bytes,
        /// What it says.
        info: AudioInfo,
    },
}

/// What to build.
#[derive(Debug)]
pub struct Graph<'a> {
    /// The rungs to scale for, largest first, each with the number of its output.
    pub rungs: Vec<(usize, &'a PlannedRung)>,
    /// Whether each rendition's number is drawn into its pictures.
    pub marks: bool,
    /// Their source. Without rungs, only stills are taken from it.
    pub video: Option<VideoFeed>,
    /// The audio tiers to encode, each with the number its frames are sent under.
    pub tiers: Vec<(usize, &'a AudioTier)>,
    /// Their source, when there are any.
    pub audio: Option<AudioFeed>,
}

/// A running graph. Dropping it stops it; the receiver of its events must be dropped or drained
/// first, since its threads may be waiting to send.
#[derive(Debug)]
pub struct Running {
    pipeline: gst::Pipeline,
    /// Where video goes in.
    pub video: Option<Feed>,
    /// Where audio goes in.
    pub audio: Option<Feed>,
    /// Where each rung's pictures come out, by its output number.
    pub outlets: Vec<(usize, Arc<Outlet>)>,
    /// Per output number of audio, the name of its encoder. Each reports its end after
    /// [`Running::finish`].
    pub encoders: Vec<(usize, &'static str)>,
    /// What became of the frames.
    pub admission: Arc<Admission>,
}

/// Where frames go into the graph.
#[derive(Clone, Debug)]
pub struct Feed {
    source: gst_app::AppSrc,
    frames_max: u64,
}

/// What a probe returns for a buffer that goes no further. `Drop` makes the bindings and GStreamer
/// 1.22 release the buffer twice.
const LEFT_OUT: gst::PadProbeReturn = gst::PadProbeReturn::Handled;

impl Feed {
    /// Hands a frame to the graph; `false` when the graph is too far behind to take it.
    pub fn push(&self, buffer: gst::Buffer) -> bool {
        self.source.current_level_buffers() < self.frames_max
            && self.source.push_buffer(buffer).is_ok()
    }

    /// Frames that wait to be decoded or scaled.
    pub fn waiting(&self) -> u64 {
        self.source.current_level_buffers()
    }

    /// Whether the next [`Feed::push`] would be refused.
    pub fn is_full(&self) -> bool {
        self.source.current_level_buffers() >= self.frames_max
    }
}

impl Running {
    /// Builds and starts the graph.
    ///
    /// # Errors
    /// [`FailCode::Machine`] naming a missing element's package, or [`FailCode::Other`].
    pub fn start(
        graph: &Graph<'_>,
        timeline: &Arc<Mutex<Timeline>>,
        events: &SyncSender<Event>,
    ) -> Result<Self, Failed> {
        let mut building = Building {
            pipeline: gst::Pipeline::new(),
            timeline: Arc::clone(timeline),
            events: events.clone(),
            outlets: Vec::new(),
            encoders: Vec::new(),
            admission: Arc::default(),
        };
        let video = match &graph.video {
            Some(feed) => Some(building.video(graph, feed)?),
            None => None,
        };
        let audio = match &graph.audio {
            Some(feed) if !graph.tiers.is_empty() => Some(building.audio(graph, feed)?),
            _ => None,
        };
        let Building { pipeline, outlets, encoders, admission, .. } = building;
        let running = Self { pipeline, video, audio, outlets, encoders, admission };
        running.pipeline.set_state(gst::State::Playing).map_err(|_| {
            running.failure().unwrap_or_else(|| other("the encoders do not start".to_owned()))
        })?;
        Ok(running)
    }

    /// Says that nothing more is fed; the outputs report their end when they are done.
    pub fn finish(&self) {
        for feed in self.video.iter().chain(&self.audio) {
            // Refused only when the graph has already failed, which its bus says.
            let _ = feed.source.end_of_stream();
        }
    }

    /// What went wrong in the graph, if anything has.
    pub fn failure(&self) -> Option<Failed> {
        failure_of(&self.pipeline)
    }
}

/// What went wrong in a pipeline, if anything has.
pub(super) fn failure_of(pipeline: &gst::Pipeline) -> Option<Failed> {
    let bus = pipeline.bus()?;
    while let Some(message) =
        bus.pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning])
    {
        let from = message.src().map_or_else(String::new, |s| s.name().to_string());
        match message.view() {
            gst::MessageView::Error(error) => {
                tracing::error!(element = from, error = %error.error(), debug = ?error.debug());
                return Some(other(format!("{from}: {}", error.error())));
            }
            gst::MessageView::Warning(warning) => {
                tracing::warn!(element = from, warning = %warning.error());
            }
            _ => {}
        }
    }
    None
}

impl Drop for Running {
    fn drop(&mut self) {
        // Stopping cannot fail in a way that leaves anything to do.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// A failure that another try may get over.
pub fn other(message: String) -> Failed {
    Failed { code: FailCode::Other, message }
}
