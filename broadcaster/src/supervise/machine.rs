//! The life of one stream as a pure state machine: who may publish, when a worker starts, drains
//! or is killed, when sessions and broadcasts begin and end (hls.md 'Sessions, reconnects,
//! restarts', faults.md rows 1-8).
//!
//! The contract of its run loop: hand in an [`Input`] with the time, carry out every
//! [`Machine::poll_output`] in order, sleep until [`Machine::poll_timeout`] (then [`Input::Tick`])
//! or the next event. It promises:
//! - one writer: at most one session is open, and it belongs to the newest worker; whatever an
//!   older worker or connection still says is ignored (ids are never used twice);
//! - an operator's stop beats everything: nothing starts after it until an operator's start;
//! - every started worker exits by itself or is killed within a bound;
//! - while the source delivers, the stream comes back to `live` within a bound or is `failed`.
//!
//! Numbers of sessions and broadcasts belong to the feed, which keeps them over restarts; here a
//! session is known by its worker.

mod event;
mod publishers;
mod time;
mod workers;

use std::collections::{BTreeMap, VecDeque};

use super::cause::Cause;
use super::now::Now;
use super::restart::{Restarts, Verdict};
use super::takeover::Takeovers;
use crate::worker::ipc::FailCode;

pub use event::{ConnectionId, Input, Output, Policy, Standing, State, WorkerId};

/// Longest time from a worker's start to its first rendition while the source delivers, in ms:
/// ten seconds to the second key frame of a badly set encoder, and as much again for trying
/// encoders out.
pub const START_MAX_MS: u64 = 20_000;
/// A drained worker has this long to hand over what it holds, in ms: it holds less than a part,
/// and a viewer notices nothing for the length of the hold-back.
pub const DRAIN_MAX_MS: u64 = 2_000;
/// A worker that said why it ends has this long to exit before it is told to, in ms.
pub const EXIT_PATIENCE_MS: u64 = 1_000;
/// A publisher that was silent this long does not deliver, in ms: both tracks of a live encoder
/// send many times a second.
pub const SILENCE_MS: u64 = 1_000;
/// From SIGTERM to SIGKILL while the broadcaster goes down, in ms, at most: all of it has 10 s.
pub const SHUTDOWN_KILL_MAX_MS: u64 = 3_000;
/// Workers of one stream that may be dying at once; no new one starts before one of them is gone.
/// Each holds encoders and memory, and only a machine in trouble needs more than two.
pub const LEAVING_MAX: usize = 3;

/// One stream's state machine.
#[derive(Clone, Debug)]
pub struct Machine {
    policy: Policy,
    standing: Standing,
    /// The operator's stop waits for the worker to hand over its last parts.
    stopping: bool,
    shutting_down: bool,
    finished: bool,
    broadcast_open: bool,
    /// Whether the feed holds nothing of an earlier broadcast.
    freed: bool,
    publisher: Option<Publisher>,
    worker: Option<Worker>,
    start_at: Option<Now>,
    leaving: BTreeMap<WorkerId, Leaving>,
    grace_until: Option<Now>,
    /// Since when nothing is on the air, for the time-out.
    idle_since: Now,
    restarts: Restarts,
    takeovers: Takeovers,
    last_worker: WorkerId,
    /// Workers lost since the broadcast began, or before the first.
    crashes: u64,
    cause: Cause,
    announced: Option<(State, Cause)>,
    /// Bounded by what one input can cause; the shell takes them all before the next input.
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug)]
struct Publisher {
    id: ConnectionId,
    /// Newest media.
    last_media: Now,
    /// Since when it has delivered without a pause; `None` while it is silent.
    flowing_since: Option<Now>,
}

#[derive(Clone, Copy, Debug)]
struct Worker {
    id: WorkerId,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Starting { since: Now },
    Live { since: Now, last_part: Now },
    Draining { until: Now },
}

/// A worker without a session whose exit is awaited.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    TerminateAt(Now),
    KillAt(Now),
    Killed,
}

impl Machine {
    /// A stream that is off.
    pub fn new(policy: Policy, now: Now) -> Self {
        Self {
            policy,
            standing: Standing::Stopped,
            stopping: false,
            shutting_down: false,
            finished: false,
            broadcast_open: false,
            freed: true,
            publisher: None,
            worker: None,
            start_at: None,
            leaving: BTreeMap::new(),
            grace_until: None,
            idle_since: now,
            restarts: Restarts::default(),
            takeovers: Takeovers::default(),
            last_worker: WorkerId(0),
            crashes: 0,
            cause: Cause::NotStarted,
            announced: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes in what happened at `now`.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::OperatorStart => self.start(now),
            Input::OperatorStop => self.stop(now),
            Input::PublisherConnected(id) => self.publisher_connected(now, id),
            Input::PublisherMedia(id) => self.publisher_media(now, id),
            Input::PublisherGone(id) => self.publisher_gone(now, id),
            Input::WorkerReady(id) => self.worker_ready(now, id),
            Input::WorkerPart(id) => self.worker_part(now, id),
            Input::WorkerBackedUp(id) => self.worker_backed_up(now, id),
            Input::WorkerOverMemory { worker, used_mb, limit_mb } => {
                self.worker_over_memory(now, worker, Cause::MemoryLimit { used_mb, limit_mb });
            }
            Input::WorkerFailed { worker, code, message } => {
                self.worker_failed(now, worker, code, message);
            }
            Input::WorkerDrained(id) => self.worker_drained(now, id),
            Input::WorkerExited { worker, how } => self.worker_exited(now, worker, how),
            Input::Restored { standing, broadcast_open } => {
                self.restored(now, standing, broadcast_open);
            }
            Input::Shutdown => self.shutdown(now),
            Input::Tick => {}
        }
        self.advance(now);
        self.announce();
    }

