//! Whether a frame is encoded at all: by every rung or by none.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::LEFT_OUT;
use super::parts::{Building, src_pad};
use crate::worker::backlog::Backlog;
use crate::worker::ipc::Failed;

/// Frames that reached the place where they are admitted or left out.
#[derive(Debug, Default)]
pub struct Admission {
    /// Handed to the encoders.
    pub admitted: AtomicU64,
    /// Left out since an encoder was behind.
    pub left_out: AtomicU64,
}

/// Coded frames that may wait for long, in milliseconds ...
const BACKLOG_MS_TARGET: u64 = 300;

/// ... and for how long more may, in milliseconds: a network that stalled for
/// [`CODED_BEHIND_MS_MAX`] delivers all of it at once, which an encoder at twice real time has
/// caught up with by then.
const BURST_MS_MAX: u64 = 4000;

/// How often a frame that waits for room looks again: a tenth of a frame's time.
const ROOM_WAIT: Duration = Duration::from_millis(3);

/// Longest wait for room: an encoder that hangs is cut off before.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(1);

impl Building {
    /// Lets a frame through when every open outlet has room for it, and waits for that as long as
    /// what piles up before it may be a burst: of raw frames whoever feeds them then leaves some
    /// out; of coded ones none can be left out before they are decoded, so a backlog that stands is
    /// brought down here. The first frame of a segment always goes through, since the rungs'
    /// segments would else begin at different frames.
    pub(super) fn admit(
        &self,
        head: &gst::Element,
        source: &gst_app::AppSrc,
        coded_fps: Option<u64>,
    ) -> Result<(), Failed> {
        let timeline = Arc::clone(&self.timeline);
        let outlets: Vec<_> = self.outlets.iter().map(|(_, o)| Arc::clone(o)).collect();
        let admission = Arc::clone(&self.admission);
        let source = source.downgrade();
        let target = coded_fps.map_or(u64::MAX, |fps| fps * BACKLOG_MS_TARGET / 1000);
        let backlog = Mutex::new(Backlog::new(target, BURST_MS_MAX));
        let segment = AtomicU32::new(0);
        let began = Instant::now();
        src_pad(head)?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(pts) = info.buffer().and_then(|b| b.pts()) else {
                return gst::PadProbeReturn::Ok;
            };
            let now_ms = began.elapsed().as_millis() as u64;
            let level = source.upgrade().map_or(0, |s| s.current_level_buffers());
            let sheds = backlog.lock().unwrap_or_else(PoisonError::into_inner).see(now_ms, level);
            let mut has_room = outlets.iter().all(|outlet| outlet.has_room());
            let mut waited = Duration::ZERO;
            while !has_room && !sheds && waited < ROOM_WAIT_MAX {
                std::thread::sleep(ROOM_WAIT);
                waited += ROOM_WAIT;
                has_room = outlets.iter().all(|outlet| outlet.has_room());
            }
            let mut timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
            if has_room || timeline.is_due(pts.useconds()) {
                timeline.see(pts.useconds());
            }
            let of_frame = timeline.segment_of(pts.useconds());
            drop(timeline);
            if segment.fetch_max(of_frame, Ordering::Relaxed) < of_frame || has_room {
                admission.admitted.fetch_add(1, Ordering::Relaxed);
                return gst::PadProbeReturn::Ok;
            }
            admission.left_out.fetch_add(1, Ordering::Relaxed);
            LEFT_OUT
        });
        Ok(())
    }
}
