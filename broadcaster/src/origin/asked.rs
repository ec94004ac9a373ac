//! When each rendition was asked for last: what nobody asks for is the first to go when there is
//! not enough for all.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::id::RenditionId;

/// The renditions of one stream.
#[derive(Debug, Default)]
pub struct Asked {
    /// Bounded by the renditions that there are: nothing else is noted.
    last: Mutex<BTreeMap<RenditionId, Instant>>,
}

impl Asked {
    /// Somebody asks for a rendition's playlist.
    pub fn note(&self, id: &RenditionId) {
        let mut last = self.lock();
        match last.get_mut(id) {
            Some(at) => *at = Instant::now(),
            None => drop(last.insert(id.clone(), Instant::now())),
        }
    }

    /// Whether somebody asked for it within that time.
    pub fn lately(&self, id: &RenditionId, within: Duration) -> bool {
        self.lock().get(id).is_some_and(|at| at.elapsed() < within)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RenditionId, Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
