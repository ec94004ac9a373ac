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

use std::collections::{BTreeMap, VecDeque};

use super::cause::Cause;
use super::now::Now;
use super::restart::{Restarts, Verdict};
use super::takeover::Takeovers;
use crate::worker::ipc::FailCode;

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

/// One worker of a stream, counted from 1 and never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

/// One publisher's connection; the ingest never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What a stream is made of and how patient it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether media is pushed by a publisher; otherwise the worker reads it by itself.
    pub pushed: bool,
    /// How long a broadcast waits for its source, in ms (default 120 000; hls.md).
    pub grace_ms: u64,
    /// After this long a started stream without media ends, and an ended one is freed, in ms
    /// (`STREAM_TIMEOUT`, default 3 600 000).
    pub stream_timeout_ms: u64,
    /// Length of a segment, in ms: a worker that makes no part for twice as long hangs.
    pub segment_ms: u64,
    /// From SIGTERM to SIGKILL, in ms (`FORCE_KILL_TIMEOUT_MS`, default 5 000).
    pub force_kill_ms: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The operator wants the stream on. Nothing changes when it is.
    OperatorStart,
    /// The operator wants it off.
    OperatorStop,
    /// Someone with the right key wants to publish.
    PublisherConnected(ConnectionId),
    /// That publisher sent media.
    PublisherMedia(ConnectionId),
    /// That connection ended.
    PublisherGone(ConnectionId),
    /// The worker described its renditions.
    WorkerReady(WorkerId),
    /// The worker made a part.
    WorkerPart(WorkerId),
    /// The worker does not take its input; the queue to it is full.
    WorkerBackedUp(WorkerId),
    /// The worker uses more memory than it may.
    WorkerOverMemory {
        /// Which one.
        worker: WorkerId,
        /// What it uses, in MB.
        used_mb: u64,
        /// What it may, in MB.
        limit_mb: u64,
    },
    /// The worker says why it is about to exit.
    WorkerFailed {
        /// Which one.
        worker: WorkerId,
        /// What kind of failure.
        code: FailCode,
        /// Its words.
        message: String,
    },
    /// The worker has handed over everything: its source ended, or it was drained.
    WorkerDrained(WorkerId),
    /// The worker's process is gone.
    WorkerExited {
        /// Which one.
        worker: WorkerId,
        /// How, in words.
        how: String,
    },
    /// Comes first, once, for a stream that an earlier run of the broadcaster knew.
    Restored {
        /// What it was.
        standing: Standing,
        /// Whether a broadcast had begun and not ended.
        broadcast_open: bool,
    },
    /// The broadcaster goes down: hand over what there is, end no broadcast.
    Shutdown,
    /// The time of [`Machine::poll_timeout`] has come.
    Tick,
}

/// What to do. Carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Start a worker process.
    StartWorker(WorkerId),
    /// Tell it that no more input comes.
    DrainWorker(WorkerId),
    /// Ask it to exit (SIGTERM).
    TerminateWorker(WorkerId),
    /// Make it exit (SIGKILL).
    KillWorker(WorkerId),
    /// Give this connection's media to the stream's worker from now on.
    AttachPublisher(ConnectionId),
    /// Close the attached connection.
    ClosePublisher(ConnectionId, Cause),
    /// Refuse a connection that was never attached.
    RefusePublisher(ConnectionId, Cause),
    /// A new broadcast begins.
    BeginBroadcast,
    /// This worker's parts are the stream's from now on.
    BeginSession(WorkerId),
    /// No more parts of this worker: close what is open.
    EndSession(WorkerId),
    /// The broadcast is over.
    EndBroadcast(Cause),
    /// Forget the media of the ended broadcast.
    FreeStream,
    /// The state or its reason changed.
    State(State, Cause),
    /// After [`Input::Shutdown`]: no worker is left.
    Finished,
}

/// The state as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// On, and no broadcast has begun.
    Waiting,
    /// A session is open.
    Live,
    /// A broadcast has begun and its media is interrupted.
    Grace,
    /// Given up until an operator starts it again.
    Failed,
    /// Off.
    Ended,
}

impl State {
    /// Whether the stream counts for `MAX_CONCURRENT_STREAMS_*`.
    pub fn counts(self) -> bool {
        matches!(self, Self::Waiting | Self::Live | Self::Grace)
    }
}

/// What is meant to be, as kept over restarts of the broadcaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Off until an operator's start.
    Stopped,
    /// Its broadcast ended by itself; the next publisher begins another.
    Ended,
    /// On.
    On,
    /// Given up until an operator's start.
    Failed,
}

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

/// Publishers.
impl Machine {
    fn publisher_connected(&mut self, now: Now, id: ConnectionId) {
        if self.publisher.is_some_and(|p| p.id == id) {
            return;
        }
        if let Some(cause) = self.why_not_publish() {
            self.outputs.push_back(Output::RefusePublisher(id, cause));
            return;
        }
        if self.standing == Standing::Ended {
            self.turn_on(now, Cause::NoMediaYet);
        }
        if self.publisher.is_some() {
            if let Err(wait_ms) = self.takeovers.ask(now) {
                let cause = Cause::TakeoverLimit(wait_ms.div_ceil(1_000));
                self.outputs.push_back(Output::RefusePublisher(id, cause));
                return;
            }
            self.close_publisher(Cause::TakenOver);
            self.cause = Cause::TakenOver;
        }
        // Whatever the old publisher's worker still holds is older than what comes now.
        self.let_go(now, 0);
        self.publisher = Some(Publisher { id, last_media: now, flowing_since: None });
        self.outputs.push_back(Output::AttachPublisher(id));
        self.schedule(now);
    }

