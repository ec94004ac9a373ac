//! Counts viewers that play by HTTP: whoever asked for a media playlist lately.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::USER_AGENT;

/// A viewer that has asked for nothing for this long has left: a blocked reload lasts up to 6 s.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// Viewers told apart per stream; more are counted as this many. Bounds memory to a few MiB.
const COUNTED_MAX: usize = 50_000;

/// The viewers of one stream. Two players behind one address with the same browser count once.
#[derive(Debug, Default)]
pub struct Viewers {
    seen: Mutex<BTreeMap<(IpAddr, u64), Instant>>,
}

impl Viewers {
    /// Someone at `peer` asked for a media playlist.
    pub fn seen(&self, peer: IpAddr, request: &HeaderMap) {
        let mut agent = std::hash::DefaultHasher::new();
        request.get(USER_AGENT).map(|v| v.as_bytes()).hash(&mut agent);
        let mut seen = self.lock();
        let key = (peer, agent.finish());
        if seen.len() < COUNTED_MAX || seen.contains_key(&key) {
            seen.insert(key, Instant::now());
        }
    }

    /// How many watch now.
    pub fn count(&self) -> usize {
        let mut seen = self.lock();
        seen.retain(|_, at| at.elapsed() < GONE_AFTER);
        seen.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(IpAddr, u64), Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
