//! Looks at every stream and the machine once a second, lets the controller decide
//! ([`crate::resource::degrade`]) and tells the streams.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use common::id::{RenditionId, StreamName};
use common::rendition::Kind;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::machine::State;
use super::registry::{Registry, Stream};
use crate::resource::degrade::{Change, Controller, Machine, QualityLoad, StreamLoad, Switches};
use crate::resource::monitor::Monitor;
use crate::resource::quality::Encode;
use crate::store::live::OnCall;
use crate::streams::store::StreamEntry;
use crate::worker::ipc::{Lowered, Order};

/// How often everything is looked at: workers report as often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Changes kept for the operator.
const CHANGES_KEPT: usize = 64;

/// A quality that was asked for within this time is watched: a player in the background asks every
/// few seconds.
pub const WATCHED: Duration = Duration::from_secs(10);

/// Decides which qualities are made.
#[derive(Debug, Default)]
pub struct Governor {
    inner: Mutex<Inner>,
    /// Somebody asks for a quality that is not made, or the operator changed something.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    controller: Controller,
    machine: Machine,
    now_ms: u64,
    recent: VecDeque<Noted>,
    /// What each stream was told last.
    told: BTreeMap<StreamName, Told>,
}

/// What a stream was told: another of the same name knows nothing of it.
#[derive(Debug)]
struct Told {
    whom: Weak<Stream>,
    orders: Vec<Order>,
    on_call: BTreeMap<RenditionId, OnCall>,
}

/// A change that was made, for the operator.
#[derive(Clone, Debug, Serialize)]
pub struct Noted {
    /// When, in microseconds since the Unix epoch.
    #[serde(skip)]
    pub at_us: i64,
    /// What was decided.
    #[serde(flatten)]
    pub change: Change,
}

