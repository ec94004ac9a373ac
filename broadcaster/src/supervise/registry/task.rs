//! The task of a stream: what it is made of, and that another follows one that panicked.

use std::io;

use super::*;
use crate::supervise::child::{Child, ChildEvent, Processes, Workers};
use crate::supervise::machine::WorkerId;
use crate::worker::ipc::MadeRendition;

/// Key frames that pass through may be this much further apart than a segment is long, in
/// microseconds (hls.md: 2.2 s at 2 s). With what a cut may add, a segment still rounds to its
/// target duration.
const KEYFRAME_SLACK_US: u32 = 200_000;

impl Registry {
    /// Starts the task of a stream. One that ends by a bug is started again.
    pub(super) fn launch(&self, entry: &StreamEntry) -> Result<Arc<Stream>, RegistryError> {
        self.launch_again(entry, Restarts::default(), disabled(entry))
    }

    fn launch_again(
        &self,
        entry: &StreamEntry,
        restarts: Restarts,
        orders: Vec<Order>,
    ) -> Result<Arc<Stream>, RegistryError> {
        let live = Arc::new(LiveStream::new(entry.name.clone()));
        let feed =
            Feed::open(entry.name.clone(), self.signer.clone(), self.spool.clone(), live.clone())?;
        let served = Arc::new(Served::new(live, self.info(entry)));
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (mut task, status) =
            StreamTask::new(self.spec(entry, orders.clone())?, feed, served.clone(), asked);
        if status.borrow().state.counts()
            // Without a seat it was on before the limits were lowered; it stays on, since viewers
            // may watch.
            && let Ok(seat) = self.seat(&entry.name, &entry.owner)
        {
            task.sit(seat);
        }
        let watch = watch_task(self.this.clone(), entry.name.clone(), task, restarts);
        let task = Mutex::new(Some(tokio::spawn(watch)));
        let stream = Arc::new(Stream {
            served: served.clone(),
            asks,
            status,
            orders: Mutex::new(orders),
            task,
        });
        self.origin.add(served);
        self.running().insert(entry.name.clone(), stream.clone());
        Ok(stream)
    }

    /// A task has ended by a bug: what it held is free, and another takes up what is on disk.
    async fn repair(&self, name: &StreamName, mut restarts: Restarts, ran: Duration) {
        self.counts.task_panics.add_one();
        let broken = self.running().get(name).cloned();
        // The machine of restarts knows no clock; this one begins with the first panic.
        let now = Now(self.zero.elapsed().as_millis() as u64);
        let pause_ms = match restarts.crashed(now, ran.as_millis() as u64) {
            Verdict::Retry { at } => at.since(now),
            Verdict::Broken => PAUSE_MAX_MS,
        };
        tracing::error!(stream = %name, pause_ms, "the stream's task panicked; it is started again");
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        let entry = self.store().get(name).cloned();
        let same = |(now, then): (Arc<Stream>, Arc<Stream>)| Arc::ptr_eq(&now, &then);
        let is_there = self.running().get(name).cloned().zip(broken.clone()).is_some_and(same);
        // What was paused stays so: the governor speaks again only once there is a session.
        let orders = broken.map(|broken| lock(&broken.orders).clone()).unwrap_or_default();
        if let Some(entry) = entry.filter(|_| is_there && !self.is_closing())
            && let Err(error) = self.launch_again(&entry, restarts, orders)
        {
            tracing::error!(stream = %name, "the stream cannot be taken up again: {error}");
        }
    }

