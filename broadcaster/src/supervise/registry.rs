//! Every stream of this broadcaster: made, started, stopped, removed and published to.
//!
//! The store says which streams there are, a task runs each, seats bound how many are on.

mod admission;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use common::feed::Signer;
use common::id::{RenditionId, StreamName};
use common::rendition::{Ladder, default_audio};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::encoders::Told;
use super::machine::{ConnectionId, Policy, State};
use super::now::Now;
use super::restart::{PAUSE_MAX_MS, Restarts, Verdict};
use super::standing;
use super::stream::{Ask, Publisher, Spec, Status, StreamTask};
use super::trial;
use crate::cleanup;
use crate::config::Config;
use crate::feed::{Feed, FeedFault};
use crate::ingest::rtmp::listener::{PublishGate, PublishSlot, Refusal};
use crate::origin::{Info, Origin, P2pInfo, Served};
use crate::resource::cost::{self, CAPACITY_EXCEEDED, CapacityExceeded};
use crate::resource::counts::Counts;
use crate::resource::limits::SharedLimits;
use crate::resource::monitor::{Monitor, Watched};
use crate::resource::quality::QualityChoice;
use crate::shutdown;
use crate::store::live::LiveStream;
use crate::store::spool::Spool;
use crate::streams::choice::Made;
use crate::streams::key::StreamKey;
use crate::streams::limit::{LimitReached, Seat, Seats};
use crate::streams::source::SourceSpec;
use crate::streams::store::{DEFAULT_OWNER, NewStream, Store, StoreError, StreamEntry};
use crate::worker::ipc::{Lowered, Order, Source, Start};
use crate::worker::ladder::{Picture, TrialResult, wants_trial};

/// Requests that may wait for a stream's task.
const ASKS_MAX: usize = 16;

/// Size and rate of the built-in test picture.
const TEST_PICTURE: Source = Source::Test { width: 1280, height: 720, fps: (30, 1) };

/// Longest wait for the tasks at the end: a drain, then SIGTERM, then SIGKILL.
const STOP_MARGIN: Duration = Duration::from_secs(3);

/// All streams.
#[derive(Debug)]
pub struct Registry {
    config: Config,
    program: PathBuf,
    signer: Arc<Signer>,
    spool: Spool,
    origin: Arc<Origin>,
    seats: Seats,
    limits: SharedLimits,
    store: Mutex<Store>,
    running: Mutex<BTreeMap<StreamName, Arc<Stream>>>,
    /// Streams on their way out: their names are still taken.
    leaving: Mutex<BTreeSet<StreamName>>,
    connections: AtomicU64,
    trial: Arc<watch::Sender<Option<TrialResult>>>,
    encoders: Told,
    counts: Arc<Counts>,
    /// Whether the broadcaster goes down.
    closing: AtomicBool,
    /// Knows how busy the machine is.
    monitor: OnceLock<Arc<Monitor>>,
    zero: Instant,
    this: Weak<Self>,
}

/// What is known of this machine when the streams are taken up.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What encoding costs.
    pub trial: Option<TrialResult>,
    /// What may encode.
    pub encoders: Told,
}

