//! Coded frames on their way to parts, and renditions that are switched off, on or over to another
//! encoder while the session goes on.

use common::rendition::Kind;

use super::{Session, input, lock};
use crate::worker::barrier::Barrier;
use crate::worker::ipc::{Changed, FailCode, Failed, Order, Part, Report, Withdrawn};
use crate::worker::pipeline::{Coded, other};
use crate::worker::rungs::{After, NotOpened};

/// What a worker says of a rendition that was ordered off; the broadcaster knows why.
pub(super) const SWITCHED_OFF: &str = "switched off";

impl Session {
    /// Takes in orders; they take effect at the next segment.
    pub(super) fn handle_orders(&mut self, orders: &[Order]) {
        for order in orders {
            // Those that come before the source is known wait for the plan.
            self.start.orders.retain(|before| before.rendition != order.rendition);
            self.start.orders.push(order.clone());
        }
        self.rungs.handle_orders(orders);
        let source = self.pass.video.as_ref().and_then(|(i, _)| self.renditions.get(*i));
        let of_source = source.and_then(|s| orders.iter().find(|o| o.rendition == s.made.id));
        if let Some(order) = of_source {
            self.pass.ordered_off = !order.on;
        }
    }

    /// Carries out what was ordered, unless an earlier order is still being carried out.
    pub(super) fn poll_orders(&mut self) {
        if !self.ready_sent || self.barrier.is_some() || self.draining.is_some() {
            return;
        }
        if !self.late.is_empty() {
            let segment = lock(&self.timeline).next_segment();
            return self.begin_late(segment);
        }
        self.rungs.poll_orders();
    }

    /// Looks after encoders that are being opened: what is open begins with the next segment.
    pub(super) fn poll_openings(
        &mut self,
        elapsed_ms: u64,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        for NotOpened { output, element, failed, after } in self.rungs.poll_not_opened(elapsed_ms) {
            let why = format!("{element} failed: {}", failed.message);
            self.tell_what_follows(output, &why, failed.code, &after, false, emit)?;
        }
        if !self.late.is_empty() || self.draining.is_some() {
            return Ok(());
        }
        // One boundary at a time: this one is joined as long as it is ahead.
        let standing = self.barrier.as_ref().map(Barrier::segment);
        let (segment, opened) = self.rungs.poll_opened(standing);
        if self.ready_sent && !opened.is_empty() {
            let barrier = self.barrier.get_or_insert_with(|| Barrier::new(segment, []));
            for output in opened {
                barrier.join(output);
            }
        }
        Ok(())
    }

    /// Sets a boundary for new encoders that had none left.
    fn begin_late(&mut self, segment: u32) {
        let configs = self.late.begin(segment);
        self.barrier = Some(Barrier::new(segment, configs.keys().copied()));
        for (output, config) in configs {
            if let Err(failed) = self.configure(output, &config) {
                // Judged again, and in vain, when its frames come.
                tracing::error!("{}", failed.message);
            }
        }
    }

    /// Takes a coded frame of the graph.
    pub(super) fn handle_coded(
        &mut self,
        coded: Coded,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        match self.rungs.admit(coded) {
            Some(coded) => self.handle_admitted(coded, emit),
            None => Ok(()),
        }
    }

    fn handle_admitted(
        &mut self,
        coded: Coded,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        let awaited = self.barrier.as_ref().is_some_and(|b| b.awaits(coded.output));
        if let Some(config) = &coded.config
            && self.ready_sent
            && self.rungs.has(coded.output)
            && !awaited
        {
            self.late.add(coded.output, config.clone());
            return Ok(());
        }
        let segment = lock(&self.timeline).segment_of(coded.pts_ns / 1000);
        if self.late.leaves_out(coded.output, segment) {
            return Ok(());
        }
        if let Some(config) = &coded.config {
            self.configure(coded.output, config)?;
            if !self.ready_sent && self.rungs.is_ordered_off(coded.output) {
                self.rungs.switch_off(coded.output);
                self.withdraw(coded.output, SWITCHED_OFF.to_owned(), false, emit);
                return Ok(());
            }
        }
        let Some(rendition) = self.renditions.get_mut(coded.output) else { return Ok(()) };
        match rendition.made.kind {
            Kind::Video => {
                let times = (coded.pts_ns, coded.pts_ns);
                let timeline = lock(&self.timeline);
                let parts = rendition.handle_video(&timeline, times, coded.key, coded.data);
                drop(timeline);
                let parts = parts.map_err(|e| other(e.to_string()))?;
                self.send(coded.output, parts, emit);
            }
            Kind::Audio => rendition.handle_audio(coded.pts_ns, coded.data),
        }
        Ok(())
    }

