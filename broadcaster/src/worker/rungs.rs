//! The encoded video renditions of a session: which encoder makes each, and what happens when one
//! is ordered off or to do less, or when its encoder fails.
//!
//! It promises that at most one encoder of a rung counts at a time: frames of one that was replaced
//! come first, those of its successor wait for them, those of one that was cut off are ignored. And
//! that no encoder is waited for once the session runs, whether it opens, gives frames or ends.

mod one;
mod opening;

use std::collections::VecDeque;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::id::RenditionId;

use super::cut::Timeline;
use super::encoder::choice::{self, Candidate, RungLoad};
use super::ipc::{EncoderStatus, Failed, Lowered, Order};
use super::ladder::PlannedRung;
use super::pipeline::{Coded, other};
use super::rung::{Encoding, Generation, Leftovers, Outlet};
use super::session::Event;
use one::{Rung, State};
use opening::{Look, OPENS_MS, Opening};

/// Frames of a new encoder that may wait for the last ones of the old: two seconds at 60 fps.
const EARLY_MAX: usize = 128;

/// Encoders that may be given up and not be gone: each that hangs, wherever it does, keeps a thread,
/// its pictures and a session of its device for as long as the worker lives. A device that hangs takes
/// every rung it makes at once, six of the automatic ladder; after one more than this, a rung that
/// needs another encoder is given software or none.
const HANGING_MAX: u32 = 6;

/// How long the first encoders are waited for, so that they begin with the first frame: x264 takes
/// tens of milliseconds. What is not open by then begins with a later segment.
const STARTS_MAX: Duration = Duration::from_secs(2);

/// How often they are looked at meanwhile: a small part of what opening one takes.
const STARTS_LOOK: Duration = Duration::from_millis(2);

/// How long the encoders may take to stop once the session is over: half of what the broadcaster
/// gives a worker to exit, which ends those that hang.
const STOPS_MAX: Duration = Duration::from_millis(500);

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
    /// This one, from a segment on that is set when it is open.
    Next(&'static str),
    /// What makes the rung now goes on, which was to do more or less.
    AsBefore,
    /// The rung ends, for this reason.
    Nothing(String),
}

/// An encoder that did not open.
#[derive(Debug)]
pub struct NotOpened {
    /// The output it was for.
    pub output: usize,
    /// The element.
    pub element: &'static str,
    /// Why.
    pub failed: Failed,
    /// What becomes of the rung.
    pub after: After,
}

/// The rungs of a session.
#[derive(Debug)]
pub struct Rungs {
    rungs: Vec<Rung>,
    timeline: Arc<Mutex<Timeline>>,
    events: SyncSender<Event>,
    not_opened: Vec<NotOpened>,
    /// Encoders that were given up and are not gone.
    leftovers: Leftovers,
    draining: bool,
}

impl Rungs {
    /// No rungs.
    pub fn new(timeline: Arc<Mutex<Timeline>>, events: SyncSender<Event>) -> Self {
        let (not_opened, leftovers) = (Vec::new(), Leftovers::default());
        Self { rungs: Vec::new(), timeline, events, not_opened, leftovers, draining: false }
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
            .map(|((output, planned, outlet), candidates)| {
                Rung::new(output, planned, outlet, candidates)
            })
            .collect();
    }

    /// Opens an encoder for every rung, even for those ordered off, since a rendition's first frame
    /// tells what it is. Those that are soon open begin with the first frame.
    pub fn start(&mut self) {
        for i in 0..self.rungs.len() {
            let lowered = self.rungs[i].ordered.1;
            self.open_or_fail(i, 0, lowered);
        }
        let began = Instant::now();
        while self.rungs.iter_mut().any(Rung::is_undecided) && began.elapsed() < STARTS_MAX {
            std::thread::sleep(STARTS_LOOK);
            self.look_at_openings(0);
        }
        self.switch_opened(0);
    }

    /// Takes in orders. They take effect with [`Rungs::poll_orders`].
    pub fn handle_orders(&mut self, orders: &[Order]) {
        for order in orders {
            if let Some(rung) = self.by_id(&order.rendition) {
                rung.ordered = (order.on, order.lowered);
            }
        }
    }

    /// Carries out what was ordered: what is to end does so with the next segment, and what is to
    /// begin is opened.
    pub fn poll_orders(&mut self) {
        let mut ending = Vec::new();
        for i in 0..self.rungs.len() {
            let rung = &mut self.rungs[i];
            let (on, lowered) = rung.ordered;
            match rung.state {
                State::On(_) if !on && rung.before.is_none() => {
                    rung.state = State::Ending;
                    ending.push(i);
                }
                _ if rung.opening.is_some() => {}
                State::On(now) if on && now != lowered && rung.before.is_none() => {
                    let candidate = rung.candidate;
                    self.open_or_fail(i, candidate, lowered);
                }
                State::Off if on => {
                    let candidate = rung.candidate;
                    self.open_or_fail(i, candidate, lowered);
                }
                // One that failed is tried again from the best encoder on when it is ordered off
                // and on.
                State::Failed if !on => {
                    (rung.state, rung.candidate) = (State::Off, 0);
                    if self.leftovers.count() <= HANGING_MAX {
                        rung.hung.clear();
                    }
                }
                _ => {}
            }
        }
        if !ending.is_empty() {
            let timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
            // Which segment is next cannot change meanwhile, so no picture of it has passed.
            let segment = timeline.next_segment();
            for i in ending {
                self.rungs[i].outlet.switch(segment, None);
            }
        }
    }

