//! Where segments and parts begin and end. Pure: times in, decisions out.
//!
//! *Segments* begin at instants that all renditions share, kept in one [`Timeline`]. Without
//! passthrough, the first source frame at or after each multiple of the segment length is such an
//! instant; with it, [`SourceCuts`] picks them among the source's own key frames. A rendition
//! starts its segment with its first frame at or after the instant.
//!
//! *Parts* ([`PartCutter`]) end at the frame nearest to the next multiple of the part length
//! within their segment, so that a segment of four part lengths has four parts and no crumb at
//! its end. A part is at most 1.1 part lengths long (that is PART-TARGET) and at least 85 % of
//! that, except the last of a segment; where a low frame rate makes both impossible, the upper
//! bound wins.

use std::collections::VecDeque;

use bytes::Bytes;

/// The shared instants at which segments begin, in microseconds of session time.
#[derive(Debug)]
pub struct Timeline {
    segment_us: u64,
    /// Starts of segments `first`, `first + 1`, ...
    marks: VecDeque<u64>,
    first: u32,
    /// The next instant at which a segment should begin.
    due_us: u64,
    seen_us: Option<u64>,
    by_frames: bool,
}

/// A frame this little before the time due is meant to be on time: containers and protocols
/// round to milliseconds.
const ROUNDING_US: u64 = 1000;

/// Instants that a [`Timeline`] remembers: renditions lag by less than the queues hold, which is
/// a few seconds; 64 segments are two minutes.
const MARKS_MAX: usize = 64;

impl Timeline {
    /// A timeline whose segment 0 begins at time 0.
    pub fn new(segment_us: u32) -> Self {
        let segment_us = u64::from(segment_us.max(1));
        Self {
            segment_us,
            marks: VecDeque::from([0]),
            first: 0,
            due_us: segment_us,
            seen_us: None,
            by_frames: true,
        }
    }

    /// From here on segments begin only where [`Self::mark`] says.
    pub fn cut_by_marks(&mut self) {
        self.by_frames = false;
    }

    /// Begins a segment with the frame of this time, or the first after what was seen already;
    /// from there on source frames decide again.
    pub fn cut_by_frames(&mut self, pts_us: u64) {
        self.mark(self.seen_us.map_or(pts_us, |seen| pts_us.max(seen + 1)));
        self.by_frames = true;
    }

    /// Takes note of a source video frame; a frame at or after the time due begins a segment,
    /// unless [`Self::cut_by_marks`] was called. Says whether it did.
    pub fn see(&mut self, pts_us: u64) -> bool {
        if !self.by_frames {
            return false;
        }
        self.seen(pts_us);
        if pts_us + ROUNDING_US < self.due_us || self.marks.back().is_some_and(|m| pts_us <= *m) {
            return false;
        }
        let due_us = self.due_us;
        self.mark(pts_us);
        // The grid does not drift with the frames that happened to cross it.
        let crossed = (pts_us + ROUNDING_US - due_us) / self.segment_us + 1;
        self.due_us = due_us + crossed * self.segment_us;
        true
    }

    /// Whether a frame of this time would begin a segment if it were the next that is seen.
    pub fn is_due(&self, pts_us: u64) -> bool {
        self.by_frames && pts_us + ROUNDING_US >= self.due_us
    }

    /// Takes note of a source video frame without beginning a segment.
    pub fn seen(&mut self, pts_us: u64) {
        self.seen_us = Some(self.seen_us.map_or(pts_us, |seen| seen.max(pts_us)));
    }

