//! What time brings: workers that hang or stay, grace periods, `STREAM_TIMEOUT`.

use super::*;

impl Machine {
    pub(super) fn advance(&mut self, now: Now) {
        self.press_the_leaving(now);
        if self.drain_until().is_some_and(|at| at <= now) {
            self.drained(now, 0);
        }
        if self.stall_at().is_some_and(|at| at <= now) {
            match self.publisher.as_mut().filter(|p| now.since(p.last_media) > SILENCE_MS) {
                // The publisher is silent, which is not the worker's fault.
                Some(publisher) => publisher.flowing_since = None,
                None => self.crashed(now, Cause::Stalled, 0),
            }
        }
        if self.grace_until.is_some_and(|at| at <= now) && !self.shutting_down {
            self.grace_over(now);
        }
        if self.idle_until().is_some_and(|at| at <= now) {
            if self.standing == Standing::On {
                let cause = Cause::NeverGotMedia(self.policy.stream_timeout_ms);
                self.rest(now, Standing::Ended, cause);
            } else {
                self.freed = true;
                self.outputs.push_back(Output::FreeStream);
            }
        }
        if self.start_due().is_some_and(|at| at <= now) {
            self.start_at = None;
            self.last_worker = WorkerId(self.last_worker.0 + 1);
            self.restarts.started(now);
            self.worker =
                Some(Worker { id: self.last_worker, stage: Stage::Starting { since: now } });
            self.outputs.push_back(Output::StartWorker(self.last_worker));
        }
        if self.shutting_down && !self.finished && self.is_quiet() {
            self.finished = true;
            self.outputs.push_back(Output::Finished);
        }
    }

    fn press_the_leaving(&mut self, now: Now) {
        for (id, leaving) in &mut self.leaving {
            match *leaving {
                Leaving::TerminateAt(at) if at <= now => {
                    *leaving = Leaving::KillAt(now.plus(self.policy.force_kill_ms));
                    self.outputs.push_back(Output::TerminateWorker(*id));
                }
                Leaving::KillAt(at) if at <= now => {
                    *leaving = Leaving::Killed;
                    self.outputs.push_back(Output::KillWorker(*id));
                }
                _ => {}
            }
        }
    }

    /// Nobody came back. A source that is there but gives nothing keeps being tried.
    fn grace_over(&mut self, now: Now) {
        let source_there = !self.policy.pushed || self.publisher.is_some();
        if self.standing == Standing::On && !source_there {
            self.rest(now, Standing::Ended, Cause::GraceOver);
        } else {
            self.end_broadcast(now, Cause::GraceOver);
        }
    }

    pub(super) fn end_broadcast(&mut self, now: Now, cause: Cause) {
        self.grace_until = None;
        if self.broadcast_open {
            self.broadcast_open = false;
            self.idle_since = now;
            self.outputs.push_back(Output::EndBroadcast(cause));
        }
    }

    /// The broadcast's media is interrupted: its grace period begins, unless it runs already. It
    /// is never shorter than a drain, so that the last parts are not lost.
    pub(super) fn await_source(&mut self, now: Now) {
        if self.broadcast_open && !self.shutting_down {
            self.grace_until.get_or_insert(now.plus(self.policy.grace_ms.max(DRAIN_MAX_MS)));
        }
    }

    pub(super) fn start_due(&self) -> Option<Now> {
        self.start_at.filter(|_| self.wants_worker() && self.leaving.len() < LEAVING_MAX)
    }

    pub(super) fn drain_until(&self) -> Option<Now> {
        match self.worker?.stage {
            Stage::Draining { until } => Some(until),
            _ => None,
        }
    }

    /// When the worker hangs unless something comes of it, as long as its source delivers.
    pub(super) fn stall_at(&self) -> Option<Now> {
        let (progress, patience_ms) = match self.worker?.stage {
            Stage::Starting { since } => (since, START_MAX_MS),
            Stage::Live { last_part, .. } => (last_part, 2 * self.policy.segment_ms),
            Stage::Draining { .. } => return None,
        };
        if !self.policy.pushed {
            return Some(progress.plus(patience_ms));
        }
        let flowing_since = self.publisher?.flowing_since?;
        Some(progress.max(flowing_since).plus(patience_ms))
    }

    /// When `STREAM_TIMEOUT` strikes.
    pub(super) fn idle_until(&self) -> Option<Now> {
        let idle = match self.standing {
            Standing::On => !self.stopping && !self.broadcast_open,
            Standing::Stopped | Standing::Ended | Standing::Failed => {
                !self.freed && !self.broadcast_open
            }
        };
        (idle && !self.shutting_down)
            .then(|| self.idle_since.plus(self.policy.stream_timeout_ms.max(1)))
    }

    pub(super) fn on_air(&self) -> bool {
        self.worker.is_some_and(|w| matches!(w.stage, Stage::Live { .. }))
    }

    pub(super) fn announce(&mut self) {
        let now = (self.state(), self.cause.clone());
        if self.announced.as_ref() != Some(&now) {
            self.outputs.push_back(Output::State(now.0, now.1.clone()));
            self.announced = Some(now);
        }
    }
}
