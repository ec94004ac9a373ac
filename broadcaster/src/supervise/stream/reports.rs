//! What the stream's worker says, and its sessions.

use super::*;

impl StreamTask {
    pub(super) fn handle_event(&mut self, event: ChildEvent) {
        match event {
            ChildEvent::Report(worker, report) => self.handle_report(worker, report),
            ChildEvent::Garbled(worker, why) => {
                let message = format!("its messages cannot be read: {why}");
                self.handle(Input::WorkerFailed { worker, code: FailCode::Other, message });
            }
            ChildEvent::Exited(worker, how) => {
                self.children.remove(&worker);
                self.handle(Input::WorkerExited { worker, how });
            }
        }
    }

    fn handle_report(&mut self, worker: WorkerId, report: Report) {
        match report {
            Report::Ready(ready) => {
                if let Some(running) = self.children.get_mut(&worker) {
                    running.ready = Some(ready);
                }
                self.handle(Input::WorkerReady(worker));
            }
            Report::Part(part) => {
                if self.machine.has_session(worker) {
                    self.feed.part(&part);
                    self.returned(part.rendition);
                }
                self.handle(Input::WorkerPart(worker));
            }
            Report::Status(pulse) => {
                if self.machine.has_session(worker) {
                    let elapsed = std::mem::replace(&mut self.pulse_at, Instant::now());
                    let seconds = elapsed.elapsed().as_secs_f64().max(0.1);
                    self.status.send_modify(|status| {
                        let used_us = pulse.cpu_us.saturating_sub(status.pulse.cpu_us);
                        let known = status.pulse.cpu_us > 0;
                        status.worker_cores =
                            if known { used_us as f64 / 1e6 / seconds } else { 0.0 };
                        status.pulse = pulse;
                    });
                }
            }
            Report::Thumb(jpeg) => {
                if self.machine.has_session(worker) {
                    self.served.set_thumb(jpeg);
                }
            }
            Report::Withdrawn(withdrawn) => {
                if self.machine.has_session(worker) {
                    // The guard must be gone before the status is changed.
                    let place = usize::from(withdrawn.rendition);
                    let id = self.status.borrow().renditions.get(place).map(|r| r.id.clone());
                    tracing::info_span!("rendition", rendition = id.as_ref().map(|id| id.as_str()))
                        .in_scope(|| tracing::info!("{}", withdrawn.note));
                    if let (true, Some(id)) = (withdrawn.failed, &id) {
                        // Whoever asks for it would wait in vain until the governor looks.
                        self.served.live.give_up(id);
                    }
                    self.feed.withdraw(withdrawn.rendition);
                    if withdrawn.failed {
                        self.note(withdrawn.note.clone());
                    }
                    self.status.send_modify(|status| {
                        status.withdrawn.insert(withdrawn.rendition, withdrawn);
                    });
                    self.publish_info();
                }
            }
            Report::Noted(note) => {
                if self.machine.has_session(worker) {
                    tracing::warn!(stream = %self.spec.name, "{note}");
                    self.note(note);
                }
            }
            Report::Changed(changed) => {
                if self.machine.has_session(worker) {
                    self.handle_changed(&changed);
                }
            }
            Report::Failed(failed) => {
                self.handle(Input::WorkerFailed {
                    worker,
                    code: failed.code,
                    message: failed.message,
                });
            }
            Report::Drained => self.handle(Input::WorkerDrained(worker)),
        }
    }

    fn handle_changed(&mut self, changed: &ipc::Changed) {
        let result = self.feed.change(changed);
        self.report_fault(result);
        for (_, made) in &changed.renditions {
            tracing::info!(stream = %self.spec.name, rendition = %made.id,
                "'{}' is made by {} from here on", made.id, made.encoder);
        }
        self.status.send_modify(|status| {
            for (i, made) in &changed.renditions {
                if let Some(before) = status.renditions.get_mut(usize::from(*i)) {
                    before.clone_from(made);
                }
            }
        });
        self.publish_info();
    }

    /// A part came of this rendition: should it have been withdrawn, it is back.
    fn returned(&mut self, rendition: u8) {
        let back = self.status.send_if_modified(|s| s.withdrawn.remove(&rendition).is_some());
        if back {
            self.publish_info();
        }
    }

    pub(super) fn begin_session(&mut self, worker: WorkerId) {
        let Some(running) = self.children.get_mut(&worker) else { return };
        let Some(ready) = running.ready.take() else { return };
        let timing =
            Timing { part_us: self.spec.start.part_us, segment_us: self.spec.start.segment_us };
        let pid = running.child.pid();
        if let Err(fault) = self.feed.begin_session(&ready, timing) {
            let message = fault.to_string();
            tracing::error!(stream = %self.spec.name, "{message}");
            return self.handle(Input::WorkerFailed { worker, code: FailCode::Other, message });
        }
        for note in &ready.notes {
            tracing::info!(stream = %self.spec.name, "{note}");
        }
        for made in &ready.renditions {
            tracing::info!(stream = %self.spec.name, rendition = %made.id,
                "'{}' is made by {}", made.id, made.encoder);
        }
        let numbers = self.feed.numbers();
        self.status.send_modify(|status| {
            status.notes = ready.notes;
            status.notes.truncate(NOTES_MAX);
            status.renditions = ready.renditions;
            status.broadcast = numbers.broadcast;
            status.session = numbers.session.0;
            status.worker_pid = pid;
            status.pulse = ipc::Status::default();
            status.withdrawn.clear();
            status.worker_cores = 0.0;
            status.started_at_us.get_or_insert_with(unix_us);
        });
        self.publish_info();
    }
}