    /// Begins a segment at this instant, which must be after the last one; the next is due one
    /// segment length later.
    pub fn mark(&mut self, pts_us: u64) {
        if self.marks.back().is_some_and(|last| pts_us <= *last) {
            return;
        }
        self.marks.push_back(pts_us);
        self.due_us = pts_us + self.segment_us;
        while self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
            self.first = self.first.saturating_add(1);
        }
    }

    /// Begins the segments due up to `pts_us` although no video frame says so: video stalls or
    /// there is none.
    pub fn go_on_without_video(&mut self, pts_us: u64) {
        while self.due_us <= pts_us {
            self.mark(self.due_us);
        }
        self.seen(pts_us);
    }

    /// The segment that a frame of this time belongs to.
    pub fn segment_of(&self, pts_us: u64) -> u32 {
        let later = self.marks.iter().rev().take_while(|m| **m > pts_us).count();
        let index = self.marks.len().saturating_sub(later).saturating_sub(1);
        self.first.saturating_add(index as u32)
    }

    /// The first segment of which no frame has been seen.
    pub fn next_segment(&self) -> u32 {
        self.seen_us.map_or(0, |seen_us| self.segment_of(seen_us) + 1)
    }

    /// Time of the newest source video frame: segments up to here are final.
    pub fn seen_us(&self) -> Option<u64> {
        self.seen_us
    }

    /// When the newest segment began.
    pub fn last_mark_us(&self) -> u64 {
        self.marks.back().copied().unwrap_or(0)
    }
}

/// Picks segment starts among the key frames of a source that is passed through.
#[derive(Debug)]
pub struct SourceCuts {
    segment_us: u64,
    keyframe_max_us: u64,
    boundary_us: u64,
    key_us: u64,
    /// Latest distances of key frames.
    gops: VecDeque<u64>,
    observed_us: u64,
    newest_us: u64,
}

/// What a source frame means for the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceCut {
    /// It belongs to the current segment.
    Continue,
    /// A segment begins with it.
    Cut,
    /// Key frames are too far apart to pass through; the distance so far, in microseconds.
    TooLong(u64),
}

/// A key frame this early does not begin a segment, which may be so much longer instead, in
/// microseconds. On top of the longest distance of key frames, 0.2 s more than the segment's
/// length, it is 0.4 s, which still rounds to the target duration.
const EARLY_US: u64 = 200_000;

/// A source that sends no frame for this long has a hole, in microseconds.
const HOLE_US: u64 = 1_000_000;

/// Distances of key frames that [`SourceCuts`] looks back on: about a minute of them.
const GOPS_MAX: usize = 32;

impl SourceCuts {
    /// Cuts for a source whose first key frame is at time 0.
    pub fn new(segment_us: u32, keyframe_max_us: u32) -> Self {
        Self {
            segment_us: segment_us.into(),
            keyframe_max_us: keyframe_max_us.into(),
            boundary_us: 0,
            key_us: 0,
            gops: VecDeque::new(),
            observed_us: 0,
            newest_us: 0,
        }
    }

    /// Takes the next frame in decoding order, by its presentation time.
    pub fn see(&mut self, pts_us: u64, key: bool) -> SourceCut {
        // A hole in the source is no fault of its key frames.
        let hole = pts_us.saturating_sub(self.newest_us);
        if hole > HOLE_US {
            self.key_us += hole;
            self.boundary_us += hole;
        }
        self.newest_us = self.newest_us.max(pts_us);
        let since_boundary = pts_us.saturating_sub(self.boundary_us);
        let since_key = pts_us.saturating_sub(self.key_us);
        let slack = EARLY_US;
        if since_key > self.keyframe_max_us || since_boundary > self.keyframe_max_us + slack {
            return SourceCut::TooLong(since_key);
        }
        if !key || since_key == 0 {
            return SourceCut::Continue;
        }
        self.key_us = pts_us;
        self.gops.push_back(since_key);
        if self.gops.len() > GOPS_MAX {
            self.gops.pop_front();
        }
        self.observed_us = self.observed_us.saturating_add(since_key);
        // A later key frame would be nearer to the wanted length, but may come too late.
        let next_is_late =
            since_boundary + self.longest_expected_us() > self.keyframe_max_us + slack;
        if since_boundary >= self.segment_us || (since_boundary >= slack && next_is_late) {
            self.boundary_us = pts_us;
            return SourceCut::Cut;
        }
        SourceCut::Continue
    }

    /// Longest distance of key frames seen lately; 0 before the second one.
    pub fn longest_seen_us(&self) -> u64 {
        self.gops.iter().copied().max().unwrap_or(0)
    }

    fn longest_expected_us(&self) -> u64 {
        if self.observed_us < 2 * self.keyframe_max_us {
            return self.keyframe_max_us;
        }
        self.longest_seen_us()
    }
}