    fn why_not_publish(&self) -> Option<Cause> {
        if self.shutting_down {
            return Some(Cause::ShuttingDown);
        }
        if !self.policy.pushed {
            return Some(Cause::NotForPublishers);
        }
        match self.standing {
            Standing::On if self.stopping => Some(Cause::OperatorStopped),
            Standing::On | Standing::Ended => None,
            Standing::Stopped | Standing::Failed => Some(self.cause.clone()),
        }
    }

    fn publisher_media(&mut self, now: Now, id: ConnectionId) {
        let Some(publisher) = self.publisher.as_mut().filter(|p| p.id == id) else { return };
        if now.since(publisher.last_media) > SILENCE_MS {
            publisher.flowing_since = None;
        }
        publisher.flowing_since.get_or_insert(now);
        publisher.last_media = now;
    }

    fn publisher_gone(&mut self, now: Now, id: ConnectionId) {
        if self.publisher.is_none_or(|p| p.id != id) {
            return;
        }
        self.publisher = None;
        self.start_at = None;
        self.cause = Cause::PublisherGone;
        self.drain(now);
        self.await_source(now);
    }

    fn close_publisher(&mut self, cause: Cause) {
        if let Some(publisher) = self.publisher.take() {
            self.outputs.push_back(Output::ClosePublisher(publisher.id, cause));
        }
    }
}

/// The worker.
impl Machine {
    fn worker_ready(&mut self, now: Now, id: WorkerId) {
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

    fn worker_part(&mut self, now: Now, id: WorkerId) {
        if let Some(worker) = self.worker.as_mut().filter(|w| w.id == id)
            && let Stage::Live { last_part, .. } = &mut worker.stage
        {
            *last_part = now;
        }
    }

    fn worker_backed_up(&mut self, now: Now, id: WorkerId) {
        // One that has not started yet may be trying encoders out instead of reading.
        let live = |w: &Worker| w.id == id && matches!(w.stage, Stage::Live { .. });
        if self.worker.as_ref().is_some_and(live) {
            self.crashed(now, Cause::Stalled, 0);
        }
    }

    fn worker_over_memory(&mut self, now: Now, id: WorkerId, cause: Cause) {
        // One that drains ends anyway, and its last parts are worth the memory.
        let stays = |w: &Worker| w.id == id && !matches!(w.stage, Stage::Draining { .. });
        if self.worker.as_ref().is_some_and(stays) {
            self.crashed(now, cause, 0);
        }
    }

    fn worker_failed(&mut self, now: Now, id: WorkerId, code: FailCode, message: String) {
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

    fn worker_drained(&mut self, now: Now, id: WorkerId) {
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

    fn worker_exited(&mut self, now: Now, id: WorkerId, how: String) {
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
    fn crashed(&mut self, now: Now, cause: Cause, patience_ms: u64) {
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
    fn drain(&mut self, now: Now) {
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
    fn drained(&mut self, now: Now, patience_ms: u64) {
        self.let_go(now, patience_ms);
        if self.stopping {
            self.rest(now, Standing::Stopped, Cause::OperatorStopped);
        }
    }

    /// The worker, if there is one, loses its session and its place. It has `patience_ms` to exit
    /// by itself, then come the signals.
    fn let_go(&mut self, now: Now, patience_ms: u64) {
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
    fn schedule(&mut self, now: Now) {
        self.start_at = self.wants_worker().then(|| self.restarts.earliest(now));
    }

    fn wants_worker(&self) -> bool {
        // A stop in progress needs no mention: its worker has not left yet.
        self.standing == Standing::On
            && !self.shutting_down
            && self.worker.is_none()
            && (!self.policy.pushed || self.publisher.is_some())
    }
}

/// Time.
impl Machine {
    fn advance(&mut self, now: Now) {
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

    fn end_broadcast(&mut self, now: Now, cause: Cause) {
        self.grace_until = None;
        if self.broadcast_open {
            self.broadcast_open = false;
            self.idle_since = now;
            self.outputs.push_back(Output::EndBroadcast(cause));
        }
    }

    /// The broadcast's media is interrupted: its grace period begins, unless it runs already. It
    /// is never shorter than a drain, so that the last parts are not lost.
    fn await_source(&mut self, now: Now) {
        if self.broadcast_open && !self.shutting_down {
            self.grace_until.get_or_insert(now.plus(self.policy.grace_ms.max(DRAIN_MAX_MS)));
        }
    }

    fn start_due(&self) -> Option<Now> {
        self.start_at.filter(|_| self.wants_worker() && self.leaving.len() < LEAVING_MAX)
    }

    fn drain_until(&self) -> Option<Now> {
        match self.worker?.stage {
            Stage::Draining { until } => Some(until),
            _ => None,
        }
    }

    /// When the worker hangs unless something comes of it, as long as its source delivers.
    fn stall_at(&self) -> Option<Now> {
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
    fn idle_until(&self) -> Option<Now> {
        let idle = match self.standing {
            Standing::On => !self.stopping && !self.broadcast_open,
            Standing::Stopped | Standing::Ended | Standing::Failed => {
                !self.freed && !self.broadcast_open
            }
        };
        (idle && !self.shutting_down)
            .then(|| self.idle_since.plus(self.policy.stream_timeout_ms.max(1)))
    }

    fn on_air(&self) -> bool {
        self.worker.is_some_and(|w| matches!(w.stage, Stage::Live { .. }))
    }

    fn announce(&mut self) {
        let now = (self.state(), self.cause.clone());
        if self.announced.as_ref() != Some(&now) {
            self.outputs.push_back(Output::State(now.0, now.1.clone()));
            self.announced = Some(now);
        }
    }
}

impl Worker {
    fn has_session(self) -> bool {
        matches!(self.stage, Stage::Live { .. } | Stage::Draining { .. })
    }
}

#[cfg(test)]
mod tests;
