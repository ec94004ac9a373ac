//! What happened to streams and workers since the broadcaster started. For metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start; each only grows.
#[derive(Debug, Default)]
pub struct Counts {
    /// Streams turned on, by their operator or a publisher.
    pub stream_starts: Count,
    /// Streams that were on and are not any more, for whatever reason.
    pub stream_stops: Count,
    /// Worker processes started.
    pub worker_starts: Count,
    /// Workers that ignored SIGTERM and were killed.
    pub force_kills: Count,
    /// Workers ended because of their memory.
    pub memory_kills: Count,
    /// Tasks of streams that ended by a bug and were started again.
    pub task_panics: Count,
    /// Things of earlier runs and of ended streams that were removed.
    pub cleanups: Count,
    /// Such things that could not be removed.
    pub cleanup_failures: Count,
    /// Streams refused since they do not fit beside those that run.
    pub capacity_refusals: Count,
}

/// One of them.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
