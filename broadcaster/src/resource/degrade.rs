//! Which qualities are made when there is not enough for all of them. Pure: loads and time in,
//! changes out.
//!
//! It promises that
//! - of every live stream at least one quality stays that the operator wants, and audio always;
//! - what goes first is what nobody watches, then what has the lowest priority, then what costs
//!   most; a quality that does not fit even so goes before cheaper ones;
//! - when a stream's last quality is too much by itself, its effort is lowered, then its frame rate;
//! - what went comes back in the reverse order, once there has been room for it for a while; that
//!   while grows each time it had to go again, so that a load that comes and goes does not make
//!   qualities come and go: fewer than [`CHANGES_MAX`] changes in [`CHANGES_WINDOW_MS`] before
//!   anything is taken back;
//! - every change has a reason in words.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::id::{RenditionId, StreamName};
use serde::Serialize;

use super::quality::{Encode, Quality};
use crate::worker::ipc::Lowered;

/// Seconds in a row that a stream must be slow: a key frame or a pause of the machine is shorter.
const SLOW_TICKS: usize = 3;

/// Encoding below this much of real time is slow: less than two frames of 30 missing in a second.
const SPEED_MIN: f64 = 0.95;

/// A rendition this far behind its source is late, in milliseconds: two parts.
const LAG_MS_MAX: u64 = 1_000;

/// After a change nothing more is taken for this long, in milliseconds: it takes effect with the
/// next segment, and what waited must be worked off.
const SETTLE_MS: u64 = 5_000;

/// Of the processor time that the workers get while they are slow, this much is given out.
const GIVEN_OUT: f64 = 0.85;

/// Above this share of free cores a slow stream is slow by itself.
const SPARE: f64 = 0.25;

/// Of all cores this much must stay free when something comes back.
const RESERVE: f64 = 0.08;

/// What comes back may cost this much more than it did.
const COSTS_MORE: f64 = 1.15;

/// How long there must have been room, in milliseconds; doubles with each time in vain ...
const ROOM_MS_MIN: u64 = 8_000;

/// ... up to this long.
const ROOM_MS_MAX: u64 = 40_000;

/// What goes again this soon after it came back came back in vain, in milliseconds.
const IN_VAIN_MS: u64 = 60_000;

/// After this long without a change, earlier times in vain are forgotten, in milliseconds.
const FORGIVEN_MS: u64 = 300_000;

/// Nothing comes back after this many changes ...
pub const CHANGES_MAX: usize = 8;

/// ... within this time, in milliseconds: what came back may have to go again, which makes 10 in
/// 10 minutes at most.
pub const CHANGES_WINDOW_MS: u64 = 600_000;

/// Memory in use above this share of the limit is too much, and comes down to the other.
const MEMORY_HIGH: f64 = 0.92;
const MEMORY_LOW: f64 = 0.85;

/// Seconds in a row that memory must be too high.
const MEMORY_TICKS: u32 = 2;

/// Seconds in a row that a quality must be above its own budget.
const BUDGET_TICKS: u32 = 10;

/// A quality that is made on demand ends when nobody has watched it for this long, in
/// milliseconds.
const DEMAND_MS: u64 = 20_000;

/// Background work pauses for this long after a stream was slow, in milliseconds.
const BACKGROUND_MS: u64 = 30_000;

/// Cores per pixel and second before anything was measured: 720p30 takes a third of a core.
const CORES_PER_PIXEL: f64 = 1.2e-8;

/// Memory of an encoder, in bytes per pixel: about 30 frames in its queue and its references.
const MEMORY_PER_PIXEL: u64 = 45;

/// What the machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// Cores that we may use.
    pub cores: f64,
    /// Cores that nobody uses.
    pub free_cores: f64,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
    /// Memory that there is, in bytes; 0 when unknown.
    pub memory_limit_bytes: u64,
    /// Whether uploads are behind.
    pub uploads_behind: bool,
}

/// What one stream does.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamLoad {
    /// Its name.
    pub name: StreamName,
    /// Whether a worker makes it.
    pub live: bool,
    /// Encoding against real time over the last second; `None` when nothing is encoded.
    pub speed: Option<f64>,
    /// How far its slowest rendition is behind the source, in milliseconds.
    pub lag_ms: u64,
    /// Cores that its worker used over the last second.
    pub cores: f64,
    /// Its video renditions.
    pub qualities: Vec<QualityLoad>,
}

