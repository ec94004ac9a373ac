//! What goes around the graph without being decoded: `source`, and audio that fits as it is.

use std::sync::atomic::Ordering;

use super::switch::SWITCHED_OFF;
use super::{Session, init_gstreamer, input, lock};
use crate::worker::cut::{SourceCut, SourceCuts};
use crate::worker::ipc::{Failed, Report};
use crate::worker::pipeline::{Graph, Running, VideoFeed, can_make_stills, other};
use crate::worker::source_push::Placed;

/// What goes around the graph without being decoded.
#[derive(Default)]
pub(super) struct Passthrough {
    /// Rendition number of `source` and where it is cut.
    pub(super) video: Option<(usize, SourceCuts)>,
    /// Whether `source` is ordered off, and whether it is: it changes with its segments.
    pub(super) ordered_off: bool,
    pub(super) is_off: bool,
    /// Rendition number of audio that is passed through.
    pub(super) audio: Option<usize>,
    /// Whether frames are left out of the graph until the next key frame.
    pub(super) skipping: bool,
    /// Whether they are since nothing is encoded, or was when the last key frame came.
    pub(super) idle: bool,
    /// Takes stills from key frames where nothing else is decoded.
    pub(super) stills: Option<Running>,
}

impl Passthrough {
    /// Whether a frame of the video goes to the graph, which encodes something or not.
    fn feeds(&mut self, any_on: bool, key: bool) -> bool {
        self.skipping &= !key;
        self.idle = !any_on || (self.idle && !key);
        // Key frames alone give stills while nothing is encoded.
        self.skipping |= !any_on && !key;
        !self.skipping
    }

    /// A frame is left out, and with it what refers to it. Gives how many were dropped by that: while
    /// idle, nobody wanted it.
    fn leave_out(&mut self) -> u64 {
        self.skipping = true;
        u64::from(!self.idle)
    }
}

impl Session {
    /// Takes poster pictures from what is not decoded for anything else. A stream goes on without
    /// them.
    pub(super) fn start_stills(&mut self, video: VideoFeed) {
        let graph = Graph {
            rungs: Vec::new(),
            marks: false,
            video: Some(video),
            tiers: Vec::new(),
            audio: None,
        };
        let started = init_gstreamer().and_then(|()| {
            if !can_make_stills() {
                return Err(other("the element jpegenc is missing".to_owned()));
            }
            Running::start(&graph, &self.timeline, &self.sender)
        });
        match started {
            Ok(stills) => self.pass.stills = Some(stills),
            Err(failed) => tracing::info!("no poster pictures: {}", failed.message),
        }
    }

    pub(super) fn handle_placed(
        &mut self,
        placed: Placed,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        self.pulse.source_us.fetch_max(placed.pts_ns / 1000, Ordering::Relaxed);
        if placed.is_video {
            self.cut_source(&placed, emit)?;
            let feed = self.graph.as_ref().and_then(|g| g.video.as_ref());
            if let Some(feed) = feed {
                let feeds = self.pass.feeds(self.rungs.any_on(), placed.key);
                if self.pass.idle {
                    // Audio is cut by the time of the video, which the graph does not see all of.
                    lock(&self.timeline).see(placed.pts_ns / 1000);
                }
                if !feeds || !feed.push(placed.buffer()) {
                    let dropped = self.pass.leave_out();
                    self.pulse.dropped.fetch_add(dropped, Ordering::Relaxed);
                }
            }
            let stills = self.pass.stills.as_ref().and_then(|s| s.video.as_ref());
            if let (Some(feed), true) = (stills, placed.key) {
                // One that finds no room is no loss.
                feed.push(placed.buffer());
            }
            return Ok(());
        }
        if let Some(feed) = self.graph.as_ref().and_then(|g| g.audio.as_ref())
            && !feed.push(placed.buffer())
        {
            self.pulse.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(rendition) = self.pass.audio.and_then(|i| self.renditions.get_mut(i)) {
            rendition.handle_audio(placed.pts_ns, placed.data);
        }
        Ok(())
    }

    /// Cuts `source` at its key frames and tells the other renditions where.
    fn cut_source(
        &mut self,
        placed: &Placed,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        let Some((i, cuts)) = &mut self.pass.video else { return Ok(()) };
        let i = *i;
        let pts_us = placed.pts_ns / 1000;
        let mut boundary = false;
        let mut timeline = lock(&self.timeline);
        match cuts.see(pts_us, placed.key) {
            SourceCut::Cut => {
                timeline.mark(pts_us);
                boundary = true;
            }
            SourceCut::Continue => {}
            SourceCut::TooLong(distance_us) => {
                timeline.cut_by_frames(pts_us);
                drop(timeline);
                return self.withdraw_source(i, distance_us, emit);
            }
        }
        timeline.seen(pts_us);
        if boundary && self.pass.is_off != self.pass.ordered_off {
            self.pass.is_off = self.pass.ordered_off;
            if self.pass.is_off {
                drop(timeline);
                self.finish_rendition(i, emit)?;
                self.withdraw(i, SWITCHED_OFF.to_owned(), false, emit);
                return Ok(());
            }
        }
        if self.pass.is_off {
            return Ok(());
        }
        let Some(rendition) = self.renditions.get_mut(i) else { return Ok(()) };
        let times = (placed.pts_ns, placed.dts_ns);
        let parts = rendition.handle_video(&timeline, times, placed.key, placed.data.clone());
        drop(timeline);
        self.send(i, parts.map_err(|e| other(e.to_string()))?, emit);
        Ok(())
    }

    fn withdraw_source(
        &mut self,
        i: usize,
        distance_us: u64,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        let (seconds, most) =
            (distance_us as f64 / 1e6, f64::from(self.start.keyframe_max_us) / 1e6);
        let advice = format!(
            "set 'Keyframe Interval' to {} s in the encoder (OBS: Settings > Output > Streaming)",
            self.start.segment_us / 1_000_000
        );
        if self.graph.as_ref().is_none_or(|g| g.video.is_none()) {
            return Err(input(format!(
                "key frames are more than {seconds:.1} s apart, passthrough needs {most:.1} s: {advice}"
            )));
        }
        let note = format!(
            "'source' is withdrawn, its key frames are more than {seconds:.1} s apart and it needs {most:.1} s: {advice}"
        );
        tracing::warn!("{note}");
        self.pass.video = None;
        self.finish_rendition(i, emit)?;
        self.withdraw(i, note, true, emit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_nobody_wanted_are_not_dropped() {
        let mut pass = Passthrough::default();
        // Whether anything is encoded, whether it is a key frame, and whether that goes in.
        let asleep = [(false, true, true), (false, false, false), (false, false, false)];
        let wakes = [(true, false, false), (true, false, false)];
        for (any_on, key, goes_in) in asleep.into_iter().chain(wakes) {
            assert_eq!(pass.feeds(any_on, key), goes_in, "{any_on} {key}");
            if !goes_in {
                assert_eq!(pass.leave_out(), 0, "{any_on} {key}");
            }
            assert!(pass.idle, "{any_on} {key}");
        }
        assert!(pass.feeds(true, true) && !pass.idle && pass.feeds(true, false));
        assert_eq!(pass.leave_out(), 1, "there was no room");
        assert!(!pass.feeds(true, false));
        assert_eq!(pass.leave_out(), 1, "it refers to that one");
    }
}
