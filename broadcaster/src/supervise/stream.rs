//! The task of one stream: carries out what its machine decides and tells it what happened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use common::id::StreamName;
use common::playlist::date_time;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::cause::Cause;
use super::child::{Child, ChildEvent, Workers};
use super::machine::{ConnectionId, Input, Machine, Output, Policy, State, WorkerId};
use super::now::Now;
use super::standing;
use crate::feed::{Feed, Timing};
use crate::ingest::media::{Config, Media, Track};
use crate::ingest::rtmp::listener::Refusal;
use crate::origin::{Info, InfoRendition, Served};
use crate::resource::counts::Counts;
use crate::streams::limit::Seat;
use crate::worker::ipc::{self, Command, FailCode, Order, Report, Start};

/// Reports that may wait for the task: two seconds of parts of a large ladder.
const EVENTS_MAX: usize = 256;

/// Notes kept for the operator.
const NOTES_MAX: usize = 32;

/// What viewers are told of a stream that will go on when the broadcaster is back.
const RESTARTING: &str = "restarting";

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

/// The task of one stream.
#[derive(Debug)]
pub struct StreamTask {
    spec: Spec,
    machine: Machine,
    feed: Feed,
    served: Arc<Served>,
    asks: mpsc::Receiver<Ask>,
    events: mpsc::Receiver<ChildEvent>,
    events_in: mpsc::Sender<ChildEvent>,
    children: BTreeMap<WorkerId, Running>,
    publisher: Option<Publisher>,
    /// A publisher that the machine has not answered for yet.
    asking: Option<(Publisher, oneshot::Sender<Result<(), Refusal>>)>,
    /// The publisher's newest configurations, for a worker that is started again.
    configs: BTreeMap<u8, Config>,
    status: watch::Sender<Status>,
    /// Its place among the streams that may run, while its state counts.
    seat: Option<Seat>,
    zero: Instant,
    /// When the worker's newest pulse came.
    pulse_at: Instant,
    /// Whether anybody is left who may ask.
    asked: bool,
    finished: bool,
}

#[derive(Debug)]
struct Running {
    child: Child,
    ready: Option<ipc::Ready>,
    /// Video is of no use to it before the next key frame.
    needs_key: bool,
}

impl StreamTask {
    /// A task for a stream, and how to follow it. Takes up what an earlier run left.
    pub fn new(
        spec: Spec,
        feed: Feed,
        served: Arc<Served>,
        asks: mpsc::Receiver<Ask>,
    ) -> (Self, watch::Receiver<Status>) {
        let zero = Instant::now();
        let mut machine = Machine::new(spec.policy, Now(0));
        if let Some(standing) = standing::read(&spec.dir) {
            let numbers = feed.numbers();
            let broadcast_open = numbers.broadcast > 0 && !numbers.ended;
            machine.handle(Now(0), Input::Restored { standing, broadcast_open });
        }
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let status = Status {
            state: machine.state(),
            cause: machine.cause().clone(),
            notes: Vec::new(),
            renditions: Vec::new(),
            broadcast: feed.numbers().broadcast,
            session: feed.numbers().session.0,
            started_at_us: None,
            worker_pid: None,
            pulse: ipc::Status::default(),
            withdrawn: BTreeMap::new(),
            worker_cores: 0.0,
            crashes: 0,
        };
        let (status, follow) = watch::channel(status);
        let task = Self {
            spec,
            machine,
            feed,
            served,
            asks,
            events,
            events_in,
            children: BTreeMap::new(),
            publisher: None,
            asking: None,
            configs: BTreeMap::new(),
            status,
            seat: None,
            zero,
            pulse_at: zero,
            asked: true,
            finished: false,
        };
        (task, follow)
    }