    /// Encoders that did not open, `elapsed_ms` after the last look. For each the next is being
    /// opened, if there is one.
    pub fn poll_not_opened(&mut self, elapsed_ms: u64) -> Vec<NotOpened> {
        self.look_at_openings(elapsed_ms);
        std::mem::take(&mut self.not_opened)
    }

    /// Lets those that are open begin with the next segment, which must be `only` if that is given.
    /// Gives that segment and their outputs; until they have shown their configuration no later
    /// segment should be begun with.
    pub fn poll_opened(&mut self, only: Option<u32>) -> (u32, Vec<usize>) {
        let timeline = Arc::clone(&self.timeline);
        let timeline = timeline.lock().unwrap_or_else(PoisonError::into_inner);
        // It cannot change meanwhile, so no picture of it has passed.
        let segment = timeline.next_segment();
        if only.is_some_and(|only| only != segment) {
            return (segment, Vec::new());
        }
        (segment, self.switch_opened(segment))
    }

    fn switch_opened(&mut self, segment: u32) -> Vec<usize> {
        let mut begun = Vec::new();
        for rung in &mut self.rungs {
            let works = rung.opening.as_mut().is_some_and(|o| matches!(o.look(0), Look::Works));
            if !works || matches!(rung.state, State::Ending) {
                continue;
            }
            if rung.needs_no_other() {
                rung.opening = None;
            } else if let Some(encoding) = rung.take_opened() {
                rung.outlet.switch(segment, Some(encoding));
                begun.push(rung.output);
            }
        }
        begun
    }

    fn look_at_openings(&mut self, elapsed_ms: u64) {
        for i in 0..self.rungs.len() {
            let rung = &mut self.rungs[i];
            let Some(opening) = &mut rung.opening else { continue };
            let plan = opening.plan;
            let failed = match opening.look(elapsed_ms) {
                Look::Waits | Look::Works => continue,
                Look::Fails(failed) => failed,
                Look::Hangs => {
                    rung.hung.extend(rung.family_of(plan.candidate));
                    other(format!("it hangs: it was not open after {OPENS_MS} ms"))
                }
            };
            rung.opening = None;
            if rung.needs_no_other() {
                continue;
            }
            let element = rung.element_of(plan.candidate);
            let (output, lowered) = (rung.output, rung.ordered.1);
            tracing::warn!(rendition = %rung.planned.rung.id, element, "{}", failed.message);
            let after = self.open(i, plan.candidate + 1, lowered);
            self.not_opened.push(NotOpened { output, element, failed, after });
        }
    }

    /// Opens an encoder, or says that there is none.
    fn open_or_fail(&mut self, i: usize, candidate: usize, lowered: Lowered) {
        let after = self.open(i, candidate, lowered);
        if matches!(after, After::Nothing(_)) {
            let failed = other("it is not opened".to_owned());
            let (output, element) = (self.rungs[i].output, self.rungs[i].element_of(candidate));
            self.not_opened.push(NotOpened { output, element, failed, after });
        }
    }

    /// Opens the encoder of this rung whose turn it is, from `candidate` on.
    fn open(&mut self, i: usize, candidate: usize, lowered: Lowered) -> After {
        let rung = &mut self.rungs[i];
        let hanging = self.leftovers.count();
        let too_many = hanging > HANGING_MAX;
        let is_hardware = rung.candidates.get(candidate).is_some_and(Candidate::is_hardware);
        // One that works is not given up for software because others hang.
        let stays = too_many && is_hardware && matches!(rung.state, State::On(_));
        let next = choice::next_to_try(&rung.candidates, candidate, &rung.hung, too_many);
        let planned = next.filter(|_| !stays).and_then(|next| rung.plan(next, lowered));
        let Some((plan, job)) = planned else {
            match rung.state {
                State::On(now) => rung.ordered.1 = now,
                // Its last frames are awaited; what comes then is decided then.
                State::Ending => {}
                State::Off | State::Failed => rung.state = State::Failed,
            }
            if rung.state != State::Failed {
                return After::AsBefore;
            }
            return After::Nothing(match too_many {
                true => {
                    format!("{hanging} encoders of this stream hang, no device is tried")
                }
                false => "no other encoder is left".to_owned(),
            });
        };
        let encoder = rung.candidates[plan.candidate].encoder;
        let (timeline, events) = (Arc::clone(&self.timeline), self.events.clone());
        let leftovers = self.leftovers.clone();
        let open = move || Encoding::start(job, encoder, &timeline, &events, &leftovers);
        rung.opening = Some(Opening::begin(plan, self.leftovers.clone(), open));
        After::Next(encoder.element)
    }

