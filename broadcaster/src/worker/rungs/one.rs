//! One rung: what can encode it, what does, and whether that goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use super::opening::{Look, Opening, Plan};
use crate::worker::encoder::choice::Candidate;
use crate::worker::encoder::{Effort, Family, VideoSettings};
use crate::worker::ipc::{Failed, Lowered};
use crate::worker::ladder::PlannedRung;
use crate::worker::pipeline::{Coded, other};
use crate::worker::rung::{Encoding, Generation, Job, Outlet};

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

#[derive(Debug)]
pub(super) struct Rung {
    pub(super) output: usize,
    pub(super) planned: PlannedRung,
    pub(super) outlet: Arc<Outlet>,
    /// What can encode it, best first.
    pub(super) candidates: Vec<Candidate>,
    /// Which of them does.
    pub(super) candidate: usize,
    /// Whose encoders hung here.
    pub(super) hung: Vec<Family>,
    pub(super) generation: Generation,
    /// The newest generation that was ever planned.
    newest: Generation,
    /// What is to make it from a segment on that is not set yet.
    pub(super) opening: Option<Opening>,
    /// An older generation whose last frames are awaited.
    pub(super) before: Option<Generation>,
    pub(super) early: VecDeque<Coded>,
    pub(super) state: State,
    pub(super) ordered: (bool, Lowered),
    /// Whether its first frame has told what it is.
    pub(super) is_described: bool,
    stalled_ms: u64,
    /// How long the last frames of an encoder are awaited.
    ending_ms: u64,
    frames: u64,
    /// Processor time of its earlier encoders, in microseconds.
    pub(super) cpu_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Made, with what was spared.
    On(Lowered),
    /// Ordered off; its last frames are awaited.
    Ending,
    /// Not made.
    Off,
    /// No encoder is left to try.
    Failed,
}

/// How an encoder that is given up has failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) failed: Failed,
    /// Whether it hangs: then others of its device would.
    pub(super) hangs: bool,
}

impl Rung {
    pub(super) fn new(
        output: usize,
        planned: PlannedRung,
        outlet: Arc<Outlet>,
        candidates: Vec<Candidate>,
    ) -> Self {
        Self {
            output,
            planned,
            outlet,
            candidates,
            candidate: 0,
            hung: Vec::new(),
            generation: 0,
            newest: 0,
            opening: None,
            before: None,
            early: VecDeque::new(),
            state: State::Off,
            ordered: (true, Lowered::No),
            is_described: false,
            stalled_ms: 0,
            ending_ms: 0,
            frames: 0,
            cpu_us: 0,
        }
    }

    /// What opening a candidate comes to.
    pub(super) fn plan(&mut self, candidate: usize, lowered: Lowered) -> Option<(Plan, Job)> {
        let planned = self.candidates.get(candidate)?.effort;
        let effort = if lowered == Lowered::No { planned } else { Effort::Ultrafast };
        let plan = Plan { candidate, generation: self.next_generation(), lowered };
        Some((plan, self.job(plan, effort)))
    }

    /// Takes over the encoder that was opened. What made it before goes on to its end.
    pub(super) fn take_opened(&mut self) -> Option<Encoding> {
        let mut opening = self.opening.take()?;
        let encoding = opening.take()?;
        if matches!(self.state, State::On(_)) {
            self.before = Some(self.generation);
        }
        (self.candidate, self.generation) = (opening.plan.candidate, opening.plan.generation);
        self.state = State::On(opening.plan.lowered);
        (self.stalled_ms, self.frames) = (0, 0);
        Some(encoding)
    }

    /// Whether an encoder is being opened for it that may yet fail.
    pub(super) fn is_undecided(&mut self) -> bool {
        self.opening.as_mut().is_some_and(|opening| !matches!(opening.look(0), Look::Works))
    }

    /// Whether it should be made. Its first frame is wanted in any case: it tells what it is.
    pub(super) fn is_wanted(&self) -> bool {
        self.ordered.0 || !self.is_described
    }

