//! What a connection was given and has not sent yet. Media is dropped when its time has come; a
//! client that asks for it and lets nothing through, by HTTP/2's flow control or a byte at a time,
//! would keep it in memory for as long as it likes (faults.md rows 12 and 22).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::body::Body;

/// The oldest response may take this long: as long as media is kept after it is made, with which a
/// live player can do nothing any more.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(70);

/// Entries after which those that were sent meanwhile are looked for: HTTP/2 has 128 streams.
const ENTRIES_MAX: usize = 256;

/// Lives as long as what a response still has to send.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    _alive: Arc<()>,
}

/// The responses of one connection. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Arc<Mutex<VecDeque<Entry>>>);

/// When a response was handed over, and whether it is still held.
type Entry = (Instant, Weak<()>);

impl Holds {
    /// Notes that a response is handed over now.
    pub(super) fn note(&self, body: &mut Body) {
        let alive = Arc::new(());
        let entry = (Instant::now(), Arc::downgrade(&alive));
        if body.hold(Hold { _alive: alive }) {
            let mut entries = self.lock();
            if entries.len() >= ENTRIES_MAX {
                entries.retain(|(_, alive)| alive.strong_count() > 0);
            }
            entries.push_back(entry);
        }
    }

    /// Ends when a response has been held for [`HOLD_MAX`]. To be polled after whatever notes.
    pub(super) async fn expired(&self) {
        let mut alarm: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            loop {
                let Some(since) = self.oldest() else { return Poll::Pending };
                let deadline = since + HOLD_MAX;
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                // An alarm that is too early looks again; most responses never move it.
                ready!(alarm.as_mut().poll(cx));
                alarm.as_mut().reset(deadline);
            }
        })
        .await;
    }

    /// When the oldest response that is not sent yet was handed over.
    fn oldest(&self) -> Option<Instant> {
        let mut entries = self.lock();
        while entries.front().is_some_and(|(_, alive)| alive.strong_count() == 0) {
            entries.pop_front();
        }
        entries.front().map(|(since, _)| *since)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn body() -> Body {
        Body::from(Bytes::from_static(b"media"))
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_response_that_is_held_too_long_ends_its_connection() {
        let holds = Holds::default();
        let mut expired = Box::pin(holds.expired());
        let began = Instant::now();
        for _ in 0..3 {
            let mut sent = body();
            holds.note(&mut sent);
            let half = tokio::time::timeout(HOLD_MAX / 2, &mut expired).await;
            assert!(half.is_err(), "it has time");
            drop(sent);
        }
        let mut empty = Body::empty();
        holds.note(&mut empty);
        assert!(tokio::time::timeout(2 * HOLD_MAX, &mut expired).await.is_err(), "nothing is held");
        let mut held = body();
        holds.note(&mut held);
        let noted = Instant::now();
        expired.await;
        assert_eq!(noted.elapsed(), HOLD_MAX, "from when it was handed over, not from {began:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_quick_responses_beside_a_held_one_are_forgotten() {
        let holds = Holds::default();
        let mut held = body();
        holds.note(&mut held);
        for _ in 0..10 * ENTRIES_MAX {
            holds.note(&mut body());
        }
        assert!(holds.lock().len() <= ENTRIES_MAX);
        assert!(holds.oldest().is_some());
    }
}