/// What one quality does.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityLoad {
    /// Its id.
    pub id: RenditionId,
    /// What the operator wants of it.
    pub quality: Quality,
    /// Whether it is encoded; `source` passes through and costs nothing.
    pub encoded: bool,
    /// Pixels per second.
    pub pixel_rate: u64,
    /// Pixels of a picture.
    pub pixels: u64,
    /// Whether its encoder failed for good.
    pub failed: bool,
    /// Whether somebody asked for it lately.
    pub watched: bool,
    /// Memory of its media, in bytes.
    pub memory_bytes: u64,
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Whether qualities are taken away at all when there is not enough.
    pub degradation: bool,
    /// Whether qualities are made on demand.
    pub on_demand: bool,
}

/// What is decided for one quality.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The stream.
    pub stream: StreamName,
    /// The quality.
    pub rendition: RenditionId,
    /// Whether it is made.
    pub on: bool,
    /// What is spared on it.
    pub lowered: Lowered,
    /// Why, such as "encoding at 0.8 × real time".
    pub reason: String,
    /// Whether it was decided for lack of something or its return, and not by the operator or by
    /// demand.
    pub by_load: bool,
}

/// Why a quality is not made, or not as planned.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Why {
    Operator,
    Demand,
    Speed(f64),
    Lag(u64),
    Memory { used_mb: u64, limit_mb: u64 },
    Budget { used_mb: u64, max_mb: u64 },
}

/// Decides for all streams.
#[derive(Debug, Default)]
pub struct Controller {
    known: BTreeMap<(StreamName, RenditionId), Known>,
    slow: BTreeMap<StreamName, VecDeque<(f64, u64)>>,
    memory_ticks: u32,
    /// Nothing is taken before this.
    settled_ms: u64,
    last_slow_ms: Option<u64>,
    last_return_ms: Option<u64>,
    in_vain: u32,
    /// Since when there has been room for what could come back.
    room_since_ms: Option<u64>,
    /// Times of the latest changes by load, at most [`CHANGES_MAX`] and a few.
    changes: VecDeque<u64>,
    changes_total: u64,
}

#[derive(Clone, Debug)]
struct Known {
    off: Option<Why>,
    lowered: Lowered,
    lowered_why: Option<Why>,
    /// Size of its pictures, and pixels per second when nothing is spared.
    pixels: u64,
    pixel_rate: u64,
    /// Cores that it takes as planned; 0 before it was measured.
    cores: f64,
    unwatched_since_ms: Option<u64>,
    over_budget: u32,
}

/// A quality in the order in which they are kept.
struct Kept<'a> {
    stream: &'a StreamLoad,
    load: &'a QualityLoad,
    cores: f64,
}

impl Controller {
    /// Looks at everything, about once a second. `streams` are all that there are.
    pub fn tick(
        &mut self,
        now_ms: u64,
        switches: Switches,
        machine: Machine,
        streams: &[StreamLoad],
    ) -> Vec<Change> {
        self.forget(streams);
        self.measure(streams);
        let mut changes = Vec::new();
        self.obey(now_ms, switches, streams, &mut changes);
        if !switches.degradation {
            self.restore(streams, &mut changes);
            return changes;
        }
        let slow: Vec<&StreamLoad> = streams.iter().filter(|s| self.is_slow(s)).collect();
        if !slow.is_empty() {
            self.last_slow_ms = Some(now_ms);
        }
        let short = machine.memory_limit_bytes > 0
            && machine.memory_bytes as f64 > machine.memory_limit_bytes as f64 * MEMORY_HIGH;
        self.memory_ticks = if short { self.memory_ticks + 1 } else { 0 };
        self.take_for_budget(streams, &mut changes);
        let before = changes.len();
        if now_ms >= self.settled_ms {
            if !slow.is_empty() {
                self.take_for_speed(machine, &slow, streams, &mut changes);
            } else if self.memory_ticks >= MEMORY_TICKS {
                self.take_for_memory(machine, streams, &mut changes);
            }
        }
        if changes.len() > before {
            self.took(now_ms);
        } else if short {
            self.room_since_ms = None;
        } else {
            // A stream that is slow by itself keeps nobody else from coming back.
            let others: Vec<_> = streams.iter().filter(|s| !self.is_slow(s)).cloned().collect();
            self.give_back(now_ms, machine, &others, &mut changes);
        }
        changes
    }