    /// An encoder has given its last frame.
    pub(super) fn handle_output_ended(
        &mut self,
        output: usize,
        generation: u32,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        if let Some(ended) = self.rungs.handle_ended(output, generation) {
            for coded in ended.early {
                self.handle_admitted(coded, emit)?;
            }
            if ended.off {
                self.finish_rendition(output, emit)?;
                self.withdraw(output, SWITCHED_OFF.to_owned(), false, emit);
            }
        }
        if let Some(drain) = &mut self.draining {
            drain.handle_ended(output, generation);
        }
        Ok(())
    }

    /// Looks for encoders that failed; each is replaced by the next that may do, or its rendition
    /// ends.
    pub(super) fn poll_failures(
        &mut self,
        elapsed_ms: u64,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        for (output, failed) in self.rungs.poll_failures(elapsed_ms) {
            let element = self.rungs.element(output).unwrap_or("none");
            // A part that was begun is all there is of its segment.
            self.finish_rendition(output, emit)?;
            self.late.forget(output);
            let after = self.rungs.replace(output);
            if let Some(barrier) = &mut self.barrier {
                barrier.give_up(output);
            }
            if !self.ready_sent {
                self.forget_before_ready(output);
            }
            let why = format!("{element} failed: {}", failed.message);
            self.tell_what_follows(output, &why, failed.code, &after, true, emit)?;
        }
        Ok(())
    }

    /// Says why an encoder was given up and what comes after it. `was_made`: its rendition was
    /// listed until now.
    fn tell_what_follows(
        &mut self,
        output: usize,
        why: &str,
        code: FailCode,
        after: &After,
        was_made: bool,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        let Some(id) = self.renditions.get(output).map(|r| r.made.id.clone()) else {
            return Err(Failed { code, message: why.to_owned() });
        };
        let others = || {
            let video = |i: &usize| self.renditions[*i].made.kind == Kind::Video;
            (0..self.renditions.len()).filter(video).filter(|i| *i != output && self.is_made(*i))
        };
        let (ends, follows) = match after {
            After::Next(next) => (false, format!("{next} goes on")),
            After::AsBefore => (false, "it goes on as before".to_owned()),
            // At its end a session needs no other, and the others are to come to theirs.
            After::Nothing(why) => (self.draining.is_none(), why.clone()),
        };
        let note = format!("'{id}': {why}; {follows}");
        let bearable = others().next().is_some()
            || self.rungs.opens_another(output)
            || self.rungs.is_ordered_off(output);
        if ends && !(self.ready_sent && bearable) {
            return Err(Failed { code, message: note });
        }
        tracing::warn!(rendition = %id, "{note}");
        // One that is about to begin again is not listed before its first part.
        let listed = others().any(|i| self.renditions[i].listed);
        match (self.ready_sent, ends || (was_made && listed)) {
            (true, true) => self.withdraw(output, note, true, emit),
            // Withdrawn it would leave nothing to list until the next encoder is there.
            (true, false) => self.report(Report::Noted(note), emit),
            (false, _) => self.notes.push(note),
        }
        Ok(())
    }

    /// What an encoder made before the session was ready is of no use with its successor's
    /// configuration.
    fn forget_before_ready(&mut self, output: usize) {
        self.held.retain(|r| !matches!(r, Report::Part(p) if usize::from(p.rendition) == output));
        if let Some(rendition) = self.renditions.get_mut(output) {
            rendition.forget_config();
        }
    }

    /// Gives up encoders that do not come to their end.
    pub(super) fn poll_endings(
        &mut self,
        elapsed_ms: u64,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        for (output, generation) in self.rungs.poll_endings(elapsed_ms) {
            self.handle_output_ended(output, generation, emit)?;
        }
        Ok(())
    }

