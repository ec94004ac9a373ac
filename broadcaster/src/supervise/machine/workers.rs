//! What becomes of the worker: how it begins, ends and is replaced.

use super::*;

impl Machine {
    pub(super) fn worker_ready(&mut self, now: Now, id: WorkerId) {
        let Some(worker) = self.worker.as_mut().filter(|w| w.id == id) else { return };
        if !matches!(worker.stage, Stage::Starting { .. }) {
            return;
        }
        worker.stage = Stage::Live { since: now, last_part: now };
        if !self.broadcast_open {
            self.broadcast_open = true;
            self.freed = false;
            self.restarts.reset();
            self.crashes = 0;
            self.outputs.push_back(Output::BeginBroadcast);
        }
        self.grace_until = None;
        self.cause = Cause::OnAir;
        self.outputs.push_back(Output::BeginSession(id));
    }

    pub(super) fn worker_part(&mut self, now: Now, id: WorkerId) {
        if let Some(worker) = self.worker.as_mut().filter(|w| w.id == id)
            && let Stage::Live { last_part, .. } = &mut worker.stage
        {
            *last_part = now;
        }
    }

    pub(super) fn worker_backed_up(&mut self, now: Now, id: WorkerId) {
        // One that has not started yet may be trying encoders out instead of reading.
        let live = |w: &Worker| w.id == id && matches!(w.stage, Stage::Live { .. });
        if self.worker.as_ref().is_some_and(live) {
            self.crashed(now, Cause::Stalled, 0);
        }
    }

    pub(super) fn worker_over_memory(&mut self, now: Now, id: WorkerId, cause: Cause) {
        // One that drains ends anyway, and its last parts are worth the memory.
        let stays = |w: &Worker| w.id == id && !matches!(w.stage, Stage::Draining { .. });
        if self.worker.as_ref().is_some_and(stays) {
            self.crashed(now, cause, 0);
        }
    }

    pub(super) fn worker_failed(
        &mut self,
        now: Now,
        id: WorkerId,
        code: FailCode,
        message: String,
    ) {
        let Some(worker) = self.worker.filter(|w| w.id == id) else { return };
        match (worker.stage, code) {
            (Stage::Draining { .. }, _) => self.drained(now, EXIT_PATIENCE_MS),
            (_, FailCode::Input | FailCode::Machine) if self.policy.pushed => {
                let cause = Cause::Unusable(message);
                self.close_publisher(cause.clone());
                self.let_go(now, EXIT_PATIENCE_MS);
                self.restarts.refused_input(now);
                self.cause = cause;
                self.await_source(now);
            }
            // What it lacks it had before: other streams may have taken the encoders meanwhile, and
            // give them back. Once the broadcast is over, waiting has been in vain.
            (_, FailCode::Machine) if self.broadcast_open => {
                self.let_go(now, EXIT_PATIENCE_MS);
                self.cause = Cause::Unusable(message);
                self.await_source(now);
                self.start_at = Some(self.restarts.lacked(now));
            }
            (_, FailCode::Input | FailCode::Machine) => {
                self.let_go(now, EXIT_PATIENCE_MS);
                self.rest(now, Standing::Failed, Cause::Unusable(message));
            }
            (Stage::Live { .. }, FailCode::Changed) => {
                self.let_go(now, EXIT_PATIENCE_MS);
                self.cause = Cause::SourceChanged;
                self.await_source(now);
                self.start_at = Some(self.restarts.changed(now));
            }
            // A source that changes before anything came of it counts as a crash, or one that
            // changes all the time would be tried for ever.
            (Stage::Starting { .. }, FailCode::Changed) | (_, FailCode::Other) => {
                self.crashed(now, Cause::WorkerCrashed(message), EXIT_PATIENCE_MS);
            }
        }
    }

