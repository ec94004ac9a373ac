//! The session's pulse: what it reports about once a second.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Session;
use crate::worker::ipc::{EncoderStatus, Status};
use crate::worker::pipeline::Feed;

/// What the last pulse said, to tell what happened since.
pub(super) struct StatusClock {
    pub(super) last: Instant,
    /// Bytes that came in since.
    pub(super) bytes: u64,
    bitrate: u64,
    frames: Frames,
    lags: Lags,
}

/// How far renditions are behind the source.
#[derive(Default)]
struct Lags {
    /// Per rendition, the time of the source when it was last not made, in microseconds.
    asleep_us: Vec<u64>,
}

impl Lags {
    /// How far rendition `i`, whose newest frame is of `newest_us`, is behind: never by the time that
    /// it was not made, since what is behind is paused.
    fn see(&mut self, i: usize, is_fed: bool, source_us: u64, newest_us: u64) -> u64 {
        if self.asleep_us.len() <= i {
            self.asleep_us.resize(i + 1, 0);
        }
        if !is_fed {
            self.asleep_us[i] = source_us;
        }
        source_us.saturating_sub(newest_us.max(self.asleep_us[i]))
    }
}

/// What became of the source's frames so far.
#[derive(Clone, Copy, Default)]
struct Frames {
    /// Encoded for every rung.
    done: u64,
    /// On their way.
    waiting: u64,
    left_out: u64,
}

impl Frames {
    /// Frames done for each that came since `before`; `None` when none came.
    fn speed_since(self, before: Self) -> Option<f64> {
        let came = |f: Self| f.done + f.waiting + f.left_out;
        let (done, due) =
            (self.done.saturating_sub(before.done), came(self) as i64 - came(before) as i64);
        (due > 0).then(|| done as f64 / due as f64)
    }
}

impl StatusClock {
    pub(super) fn new() -> Self {
        let (frames, lags) = (Frames::default(), Lags::default());
        Self { last: Instant::now(), bytes: 0, bitrate: 0, frames, lags }
    }
}

impl Session {
    pub(super) fn poll_status(&mut self) -> Status {
        let elapsed = self.status.last.elapsed().as_secs_f64().max(0.001);
        let now = (self.status.bytes as f64 * 8.0 / elapsed) as u64;
        // A few seconds' mean: key frames make single seconds jump.
        self.status.bitrate =
            if self.status.bitrate == 0 { now } else { (self.status.bitrate * 3 + now) / 4 };
        (self.status.bytes, self.status.last) = (0, Instant::now());
        let source_us = self.pulse.source_us.load(Ordering::Relaxed);
        let (keyframe_distance_us, b_frames) =
            self.intake.as_ref().map_or((0, false), |i| (i.key_distance_us(), i.has_b_frames()));
        let now = self.frames();
        let before = std::mem::replace(&mut self.status.frames, now);
        // What waits for a key frame after a pause is not slow.
        let encodes = self.rungs.any_on() && !self.pass.idle;
        let speed = if encodes { now.speed_since(before) } else { None };
        let is_fed: Vec<_> = (0..self.renditions.len()).map(|i| self.is_fed(i)).collect();
        let lag_us = (self.renditions.iter().zip(is_fed).enumerate())
            .map(|(i, (r, is_fed))| self.status.lags.see(i, is_fed, source_us, r.newest_us()))
            .collect();
        Status {
            source_us,
            frames_dropped: now.left_out,
            bitrate_in: self.status.bitrate,
            keyframe_distance_us,
            b_frames,
            lag_us,
            speed,
            cpu_us: process_cpu_us(),
            encoders: self.encoders(),
        }
    }

    fn frames(&self) -> Frames {
        let dropped = self.pulse.dropped.load(Ordering::Relaxed);
        let Some(graph) = &self.graph else {
            return Frames { left_out: dropped, ..Frames::default() };
        };
        let (admitted, left_out) = (&graph.admission.admitted, &graph.admission.left_out);
        // Repeats were never admitted: they are neither done nor due.
        let waiting = self.rungs.waiting_of_source();
        Frames {
            done: admitted.load(Ordering::Relaxed).saturating_sub(waiting),
            waiting: waiting + graph.video.as_ref().map_or(0, Feed::waiting),
            left_out: dropped + left_out.load(Ordering::Relaxed),
        }
    }

    /// Whether a rendition is made and its encoder gets frames: one that is to begin with the next
    /// segment gets none yet.
    fn is_fed(&self, i: usize) -> bool {
        self.is_made(i) && (!self.rungs.has(i) || self.rungs.is_fed(i))
    }

    fn encoders(&self) -> Vec<EncoderStatus> {
        (0..self.renditions.len()).map(|i| self.rungs.status(i)).collect()
    }
}

/// Processor time of this process so far, in microseconds.
fn process_cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendition_that_was_not_made_is_not_behind_by_that_time() {
        let mut lags = Lags::default();
        assert_eq!(lags.see(1, true, 2_000_000, 1_900_000), 100_000);
        assert_eq!(lags.see(1, false, 60_000_000, 1_900_000), 0, "not made");
        assert_eq!(lags.see(1, true, 60_500_000, 1_900_000), 500_000, "its first frame is awaited");
        assert_eq!(lags.see(1, true, 61_000_000, 60_900_000), 100_000);
        assert_eq!(lags.see(1, true, 70_000_000, 60_900_000), 9_100_000, "it is behind");
    }
}