    /// Lets go on what the barrier held, when it is time.
    pub(super) fn poll_barrier(&mut self, emit: &mut dyn FnMut(Report) -> bool) {
        let now_ms = self.began.elapsed().as_millis() as u64;
        let made = (0..self.renditions.len()).filter(|i| self.is_made(*i));
        if self.barrier.as_ref().is_some_and(|barrier| barrier.falls(now_ms, made)) {
            self.fall(emit);
        }
    }

    /// Lets go on what the barrier holds.
    pub(super) fn fall(&mut self, emit: &mut dyn FnMut(Report) -> bool) {
        let Some(barrier) = self.barrier.take() else { return };
        let segment = barrier.segment();
        let (changed, held) = barrier.open();
        let renditions: Vec<_> = changed
            .into_iter()
            .filter_map(|i| Some((i as u8, self.renditions.get(i)?.made.clone())))
            .collect();
        if !renditions.is_empty() {
            self.report(Report::Changed(Changed { segment, renditions }), emit);
        }
        for part in held {
            self.report_part(part, emit);
        }
    }

    /// A rendition's decoder configuration has come.
    pub(super) fn configure(&mut self, i: usize, config: &[u8]) -> Result<(), Failed> {
        let element = self.rungs.element(i);
        let fps = self.rungs.fps(i);
        let Some(rendition) = self.renditions.get_mut(i) else { return Ok(()) };
        let before = rendition.made.init.clone();
        let by = rendition.made.encoder.clone();
        if !before.is_empty() && !self.rungs.has(i) {
            return Ok(());
        }
        rendition.handle_config(config).map_err(|e| input(e.to_string()))?;
        if let Some(element) = element {
            rendition.made.encoder = element.to_owned();
        }
        if let Some(fps) = fps {
            rendition.made.fps = fps;
        }
        if let Some(barrier) = &mut self.barrier {
            // Another encoder is another sequence, even where both describe themselves alike.
            let differs = rendition.made.init != before || rendition.made.encoder != by;
            barrier.handle_config(i, differs);
        }
        Ok(())
    }

    /// Sends the parts of a rendition, or holds them back.
    pub(super) fn send(
        &mut self,
        i: usize,
        parts: Vec<Part>,
        emit: &mut dyn FnMut(Report) -> bool,
    ) {
        let now_ms = self.began.elapsed().as_millis() as u64;
        for part in parts {
            let part = Part { rendition: i as u8, ..part };
            let passes = match &mut self.barrier {
                Some(barrier) => barrier.hold(now_ms, part),
                None => Some(part),
            };
            if let Some(part) = passes {
                self.report_part(part, emit);
            }
        }
    }

    fn report_part(&mut self, part: Part, emit: &mut dyn FnMut(Report) -> bool) {
        if let Some(rendition) = self.renditions.get_mut(usize::from(part.rendition)) {
            rendition.listed = true;
        }
        self.report(Report::Part(part), emit);
    }

    /// Sends what a rendition has begun as the last part of its segment.
    pub(super) fn finish_rendition(
        &mut self,
        i: usize,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        let Some(rendition) = self.renditions.get_mut(i) else { return Ok(()) };
        let last = rendition.finish().map_err(|e| other(e.to_string()))?;
        self.send(i, last.into_iter().collect(), emit);
        Ok(())
    }

    pub(super) fn withdraw(
        &mut self,
        i: usize,
        note: String,
        failed: bool,
        emit: &mut dyn FnMut(Report) -> bool,
    ) {
        if let Some(rendition) = self.renditions.get_mut(i) {
            rendition.listed = false;
        }
        self.report(Report::Withdrawn(Withdrawn { rendition: i as u8, note, failed }), emit);
    }

    /// Whether a rendition is being made now.
    pub(super) fn is_made(&self, i: usize) -> bool {
        if self.rungs.has(i) {
            return self.rungs.is_on(i);
        }
        let is_source = self.source_index == Some(i);
        !is_source || (self.pass.video.is_some() && !self.pass.is_off)
    }
}
