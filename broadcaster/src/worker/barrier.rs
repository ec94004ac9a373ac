//! Holds parts back while an encoder is replaced, so that what changes its init segment changes at
//! one segment boundary for all renditions (hls.md: a new init number is a discontinuity on every
//! rendition). Pure.

use std::collections::{BTreeSet, VecDeque};

use super::ipc::Part;

/// A barrier falls this long after the first part was held, in milliseconds, whether every
/// rendition has come up to it or not: renditions are less than the encoders' queues apart.
pub const HOLD_MS_MAX: u64 = 1_500;

/// One boundary that all renditions reach before any goes on.
#[derive(Debug)]
pub struct Barrier {
    segment: u32,
    /// Renditions that begin anew there, whose first part comes later than that of the others.
    fresh: BTreeSet<usize>,
    /// Those of them whose init segment is not known yet.
    pending: BTreeSet<usize>,
    /// What changed.
    changed: BTreeSet<usize>,
    /// In the order they came: at most what all renditions make in [`HOLD_MS_MAX`].
    held: VecDeque<Part>,
    first_held_ms: Option<u64>,
    /// Renditions that have come up to it.
    arrived: BTreeSet<usize>,
}

impl Barrier {
    /// A barrier at the start of `segment` for renditions that get a new encoder there.
    pub fn new(segment: u32, fresh: impl IntoIterator<Item = usize>) -> Self {
        let fresh: BTreeSet<_> = fresh.into_iter().collect();
        Self {
            segment,
            pending: fresh.clone(),
            fresh,
            changed: BTreeSet::new(),
            held: VecDeque::new(),
            first_held_ms: None,
            arrived: BTreeSet::new(),
        }
    }

    /// The segment it stands before.
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// Takes a part at `now_ms`, or gives it back when it may pass.
    pub fn hold(&mut self, now_ms: u64, part: Part) -> Option<Part> {
        if part.segment < self.segment {
            return Some(part);
        }
        self.arrived.insert(part.rendition.into());
        self.first_held_ms.get_or_insert(now_ms);
        self.held.push_back(part);
        None
    }

    /// The init segment of a replaced encoder is known, and whether it differs from the old one.
    pub fn handle_config(&mut self, rendition: usize, differs: bool) {
        if self.pending.remove(&rendition) && differs {
            self.changed.insert(rendition);
        }
    }

    /// Another rendition gets a new encoder there, or another one yet.
    pub fn join(&mut self, rendition: usize) {
        self.fresh.insert(rendition);
        self.pending.insert(rendition);
        self.changed.remove(&rendition);
    }

    /// Whether the init segment of that rendition's new encoder is awaited.
    pub fn awaits(&self, rendition: usize) -> bool {
        self.pending.contains(&rendition)
    }

    /// A rendition's new encoder will not come.
    pub fn give_up(&mut self, rendition: usize) {
        self.pending.remove(&rendition);
        self.changed.remove(&rendition);
    }

    /// Whether it falls at `now_ms`: everything is known and everybody of `active` is there, or it
    /// has stood for too long.
    pub fn falls(&self, now_ms: u64, active: impl IntoIterator<Item = usize>) -> bool {
        let waited = self.first_held_ms.is_some_and(|first| now_ms >= first + HOLD_MS_MAX);
        let there = |i: usize| self.fresh.contains(&i) || self.arrived.contains(&i);
        let all_there = active.into_iter().all(there);
        waited || (self.pending.is_empty() && all_there)
    }

    /// Who changed, and what was held, in order.
    pub fn open(self) -> (BTreeSet<usize>, VecDeque<Part>) {
        (self.changed, self.held)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn part(rendition: u8, segment: u32) -> Part {
        Part {
            rendition,
            segment,
            independent: true,
            last_of_segment: false,
            pts_us: 0,
            duration_us: 1,
            data: Bytes::from_static(b"part"),
        }
    }

    #[test]
    fn parts_before_the_boundary_pass_and_those_after_it_wait_for_the_slowest() {
        let mut barrier = Barrier::new(5, [0]);
        assert!(barrier.hold(0, part(1, 4)).is_some());
        assert!(barrier.hold(0, part(1, 5)).is_none());
        barrier.handle_config(0, true);
        assert!(!barrier.falls(10, [0, 1, 2]), "rendition 2 is not there yet");
        assert!(barrier.hold(20, part(2, 4)).is_some());
        assert!(barrier.hold(30, part(2, 5)).is_none());
        assert!(barrier.falls(30, [0, 1, 2]), "the first part of rendition 0 is not waited for");
        let (changed, held) = barrier.open();
        assert_eq!(changed, BTreeSet::from([0]));
        assert_eq!(held.iter().map(|p| p.rendition).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn an_encoder_that_never_comes_holds_nobody_for_ever() {
        let mut barrier = Barrier::new(1, [0]);
        assert!(!barrier.falls(1_000_000, [0, 1]), "nothing waits yet");
        assert!(barrier.hold(100, part(1, 1)).is_none());
        assert!(!barrier.falls(100 + HOLD_MS_MAX - 1, [0, 1]));
        assert!(barrier.falls(100 + HOLD_MS_MAX, [0, 1]));
    }

    #[test]
    fn two_encoders_that_fail_one_after_the_other_begin_together() {
        let mut barrier = Barrier::new(1, [0]);
        barrier.handle_config(0, true);
        barrier.join(1);
        assert!(barrier.hold(0, part(2, 1)).is_none());
        assert!(barrier.awaits(1) && !barrier.falls(0, [0, 1, 2]));
        barrier.handle_config(1, true);
        assert!(barrier.falls(0, [0, 1, 2]));
        assert_eq!(barrier.open().0, BTreeSet::from([0, 1]));
    }

    #[test]
    fn an_encoder_like_the_old_one_changes_nothing() {
        let mut barrier = Barrier::new(1, [0, 2]);
        barrier.handle_config(0, false);
        barrier.give_up(2);
        assert!(barrier.hold(0, part(0, 1)).is_none());
        assert!(barrier.falls(0, [0]));
        assert!(barrier.open().0.is_empty());
    }
}