/// One stream's handle.
#[derive(Debug)]
pub struct Stream {
    /// What the origin serves of it.
    pub served: Arc<Served>,
    asks: mpsc::Sender<Ask>,
    status: watch::Receiver<Status>,
    /// What was ordered last, for the task that follows one that panicked.
    orders: Mutex<Vec<Order>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Why something cannot be done with a stream.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// As many streams as allowed are on.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// It does not fit beside those that run.
    #[error(transparent)]
    Capacity(#[from] CapacityExceeded),
    /// Its numbers cannot be read.
    #[error(transparent)]
    Feed(#[from] FeedFault),
    /// No stream has that name.
    #[error("there is no stream named {0}")]
    Unknown(StreamName),
    /// The broadcaster goes down.
    #[error("the broadcaster is shutting down")]
    ShuttingDown,
}

impl Registry {
    /// Takes up every stream of the store. Those that were on go on.
    ///
    /// # Errors
    /// When a stream cannot be taken up.
    pub fn open(
        config: Config,
        program: PathBuf,
        signer: Arc<Signer>,
        spool: Spool,
        origin: Arc<Origin>,
        store: Store,
        measured: Measured,
    ) -> Result<Arc<Self>, RegistryError> {
        let limits = SharedLimits::from(config.limits);
        let entries: Vec<_> = store.list().cloned().collect();
        let registry = Arc::new_cyclic(|this| Self {
            config,
            program,
            signer,
            spool,
            origin,
            seats: Seats::new(limits.clone()),
            limits,
            store: Mutex::new(store),
            running: Mutex::default(),
            leaving: Mutex::default(),
            connections: AtomicU64::new(0),
            trial: Arc::new(watch::Sender::new(measured.trial)),
            encoders: measured.encoders,
            counts: Arc::default(),
            closing: AtomicBool::new(false),
            monitor: OnceLock::new(),
            zero: Instant::now(),
            this: this.clone(),
        });
        for entry in entries {
            registry.launch(&entry)?;
        }
        Ok(registry)
    }

    /// Every stream with what is kept of it, in order of names.
    pub fn list(&self) -> Vec<(StreamEntry, Arc<Stream>)> {
        let entries: Vec<_> = self.store().list().cloned().collect();
        let running = self.running();
        let handle = |entry: StreamEntry| {
            let stream = running.get(&entry.name)?.clone();
            Some((entry, stream))
        };
        entries.into_iter().filter_map(handle).collect()
    }

    /// One stream.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: &StreamName) -> Result<(StreamEntry, Arc<Stream>), RegistryError> {
        let unknown = || RegistryError::Unknown(name.clone());
        let entry = self.store().get(name).cloned().ok_or_else(unknown)?;
        let stream = self.running().get(name).cloned().ok_or_else(unknown)?;
        Ok((entry, stream))
    }

    /// Makes a stream and turns it on. Gives its key, which cannot be read again.
    ///
    /// # Errors
    /// When a field is bad, the name is taken or a limit is reached; nothing is made then.
    pub async fn create(&self, new: NewStream) -> Result<StreamKey, RegistryError> {
        self.open_for_work()?;
        let name = new.name.clone();
        let owner = new.owner.clone().unwrap_or_else(|| DEFAULT_OWNER.into());
        let seat = self.seat(&name, &owner)?;
        if new.source != SourceSpec::Rtmp {
            self.admit(&name, &new.source, &new.ladder)?;
        }
        let (key, entry) = {
            let mut store = self.store();
            let key = store.add(new, unix_s())?;
            (key, store.get(&name).cloned())
        };
        let entry = entry.ok_or_else(|| RegistryError::Unknown(name.clone()))?;
        self.measure_for(&entry);
        let stream = self.launch(&entry).inspect_err(|_| {
            // Half a stream would take the name and do nothing. Should the store refuse, the next
            // start tells of both.
            let _ = self.store().remove(&name);
        })?;
        stream.ask(Ask::Start(seat)).await?;
        Ok(key)
    }

    /// Limits that may be changed while running.
    pub fn limits(&self) -> &SharedLimits {
        &self.limits
    }

    /// Has streams admitted by how busy the machine is, from now on.
    pub fn heed(&self, monitor: Arc<Monitor>) {
        // A second one would know nothing else.
        let _ = self.monitor.set(monitor);
    }

    /// What happened since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Which streams count for the limits.
    pub fn seats(&self) -> &Seats {
        &self.seats
    }

    /// Has this machine's encoders measured for a stream that needs it, unless they were.
    fn measure_for(&self, entry: &StreamEntry) {
        if !wants_trial(&entry.ladder) || self.trial.borrow().is_some() {
            return;
        }
        let (program, data, trial) =
            (self.program.clone(), self.config.data.clone(), self.trial.clone());
        tokio::spawn(async move {
            match trial::run(&program, &data).await {
                Ok(result) => drop(trial.send_replace(Some(result))),
                Err(error) => tracing::warn!("the trial of encoders failed: {error:#}"),
            }
        });
    }

    /// Changes what the operator wants of one quality.
    ///
    /// # Errors
    /// When there is no such stream or quality, or the store refuses.
    pub fn choose(
        &self,
        name: &StreamName,
        rendition: &RenditionId,
        change: QualityChoice,
    ) -> Result<(), RegistryError> {
        let (_, stream) = self.get(name)?;
        let status = stream.status();
        let failed = |i: u8| status.withdrawn.get(&i).is_some_and(|gone| gone.failed);
        let made = status.renditions.iter().zip(0u8..);
        let made: Vec<_> =
            made.map(|(r, i)| Made { id: r.id.clone(), kind: r.kind, failed: failed(i) }).collect();
        self.store().choose(name, rendition, change, &made)?;
        Ok(())
    }

    /// Where media is served.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Turns a stream on.
    ///
    /// # Errors
    /// When there is none of that name or a limit is reached.
    pub async fn start(&self, name: &StreamName) -> Result<(), RegistryError> {
        self.open_for_work()?;
        let (entry, stream) = self.get(name)?;
        let seat = self.seat(name, &entry.owner)?;
        if entry.source != SourceSpec::Rtmp && !stream.status().state.counts() {
            self.admit(name, &entry.source, &entry.ladder)?;
        }
        stream.ask(Ask::Start(seat)).await
    }

    /// Turns a stream off.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn stop(&self, name: &StreamName) -> Result<(), RegistryError> {
        let (_, stream) = self.get(name)?;
        stream.ask(Ask::Stop).await
    }

    /// Gives a stream a new key; whoever publishes with the old one is sent away.
    ///
    /// # Errors
    /// When there is none of that name or the store refuses.
    pub async fn renew_key(&self, name: &StreamName) -> Result<StreamKey, RegistryError> {
        self.open_for_work()?;
        let (_, stream) = self.get(name)?;
        let key = self.store().renew_key(name)?;
        stream.ask(Ask::DropPublisher).await?;
        Ok(key)
    }

