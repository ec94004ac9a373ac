//! The task of one stream: carries out what its machine decides and tells it what happened.

mod publishing;
mod reports;
mod status;

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

pub use status::{Ask, Publisher, Spec, Status, state_name};

use publishing::next_media;

/// Reports that may wait for the task: two seconds of parts of a large ladder.
const EVENTS_MAX: usize = 256;

/// Notes kept for the operator.
const NOTES_MAX: usize = 32;

/// What viewers are told of a stream that will go on when the broadcaster is back.
const RESTARTING: &str = "restarting";

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

    /// Tells the worker, and those that come after it. What sleeps may have changed with the orders,
    /// and players that read the list before the next segment ends are to find it.
    fn handle_orders(&mut self, orders: Vec<Order>) {
        self.spec.start.orders.clone_from(&orders);
        if let Some(running) = self.machine.feeding().and_then(|w| self.children.get(&w)) {
            // One whose queue is full is about to be replaced.
            let _ = running.child.send(Command::Orders(orders));
        }
        self.feed.list();
    }

    /// Keeps the seat while the stream is on; one that stayed off, or is off again, needs none.
    fn keep(&mut self, seat: Seat) {
        self.seat = Some(seat).filter(|_| self.machine.state().counts());
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
        // Also without what sleeps: a page shows another quality while such a one wakes up.
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