    /// Takes a seat for a stream that is on from the start.
    pub fn sit(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    /// Runs until the broadcaster goes down or nobody asks any more.
    pub async fn run(self) {
        // Filters of the log go by the fields of spans.
        let span = tracing::info_span!("task", stream = %self.spec.name);
        self.attend().instrument(span).await;
    }

    async fn attend(mut self) {
        self.carry_out();
        self.publish_info();
        while !self.finished {
            let timeout = self.machine.poll_timeout().map(|(at, _)| self.zero + ms(at.0));
            let publisher = self.publisher.as_mut();
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.handle_event(event),
                ask = self.asks.recv(), if self.asked => match ask {
                    Some(ask) => self.handle_ask(ask),
                    None => {
                        self.asked = false;
                        self.handle(Input::Shutdown);
                    }
                },
                media = next_media(publisher) => self.handle_media(media),
                () = sleep_until(timeout) => self.handle(Input::Tick),
            }
        }
    }

    fn now(&self) -> Now {
        Now(self.zero.elapsed().as_millis() as u64)
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        self.machine.handle(now, input);
        self.carry_out();
    }

    fn handle_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Start(seat) => {
                self.handle(Input::OperatorStart);
                self.keep(seat);
            }
            Ask::Stop => self.handle(Input::OperatorStop),
            Ask::Orders(orders) => self.handle_orders(orders),
            Ask::Shutdown => self.handle(Input::Shutdown),
            #[cfg(test)]
            Ask::Panic => panic!("asked for by a test"),
            Ask::Reached(reached) => {
                // Whoever asked may have stopped waiting.
                let _ = reached.send(());
            }
            Ask::DropPublisher => {
                // The connection's end is then noticed like any other.
                if let Some(publisher) = &self.publisher {
                    publisher.cancel.send_replace(Some(Refusal::KeyReplaced));
                }
            }
            Ask::OverMemory { pid, used_mb, limit_mb } => {
                let is_it = |(_, running): &(&WorkerId, &Running)| running.child.pid() == Some(pid);
                if let Some((worker, _)) = self.children.iter().find(is_it) {
                    let (worker, crashes) = (*worker, self.machine.crashes());
                    self.handle(Input::WorkerOverMemory { worker, used_mb, limit_mb });
                    if self.machine.crashes() > crashes {
                        self.spec.counts.memory_kills.add_one();
                    }
                }
            }
            Ask::Publish(publisher, seat, answer) => {
                let id = publisher.id;
                self.asking = Some((publisher, answer));
                self.handle(Input::PublisherConnected(id));
                // An answer always comes at once; should it not, the connection is refused by
                // the drop.
                self.asking = None;
                self.keep(seat);
            }
        }
    }

    /// Tells the worker, and those that come after it.
    fn handle_orders(&mut self, orders: Vec<Order>) {
        self.spec.start.orders.clone_from(&orders);
        if let Some(running) = self.machine.feeding().and_then(|w| self.children.get(&w)) {
            // One whose queue is full is about to be replaced.
            let _ = running.child.send(Command::Orders(orders));
        }
    }

    /// Keeps the seat while the stream is on; one that stayed off, or is off again, needs none.
    fn keep(&mut self, seat: Seat) {
        self.seat = Some(seat).filter(|_| self.machine.state().counts());
    }

    fn handle_media(&mut self, media: Option<Media>) {
        let Some(id) = self.publisher.as_ref().map(|p| p.id) else { return };
        let Some(media) = media else {
            self.publisher = None;
            self.configs.clear();
            return self.handle(Input::PublisherGone(id));
        };
        // Only the machine is told of every frame; it answers in a few nanoseconds.
        self.handle(Input::PublisherMedia(id));
        let command = match media {
            Media::Config(config) => {
                self.configs.insert(config.track() as u8, config.clone());
                Command::Config(config)
            }
            Media::Frame(frame) => Command::Frame(frame),
        };
        let Some(worker) = self.machine.feeding() else { return };
        let Some(running) = self.children.get_mut(&worker) else { return };
        if let Command::Frame(frame) = &command {
            let video = frame.track == Track::Video;
            let key = video && frame.key;
            // Sound that comes before the first picture would look like a source without one.
            let waits = video || self.configs.contains_key(&(Track::Video as u8));
            if running.needs_key && waits && !key {
                return;
            }
            running.needs_key &= !key;
        }
        if running.child.send(command).is_err() {
            // What follows builds on what is lost now.
            running.needs_key = true;
            self.handle(Input::WorkerBackedUp(worker));
        }
    }

    fn handle_event(&mut self, event: ChildEvent) {
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
                    let id = self.status.borrow().renditions.get(place).map(|r| r.id.to_string());
                    tracing::info_span!("rendition", rendition = id)
                        .in_scope(|| tracing::info!("{}", withdrawn.note));
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

    fn carry_out(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            tracing::debug!(stream = %self.spec.name, ?output);
            match output {
                Output::StartWorker(worker) => self.start_worker(worker),
                Output::DrainWorker(worker) => self.with_child(worker, |child| {
                    // One that does not read is drained by time.
                    let _ = child.send(Command::Drain);
                }),
                Output::TerminateWorker(worker) => self.with_child(worker, Child::terminate),
                Output::KillWorker(worker) => {
                    self.spec.counts.force_kills.add_one();
                    tracing::error!(
                        code = "FORCE_KILL_REQUIRED",
                        "Stream {} did not respond to SIGTERM, force killing",
                        self.spec.name
                    );
                    self.with_child(worker, Child::kill);
                }
                Output::AttachPublisher(id) => self.attach(id),
                Output::ClosePublisher(id, cause) => self.close_publisher(id, &cause),
                Output::RefusePublisher(id, cause) => self.refuse(id, cause),
                Output::BeginBroadcast => {
                    let begun = self.feed.begin_broadcast();
                    self.report_fault(begun);
                    self.status.send_modify(|status| status.started_at_us = Some(unix_us()));
                }
                Output::BeginSession(worker) => self.begin_session(worker),
                Output::EndSession(_) => self.feed.end_session(),
                Output::EndBroadcast(cause) => {
                    tracing::info!(stream = %self.spec.name, %cause, "the broadcast ends");
                    let ended = self.feed.end_broadcast();
                    self.report_fault(ended);
                }
                Output::FreeStream => {
                    self.feed.free();
                    self.served.set_thumb(bytes::Bytes::new());
                    self.status.send_modify(|status| {
                        status.notes.clear();
                        status.renditions.clear();
                    });
                }
                Output::State(state, cause) => self.announce(state, cause),
                Output::Finished => self.finished = true,
            }
        }
        // Not with the state: crashes that look alike announce nothing new.
        let crashes = self.machine.crashes();
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.crashes, crashes) != crashes);
    }

    fn with_child(&self, worker: WorkerId, act: impl FnOnce(&Child)) {
        if let Some(running) = self.children.get(&worker) {
            act(&running.child);
        }
    }

    fn start_worker(&mut self, worker: WorkerId) {
        let mut start = self.spec.start.clone();
        start.trial = self.spec.trial.borrow().clone();
        match self.spec.workers.start(worker, start, self.events_in.clone()) {
            Ok(child) => {
                self.spec.counts.worker_starts.add_one();
                for config in self.configs.values() {
                    // A new queue has room for two.
                    let _ = child.send(Command::Config(config.clone()));
                }
                let running = Running { child, ready: None, needs_key: true };
                self.children.insert(worker, running);
            }
            Err(error) => {
                let how = format!("the worker cannot be started: {error}");
                self.handle(Input::WorkerExited { worker, how });
            }
        }
    }

    fn begin_session(&mut self, worker: WorkerId) {
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

    fn attach(&mut self, id: ConnectionId) {
        let Some((publisher, answer)) = self.asking.take().filter(|(p, _)| p.id == id) else {
            return;
        };
        if answer.send(Ok(())).is_ok() {
            self.configs.clear();
            self.publisher = Some(publisher);
        }
    }

    fn refuse(&mut self, id: ConnectionId, cause: Cause) {
        if let Some((_, answer)) = self.asking.take().filter(|(p, _)| p.id == id) {
            let _ = answer.send(Err(refusal(&cause)));
        }
    }

    fn close_publisher(&mut self, id: ConnectionId, cause: &Cause) {
        if self.publisher.as_ref().is_some_and(|p| p.id == id)
            && let Some(publisher) = self.publisher.take()
        {
            self.configs.clear();
            publisher.cancel.send_replace(Some(refusal(cause)));
        }
    }

    fn announce(&mut self, state: State, cause: Cause) {
        let name = &self.spec.name;
        match (&state, &cause) {
            (State::Failed, _) => tracing::error!(stream = %name, "the stream failed: {cause}"),
            (_, Cause::WorkerCrashed(_) | Cause::Stalled | Cause::MemoryLimit { .. }) => {
                tracing::warn!(stream = %name, ?state, "{cause}; it is started again");
            }
            _ => tracing::info!(stream = %name, ?state, "{cause}"),
        }
        let lost = |c: &Cause| {
            matches!(c, Cause::WorkerCrashed(_) | Cause::Stalled | Cause::MemoryLimit { .. })
        };
        if lost(&cause) {
            self.note(cause.to_string());
        }
        if let Err(error) = standing::write(&self.spec.dir, self.machine.standing()) {
            tracing::warn!(stream = %name, %error, "the stream's standing cannot be kept");
        }
        let was_on = self.status.borrow().state.counts();
        match (was_on, state.counts()) {
            (false, true) => self.spec.counts.stream_starts.add_one(),
            (true, false) => self.spec.counts.stream_stops.add_one(),
            _ => {}
        }
        if !state.counts() {
            self.seat = None;
        }
        self.served.live.set_grace(state != State::Live);
        self.status.send_modify(|status| {
            status.state = state;
            status.cause = cause;
            if state != State::Live {
                status.worker_pid = None;
            }
        });
        self.publish_info();
    }

    fn note(&self, note: String) {
        self.status.send_modify(|status| {
            if status.notes.len() >= NOTES_MAX {
                status.notes.remove(0);
            }
            status.notes.push(note);
        });
    }

    fn report_fault(&self, result: Result<(), crate::feed::FeedFault>) {
        if let Err(fault) = result {
            tracing::error!(stream = %self.spec.name, "{fault}");
            self.note(fault.to_string());
        }
    }

    fn publish_info(&self) {
        let status = self.status.borrow();
        let renditions = self.feed.window().offered().map(InfoRendition::from).collect();
        let record = self.feed.session_record();
        self.served.set_info(Info {
            state: match status.cause {
                // Its state is that of a stream whose source is away, and this says why.
                Cause::ShuttingDown if status.state.counts() => RESTARTING,
                _ => state_name(status.state),
            },
            broadcast: status.broadcast,
            session: status.session,
            session_record: record.map(|r| base64::engine::general_purpose::STANDARD.encode(r)),
            renditions,
            started_at: status.started_at_us.map(date_time),
            ..Info::clone(&self.served.info())
        });
    }
}

/// What a publisher is told.
fn refusal(cause: &Cause) -> Refusal {
    match cause {
        Cause::TakenOver => Refusal::TakenOver,
        Cause::TakeoverLimit(_) => Refusal::Contested,
        Cause::OperatorStopped => Refusal::Stopped,
        Cause::ShuttingDown => Refusal::Restarting,
        other => Refusal::Other(other.to_string()),
    }
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

async fn next_media(publisher: Option<&mut Publisher>) -> Option<Media> {
    match publisher {
        Some(publisher) => publisher.media.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn ms(ms: u64) -> std::time::Duration {
    std::time::Duration::from_millis(ms)
}

fn unix_us() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |d| d.as_micros() as i64)
}

#[cfg(test)]
mod tests;