    /// Stops a stream and forgets it, its media included.
    ///
    /// # Errors
    /// When there is none of that name or the store refuses.
    pub async fn remove(self: &Arc<Self>, name: &StreamName) -> Result<(), RegistryError> {
        self.open_for_work()?;
        if self.store().get(name).is_none() || !lock(&self.leaving).insert(name.clone()) {
            return Err(RegistryError::Unknown(name.clone()));
        }
        let (registry, name) = (self.clone(), name.clone());
        // A task of its own goes on when the client that asked goes away: half a stream would
        // keep its name for ever.
        let removal = tokio::spawn(async move {
            let removed = registry.remove_whole(&name).await;
            lock(&registry.leaving).remove(&name);
            removed
        });
        removal.await.unwrap_or(Err(RegistryError::ShuttingDown))
    }

    async fn remove_whole(&self, name: &StreamName) -> Result<(), RegistryError> {
        let stream = self.running().remove(name);
        self.origin.remove(name);
        if let Some(stream) = stream {
            // A task that has ended needs no telling.
            let _ = stream.ask(Ask::Stop).await;
            let _ = stream.ask(Ask::Shutdown).await;
            stream.ended(self.patience()).await;
        }
        self.spool.forget(name);
        if let Err(error) = standing::forget(&self.spool.stream_dir(name)) {
            cleanup::failed(name, &error, &self.counts);
        }
        // Last, because only now may another stream of that name use its folder.
        self.store().remove(name)?;
        Ok(())
    }

    /// Takes no new work from now on.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether no new work is taken any more.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn open_for_work(&self) -> Result<(), RegistryError> {
        if self.is_closing() { Err(RegistryError::ShuttingDown) } else { Ok(()) }
    }

    /// Ends every task: drains, then signals. Broadcasts stay open for the next start. Whoever has
    /// not ended within the bound is left alone.
    pub async fn shut_down(&self) {
        self.close();
        let streams: Vec<_> = self.running().values().cloned().collect();
        let mut ending = JoinSet::new();
        for stream in streams {
            ending.spawn(async move {
                // A task that has ended needs no telling; one that hangs must not hold up others.
                let told = stream.asks.send(Ask::Shutdown);
                let _ = tokio::time::timeout(shutdown::STREAMS_MAX, told).await;
                stream.ended(shutdown::STREAMS_MAX).await;
            });
        }
        let all = async { while ending.join_next().await.is_some() {} };
        if tokio::time::timeout(shutdown::STREAMS_MAX, all).await.is_err() {
            tracing::error!("streams do not end: their workers die with this process");
        }
        self.running().clear();
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.config.force_kill_timeout_ms) + STOP_MARGIN
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<StreamName, Arc<Stream>>> {
        lock(&self.running)
    }
}

impl Stream {
    /// What the stream is doing now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Whether it has a broadcast that goes on.
    pub fn is_listed(&self) -> bool {
        listed(self.status.borrow().state)
    }

    /// Says what becomes of its video renditions. Gives whether its task takes it now.
    pub fn order(&self, orders: Vec<Order>) -> bool {
        lock(&self.orders).clone_from(&orders);
        self.asks.try_send(Ask::Orders(orders)).is_ok()
    }

    /// Asks, and waits until it is done, so that whoever asks then sees the new state.
    async fn ask(&self, ask: Ask) -> Result<(), RegistryError> {
        let (done, reached) = oneshot::channel();
        for ask in [ask, Ask::Reached(done)] {
            self.asks.send(ask).await.map_err(|_| RegistryError::ShuttingDown)?;
        }
        reached.await.map_err(|_| RegistryError::ShuttingDown)
    }

    async fn ended(&self, patience: Duration) {
        let task = lock(&self.task).take();
        if let Some(mut task) = task
            && tokio::time::timeout(patience, &mut task).await.is_err()
        {
            // Dropping it kills its workers.
            task.abort();
        }
    }
}

impl Watched for Registry {
    fn workers(&self) -> Vec<(StreamName, u32)> {
        let worker = |(name, stream): (&StreamName, &Arc<Stream>)| {
            Some((name.clone(), stream.status.borrow().worker_pid?))
        };
        self.running().iter().filter_map(worker).collect()
    }

    fn is_stream(&self, stream: &StreamName) -> bool {
        self.running().contains_key(stream)
    }

    fn over_memory(&self, stream: &StreamName, pid: u32, used_bytes: u64, limit_bytes: u64) {
        let stream = self.running().get(stream).cloned();
        if let Some(stream) = stream {
            let (used_mb, limit_mb) = (used_bytes >> 20, limit_bytes >> 20);
            // One that is full of asks is told again in three seconds.
            let _ = stream.asks.try_send(Ask::OverMemory { pid, used_mb, limit_mb });
        }
    }
}

/// Whether a stream is listed for viewers.
pub fn listed(state: State) -> bool {
    matches!(state, State::Live | State::Grace)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single step, so a poisoned one still holds sense.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests;