    fn spec(&self, entry: &StreamEntry, orders: Vec<Order>) -> Result<Spec, RegistryError> {
        let source = match &entry.source {
            SourceSpec::Rtmp => Source::Push,
            SourceSpec::Test => TEST_PICTURE,
            SourceSpec::File(path) => Source::File { path: path.clone(), repeat: entry.repeat },
        };
        let policy = Policy {
            pushed: source == Source::Push,
            grace_ms: self.config.grace_ms,
            stream_timeout_ms: self.config.stream_timeout_ms,
            segment_ms: self.config.segment_ms.into(),
            force_kill_ms: self.config.force_kill_timeout_ms,
        };
        Ok(Spec {
            name: entry.name.clone(),
            workers: Box::new(BesideOthers {
                processes: Processes {
                    program: self.program.clone(),
                    stream: entry.name.clone(),
                    owner: cleanup::owner(&self.config.data),
                },
                registry: self.this.clone(),
                told: self.encoders.clone(),
            }),
            start: Start {
                stream: entry.name.to_string(),
                source,
                ladder: entry.ladder.clone(),
                audio: default_audio(),
                part_us: self.config.part_ms * 1000,
                segment_us: self.config.segment_ms * 1000,
                keyframe_max_us: self.config.segment_ms * 1000 + KEYFRAME_SLACK_US,
                orders,
                marks: self.config.mark_renditions,
                trial: None,
                // Decided anew for each worker.
                encoders: Vec::new(),
                encoding_refused: None,
            },
            policy,
            dir: self.spool.stream_dir(&entry.name),
            trial: self.trial.subscribe(),
            counts: self.counts.clone(),
        })
    }

    fn info(&self, entry: &StreamEntry) -> Info {
        let part_target_ms = self.config.part_ms * 11 / 10;
        let key = self.signer.verifier().to_bytes();
        Info {
            stream: entry.name.to_string(),
            title: entry.title.clone(),
            state: "ended",
            broadcast: 0,
            session: 0,
            public_key: key.iter().map(|b| format!("{b:02x}")).collect(),
            session_record: None,
            renditions: Vec::new(),
            // The least hold-back that players keep (RFC 8216bis §4.4.3.8).
            latency_target_ms: 3 * part_target_ms,
            part_ms: self.config.part_ms,
            segment_ms: self.config.segment_ms,
            started_at: None,
            p2p: P2pInfo { policy: self.config.p2p.name() },
            signaling: None,
            ice_servers: Vec::new(),
        }
    }
}

/// Workers that are told what the other streams leave of the hardware encoders.
#[derive(Debug)]
struct BesideOthers {
    processes: Processes,
    registry: Weak<Registry>,
    told: Told,
}

impl Workers for BesideOthers {
    fn start(
        &self,
        id: WorkerId,
        start: Start,
        events: mpsc::Sender<ChildEvent>,
    ) -> io::Result<Child> {
        let others: Vec<_> = self.registry.upgrade().map_or(Vec::new(), |registry| {
            let running = registry.running();
            let others = running.iter().filter(|(name, _)| **name != self.processes.stream);
            others.flat_map(|(_, stream)| holding(stream.status())).collect()
        });
        let Told { encoders, refused } = self.told.clone().beside(&others);
        self.processes.start(id, Start { encoders, encoding_refused: refused, ..start }, events)
    }
}

/// Renditions that have an encoder, or will again: one that is paused comes back, and so does a
/// stream whose source is away or whose worker is replaced. One that waits for its first worker has
/// none, whatever its last broadcast had.
pub(super) fn holding(status: Status) -> Vec<MadeRendition> {
    if !listed(status.state) {
        return Vec::new();
    }
    let failed = |i: u8| status.withdrawn.get(&i).is_some_and(|gone| gone.failed);
    let made = status.renditions.iter().zip(0u8..).filter(|(_, i)| !failed(*i));
    made.map(|(made, _)| made.clone()).collect()
}

/// Runs the task of a stream, and has it replaced should it panic. Dropping it ends the task.
async fn watch_task(
    registry: Weak<Registry>,
    name: StreamName,
    task: StreamTask,
    restarts: Restarts,
) {
    let began = Instant::now();
    let mut alone = JoinSet::new();
    alone.spawn(task.run());
    let panicked = matches!(alone.join_next().await, Some(Err(error)) if error.is_panic());
    if panicked && let Some(registry) = registry.upgrade() {
        registry.repair(&name, restarts, began.elapsed()).await;
    }
}

/// Orders for what the operator does not want, until the governor looks.
fn disabled(entry: &StreamEntry) -> Vec<Order> {
    let off = entry.qualities.iter().filter(|(_, choice)| choice.enabled == Some(false));
    let order = |id: &RenditionId| Order { rendition: id.clone(), on: false, lowered: Lowered::No };
    off.map(|(id, _)| order(id)).collect()
}
