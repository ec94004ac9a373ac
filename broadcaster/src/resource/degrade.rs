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

mod give_back;
mod known;
mod load;
mod take;
mod why;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::id::{RenditionId, StreamName};

use super::quality::Encode;
use crate::worker::ipc::Lowered;

pub use load::{Change, Machine, QualityLoad, StreamLoad, Switches};

use known::Known;
use why::Why;

/// Seconds in a row that a stream must be slow: a key frame or a pause of the machine is shorter.
const SLOW_TICKS: usize = 3;

/// Encoding below this much of real time is slow: less than two frames of 30 missing in a second.
const SPEED_MIN: f64 = 0.95;

/// A rendition this far behind its source is late, in milliseconds: two parts.
const LAG_MS_MAX: u64 = 1_000;

/// After a change nothing more is taken for this long, in milliseconds: it takes effect with the
/// next segment, and what waited must be worked off.
const SETTLE_MS: u64 = 5_000;

/// What goes again this soon after it came back came back in vain, in milliseconds.
const IN_VAIN_MS: u64 = 60_000;

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

/// A quality that is made on demand ends when nobody has watched it for this long, in
/// milliseconds.
const DEMAND_MS: u64 = 20_000;

/// Background work pauses for this long after a stream was slow, in milliseconds.
const BACKGROUND_MS: u64 = 30_000;

/// Cores per pixel and second before anything was measured: 720p30 takes a third of a core.
const CORES_PER_PIXEL: f64 = 1.2e-8;

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
                    off if !load.quality.enabled => {
                        known.lacked = off.filter(|why| why.is_load()).or(known.lacked);
                        Some(Why::Operator)
                    }
                    Some(Why::Operator) => known.lacked.take(),
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
                known.lacked = None;
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

    /// Cores that a quality takes with what is spared on it now.
    fn cost(&self, stream: &StreamLoad, load: &QualityLoad) -> f64 {
        let known = self.known.get(&(stream.name.clone(), load.id.clone()));
        let measured = known.map(|k| k.cores).filter(|cores| *cores > 0.0);
        let rate = known.map_or(load.pixel_rate, |k| k.pixel_rate);
        let full = measured.unwrap_or(rate as f64 * CORES_PER_PIXEL);
        full * known.map_or(1.0, |k| k.lowered.factor())
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
}

#[cfg(test)]
mod tests;