    /// Whether there is no use for what is being opened: it is not made any more, or the order that
    /// it was opened for was taken back.
    pub(super) fn needs_no_other(&self) -> bool {
        !self.is_wanted() || self.state == State::On(self.ordered.1)
    }

    /// Cuts off whatever makes it.
    pub(super) fn cut(&mut self) {
        self.let_go();
        self.before = None;
        self.early.clear();
        self.stalled_ms = 0;
        self.generation = self.next_generation();
        self.state = State::Off;
    }

    /// Lets every encoding go, and keeps what they cost.
    pub(super) fn let_go(&mut self) {
        self.cpu_us += self.outlet.look(|e| e.progress().cpu_us()).unwrap_or(0);
        self.count_ending();
        self.outlet.cut();
    }

    pub(super) fn count_ending(&mut self) {
        self.cpu_us += self.outlet.look_at_ending(|e| e.progress().cpu_us()).unwrap_or(0);
        self.ending_ms = 0;
    }

    /// The element of a candidate.
    pub(super) fn element_of(&self, candidate: usize) -> &'static str {
        self.candidates.get(candidate).map_or("none", |c| c.encoder.element)
    }

    /// Whose work a candidate is.
    pub(super) fn family_of(&self, candidate: usize) -> Option<Family> {
        self.candidates.get(candidate).map(|c| c.encoder.family)
    }

    /// Whether the encoder that makes it failed or hangs, `elapsed_ms` after the last look.
    pub(super) fn fault(&mut self, elapsed_ms: u64) -> Option<Fault> {
        let (failed, waiting, frames) = self.outlet.look(|encoding| {
            (encoding.failure(), encoding.waiting(), encoding.progress().frames())
        })?;
        if let Some(failed) = failed {
            return Some(Fault { failed, hangs: false });
        }
        if waiting == 0 || frames != self.frames {
            (self.stalled_ms, self.frames) = (0, frames);
            return None;
        }
        // A pause of the whole machine is not the encoder's.
        self.stalled_ms += elapsed_ms.min(100);
        let candidate = self.candidates.get(self.candidate);
        let hardware = candidate.is_some_and(Candidate::is_hardware);
        let patience_ms = match (hardware, frames) {
            (true, 0) => HARDWARE_STARTS_MS,
            (true, _) => HARDWARE_HANGS_MS,
            (false, _) => SOFTWARE_HANGS_MS,
        };
        let element = self.element_of(self.candidate);
        let failed = || other(format!("{element} gave no frame for {patience_ms} ms"));
        (self.stalled_ms >= patience_ms).then(|| Fault { failed: failed(), hangs: true })
    }

    /// Whether an encoder that should come to its end failed or hangs, likewise.
    pub(super) fn ending_fault(&mut self, elapsed_ms: u64) -> Option<Failed> {
        let Some(failed) = self.outlet.look_at_ending(Encoding::failure) else {
            self.ending_ms = 0;
            return None;
        };
        if failed.is_some() {
            return failed;
        }
        self.ending_ms += elapsed_ms.min(100);
        let failed = || other(format!("it did not come to its end within {ENDS_MS} ms"));
        (self.ending_ms >= ENDS_MS).then(failed)
    }

    /// Half its frame rate, when it has one to halve.
    pub(super) fn halved(&self) -> Option<(u32, u32)> {
        let (fps, per) = self.planned.fps?;
        Some((fps, per * 2)).filter(|_| fps > 20 * per)
    }

    fn next_generation(&mut self) -> Generation {
        self.newest += 1;
        self.newest
    }

    fn job(&self, plan: Plan, effort: Effort) -> Job {
        let planned = &self.planned;
        let full = planned.fps.unwrap_or((30, 1));
        let thin_to = self.halved().filter(|_| plan.lowered == Lowered::FrameRate);
        let (fps, per) = thin_to.unwrap_or(full);
        let pixels = u64::from(planned.width) * u64::from(planned.height);
        Job {
            output: self.output,
            generation: plan.generation,
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
}
