//! The encoded video renditions of a session: which encoder makes each, and what happens when one
//! is ordered off or to do less, or when its encoder fails.
//!
//! It promises that at most one encoder of a rung counts at a time: frames of one that was replaced
//! come first, those of its successor wait for them, those of one that was cut off are ignored.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use common::id::RenditionId;

use super::cut::Timeline;
use super::encoder::choice::{Candidate, RungLoad};
use super::encoder::{Effort, Family, VideoSettings};
use super::ipc::{EncoderStatus, Failed, Lowered, Order};
use super::ladder::PlannedRung;
use super::pipeline::Coded;
use super::rung::{Encoding, Generation, Job, Outlet};
use super::session::Event;

/// A hardware encoder with pictures waiting that gives none for this long hangs, in milliseconds:
/// the others have lost nothing yet, since half a second of pictures may wait.
const HARDWARE_HANGS_MS: u64 = 700;

/// The same for its first frame, before which drivers load firmware.
const HARDWARE_STARTS_MS: u64 = 3_000;

/// The same for software, which does not hang: a machine that is this slow is paused.
const SOFTWARE_HANGS_MS: u64 = 5_000;

/// An encoder that gets no more pictures has this long to give its last frames, in milliseconds: half
/// a second of pictures may wait for it.
const ENDS_MS: u64 = 3_000;

/// Frames of a new encoder that may wait for the last ones of the old: two seconds at 60 fps.
const EARLY_MAX: usize = 128;

/// What a session is told of its rungs when something became of one.
#[derive(Debug)]
pub struct Ended {
    /// Frames of the successor that waited.
    pub early: VecDeque<Coded>,
    /// Whether the rung is off from here on.
    pub off: bool,
}

/// What comes after a failed encoder.
#[derive(Debug)]
pub enum After {
    /// This one, from the given segment on.
    Next(&'static str),
    /// Nothing is left to try.
    Nothing,
}

/// The rungs of a session.
#[derive(Debug)]
pub struct Rungs {
    rungs: Vec<Rung>,
    timeline: Arc<Mutex<Timeline>>,
    events: SyncSender<Event>,
    /// Encodings, or their absence, that wait to take effect.
    begun: Vec<(usize, Option<Encoding>)>,
}

#[derive(Debug)]
struct Rung {
    output: usize,
    planned: PlannedRung,
    outlet: Arc<Outlet>,
    /// What can encode it, best first.
    candidates: Vec<Candidate>,
    /// Which of them does.
    candidate: usize,
    generation: Generation,
    /// An older generation whose last frames are awaited.
    before: Option<Generation>,
    early: VecDeque<Coded>,
    state: State,
    ordered: (bool, Lowered),
    stalled_ms: u64,
    /// How long the last frames of an encoder are awaited.
    ending_ms: u64,
    frames: u64,
    /// Processor time of its earlier encoders, in microseconds.
    cpu_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Made, with what was spared.
    On(Lowered),
    /// Ordered off; its last frames are awaited.
    Ending,
    /// Not made.
    Off,
    /// No encoder is left to try.
    Failed,
}

impl Rungs {
    /// No rungs.
    pub fn new(timeline: Arc<Mutex<Timeline>>, events: SyncSender<Event>) -> Self {
        Self { rungs: Vec::new(), timeline, events, begun: Vec::new() }
    }

    /// Takes up the rungs of a plan, none of them on yet. `candidates` says what can encode each,
    /// best first.
    pub fn plan(
        &mut self,
        rungs: impl IntoIterator<Item = (usize, PlannedRung, Arc<Outlet>)>,
        candidates: Vec<Vec<Candidate>>,
    ) {
        let planned = rungs.into_iter().zip(candidates);
        self.rungs = planned
            .map(|((output, planned, outlet), candidates)| Rung {
                output,
                planned,
                outlet,
                candidates,
                candidate: 0,
                generation: 0,
                before: None,
                early: VecDeque::new(),
                state: State::Off,
                ordered: (true, Lowered::No),
                stalled_ms: 0,
                ending_ms: 0,
                frames: 0,
                cpu_us: 0,
            })
            .collect();
    }