    /// Whether a coded frame counts now. `None`: it waits, or counts no more.
    pub fn admit(&mut self, coded: Coded) -> Option<Coded> {
        let Some(rung) = self.rungs.iter_mut().find(|r| r.output == coded.output) else {
            return Some(coded);
        };
        rung.is_described |= coded.config.is_some();
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
            rung.cut();
        }
    }

    /// Whether it was ordered not to be made.
    pub fn is_ordered_off(&self, output: usize) -> bool {
        self.rungs.iter().any(|r| r.output == output && !r.ordered.0)
    }

    /// Encoders that do not come to their end, `elapsed_ms` after the last look, with their
    /// generations: they are given up.
    pub fn poll_endings(&mut self, elapsed_ms: u64) -> Vec<(usize, Generation)> {
        let mut given_up = Vec::new();
        for rung in &mut self.rungs {
            if let Some(failed) = rung.ending_fault(elapsed_ms) {
                tracing::warn!(rendition = %rung.planned.rung.id, "{}", failed.message);
                rung.count_ending();
                rung.outlet.forget_ended();
                given_up.push((rung.output, rung.before.unwrap_or(rung.generation)));
            }
        }
        given_up
    }

    /// Encoders that failed or hang, `elapsed_ms` after the last look.
    pub fn poll_failures(&mut self, elapsed_ms: u64) -> Vec<(usize, Failed)> {
        let mut faults = Vec::new();
        for rung in &mut self.rungs {
            if !matches!(rung.state, State::On(_) | State::Ending) {
                continue;
            }
            if let Some(fault) = rung.fault(elapsed_ms) {
                if fault.hangs {
                    rung.hung.extend(rung.family_of(rung.candidate));
                }
                faults.push((rung.output, fault.failed));
            }
        }
        faults
    }

    /// Cuts off a failed encoder and opens the next one.
    pub fn replace(&mut self, output: usize) -> After {
        let Some(i) = self.rungs.iter().position(|r| r.output == output) else {
            return After::Nothing("it is no rung".to_owned());
        };
        let rung = &mut self.rungs[i];
        rung.cut();
        rung.candidate += 1;
        if self.draining {
            return After::Nothing("the stream is at its end".to_owned());
        }
        // It was to do less or more, on a device that hangs.
        rung.opening.take_if(|opening| {
            let candidate = rung.candidates.get(opening.plan.candidate);
            candidate.is_some_and(|c| c.is_hardware() && rung.hung.contains(&c.encoder.family))
        });
        if let Some(opening) = &rung.opening {
            // It was to do less or more, and is there the sooner.
            return After::Next(rung.element_of(opening.plan.candidate));
        }
        if !rung.is_wanted() {
            return After::Nothing("it is not made any more".to_owned());
        }
        let (candidate, lowered) = (rung.candidate, rung.ordered.1);
        self.open(i, candidate, lowered)
    }

    /// Opens nothing any more: the source is at its end.
    pub fn drain(&mut self) {
        self.draining = true;
        for rung in &mut self.rungs {
            rung.opening = None;
        }
    }

    /// Outputs and those of their encoders whose last frames are yet to come.
    pub fn awaited(&self) -> impl Iterator<Item = (usize, Generation)> {
        let all = self.rungs.iter();
        all.flat_map(|r| r.outlet.awaited().into_iter().map(move |g| (r.output, g)))
    }

    /// Stops every encoder and waits for that, but not for one that hangs.
    pub fn stop(&mut self) {
        self.drain();
        // Nothing is ever sent: it ends when all have let go of it.
        let (running, stopped) = channel::<()>();
        for rung in &self.rungs {
            rung.outlet.cut_and(&running);
        }
        drop(running);
        if stopped.recv_timeout(STOPS_MAX) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("an encoder does not stop and is left behind");
        }
    }

    /// The element that encodes an output.
    pub fn element(&self, output: usize) -> Option<&'static str> {
        self.rungs.iter().find(|r| r.output == output).map(|r| r.element_of(r.candidate))
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

    /// Whether an output's encoder gets pictures: not before the segment that it begins with.
    pub fn is_fed(&self, output: usize) -> bool {
        let mut of = self.rungs.iter().filter(|r| r.output == output);
        of.any(|r| r.outlet.look(|_| ()).is_some())
    }

    /// Whether another output than this is about to be made.
    pub fn opens_another(&self, output: usize) -> bool {
        self.rungs.iter().any(|r| r.output != output && r.opening.is_some())
    }

    /// Whether an output is one of the rungs.
    pub fn has(&self, output: usize) -> bool {
        self.rungs.iter().any(|r| r.output == output)
    }

    /// Whether any is being made, about to end or about to begin.
    pub fn any_on(&self) -> bool {
        let on = |r: &Rung| matches!(r.state, State::On(_) | State::Ending);
        self.rungs.iter().any(|r| on(r) || r.opening.is_some())
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

#[cfg(test)]
mod tests;