    /// Does what the operator and demand want between two looks.
    pub fn obey_now(
        &mut self,
        now_ms: u64,
        switches: Switches,
        streams: &[StreamLoad],
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        self.obey(now_ms, switches, streams, &mut changes);
        changes
    }

    /// Why a quality is not made, or not as planned; `None` when it is.
    pub fn reason(&self, stream: &StreamName, rendition: &RenditionId) -> Option<String> {
        let known = self.known.get(&(stream.clone(), rendition.clone()))?;
        known.off.or(known.lowered_why).map(|why| why.to_string())
    }

    /// What is ordered for a quality: whether it is made, and what is spared on it.
    pub fn ordered(&self, stream: &StreamName, rendition: &RenditionId) -> (bool, Lowered) {
        let known = self.known.get(&(stream.clone(), rendition.clone()));
        known.map_or((true, Lowered::No), |known| (known.off.is_none(), known.lowered))
    }

    /// Whether a quality is only not made since nobody watches it.
    pub fn is_asleep(&self, stream: &StreamName, rendition: &RenditionId) -> bool {
        let known = self.known.get(&(stream.clone(), rendition.clone()));
        known.is_some_and(|known| matches!(known.off, Some(Why::Demand)))
    }

    /// Cores that a quality takes, as measured; `None` before that.
    pub fn cores(&self, stream: &StreamName, rendition: &RenditionId) -> Option<f64> {
        let known = self.known.get(&(stream.clone(), rendition.clone()))?;
        Some(known.cores).filter(|cores| *cores > 0.0)
    }

    /// Changes by load so far.
    pub fn changes_total(&self) -> u64 {
        self.changes_total
    }

    /// Whether work that can wait should: recordings, seeding of old windows, uploads of the past.
    pub fn background_paused(&self, now_ms: u64, machine: Machine) -> bool {
        let lately = self.last_slow_ms.is_some_and(|at| now_ms < at + BACKGROUND_MS);
        let lacks = |k: &Known| k.off.is_some_and(Why::is_load) || k.lowered_why.is_some();
        // Only a stream that is on has a history.
        let on = |name: &StreamName| self.slow.contains_key(name);
        let short = self.known.iter().any(|((name, _), known)| on(name) && lacks(known));
        lately || short || self.memory_ticks > 0 || machine.uploads_behind
    }

    fn forget(&mut self, streams: &[StreamLoad]) {
        let names: BTreeSet<_> = streams.iter().map(|s| &s.name).collect();
        self.known.retain(|(name, _), _| names.contains(name));
        self.slow.retain(|name, _| names.contains(name));
    }

    /// Learns what each quality costs, and which streams are slow.
    fn measure(&mut self, streams: &[StreamLoad]) {
        for stream in streams {
            for load in &stream.qualities {
                let key = (stream.name.clone(), load.id.clone());
                self.known.entry(key).or_insert_with(Known::new).see(load);
            }
            if !stream.live {
                self.slow.remove(&stream.name);
                continue;
            }
            let history = self.slow.entry(stream.name.clone()).or_default();
            history.push_back((stream.speed.unwrap_or(1.0), stream.lag_ms));
            if history.len() > SLOW_TICKS {
                history.pop_front();
            }
            self.measure_costs(stream);
        }
    }

    fn measure_costs(&mut self, stream: &StreamLoad) {
        let Some(speed) = stream.speed.filter(|_| stream.cores > 0.0) else { return };
        let demand = stream.cores / speed.clamp(0.1, 1.0);
        let made: Vec<_> = (stream.qualities.iter().filter(|q| q.encoded && !q.failed))
            .filter_map(|q| {
                let key = (stream.name.clone(), q.id.clone());
                let known = self.known.get(&key).filter(|k| k.off.is_none())?;
                Some((key, known.pixel_rate as f64, known.lowered.factor()))
            })
            .collect();
        let weights: f64 = made.iter().map(|(_, rate, factor)| rate * factor).sum();
        for (key, rate, _) in made {
            let Some(known) = self.known.get_mut(&key) else { continue };
            let cores = demand * rate / weights.max(1.0);
            known.cores = if known.cores > 0.0 { 0.7 * known.cores + 0.3 * cores } else { cores };
        }
    }