    /// Starts every rung with the first encoder that does start, from the first frame on: even
    /// those ordered off, since a rendition's first frame tells what it is.
    ///
    /// # Errors
    /// When no encoder of a rung starts.
    pub fn start(&mut self) -> Result<(), Failed> {
        for i in 0..self.rungs.len() {
            let lowered = self.rungs[i].ordered.1;
            self.open(i, lowered)?;
        }
        for (i, encoding) in std::mem::take(&mut self.begun) {
            self.rungs[i].outlet.switch(0, encoding);
        }
        Ok(())
    }

    /// Takes in orders. They take effect with [`Rungs::poll_orders`].
    pub fn handle_orders(&mut self, orders: &[Order]) {
        for order in orders {
            if let Some(rung) = self.by_id(&order.rendition) {
                rung.ordered = (order.on, order.lowered);
            }
        }
    }

    /// Carries out what was ordered, from the next segment on. Gives that segment and the outputs
    /// that get another encoder there; until they have shown their configuration no further orders
    /// should be polled.
    pub fn poll_orders(&mut self) -> (u32, Vec<usize>) {
        let mut opened = Vec::new();
        for i in 0..self.rungs.len() {
            let rung = &mut self.rungs[i];
            let (on, lowered) = rung.ordered;
            match rung.state {
                State::On(_) if !on && rung.before.is_none() => {
                    rung.state = State::Ending;
                    self.begun.push((i, None));
                }
                State::On(now) if now != lowered && rung.before.is_none() => {
                    let before = rung.generation;
                    if self.open(i, lowered).is_ok() {
                        self.rungs[i].before = Some(before);
                        opened.push(self.rungs[i].output);
                    } else {
                        self.rungs[i].ordered.1 = now;
                    }
                }
                State::Off if on => match self.open(i, lowered) {
                    Ok(()) => opened.push(self.rungs[i].output),
                    Err(failed) => {
                        tracing::error!("{}", failed.message);
                        self.rungs[i].state = State::Failed;
                    }
                },
                // One that failed is tried again from the best encoder on when it is ordered off
                // and on.
                State::Failed if !on => {
                    (rung.state, rung.candidate) = (State::Off, 0);
                }
                _ => {}
            }
        }
        (self.switch(), opened)
    }

    /// Lets what was begun take effect with the next segment. Which one that is cannot change
    /// meanwhile, so no picture of it has passed.
    fn switch(&mut self) -> u32 {
        let timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let segment = timeline.next_segment();
        for (i, encoding) in std::mem::take(&mut self.begun) {
            self.rungs[i].outlet.switch(segment, encoding);
        }
        segment
    }

    /// Whether a coded frame counts now. `None`: it waits, or counts no more.
    pub fn admit(&mut self, coded: Coded) -> Option<Coded> {
        let Some(rung) = self.rungs.iter_mut().find(|r| r.output == coded.output) else {
            return Some(coded);
        };
        if rung.before == Some(coded.generation) {
            return Some(coded);
        }
        if rung.generation != coded.generation {
            return None;
        }
        if rung.before.is_none() {
            return Some(coded);
        }
        if rung.early.len() < EARLY_MAX {
            rung.early.push_back(coded);
        }
        None
    }

    /// An encoder has given its last frame. `None`: one that does not count.
    pub fn handle_ended(&mut self, output: usize, generation: Generation) -> Option<Ended> {
        let rung = self.rungs.iter_mut().find(|r| r.output == output)?;
        if rung.before == Some(generation) {
            rung.before = None;
            rung.count_ending();
            rung.outlet.forget_ended();
            return Some(Ended { early: std::mem::take(&mut rung.early), off: false });
        }
        if rung.generation != generation || rung.state != State::Ending {
            return None;
        }
        rung.let_go();
        rung.state = State::Off;
        Some(Ended { early: VecDeque::new(), off: true })
    }

    /// Takes a rung off the air at once, before its first frame counted.
    pub fn switch_off(&mut self, output: usize) {
        if let Some(rung) = self.rungs.iter_mut().find(|r| r.output == output) {
            rung.let_go();
            rung.generation += 1;
            rung.state = State::Off;
        }
    }

    /// Whether it was ordered not to be made.
    pub fn is_ordered_off(&self, output: usize) -> bool {
        self.rungs.iter().any(|r| r.output == output && !r.ordered.0)
    }