    pub(super) fn worker_drained(&mut self, now: Now, id: WorkerId) {
        let Some(worker) = self.worker.filter(|w| w.id == id) else { return };
        match worker.stage {
            Stage::Draining { .. } => self.drained(now, EXIT_PATIENCE_MS),
            Stage::Live { .. } if !self.policy.pushed => {
                self.let_go(now, EXIT_PATIENCE_MS);
                self.rest(now, Standing::Ended, Cause::SourceEnded);
            }
            Stage::Starting { .. } if !self.policy.pushed => {
                self.let_go(now, EXIT_PATIENCE_MS);
                let cause = Cause::Unusable("the source has no media to play".to_owned());
                self.rest(now, Standing::Failed, cause);
            }
            Stage::Live { .. } | Stage::Starting { .. } => {
                let how = "it ended while its publisher was sending".to_owned();
                self.crashed(now, Cause::WorkerCrashed(how), EXIT_PATIENCE_MS);
            }
        }
    }

    pub(super) fn worker_exited(&mut self, now: Now, id: WorkerId, how: String) {
        if self.leaving.remove(&id).is_some() {
            return;
        }
        let Some(worker) = self.worker.filter(|w| w.id == id) else { return };
        if let Stage::Draining { .. } = worker.stage {
            self.drained(now, EXIT_PATIENCE_MS);
        } else {
            self.crashed(now, Cause::WorkerCrashed(how), EXIT_PATIENCE_MS);
        }
        self.leaving.remove(&id);
    }

    /// The worker is lost; another takes its place as soon as the policy allows.
    pub(super) fn crashed(&mut self, now: Now, cause: Cause, patience_ms: u64) {
        self.crashes += 1;
        let stable_ms = match self.worker.map(|w| w.stage) {
            Some(Stage::Live { since, .. }) => now.since(since),
            _ => 0,
        };
        self.let_go(now, patience_ms);
        match self.restarts.crashed(now, stable_ms) {
            Verdict::Retry { at } => {
                self.cause = cause;
                self.await_source(now);
                self.start_at = Some(at);
            }
            Verdict::Broken => {
                self.rest(now, Standing::Failed, Cause::CrashLoop(cause.to_string()));
            }
        }
    }

    /// Lets the worker hand over its last parts; one that has no session has nothing to hand over.
    pub(super) fn drain(&mut self, now: Now) {
        let Some(worker) = &mut self.worker else { return };
        match worker.stage {
            Stage::Live { .. } => {
                worker.stage = Stage::Draining { until: now.plus(DRAIN_MAX_MS) };
                self.outputs.push_back(Output::DrainWorker(worker.id));
            }
            Stage::Starting { .. } => self.let_go(now, 0),
            Stage::Draining { .. } => {}
        }
    }

    /// A drain is over, by success, failure or time.
    pub(super) fn drained(&mut self, now: Now, patience_ms: u64) {
        self.let_go(now, patience_ms);
        if self.stopping {
            self.rest(now, Standing::Stopped, Cause::OperatorStopped);
        }
    }

    /// The worker, if there is one, loses its session and its place. It has `patience_ms` to exit
    /// by itself, then come the signals.
    pub(super) fn let_go(&mut self, now: Now, patience_ms: u64) {
        let Some(worker) = self.worker.take() else { return };
        if worker.has_session() {
            self.outputs.push_back(Output::EndSession(worker.id));
        }
        let leaving = if patience_ms > 0 {
            Leaving::TerminateAt(now.plus(patience_ms))
        } else {
            self.outputs.push_back(Output::TerminateWorker(worker.id));
            Leaving::KillAt(now.plus(self.policy.force_kill_ms))
        };
        self.leaving.insert(worker.id, leaving);
    }

    /// Plans the start of a worker, when one is wanted.
    pub(super) fn schedule(&mut self, now: Now) {
        self.start_at = self.wants_worker().then(|| self.restarts.earliest(now));
    }

    pub(super) fn wants_worker(&self) -> bool {
        // A stop in progress needs no mention: its worker has not left yet.
        self.standing == Standing::On
            && !self.shutting_down
            && self.worker.is_none()
            && (!self.policy.pushed || self.publisher.is_some())
    }
}