    /// Does what the operator and demand want.
    fn obey(
        &mut self,
        now_ms: u64,
        switches: Switches,
        streams: &[StreamLoad],
        changes: &mut Vec<Change>,
    ) {
        for stream in streams {
            for load in &stream.qualities {
                let others = self.made(stream).filter(|q| q.id != load.id).count();
                let on_demand = switches.on_demand && load.quality.encode == Encode::OnDemand;
                let Some(known) = self.known.get_mut(&(stream.name.clone(), load.id.clone()))
                else {
                    continue;
                };
                if load.watched || !stream.live {
                    known.unwatched_since_ms = None;
                }
                let unwatched_since = *known.unwatched_since_ms.get_or_insert(now_ms);
                let idle = !load.watched && now_ms >= unwatched_since + DEMAND_MS;
                let before = known.off;
                known.off = match known.off {
                    _ if !load.quality.enabled => Some(Why::Operator),
                    Some(Why::Operator) => None,
                    Some(Why::Demand) if load.watched || !on_demand || others == 0 => None,
                    None if on_demand && stream.live && load.encoded && idle && others > 0 => {
                        Some(Why::Demand)
                    }
                    off => off,
                };
                if before.is_some() != known.off.is_some() {
                    let why = known.off.or(before);
                    changes.push(known.change(stream, load, why, false));
                }
            }
        }
    }

    /// Takes back everything that was taken for lack of something.
    fn restore(&mut self, streams: &[StreamLoad], changes: &mut Vec<Change>) {
        for stream in streams {
            for load in &stream.qualities {
                let key = (stream.name.clone(), load.id.clone());
                let Some(known) = self.known.get_mut(&key) else { continue };
                let why = known.off.filter(|why| why.is_load()).or(known.lowered_why);
                if why.is_some() {
                    known.off = known.off.filter(|why| !why.is_load());
                    (known.lowered, known.lowered_why) = (Lowered::No, None);
                    changes.push(known.change(stream, load, why, true));
                }
            }
        }
    }

    fn is_slow(&self, stream: &StreamLoad) -> bool {
        let Some(history) = self.slow.get(&stream.name).filter(|h| h.len() >= SLOW_TICKS) else {
            return false;
        };
        history.iter().all(|(speed, _)| *speed < SPEED_MIN)
            || history.iter().all(|(_, lag_ms)| *lag_ms > LAG_MS_MAX)
    }

    fn why_slow(&self, stream: &StreamLoad) -> Why {
        let history = self.slow.get(&stream.name);
        let speeds = history.into_iter().flatten().map(|(speed, _)| *speed);
        let mean = speeds.sum::<f64>() / SLOW_TICKS as f64;
        if mean < SPEED_MIN { Why::Speed(mean) } else { Why::Lag(stream.lag_ms) }
    }