/// One encoded frame with its place on the media timeline.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Decoding time in ticks of the rendition's timescale. Equal to the presentation time
    /// unless the source has B-frames.
    pub start: u64,
    /// Presentation time minus `start`, in ticks.
    pub offset: i32,
    /// Whether decoding can start here.
    pub key: bool,
    /// The coded bytes.
    pub data: Bytes,
}

/// A complete part: its samples and where it ends.
#[derive(Debug)]
pub struct Cut {
    /// The segment it belongs to.
    pub segment: u32,
    /// Whether the segment ends with it.
    pub last_of_segment: bool,
    /// Its samples, never empty.
    pub samples: Vec<Sample>,
    /// Where it ends, in ticks.
    pub end: u64,
}

impl Cut {
    /// Where it starts, in ticks.
    pub fn start(&self) -> u64 {
        self.samples.first().map_or(self.end, |s| s.start)
    }
}

/// Collects the frames of one rendition into parts.
#[derive(Debug)]
pub struct PartCutter {
    part_us: u64,
    max_us: u64,
    min_us: u64,
    timescale: u32,
    segment: u32,
    segment_start_us: u64,
    open: Vec<Sample>,
    open_bytes: usize,
    /// How long the next frame is expected to be: the shorter of the last two, since one after which
    /// frames were lost says nothing about the next.
    frame_ticks: u64,
    last_ticks: u64,
}

impl PartCutter {
    /// A cutter for parts of this length; `frame_ticks` is the expected length of a frame, used
    /// until two frames have shown the real one.
    pub fn new(part_us: u32, timescale: u32, frame_ticks: u64) -> Self {
        let part_us = u64::from(part_us.max(1));
        let max_us = part_us * 11 / 10;
        Self {
            part_us,
            max_us,
            min_us: max_us * 85 / 100,
            timescale: timescale.max(1),
            segment: 0,
            segment_start_us: 0,
            open: Vec::new(),
            open_bytes: 0,
            frame_ticks: frame_ticks.max(1),
            last_ticks: frame_ticks.max(1),
        }
    }

    /// The segment that newly arriving frames continue.
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// Takes the next frame, which belongs to `segment`, and gives the parts it completes: none,
    /// one, or two after a hole in the source.
    pub fn push(&mut self, segment: u32, mut sample: Sample) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let new_segment = segment != self.segment;
        if let Some(last) = self.open.last().map(|s| s.start) {
            sample.start = sample.start.max(last + 1);
            cuts = self.close_before(sample.start, last, new_segment, sample.data.len());
        }
        if new_segment || (self.open.is_empty() && cuts.is_empty()) {
            self.segment = segment;
            self.segment_start_us = self.us(sample.start);
        }
        self.open_bytes += sample.data.len();
        self.open.push(sample);
        cuts
    }

    /// Ends the open part, which is the last of its segment.
    pub fn finish(&mut self) -> Option<Cut> {
        let end = self.open.last()?.start + self.frame_ticks;
        self.take(end, true)
    }

    fn close_before(&mut self, next: u64, last: u64, new_segment: bool, bytes: usize) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let Some(first) = self.open.first().map(|s| s.start) else { return cuts };
        if self.open.len() > 1 && self.us(next) - self.us(first) > self.max_us {
            // The newest frame turned out longer than expected: it opens a part of its own.
            let newest = self.open.pop();
            cuts.extend(self.take(last, false));
            self.open_bytes = newest.as_ref().map_or(0, |s| s.data.len());
            self.open.extend(newest);
        }
        let hole = self.us(next) - self.us(last) > self.max_us;
        let end = if hole { last + self.frame_ticks } else { next };
        if !hole {
            self.frame_ticks = (next - last).min(self.last_ticks);
            self.last_ticks = next - last;
        }
        if new_segment || hole || self.full(end, bytes) {
            cuts.extend(self.take(end, new_segment));
        }
        cuts
    }

    /// Whether the open part should end at `end` rather than after one more frame.
    fn full(&self, end: u64, bytes: usize) -> bool {
        let Some(first) = self.open.first().map(|s| s.start) else { return false };
        let (start_us, end_us) = (self.us(first), self.us(end));
        let (length, next_us) = (end_us - start_us, self.us(end + self.frame_ticks));
        if next_us - start_us > self.max_us || self.open_bytes + bytes > BYTES_MAX {
            return true;
        }
        if length < self.min_us {
            return false;
        }
        let within = start_us.saturating_sub(self.segment_start_us);
        let line = (within + self.part_us / 2) / self.part_us + 1;
        let target = self.segment_start_us + line * self.part_us;
        end_us.abs_diff(target) <= next_us.abs_diff(target)
    }

    fn take(&mut self, end: u64, last_of_segment: bool) -> Option<Cut> {
        if self.open.is_empty() {
            return None;
        }
        self.open_bytes = 0;
        let samples = std::mem::take(&mut self.open);
        Some(Cut { segment: self.segment, last_of_segment, samples, end })
    }

    fn us(&self, ticks: u64) -> u64 {
        ticks_to_us(ticks, self.timescale)
    }
}

