//! What a stream task is made of, what it is asked, and what it shows.

use super::*;

/// What a stream task is asked to do.
#[derive(Debug)]
pub enum Ask {
    /// The operator wants it on. The seat is given back when it is off.
    Start(Seat),
    /// The operator wants it off.
    Stop,
    /// Someone with the right key wants to publish, which may turn an ended stream on; the answer
    /// says whether it may.
    Publish(Publisher, Seat, oneshot::Sender<Result<(), Refusal>>),
    /// The worker with this process id uses more memory than it may; both in MB.
    OverMemory {
        /// The worker.
        pid: u32,
        /// What it uses.
        used_mb: u64,
        /// What it may.
        limit_mb: u64,
    },
    /// Close whoever publishes: the key is no longer good.
    DropPublisher,
    /// What becomes of its video renditions, until other orders come.
    Orders(Vec<Order>),
    /// Say when everything asked before has been done.
    Reached(oneshot::Sender<()>),
    /// The broadcaster goes down.
    Shutdown,
    /// Have a bug.
    #[cfg(test)]
    Panic,
}

/// A connection that publishes.
#[derive(Debug)]
pub struct Publisher {
    /// Its number, never used twice.
    pub id: ConnectionId,
    /// Its media; closed when the connection ends.
    pub media: mpsc::Receiver<Media>,
    /// Ends the connection, with a reason for its encoder's log.
    pub cancel: watch::Sender<Option<Refusal>>,
}

/// What a stream is made of.
#[derive(Debug)]
pub struct Spec {
    /// Its name.
    pub name: StreamName,
    /// What makes its media.
    pub workers: Box<dyn Workers>,
    /// What the worker is told.
    pub start: Start,
    /// How patient the stream is.
    pub policy: Policy,
    /// Where its standing is kept.
    pub dir: PathBuf,
    /// Who else wants to know when a worker starts, such as a cached trial.
    pub trial: watch::Receiver<Option<crate::worker::ladder::TrialResult>>,
    /// What happens to it is counted here.
    pub counts: Arc<Counts>,
}

/// What the API and the pages show of a stream.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// Decisions of the current worker, and what went wrong lately.
    pub notes: Vec<String>,
    /// The renditions of the current session.
    pub renditions: Vec<ipc::MadeRendition>,
    /// The current or last broadcast.
    pub broadcast: u32,
    /// The current or last session.
    pub session: u32,
    /// When the current broadcast began, in microseconds since the Unix epoch.
    pub started_at_us: Option<i64>,
    /// Process id of the current worker.
    pub worker_pid: Option<u32>,
    /// The worker's newest pulse.
    pub pulse: ipc::Status,
    /// Cores that the worker used between its last two pulses.
    pub worker_cores: f64,
    /// Renditions of the current session that are not made now, by their place among
    /// [`Status::renditions`].
    pub withdrawn: BTreeMap<u8, ipc::Withdrawn>,
    /// Workers that ended unexpectedly since the broadcast began.
    pub crashes: u64,
}

/// A state's name in JSON.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Live => "live",
        State::Grace => "grace",
        State::Failed => "failed",
        State::Ended => "ended",
    }
}