    /// Qualities of a stream that are made now.
    fn made<'a>(&'a self, stream: &'a StreamLoad) -> impl Iterator<Item = &'a QualityLoad> + 'a {
        let is_on = |load: &&QualityLoad| {
            let known = self.known.get(&(stream.name.clone(), load.id.clone()));
            !load.failed && load.quality.enabled && known.is_none_or(|k| k.off.is_none())
        };
        stream.qualities.iter().filter(is_on)
    }

    /// Encoded qualities that are made now, those that stay longest first.
    fn in_order<'a>(&self, streams: &'a [StreamLoad]) -> Vec<Kept<'a>> {
        let live = streams.iter().filter(|s| s.live);
        let encoded = |stream: &'a StreamLoad| {
            let ids: BTreeSet<RenditionId> = self.made(stream).map(|q| q.id.clone()).collect();
            let made = stream.qualities.iter().filter(move |q| q.encoded && ids.contains(&q.id));
            made.map(move |load| (stream, load))
        };
        let mut order: Vec<_> = live
            .flat_map(encoded)
            .map(|(stream, load)| Kept { stream, load, cores: self.cost(stream, load) })
            .collect();
        order.sort_by(|a, b| {
            let key = |k: &Kept<'_>| (!k.load.watched, std::cmp::Reverse(k.load.quality.priority));
            key(a).cmp(&key(b)).then(a.cores.total_cmp(&b.cores))
        });
        order
    }

    /// Cores that a quality takes with what is spared on it now.
    fn cost(&self, stream: &StreamLoad, load: &QualityLoad) -> f64 {
        let known = self.known.get(&(stream.name.clone(), load.id.clone()));
        let measured = known.map(|k| k.cores).filter(|cores| *cores > 0.0);
        let rate = known.map_or(load.pixel_rate, |k| k.pixel_rate);
        let full = measured.unwrap_or(rate as f64 * CORES_PER_PIXEL);
        full * known.map_or(1.0, |k| k.lowered.factor())
    }

    /// Keeps as much as fits into the processor time that the workers get.
    fn take_for_speed(
        &mut self,
        machine: Machine,
        slow: &[&StreamLoad],
        streams: &[StreamLoad],
        changes: &mut Vec<Change>,
    ) {
        // With cores to spare it is not for want of them, and taking from others would not help.
        let alone: Vec<StreamLoad>;
        let mut streams = streams;
        if machine.free_cores > SPARE * machine.cores {
            alone = slow.iter().map(|s| (*s).clone()).collect();
            streams = &alone;
        }
        let why: BTreeMap<_, _> = slow.iter().map(|s| (&s.name, self.why_slow(s))).collect();
        let Some(worst) = why.values().copied().reduce(|a, b| a.worse(b)) else { return };
        let room = GIVEN_OUT * streams.iter().filter(|s| s.live).map(|s| s.cores).sum::<f64>();
        let order = self.in_order(streams);
        let (mut used, mut kept) = (0.0, Vec::new());
        for (i, quality) in order.iter().enumerate() {
            if used + quality.cores <= room {
                used += quality.cores;
                kept.push(i);
            }
        }
        for stream in streams.iter().filter(|s| s.live) {
            used += self.keep_one(stream, &order, &mut kept);
        }
        let mut taken: Vec<usize> = (0..order.len()).filter(|i| !kept.contains(i)).collect();
        if taken.is_empty() && used <= room {
            // By what was measured all of it fits, and it does not.
            let last = (0..order.len()).rev().find(|i| self.may_go(&order, *i));
            taken.extend(last);
        }
        for i in &taken {
            self.take(order[*i].stream, order[*i].load, worst, changes);
        }
        if taken.is_empty() || used > room {
            for stream in slow {
                self.lower_last(stream, used > 1.5 * room, worst, changes);
            }
        }
    }

    /// Keeps a stream's cheapest quality when nothing else of it is kept. Gives what that costs.
    fn keep_one(&self, stream: &StreamLoad, order: &[Kept<'_>], kept: &mut Vec<usize>) -> f64 {
        let passes = self.made(stream).any(|q| !q.encoded);
        let has_one = kept.iter().any(|i| order[*i].stream.name == stream.name);
        let of_stream = order.iter().enumerate().filter(|(_, k)| k.stream.name == stream.name);
        let cheapest = of_stream.min_by(|(_, a), (_, b)| a.cores.total_cmp(&b.cores));
        match cheapest {
            Some((i, cheapest)) if !passes && !has_one => {
                kept.push(i);
                cheapest.cores
            }
            _ => 0.0,
        }
    }

    /// Whether a quality's stream has another one.
    fn may_go(&self, order: &[Kept<'_>], i: usize) -> bool {
        self.made(order[i].stream).any(|q| q.id != order[i].load.id)
    }

    /// Lowers what is left of a stream by a step, or at once as far as it goes.
    fn lower_last(&mut self, stream: &StreamLoad, far: bool, why: Why, changes: &mut Vec<Change>) {
        let left: Vec<_> = self.made(stream).filter(|q| q.encoded).cloned().collect();
        for load in left {
            let key = (stream.name.clone(), load.id.clone());
            let Some(known) = self.known.get_mut(&key) else { continue };
            let next = match known.lowered {
                Lowered::No if !far => Lowered::Effort,
                _ => Lowered::FrameRate,
            };
            if next != known.lowered {
                (known.lowered, known.lowered_why) = (next, Some(why));
                changes.push(known.change(stream, &load, Some(why), true));
            }
        }
    }

    /// Takes from the end of the order until enough memory is free.
    fn take_for_memory(
        &mut self,
        machine: Machine,
        streams: &[StreamLoad],
        changes: &mut Vec<Change>,
    ) {
        let why = Why::Memory {
            used_mb: machine.memory_bytes >> 20,
            limit_mb: machine.memory_limit_bytes >> 20,
        };
        let aim = (machine.memory_limit_bytes as f64 * MEMORY_LOW) as u64;
        let mut over = machine.memory_bytes.saturating_sub(aim);
        let order = self.in_order(streams);
        for i in (0..order.len()).rev() {
            if over == 0 {
                break;
            }
            if self.may_go(&order, i) {
                over = over.saturating_sub(memory(order[i].load));
                self.take(order[i].stream, order[i].load, why, changes);
            }
        }
    }

    /// Takes what has been above its own budget for long.
    fn take_for_budget(&mut self, streams: &[StreamLoad], changes: &mut Vec<Change>) {
        for stream in streams.iter().filter(|s| s.live) {
            for load in &stream.qualities {
                let others = self.made(stream).filter(|q| q.id != load.id).count();
                let key = (stream.name.clone(), load.id.clone());
                let Some(known) = self.known.get_mut(&key).filter(|k| k.off.is_none()) else {
                    continue;
                };
                let over = load.memory_bytes > load.quality.memory_bytes_max;
                known.over_budget = if over { known.over_budget + 1 } else { 0 };
                if known.over_budget >= BUDGET_TICKS && others > 0 && load.encoded {
                    known.over_budget = 0;
                    let why = Why::Budget {
                        used_mb: load.memory_bytes >> 20,
                        max_mb: load.quality.memory_bytes_max >> 20,
                    };
                    self.take(stream, load, why, changes);
                }
            }
        }
    }

    fn take(&mut self, stream: &StreamLoad, load: &QualityLoad, why: Why, out: &mut Vec<Change>) {
        if let Some(known) = self.known.get_mut(&(stream.name.clone(), load.id.clone())) {
            known.off = Some(why);
            out.push(known.change(stream, load, Some(why), true));
        }
    }

    fn took(&mut self, now_ms: u64) {
        self.settled_ms = now_ms + SETTLE_MS;
        self.room_since_ms = None;
        if self.last_return_ms.take().is_some_and(|at| now_ms < at + IN_VAIN_MS) {
            self.in_vain = (self.in_vain + 1).min(8);
        }
        self.note(now_ms);
    }

    fn note(&mut self, now_ms: u64) {
        self.changes_total += 1;
        self.changes.push_back(now_ms);
        while self.changes.front().is_some_and(|at| now_ms >= at + CHANGES_WINDOW_MS) {
            self.changes.pop_front();
        }
    }

    /// Gives back what fits, once there has been room for long enough.
    fn give_back(
        &mut self,
        now_ms: u64,
        machine: Machine,
        streams: &[StreamLoad],
        changes: &mut Vec<Change>,
    ) {
        if self.changes.back().is_some_and(|at| now_ms >= at + FORGIVEN_MS) {
            self.in_vain = 0;
        }
        let back = self.what_fits(machine, streams);
        if back.is_empty() {
            self.room_since_ms = None;
            return;
        }
        let since = *self.room_since_ms.get_or_insert(now_ms);
        let room_ms = (ROOM_MS_MIN << self.in_vain).min(ROOM_MS_MAX);
        let lately = self.changes.iter().filter(|at| now_ms < **at + CHANGES_WINDOW_MS).count();
        if now_ms < since + room_ms || now_ms < self.settled_ms || lately >= CHANGES_MAX {
            return;
        }
        for (stream, load, lowered) in back {
            let Some(known) = self.known.get_mut(&(stream.name.clone(), load.id.clone())) else {
                continue;
            };
            let why = known.off.or(known.lowered_why);
            (known.off, known.lowered) = (None, lowered);
            if lowered == Lowered::No {
                known.lowered_why = None;
            }
            changes.push(known.change(stream, load, why, true));
        }
        self.last_return_ms = Some(now_ms);
        self.room_since_ms = None;
        self.settled_ms = now_ms + SETTLE_MS;
        self.note(now_ms);
    }

    /// What could come back now, and how: what was lowered first, then what was taken last.
    fn what_fits<'a>(
        &self,
        machine: Machine,
        streams: &'a [StreamLoad],
    ) -> Vec<(&'a StreamLoad, &'a QualityLoad, Lowered)> {
        let mut room = machine.free_cores - RESERVE * machine.cores;
        let mut memory_room = match machine.memory_limit_bytes {
            0 => u64::MAX,
            limit => ((limit as f64 * MEMORY_LOW) as u64).saturating_sub(machine.memory_bytes),
        };
        let mut lost = Vec::new();
        for stream in streams.iter().filter(|s| s.live) {
            for load in &stream.qualities {
                let Some(known) = self.known.get(&(stream.name.clone(), load.id.clone())) else {
                    continue;
                };
                let too_large = matches!(known.off, Some(Why::Budget { max_mb, .. })
                    if load.quality.memory_bytes_max >> 20 <= max_mb);
                if too_large {
                    // Only another budget changes that.
                    continue;
                }
                if known.off.is_none_or(Why::is_load)
                    && (known.off.is_some() || known.lowered != Lowered::No)
                {
                    lost.push((stream, load, known));
                }
            }
        }
        lost.sort_by(|(_, a, ka), (_, b, kb)| {
            let key = |load: &QualityLoad, known: &Known| {
                (known.off.is_some(), !load.watched, std::cmp::Reverse(load.quality.priority))
            };
            key(a, ka).cmp(&key(b, kb)).then(a.pixel_rate.cmp(&b.pixel_rate))
        });
        let mut back = Vec::new();
        for (stream, load, known) in lost {
            let now = self.cost(stream, load);
            let full = now / known.lowered.factor();
            let (lowered, cores, bytes) = if known.off.is_some() {
                (Lowered::No, full * COSTS_MORE, memory(load))
            } else {
                let raised = known.lowered.raised();
                (raised, (full * raised.factor() - now) * COSTS_MORE, 0)
            };
            if cores <= room && bytes <= memory_room {
                (room, memory_room) = (room - cores, memory_room - bytes);
                back.push((stream, load, lowered));
            }
        }
        back
    }
}

