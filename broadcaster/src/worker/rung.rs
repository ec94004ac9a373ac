//! One rung's encoder: a small graph of its own behind an [`Outlet`], so that it can be stopped,
//! started and replaced while the other rungs go on.
//!
//! ```text
//! pictures of the rung's size ─► Outlet ─► appsrc ! [upload] ! encoder [! h264parse] ! appsink
//! ```
//!
//! An outlet opens and shuts with the first frame of a segment. It never leaves out a frame by
//! itself and never waits: whether a frame goes to all open outlets or to none is decided before
//! the pictures are scaled (see [`super::pipeline`]), so that all rungs miss the same frames and
//! an encoder that hangs holds up nobody.

mod encoding;
mod fill;
mod leftover;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cut::Timeline;

pub use encoding::{Encoding, Job, Progress};
pub use leftover::{Leftover, Leftovers};

/// Which encoding of a rung a frame comes from: what an abandoned one still says does not count.
pub type Generation = u32;

/// Where the pictures of one rung come out of the graph that scales them.
#[derive(Debug)]
pub struct Outlet {
    timeline: Arc<Mutex<Timeline>>,
    gate: Mutex<Gate>,
    /// For each size between the source and this rung, how many outlets need it.
    sizes: Vec<Arc<AtomicUsize>>,
    /// Drawn into every picture.
    mark: Option<u8>,
}

#[derive(Debug, Default)]
struct Gate {
    current: Option<Encoding>,
    /// What takes its place from this segment on.
    next: Option<(u32, Option<Encoding>)>,
    /// The newest picture, its time and its segment.
    newest: Option<(gst::Sample, u64, u32)>,
    /// Works on its last pictures.
    ending: Option<Encoding>,
}

impl Outlet {
    /// A shut outlet. `sizes` counts, for each size that is scaled for it, the outlets that need
    /// it. `mark` is drawn into every picture.
    pub fn new(
        timeline: Arc<Mutex<Timeline>>,
        sizes: Vec<Arc<AtomicUsize>>,
        mark: Option<u8>,
    ) -> Self {
        Self { timeline, gate: Mutex::default(), sizes, mark }
    }

    /// From the start of `segment` on, `next` gets the pictures, or nobody. What got them before
    /// finishes what it has and reports its end.
    pub fn switch(&self, segment: u32, next: Option<Encoding>) {
        self.change(|gate| {
            let unused = gate.next.replace((segment, next));
            unused.and_then(|(_, unused)| unused)
        });
    }

    /// Throws away every encoding at once.
    pub fn cut(&self) {
        // Each leaves the gate before it is stopped, which may take long.
        self.change(|gate| gate.next.take().and_then(|(_, next)| next));
        self.change(|gate| gate.current.take());
        self.forget_ended();
    }

    /// The same once no more pictures come. Whatever is stopped holds on to `running` until it has.
    pub fn cut_and(&self, running: &Sender<()>) {
        let mut gate = self.gate();
        let next = gate.next.take().and_then(|(_, next)| next);
        let all = [next, gate.current.take(), gate.ending.take()];
        drop(gate);
        for encoding in all.into_iter().flatten() {
            encoding.abandon_and(running.clone());
        }
    }

    /// Looks at the encoding that works on its last pictures, if there is one.
    pub fn look_at_ending<T>(&self, look: impl FnOnce(&Encoding) -> T) -> Option<T> {
        self.gate().ending.as_ref().map(look)
    }

    /// The encoding that was finishing has finished.
    pub fn forget_ended(&self) {
        let ended = self.gate().ending.take();
        if let Some(ended) = ended {
            ended.abandon();
        }
    }

    /// Whether it can take another picture now; a shut one can take any number.
    pub fn has_room(&self) -> bool {
        self.gate().current.as_ref().is_none_or(Encoding::has_room)
    }

    /// Looks at the encoding that gets pictures, if there is one.
    pub fn look<T>(&self, look: impl FnOnce(&Encoding) -> T) -> Option<T> {
        self.gate().current.as_ref().map(look)
    }

    /// Whose last frames are yet to come when no more pictures do, those that are to begin among them:
    /// pictures that they begin with may be on their way.
    pub fn awaited(&self) -> Vec<Generation> {
        let gate = self.gate();
        let next = gate.next.as_ref().and_then(|(_, next)| next.as_ref());
        let all = [gate.ending.as_ref(), gate.current.as_ref(), next];
        all.into_iter().flatten().map(Encoding::generation).collect()
    }

    /// Says that no more pictures come to anybody.
    pub fn finish(&self) {
        self.change(|gate| {
            if let Some(current) = &gate.current {
                current.finish();
            }
            // Its pictures never came.
            gate.next.take().and_then(|(_, unused)| unused)
        });
    }

    /// A picture of the rung's size.
    pub(super) fn handle(&self, sample: &gst::Sample) {
        let Some(pts_ns) = sample.buffer().and_then(|b| b.pts()).map(|pts| pts.nseconds()) else {
            return;
        };
        let segment = lock(&self.timeline).segment_of(pts_ns / 1000);
        self.change(|gate| {
            let newest = gate.newest.replace((sample.clone(), pts_ns, segment));
            // What fills the gap belongs to whoever had the picture before it.
            if let (Some(current), Some(before)) = (&mut gate.current, newest) {
                current.fill(&before, pts_ns, self.mark);
            }
            let mut unused = None;
            if gate.next.as_ref().is_some_and(|(at, _)| segment >= *at) {
                let next = gate.next.take().and_then(|(_, next)| next);
                let old = std::mem::replace(&mut gate.current, next);
                if let Some(old) = &old {
                    old.finish();
                }
                unused = std::mem::replace(&mut gate.ending, old);
            }
            if let Some(current) = &mut gate.current {
                current.push(sample, pts_ns, segment, self.mark);
            }
            unused
        });
    }

    /// Changes the gate, counts the sizes it needs anew and gets rid of what it gives back.
    fn change(&self, change: impl FnOnce(&mut Gate) -> Option<Encoding>) {
        let mut gate = self.gate();
        let before = gate.needs_pictures();
        let unused = change(&mut gate);
        let after = gate.needs_pictures();
        for size in &self.sizes {
            match (before, after) {
                (false, true) => drop(size.fetch_add(1, Ordering::Relaxed)),
                (true, false) => drop(size.fetch_sub(1, Ordering::Relaxed)),
                _ => {}
            }
        }
        drop(gate);
        if let Some(unused) = unused {
            unused.abandon();
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn needs_pictures(&self) -> bool {
        self.current.is_some() || self.next.as_ref().is_some_and(|(_, next)| next.is_some())
    }
}

fn lock(timeline: &Mutex<Timeline>) -> MutexGuard<'_, Timeline> {
    timeline.lock().unwrap_or_else(PoisonError::into_inner)
}