impl Governor {
    /// Looks and decides for as long as it is polled.
    pub async fn run(&self, registry: &Registry, monitor: &Monitor) {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Only regular looks measure: the same pulse must not count twice.
            let regular = tokio::select! {
                _ = ticks.tick() => true,
                () = self.wake.notified() => false,
                () = registry.origin().wanted() => false,
            };
            self.look(began.elapsed().as_millis() as u64, regular, registry, monitor);
        }
    }

    /// Looks again at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Why a quality is not made, or not as planned; `None` when it is.
    pub fn reason(&self, stream: &StreamName, rendition: &RenditionId) -> Option<String> {
        self.lock().controller.reason(stream, rendition)
    }

    /// What is ordered for a quality: whether it is made, and what is spared on it.
    pub fn ordered(&self, stream: &StreamName, rendition: &RenditionId) -> (bool, Lowered) {
        self.lock().controller.ordered(stream, rendition)
    }

    /// Cores that a quality takes, as measured.
    pub fn cores(&self, stream: &StreamName, rendition: &RenditionId) -> Option<f64> {
        self.lock().controller.cores(stream, rendition)
    }

    /// The newest changes, oldest first.
    pub fn recent(&self) -> Vec<Noted> {
        self.lock().recent.iter().cloned().collect()
    }

    /// Changes by load so far: each may concern several qualities.
    pub fn changes_total(&self) -> u64 {
        self.lock().controller.changes_total()
    }

    /// Whether work that can wait should.
    pub fn background_paused(&self) -> bool {
        let inner = self.lock();
        inner.controller.background_paused(inner.now_ms, inner.machine)
    }

    fn look(&self, now_ms: u64, regular: bool, registry: &Registry, monitor: &Monitor) {
        let streams = registry.list();
        let loads: Vec<_> = streams.iter().map(|(entry, stream)| load(entry, stream)).collect();
        let limits = registry.limits().get();
        let switches = Switches { degradation: limits.degradation, on_demand: limits.on_demand };
        let machine = machine(monitor);
        let mut inner = self.lock();
        (inner.now_ms, inner.machine) = (now_ms, machine);
        let changes = match regular {
            true => inner.controller.tick(now_ms, switches, machine, &loads),
            false => inner.controller.obey_now(now_ms, switches, &loads),
        };
        for change in changes {
            inner.note(change);
        }
        let inner = &mut *inner;
        // What was freed has forgotten what it listed.
        let knows = |name: &StreamName| {
            loads.iter().any(|load| load.name == *name && !load.qualities.is_empty())
        };
        inner.told.retain(|name, _| knows(name));
        for (load, (_, stream)) in loads.iter().zip(&streams) {
            let orders = inner.orders(load);
            // Of a broadcast that is over, nothing can be woken, also while another is waited for.
            let on_call = if stream.is_listed() { inner.on_call(load) } else { BTreeMap::new() };
            stream.served.live.set_on_call(on_call.clone());
            // A stream that was taken up again knows nothing of what the one before was told.
            let told = inner.told.get(&load.name).is_some_and(|told| {
                std::ptr::eq(told.whom.as_ptr(), Arc::as_ptr(stream))
                    && (&told.orders, &told.on_call) == (&orders, &on_call)
            });
            if !load.qualities.is_empty() && !told && stream.order(orders.clone()) {
                let whom = Arc::downgrade(stream);
                inner.told.insert(load.name.clone(), Told { whom, orders, on_call });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Deciding is one step; should it panic, the next look decides anew.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What is ordered of a stream: every quality, since a worker keeps what it is not told.
    fn orders(&self, load: &StreamLoad) -> Vec<Order> {
        let order = |quality: &QualityLoad| {
            let (on, lowered) = self.controller.ordered(&load.name, &quality.id);
            Order { rendition: quality.id.clone(), on, lowered }
        };
        load.qualities.iter().map(order).collect()
    }

    /// What is there for whoever asks: it sleeps, or it was woken and begins with the next segment.
    /// What failed is neither, also when nobody had watched it.
    fn on_call(&self, load: &StreamLoad) -> BTreeMap<RenditionId, OnCall> {
        let how = |quality: &QualityLoad| {
            let (on, _) = self.controller.ordered(&load.name, &quality.id);
            match on {
                _ if quality.failed => None,
                true if quality.quality.encode == Encode::OnDemand => Some(OnCall::Woken),
                false if self.controller.is_asleep(&load.name, &quality.id) => Some(OnCall::Asleep),
                _ => None,
            }
        };
        load.qualities.iter().filter_map(|q| Some((q.id.clone(), how(q)?))).collect()
    }

    fn note(&mut self, change: Change) {
        let Change { stream, rendition, on, lowered, reason, by_load } = &change;
        let what = match (on, lowered) {
            (false, _) => "paused",
            (true, Lowered::No) => "resumed",
            (true, Lowered::Effort) => "made with less effort",
            (true, Lowered::FrameRate) => "made at half its frame rate",
        };
        let before = if *on && *lowered == Lowered::No { "it was away: " } else { "" };
        if *by_load && !on {
            tracing::warn!(%stream, %rendition, "{rendition} {what}: {reason}");
        } else {
            tracing::info!(%stream, %rendition, "{rendition} {what}: {before}{reason}");
        }
        if self.recent.len() >= CHANGES_KEPT {
            self.recent.pop_front();
        }
        let at_us = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at_us = at_us.map_or(0, |d| d.as_micros() as i64);
        self.recent.push_back(Noted { at_us, change });
    }
}

fn machine(monitor: &Monitor) -> Machine {
    let Some(host) = monitor.host() else {
        // Nobody watches the machine: whether there is room is found out by trying.
        return Machine { free_cores: f64::INFINITY, ..Machine::default() };
    };
    Machine {
        cores: host.cores,
        free_cores: host.cores_free(),
        memory_bytes: host.memory_bytes,
        memory_limit_bytes: host.memory_limit_bytes,
        // Nothing is uploaded yet.
        uploads_behind: false,
    }
}

fn load(entry: &StreamEntry, stream: &Stream) -> StreamLoad {
    let status = stream.status();
    let video = (status.renditions.iter().zip(0u8..)).filter(|(r, _)| r.kind == Kind::Video);
    let qualities = video
        .map(|(made, i)| {
            let pixels = u64::from(made.width) * u64::from(made.height);
            let (fps, per) = made.fps;
            let choice = entry.qualities.get(&made.id).copied().unwrap_or_default();
            QualityLoad {
                id: made.id.clone(),
                quality: choice.decide((made.width, made.height)),
                encoded: !made.is_passthrough(),
                pixel_rate: pixels * u64::from(fps) / u64::from(per.max(1)),
                pixels,
                failed: status.withdrawn.get(&i).is_some_and(|w| w.failed),
                watched: stream.served.asked.lately(&made.id, WATCHED),
                memory_bytes: stream.served.live.ring.rendition_bytes(&made.id),
            }
        })
        .collect();
    let lag_us = status.pulse.lag_us.iter().zip(&status.renditions);
    let lag_us = lag_us.filter(|(_, r)| r.kind == Kind::Video && !r.is_passthrough());
    StreamLoad {
        name: entry.name.clone(),
        live: status.state == State::Live,
        speed: status.pulse.speed,
        lag_ms: lag_us.map(|(us, _)| us / 1000).max().unwrap_or(0),
        cores: status.worker_cores,
        qualities,
    }
}

/// A governor that runs in a task of its own until the registry is gone.
pub fn start(governor: Arc<Governor>, registry: Arc<Registry>, monitor: Arc<Monitor>) {
    tokio::spawn(async move { governor.run(&registry, &monitor).await });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::quality::QualityChoice;

    #[test]
    fn what_sleeps_or_was_woken_is_on_call_and_what_failed_is_not() {
        let on_demand = QualityChoice { encode: Some(Encode::OnDemand), ..Default::default() };
        let quality = |height: u16| QualityLoad {
            id: format!("{height}p").parse().expect("an id"),
            quality: on_demand.decide((1280, height.into())),
            encoded: true,
            pixel_rate: 1280 * u64::from(height) * 30,
            pixels: 1280 * u64::from(height),
            failed: false,
            watched: height == 360,
            memory_bytes: 0,
        };
        let mut load = StreamLoad {
            name: "show".parse().expect("a name"),
            live: true,
            speed: Some(1.0),
            lag_ms: 0,
            cores: 0.0,
            qualities: [720, 480, 360].map(quality).to_vec(),
        };
        let switches = Switches { degradation: false, on_demand: true };
        let mut inner = Inner::default();
        let look = |inner: &mut Inner, now_ms, load: &StreamLoad| {
            let loads = std::slice::from_ref(load);
            inner.controller.tick(now_ms, switches, Machine::default(), loads);
            let on_call = inner.on_call(load).into_iter();
            on_call.map(|(id, how)| (id.to_string(), how)).collect::<Vec<_>>()
        };
        let [small, middle, large] = ["360p", "480p", "720p"].map(str::to_owned);
        look(&mut inner, 0, &load);
        let (asleep, woken) = (OnCall::Asleep, OnCall::Woken);
        let all = [(small.clone(), woken), (middle.clone(), asleep), (large, asleep)];
        assert_eq!(look(&mut inner, 60_000, &load), all);
        load.qualities[0].failed = true;
        load.qualities[1].watched = true;
        assert_eq!(look(&mut inner, 61_000, &load), [(small.clone(), woken), (middle, woken)]);
        load.qualities[1].failed = true;
        assert_eq!(look(&mut inner, 62_000, &load), [(small, woken)], "it failed as it was woken");
    }
}