/// Memory that a quality gives free when it goes, in bytes.
fn memory(load: &QualityLoad) -> u64 {
    load.memory_bytes + load.pixels * MEMORY_PER_PIXEL
}

impl Known {
    fn new() -> Self {
        Self {
            off: None,
            lowered: Lowered::No,
            lowered_why: None,
            pixels: 0,
            pixel_rate: 0,
            cores: 0.0,
            unwatched_since_ms: None,
            over_budget: 0,
        }
    }

    fn see(&mut self, load: &QualityLoad) {
        if self.pixels != load.pixels {
            (self.pixels, self.pixel_rate, self.cores) = (load.pixels, 0, 0.0);
        }
        // What is made at half its rate would be made at more.
        self.pixel_rate = self.pixel_rate.max(load.pixel_rate);
    }

    fn change(
        &self,
        stream: &StreamLoad,
        load: &QualityLoad,
        why: Option<Why>,
        by_load: bool,
    ) -> Change {
        Change {
            stream: stream.name.clone(),
            rendition: load.id.clone(),
            on: self.off.is_none(),
            lowered: self.lowered,
            reason: why.map(|why| why.to_string()).unwrap_or_default(),
            by_load,
        }
    }
}

impl Lowered {
    /// What a quality costs with this spared, of what it costs without.
    fn factor(self) -> f64 {
        match self {
            Self::No => 1.0,
            Self::Effort => 0.65,
            Self::FrameRate => 0.38,
        }
    }

    fn raised(self) -> Self {
        match self {
            Self::FrameRate => Self::Effort,
            Self::No | Self::Effort => Self::No,
        }
    }
}

impl Why {
    /// Whether something was lacking.
    fn is_load(self) -> bool {
        !matches!(self, Self::Operator | Self::Demand)
    }

    fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Speed(a), Self::Speed(b)) if b < a => other,
            (Self::Lag(_), Self::Speed(_)) => other,
            _ => self,
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operator => write!(f, "switched off by the operator"),
            Self::Demand => write!(f, "nobody watches it; it is made on demand"),
            Self::Speed(speed) => write!(f, "encoding at {speed:.1} × real time"),
            Self::Lag(ms) => write!(f, "encoding {:.1} s behind the source", *ms as f64 / 1e3),
            Self::Memory { used_mb, limit_mb } => {
                write!(f, "{used_mb} of {limit_mb} MB of memory in use")
            }
            Self::Budget { used_mb, max_mb } => {
                write!(f, "it holds {used_mb} MB of media, {max_mb} MB are its budget")
            }
        }
    }
}

#[cfg(test)]
mod tests;