/// Bytes of one part before it is ended early: room for the boxes below the largest frame.
const BYTES_MAX: usize = common::limit::PART_BYTES_MAX as usize - 64 * 1024;

/// Ticks to microseconds, rounded to the nearest.
pub fn ticks_to_us(ticks: u64, timescale: u32) -> u64 {
    scale(ticks, 1_000_000, timescale.into())
}

/// Microseconds to ticks, rounded to the nearest.
pub fn us_to_ticks(us: u64, timescale: u32) -> u64 {
    scale(us, timescale.into(), 1_000_000)
}

/// Nanoseconds to ticks, rounded to the nearest.
pub fn ns_to_ticks(ns: u64, timescale: u32) -> u64 {
    scale(ns, timescale.into(), 1_000_000_000)
}

fn scale(value: u64, times: u64, over: u64) -> u64 {
    let over = u128::from(over.max(1));
    ((u128::from(value) * u128::from(times) + over / 2) / over) as u64
}

/// Places audio frames on a timeline that counts samples, so that the millisecond rounding of a
/// publisher's timestamps neither drifts nor jitters.
#[derive(Debug)]
pub struct SampleClock {
    rate: u32,
    frame: u64,
    next: Option<u64>,
}

/// How far a frame's timestamp may be from the counted time before the clock follows it, in
/// microseconds: two AAC frames. Below that a listener hears nothing; above it lips are off.
const CLOCK_SLACK_US: u64 = 45_000;

impl SampleClock {
    /// A clock for frames of `frame` samples at `rate` samples per second.
    pub fn new(rate: u32, frame: u32) -> Self {
        Self { rate: rate.max(1), frame: frame.into(), next: None }
    }

    /// Where a frame with this timestamp starts, in samples; `None` when it overlaps what was
    /// already placed and must be left out.
    pub fn place(&mut self, pts_ns: u64) -> Option<u64> {
        let stamp = ns_to_ticks(pts_ns, self.rate);
        let slack = us_to_ticks(CLOCK_SLACK_US, self.rate);
        let start = match self.next {
            Some(next) if stamp.abs_diff(next) <= slack => next,
            Some(next) if stamp < next => return None,
            _ => stamp,
        };
        self.next = Some(start + self.frame);
        Some(start)
    }
}

/// Lowers a frame rate by leaving frames out, never by moving one in time.
#[derive(Debug)]
pub struct Thinner {
    interval_ns: u64,
    origin_ns: u64,
    kept: u64,
}

impl Thinner {
    /// Keeps about `fps.0 / fps.1` frames per second.
    pub fn new(fps: (u32, u32)) -> Self {
        let interval_ns = 1_000_000_000 * u64::from(fps.1) / u64::from(fps.0.max(1));
        Self { interval_ns: interval_ns.max(1), origin_ns: 0, kept: 0 }
    }

    /// Whether the frame of this time stays. The first frame of a segment always does, so that
    /// segments of all renditions start at the same picture.
    pub fn keep(&mut self, pts_ns: u64, first_of_segment: bool) -> bool {
        if first_of_segment || self.kept == 0 {
            self.origin_ns = pts_ns;
            self.kept = 1;
            return true;
        }
        let since = pts_ns.saturating_sub(self.origin_ns) + self.interval_ns / 4;
        if since < self.kept * self.interval_ns {
            return false;
        }
        self.kept = since / self.interval_ns + 1;
        true
    }
}

#[cfg(test)]
mod tests;
