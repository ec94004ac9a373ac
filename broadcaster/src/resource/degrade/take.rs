//! What goes when there is not enough.

use super::*;

/// Of the processor time that the workers get while they are slow, this much is given out.
const GIVEN_OUT: f64 = 0.85;

/// Above this share of free cores a slow stream is slow by itself.
const SPARE: f64 = 0.25;

/// Memory of an encoder, in bytes per pixel: about 30 frames in its queue and its references.
const MEMORY_PER_PIXEL: u64 = 45;

/// Seconds in a row that a quality must be above its own budget.
const BUDGET_TICKS: u32 = 10;

/// A quality in the order in which they are kept.
struct Kept<'a> {
    stream: &'a StreamLoad,
    load: &'a QualityLoad,
    cores: f64,
}

impl Controller {
    /// Keeps as much as fits into the processor time that the workers get.
    pub(super) fn take_for_speed(
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

    /// Takes from the end of the order until enough memory is free.
    pub(super) fn take_for_memory(
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
    pub(super) fn take_for_budget(&mut self, streams: &[StreamLoad], changes: &mut Vec<Change>) {
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

    fn take(&mut self, stream: &StreamLoad, load: &QualityLoad, why: Why, out: &mut Vec<Change>) {
        if let Some(known) = self.known.get_mut(&(stream.name.clone(), load.id.clone())) {
            known.off = Some(why);
            out.push(known.change(stream, load, Some(why), true));
        }
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
}

/// Memory that a quality gives free when it goes, in bytes.
pub(super) fn memory(load: &QualityLoad) -> u64 {
    load.memory_bytes + load.pixels * MEMORY_PER_PIXEL
}
