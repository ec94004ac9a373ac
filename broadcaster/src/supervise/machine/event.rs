//! What a machine is made of, what it is told, and what it answers.

use crate::supervise::cause::Cause;
use crate::worker::ipc::FailCode;

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
    /// The time of [`super::Machine::poll_timeout`] has come.
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
