//! Counts viewers that play by HTTP: whoever asked for a media playlist lately.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::USER_AGENT;

/// A viewer that has asked for nothing for this long has left. While a stream stalls, a blocked
/// reload lasts three target durations: 18 s with the longest segments.
const GONE_AFTER: Duration = Duration::from_secs(20);

/// Where proxies say for whom they ask.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

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
        self.seen_at(Instant::now(), peer, request);
    }

    fn seen_at(&self, now: Instant, peer: IpAddr, request: &HeaderMap) {
        let mut agent = std::hash::DefaultHasher::new();
        request.get(USER_AGENT).map(|v| v.as_bytes()).hash(&mut agent);
        let mut seen = self.lock();
        let key = (viewer(peer, request), agent.finish());
        if seen.len() < COUNTED_MAX || seen.contains_key(&key) {
            seen.insert(key, now);
        }
    }

    /// How many watch now.
    pub fn count(&self) -> usize {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> usize {
        let mut seen = self.lock();
        seen.retain(|_, at| now.saturating_duration_since(*at) < GONE_AFTER);
        seen.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(IpAddr, u64), Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose request it is: behind a proxy on this machine everyone would be loopback. The proxy adds
/// its client's address at the end; what stands before it, and what others send, anyone can write.
fn viewer(peer: IpAddr, request: &HeaderMap) -> IpAddr {
    if !peer.to_canonical().is_loopback() {
        return peer;
    }
    let last = request.get_all(X_FORWARDED_FOR).iter().next_back();
    let last = last.and_then(|v| v.to_str().ok()).and_then(|v| v.rsplit(',').next());
    last.and_then(|address| address.trim().parse().ok()).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many viewers those are who ask from `peer` with these `X-Forwarded-For`.
    fn counted(peer: &str, forwarded: &[&'static str]) -> usize {
        let viewers = Viewers::default();
        for value in forwarded {
            let mut request = HeaderMap::new();
            request.insert(X_FORWARDED_FOR, http::HeaderValue::from_static(value));
            viewers.seen(peer.parse().expect("an address"), &request);
        }
        viewers.count()
    }

    #[test]
    fn viewers_behind_a_proxy_on_this_machine_are_told_apart_by_what_it_says() {
        let two = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1, 192.0.2.2"];
        for proxy in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(counted(proxy, &two), 2, "{proxy}");
        }
        assert_eq!(counted("127.0.0.1", &["192.0.2.1, unknown", "", "1", "_x"]), 1, "the proxy");
        assert_eq!(counted("198.51.100.1", &two), 1, "others may write what they like");
    }

    #[test]
    fn the_last_of_several_headers_is_the_proxys() {
        let mut request = HeaderMap::new();
        for value in ["192.0.2.1", "192.0.2.2"] {
            request.append(X_FORWARDED_FOR, http::HeaderValue::from_static(value));
        }
        let proxy = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(viewer(proxy, &request), IpAddr::from([192, 0, 2, 2]));
    }

    #[test]
    fn a_viewer_counts_while_the_longest_blocked_reload_lasts_and_not_for_ever() {
        let (viewers, start) = (Viewers::default(), Instant::now());
        viewers.seen_at(start, IpAddr::from([192, 0, 2, 1]), &HeaderMap::new());
        assert_eq!(viewers.count_at(start + Duration::from_secs(3 * 6)), 1);
        assert_eq!(viewers.count_at(start + GONE_AFTER), 0);
    }
}