    /// Encoders that do not come to their end, `elapsed_ms` after the last look, with their
    /// generations: they are given up.
    pub fn poll_endings(&mut self, elapsed_ms: u64) -> Vec<(usize, Generation)> {
        let given_up = |rung: &mut Rung| {
            let failed = rung.outlet.look_at_ending(Encoding::failure);
            rung.ending_ms =
                if failed.is_some() { rung.ending_ms + elapsed_ms.min(100) } else { 0 };
            let failed = failed.flatten().is_some();
            let ended = failed || rung.ending_ms >= ENDS_MS;
            ended.then(|| (rung.output, rung.before.unwrap_or(rung.generation)))
        };
        self.rungs.iter_mut().filter_map(given_up).collect()
    }

    /// Whether that is what an output is made by now.
    pub fn is_current(&self, output: usize, generation: Generation) -> bool {
        self.rungs.iter().all(|r| r.output != output || r.generation == generation)
    }

    /// The first encoder that failed or hangs, `elapsed_ms` after the last look.
    pub fn poll_failure(&mut self, elapsed_ms: u64) -> Option<(usize, Failed)> {
        for rung in &mut self.rungs {
            if !matches!(rung.state, State::On(_) | State::Ending) {
                continue;
            }
            if let Some(failed) = rung.failure(elapsed_ms) {
                return Some((rung.output, failed));
            }
        }
        None
    }

    /// Cuts off a failed encoder and starts the next one, from the segment that is given on.
    pub fn replace(&mut self, output: usize) -> (u32, After) {
        let after = self.begin_next(output);
        (self.switch(), after)
    }

    fn begin_next(&mut self, output: usize) -> After {
        let Some(i) = self.rungs.iter().position(|r| r.output == output) else {
            return After::Nothing;
        };
        let rung = &mut self.rungs[i];
        rung.let_go();
        (rung.before, rung.stalled_ms) = (None, 0);
        rung.early.clear();
        rung.generation += 1;
        rung.candidate += 1;
        let (on, lowered) = rung.ordered;
        if !on {
            rung.state = State::Off;
            return After::Nothing;
        }
        match self.open(i, lowered) {
            Ok(()) => After::Next(self.rungs[i].element()),
            Err(failed) => {
                tracing::error!("{}", failed.message);
                self.rungs[i].state = State::Failed;
                After::Nothing
            }
        }
    }

    /// The element that encodes an output.
    pub fn element(&self, output: usize) -> Option<&'static str> {
        self.rungs.iter().find(|r| r.output == output).map(Rung::element)
    }

    /// The rate that an output is made at now.
    pub fn fps(&self, output: usize) -> Option<(u32, u32)> {
        let rung = self.rungs.iter().find(|r| r.output == output)?;
        match rung.state {
            State::On(Lowered::FrameRate) => rung.halved().or(rung.planned.fps),
            _ => rung.planned.fps,
        }
    }

    /// Whether an output is being made.
    pub fn is_on(&self, output: usize) -> bool {
        self.rungs.iter().any(|r| r.output == output && matches!(r.state, State::On(_)))
    }

    /// Whether an output is one of the rungs.
    pub fn has(&self, output: usize) -> bool {
        self.rungs.iter().any(|r| r.output == output)
    }

    /// Whether any is being made or about to end.
    pub fn any_on(&self) -> bool {
        self.rungs.iter().any(|r| matches!(r.state, State::On(_) | State::Ending))
    }

    /// Encoders whose end is awaited once nothing more comes.
    pub fn running(&self) -> usize {
        let alive = |r: &&Rung| r.outlet.look(|_| ()).is_some();
        self.rungs.iter().filter(alive).count()
    }

    /// What the encoder of an output does.
    pub fn status(&self, output: usize) -> EncoderStatus {
        let Some(rung) = self.rungs.iter().find(|r| r.output == output) else {
            return EncoderStatus::default();
        };
        let now = rung.outlet.look(|e| (e.progress().cpu_us(), e.waiting()));
        let (cpu_us, waiting) = now.unwrap_or_default();
        let ending_us = rung.outlet.look_at_ending(|e| e.progress().cpu_us()).unwrap_or(0);
        EncoderStatus { cpu_us: rung.cpu_us + ending_us + cpu_us, waiting }
    }

    /// Frames of the source that the encoder which is most behind has yet to take.
    pub fn waiting_of_source(&self) -> u64 {
        let waiting = |rung: &Rung| rung.outlet.look(Encoding::waiting_of_source);
        self.rungs.iter().filter_map(waiting).max().unwrap_or(0)
    }

