//! What comes back once there is room for it again.

use super::take::memory;
use super::*;

/// Of all cores this much must stay free when something comes back.
const RESERVE: f64 = 0.08;

/// What comes back may cost this much more than it did.
const COSTS_MORE: f64 = 1.15;

/// How long there must have been room, in milliseconds; doubles with each time in vain ...
const ROOM_MS_MIN: u64 = 8_000;

/// ... up to this long.
const ROOM_MS_MAX: u64 = 40_000;

/// After this long without a change, earlier times in vain are forgotten, in milliseconds.
const FORGIVEN_MS: u64 = 300_000;

impl Controller {
    /// Gives back what fits, once there has been room for long enough.
    pub(super) fn give_back(
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
                let media_bytes = known.media_bytes.saturating_sub(load.memory_bytes);
                (Lowered::No, full * COSTS_MORE, memory(load) + media_bytes)
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