    /// Workers that ended unexpectedly since the broadcast began; before that, since the one
    /// before it began.
    pub fn crashes(&self) -> u64 {
        self.crashes
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to send [`Input::Tick`] at the latest, and what for.
    pub fn poll_timeout(&self) -> Option<(Now, &'static str)> {
        let leaving = self.leaving.values().filter_map(|leaving| match leaving {
            Leaving::TerminateAt(at) => Some((*at, "terminate a worker that stays")),
            Leaving::KillAt(at) => Some((*at, "kill a worker that ignores SIGTERM")),
            Leaving::Killed => None,
        });
        let start = self.start_due().map(|at| (at, "start a worker"));
        let drain = self.drain_until().map(|at| (at, "end a drain"));
        let stall = self.stall_at().map(|at| (at, "see whether the worker hangs"));
        let grace = self.grace_until.map(|at| (at, "end the grace period"));
        let idle = self.idle_until().map(|at| (at, "STREAM_TIMEOUT"));
        leaving.chain(start).chain(drain).chain(stall).chain(grace).chain(idle).min()
    }

    /// The state as the API names it.
    pub fn state(&self) -> State {
        match self.standing {
            Standing::Stopped | Standing::Ended => State::Ended,
            Standing::Failed => State::Failed,
            Standing::On if self.stopping => State::Ended,
            Standing::On if self.on_air() => State::Live,
            Standing::On if self.broadcast_open => State::Grace,
            Standing::On => State::Waiting,
        }
    }

    /// Why it is in that state.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What to keep for [`Input::Restored`]. A stop that waits for its worker is a stop already.
    pub fn standing(&self) -> Standing {
        if self.stopping { Standing::Stopped } else { self.standing }
    }

    /// Whether a broadcast has begun and not ended.
    pub fn broadcast_open(&self) -> bool {
        self.broadcast_open
    }

    /// Whether this worker's session is open, so that its parts count.
    pub fn has_session(&self, id: WorkerId) -> bool {
        self.worker.is_some_and(|w| w.id == id && w.has_session())
    }

    /// The worker that takes the publisher's media now.
    pub fn feeding(&self) -> Option<WorkerId> {
        self.worker.filter(|w| !matches!(w.stage, Stage::Draining { .. })).map(|w| w.id)
    }

    /// Whether no worker is left, not even a dying one.
    pub fn is_quiet(&self) -> bool {
        self.worker.is_none() && self.leaving.is_empty()
    }
}

/// The operator and the broadcaster's own life.
impl Machine {
    fn start(&mut self, now: Now) {
        if self.shutting_down {
            return;
        }
        if self.stopping {
            self.rest(now, Standing::Stopped, Cause::OperatorStopped);
        }
        if self.standing != Standing::On {
            self.takeovers.reset();
            self.turn_on(now, Cause::NoMediaYet);
        }
    }

    fn stop(&mut self, now: Now) {
        if self.shutting_down || self.stopping {
            return;
        }
        self.close_publisher(Cause::OperatorStopped);
        if self.worker.is_some_and(Worker::has_session) {
            self.stopping = true;
            self.start_at = None;
            self.cause = Cause::OperatorStopped;
            self.drain(now);
        } else if self.standing != Standing::Stopped {
            self.rest(now, Standing::Stopped, Cause::OperatorStopped);
        }
    }

    fn restored(&mut self, now: Now, standing: Standing, broadcast_open: bool) {
        self.freed = false;
        self.broadcast_open = broadcast_open;
        self.idle_since = now;
        match standing {
            Standing::Stopped => self.rest(now, Standing::Stopped, Cause::OperatorStopped),
            Standing::Ended => self.rest(now, Standing::Ended, Cause::BroadcasterRestarted),
            // What made it fail may be what the restart repaired.
            Standing::On | Standing::Failed if broadcast_open => {
                self.turn_on(now, Cause::BroadcasterRestarted);
            }
            Standing::On | Standing::Failed => self.turn_on(now, Cause::NoMediaYet),
        }
    }

    fn shutdown(&mut self, now: Now) {
        if self.shutting_down {
            return;
        }
        self.shutting_down = true;
        self.start_at = None;
        self.cause = Cause::ShuttingDown;
        self.close_publisher(Cause::ShuttingDown);
        self.policy.force_kill_ms = self.policy.force_kill_ms.min(SHUTDOWN_KILL_MAX_MS);
        let kill_at = now.plus(self.policy.force_kill_ms);
        for leaving in self.leaving.values_mut() {
            if let Leaving::KillAt(at) = leaving {
                *at = kill_at.min(*at);
            }
        }
        self.drain(now);
    }

    fn turn_on(&mut self, now: Now, cause: Cause) {
        self.standing = Standing::On;
        self.cause = cause;
        self.idle_since = now;
        self.restarts.reset();
        self.await_source(now);
        self.schedule(now);
    }

    /// Off, for whatever reason: nothing runs, nobody publishes. A failed stream keeps its
    /// broadcast open for the grace period, so that a quick repair costs no viewer a reload.
    fn rest(&mut self, now: Now, standing: Standing, cause: Cause) {
        self.close_publisher(cause.clone());
        self.let_go(now, 0);
        self.start_at = None;
        self.stopping = false;
        self.standing = standing;
        self.idle_since = now;
        if standing == Standing::Failed {
            self.await_source(now);
        } else {
            self.end_broadcast(now, cause.clone());
        }
        self.cause = cause;
    }
}

impl Worker {
    fn has_session(self) -> bool {
        matches!(self.stage, Stage::Live { .. } | Stage::Draining { .. })
    }
}

#[cfg(test)]
mod tests;