    fn by_id(&mut self, id: &RenditionId) -> Option<&mut Rung> {
        self.rungs.iter_mut().find(|r| r.planned.rung.id == *id)
    }

    /// Starts the first encoder that does, from the one whose turn it is.
    fn open(&mut self, i: usize, lowered: Lowered) -> Result<(), Failed> {
        let rung = &mut self.rungs[i];
        let mut last = None;
        while let Some(candidate) = rung.candidates.get(rung.candidate).copied() {
            let effort = if lowered == Lowered::No { candidate.effort } else { Effort::Ultrafast };
            let job = rung.job(effort, lowered);
            match Encoding::start(job, candidate.encoder, &self.timeline, &self.events) {
                Ok(encoding) => {
                    self.begun.push((i, Some(encoding)));
                    rung.generation = job.generation;
                    (rung.state, rung.stalled_ms, rung.frames) = (State::On(lowered), 0, 0);
                    return Ok(());
                }
                Err(failed) => {
                    tracing::warn!(rendition = %rung.planned.rung.id, "{}", failed.message);
                    last = Some(failed);
                    rung.candidate += 1;
                }
            }
        }
        let none = || {
            super::pipeline::other(format!("'{}': no encoder is left to try", rung.planned.rung.id))
        };
        Err(last.unwrap_or_else(none))
    }
}

/// What encoding a rung takes.
pub fn load(planned: &PlannedRung) -> RungLoad {
    let (fps, per) = planned.fps.unwrap_or((30, 1));
    let pixels = u64::from(planned.width) * u64::from(planned.height);
    RungLoad {
        width: planned.width,
        height: planned.height,
        pixel_rate: pixels * u64::from(fps) / u64::from(per.max(1)),
    }
}

impl Rung {
    fn job(&self, effort: Effort, lowered: Lowered) -> Job {
        let planned = &self.planned;
        let full = planned.fps.unwrap_or((30, 1));
        let thin_to = self.halved().filter(|_| lowered == Lowered::FrameRate);
        let (fps, per) = thin_to.unwrap_or(full);
        let pixels = u64::from(planned.width) * u64::from(planned.height);
        Job {
            output: self.output,
            generation: self.generation + 1,
            settings: VideoSettings {
                kbps: planned.rung.video_kbps,
                pixel_rate: pixels * u64::from(fps) / u64::from(per.max(1)),
                effort,
            },
            size: (planned.width, planned.height),
            fps: (fps, per),
            thin_to,
        }
    }

    /// Half its frame rate, when it has one to halve.
    fn halved(&self) -> Option<(u32, u32)> {
        let (fps, per) = self.planned.fps?;
        Some((fps, per * 2)).filter(|_| fps > 20 * per)
    }

    /// Lets every encoding go, and keeps what they cost.
    fn let_go(&mut self) {
        self.cpu_us += self.outlet.look(|e| e.progress().cpu_us()).unwrap_or(0);
        self.count_ending();
        self.outlet.cut();
    }

    fn count_ending(&mut self) {
        self.cpu_us += self.outlet.look_at_ending(|e| e.progress().cpu_us()).unwrap_or(0);
        self.ending_ms = 0;
    }

    fn element(&self) -> &'static str {
        self.candidates.get(self.candidate).map_or("none", |c| c.encoder.element)
    }

    fn failure(&mut self, elapsed_ms: u64) -> Option<Failed> {
        let (failed, waiting, frames) = self.outlet.look(|encoding| {
            (encoding.failure(), encoding.waiting(), encoding.progress().frames())
        })?;
        if failed.is_some() {
            return failed;
        }
        if waiting == 0 || frames != self.frames {
            (self.stalled_ms, self.frames) = (0, frames);
            return None;
        }
        // A pause of the whole machine is not the encoder's.
        self.stalled_ms += elapsed_ms.min(100);
        let candidate = self.candidates.get(self.candidate);
        let hardware = candidate.is_some_and(|c| c.encoder.family != Family::Software);
        let patience_ms = match (hardware, frames) {
            (true, 0) => HARDWARE_STARTS_MS,
            (true, _) => HARDWARE_HANGS_MS,
            (false, _) => SOFTWARE_HANGS_MS,
        };
        (self.stalled_ms >= patience_ms).then(|| {
            super::pipeline::other(format!("{} gave no frame for {patience_ms} ms", self.element()))
        })
    }
}
